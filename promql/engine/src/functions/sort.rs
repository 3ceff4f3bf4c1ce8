//! Sorting instant vectors. The result of a range query has its own order, so there these do nothing but drop what
//! cannot be sorted.
use std::cmp::Ordering;

use super::Args;
use crate::column::{Column, Stream, map, stream};
use crate::error::QueryError;
use crate::grid::Grid;
use crate::query::Query;

fn sorted<'a>(q: &'a Query<'a>, input: Stream<'a>, compare: impl Fn(&Column, &Column) -> Ordering + 'a) -> Stream<'a> {
    let mut input = Some(input);
    let mut ready = Vec::new().into_iter();
    stream(move || {
        if let Some(input) = input.take() {
            let mut held = q.collect(input)?;
            let mut columns = std::mem::take(&mut held.columns);
            columns.sort_by(&compare);
            ready = columns.into_iter();
        }
        Ok(ready.next())
    })
}

pub(super) fn by_value<'a>(q: &'a Query<'a>, args: &Args<'a>, grid: Grid) -> Result<Stream<'a>, QueryError> {
    let input = map(args.vector(q, 0, grid)?, |c| {
        c.histograms.clear();
        Ok(())
    });
    if grid.n != 1 {
        return Ok(input);
    }
    let descending = args.call.func.name == "sort_desc";
    Ok(sorted(q, input, move |a, b| {
        let value = |c: &Column| c.floats.first().copied().unwrap_or(f64::NAN);
        let (a, b) = (value(a), value(b));
        match (a.is_nan(), b.is_nan()) {
            (false, false) => {
                let rising = a.partial_cmp(&b).unwrap_or(Ordering::Equal);
                if descending { rising.reverse() } else { rising }
            }
            (a, b) => a.cmp(&b), // NaN last, both ways
        }
    }))
}

pub(super) fn by_label<'a>(q: &'a Query<'a>, args: &Args<'a>, grid: Grid) -> Result<Stream<'a>, QueryError> {
    let input = args.vector(q, 0, grid)?;
    if grid.n != 1 {
        return Ok(input);
    }
    let names = (1..args.len()).map(|i| args.string(q, i)).collect::<Result<Vec<_>, _>>()?;
    let descending = args.call.func.name == "sort_by_label_desc";
    Ok(sorted(q, input, move |a, b| {
        let by_names = names.iter().map(|n| natural(a.id.get(n), b.id.get(n))).find(|o| *o != Ordering::Equal);
        let rising = by_names.unwrap_or_else(|| a.id.compare(&b.id));
        if descending { rising.reverse() } else { rising }
    }))
}

/// Text order in which runs of digits count as numbers: `a2` before `a10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut x, mut y) = (a.as_bytes(), b.as_bytes());
    loop {
        let digits = |s: &[u8]| s.iter().take_while(|c| c.is_ascii_digit()).count();
        match (x.first(), y.first()) {
            (None, None) => return Ordering::Equal,
            (None, _) => return Ordering::Less,
            (_, None) => return Ordering::Greater,
            (Some(c), Some(d)) if c.is_ascii_digit() && d.is_ascii_digit() => {
                let (n, m) = (digits(x), digits(y));
                let trim = |s: &[u8]| s.iter().take_while(|c| **c == b'0').count();
                let (p, r) = (&x[trim(&x[..n])..n], &y[trim(&y[..m])..m]);
                let order = p.len().cmp(&r.len()).then(p.cmp(r)).then(n.cmp(&m));
                if order != Ordering::Equal {
                    return order;
                }
                (x, y) = (&x[n..], &y[m..]);
            }
            (Some(c), Some(d)) => {
                if c != d {
                    return c.cmp(d);
                }
                (x, y) = (&x[1..], &y[1..]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn natural_order() {
        for (a, b) in [("a2", "a10"), ("1", "02"), ("x9y", "x10"), ("", "a"), ("a", "a1"), ("1", "01")] {
            assert_eq!(natural(a, b), Ordering::Less, "{a} {b}");
        }
    }
}
