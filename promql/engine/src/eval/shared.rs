//! Common sub-expressions: what occurs more than once in a query is computed once and held.
//!
//! Held are functions, aggregations and operators over selectors whose canonical text is the same. What is seen from
//! outside stays as if each had been computed: the samples they read count every time, and an expression that had
//! something to note is computed again where it stands next, because notes say where.
use std::sync::{Arc, Mutex, PoisonError};

use ferula_promql_parser::{Expr, ValueType};
use hashbrown::HashMap;

use crate::column::{Column, Stream, from_vec, stream};
use crate::error::QueryError;
use crate::grid::Grid;
use crate::query::Query;

/// Queries with more nodes are not searched.
const NODES_MAX: usize = 300;
/// Points above which a result is not held but computed again.
const POINTS_MAX: u64 = 4 << 20;

/// Which expressions are common.
#[derive(Debug, Default)]
pub(crate) struct Common {
    /// By the bytes of the query where the expression stands.
    ids: HashMap<(u32, u32), usize>,
}

/// The results that a running query holds. `None`: not to be held, computed where it stands.
pub(crate) type Holding = Mutex<HashMap<(usize, Grid), Option<Arc<Held>>>>;

/// A result, and the samples that were read for it: in all, and per step.
pub(crate) struct Held {
    columns: Vec<Column>,
    read: u64,
    fresh: u64,
    steps: Vec<(u64, u64)>,
}

impl Common {
    /// Finds the expressions that occur more than once. `sorted` and `stats_only` are starts of selectors that are read
    /// in a way of their own: expressions that differ in that are different.
    pub fn find(expr: &Expr, sorted: &[u32], stats_only: &[u32]) -> Common {
        let mut shared = Common::default();
        let selectors = expr.selectors();
        let twice = |i: usize| selectors.iter().skip(i + 1).any(|s| s.matchers == selectors[i].matchers);
        if selectors.len() < 2 || !(0..selectors.len()).any(twice) {
            return shared;
        }
        let mut texts: HashMap<(String, Vec<bool>), Vec<&Expr>> = HashMap::new();
        let (mut open, mut nodes) = (vec![expr], 0);
        while let Some(e) = open.pop() {
            nodes += 1;
            if nodes > NODES_MAX {
                return shared;
            }
            open.extend(e.children());
            let computed = matches!(e, Expr::Call(_) | Expr::Aggregate(_) | Expr::Binary(_));
            if computed && e.value_type() == ValueType::Vector && !e.selectors().is_empty() {
                let at = e.selectors().iter().map(|s| s.span.start).collect::<Vec<_>>();
                let ways = at.iter().flat_map(|s| [sorted.contains(s), stats_only.contains(s)]).collect();
                texts.entry((e.to_string(), ways)).or_default().push(e);
            }
        }
        texts.retain(|_, all| all.len() > 1);
        // The largest ones only: what is inside them need not be held as well.
        let mut all: Vec<_> = texts.into_values().collect();
        all.sort_by_key(|all| all.first().map(|e| std::cmp::Reverse(e.span().end - e.span().start)));
        for mut all in all {
            all.retain(|e| {
                let (from, to) = (e.span().start, e.span().end);
                !shared.ids.keys().any(|(a, b)| *a <= from && to <= *b)
            });
            if all.len() > 1 {
                let id = shared.ids.len();
                shared.ids.extend(all.iter().map(|e| ((e.span().start, e.span().end), id)));
            }
        }
        shared
    }

    pub fn id_of(&self, expr: &Expr) -> Option<usize> {
        if self.ids.is_empty() || !matches!(expr, Expr::Call(_) | Expr::Aggregate(_) | Expr::Binary(_)) {
            return None;
        }
        self.ids.get(&(expr.span().start, expr.span().end)).copied()
    }
}

/// The columns of a common sub-expression: those held, or computed now and held if they are few and nothing was noted.
pub(super) fn eval<'a>(q: &'a Query<'a>, id: usize, expr: &'a Expr, grid: Grid) -> Result<Stream<'a>, QueryError> {
    let key = (id, grid);
    let lock = || q.held.lock().unwrap_or_else(PoisonError::into_inner);
    let found = lock().get(&key).cloned();
    match found {
        Some(Some(held)) => return Ok(again(q, held)),
        Some(None) => return super::eval_node(q, expr, grid)?.series(),
        None => {}
    }
    let (notes, read, fresh) = (q.notes.len(), q.samples.read(), q.samples.fresh());
    let steps = q.samples.steps();
    let mut input = super::eval_node(q, expr, grid)?.series()?;
    let (mut columns, mut points) = (Vec::new(), 0);
    while let Some(c) = input.next()? {
        q.tick(1)?;
        points += c.samples();
        columns.push(c);
        if points > POINTS_MAX {
            lock().insert(key, None);
            let mut columns = columns.into_iter();
            return Ok(stream(move || match columns.next() {
                Some(c) => Ok(Some(c)),
                None => input.next(),
            }));
        }
    }
    drop(input); // what it read is counted then
    if q.notes.len() != notes {
        lock().insert(key, None);
        return Ok(from_vec(columns));
    }
    q.charge(columns.iter().map(Column::bytes).sum())?;
    let since = |(now, before): ((u64, u64), &(u64, u64))| (now.0 - before.0, now.1 - before.1);
    let steps = q.samples.steps().into_iter().zip(&steps).map(since).collect();
    let held = Arc::new(Held {
        columns: columns.clone(),
        read: q.samples.read() - read,
        fresh: q.samples.fresh() - fresh,
        steps,
    });
    lock().insert(key, Some(held));
    Ok(from_vec(columns))
}

fn again<'a>(q: &'a Query<'a>, held: Arc<Held>) -> Stream<'a> {
    q.samples.add_read(held.read, held.fresh);
    for (step, (n, fresh)) in held.steps.iter().enumerate().filter(|(_, (n, _))| *n > 0) {
        q.samples.add_read_at(step, *n, *fresh);
    }
    let mut next = 0;
    stream(move || {
        let c = held.columns.get(next).cloned();
        next += 1;
        q.tick(1)?;
        Ok(c)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_largest_common_expressions() {
        for (text, want) in [
            ("rate(x[5m]) / on () group_left () sum(rate(x[5m]))", vec!["rate(x[5m])", "rate(x[5m])"]),
            ("sum(rate(x[5m])) / (1 + sum(rate(x [5m])))", vec!["sum(rate(x [5m]))", "sum(rate(x[5m]))"]),
            ("rate(x[5m]) / rate(y[5m])", vec![]),
            ("x / x", vec![]),
            ("topk(1, sum by (a) (x)) / sum by (a) (x)", vec![]),
        ] {
            let e = ferula_promql_parser::parse_expr(text).unwrap();
            let shared = Common::find(&e, &crate::eval::picked_from(&e), &[]);
            let mut found: Vec<_> = shared.ids.keys().map(|(a, b)| &text[*a as usize..*b as usize]).collect();
            found.sort_unstable();
            assert_eq!(found, want, "{text}");
        }
    }
}
