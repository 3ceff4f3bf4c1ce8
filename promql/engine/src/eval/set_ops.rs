//! `and`, `or`, `unless`: series kept or dropped, step by step, by what the other side has.
use ferula_promql_parser::{BinaryOp, VectorMatching};
use hashbrown::HashMap;

use super::matching::signature;
use super::merge::{Duplicates, merge};
use crate::column::{ABSENT, Column, Stream, stream};
use crate::error::QueryError;
use crate::grid::Grid;
use crate::query::Query;

/// Steps at which any series of a group has a value.
type Mask = Vec<bool>;

fn mark(c: &Column, mask: &mut Mask) {
    for (v, m) in c.floats.iter().zip(mask.iter_mut()) {
        *m |= crate::column::is_present(*v);
    }
    for (step, _) in &c.histograms {
        if let Some(m) = mask.get_mut(*step as usize) {
            *m = true;
        }
    }
}

/// Drops the steps whose mask is not `keep`.
fn filter(c: &mut Column, mask: Option<&Mask>, keep: bool) {
    let Some(mask) = mask else {
        if keep {
            c.floats.fill(ABSENT);
            c.histograms.clear();
        }
        return;
    };
    for (v, m) in c.floats.iter_mut().zip(mask) {
        if *m != keep {
            *v = ABSENT;
        }
    }
    c.histograms.retain(|(step, _)| mask.get(*step as usize) == Some(&keep));
}

pub(crate) fn eval<'a>(
    q: &'a Query<'a>,
    op: BinaryOp,
    m: &'a VectorMatching,
    mut left: Stream<'a>,
    right: Stream<'a>,
    grid: Grid,
) -> Stream<'a> {
    if op == BinaryOp::Or {
        return or(q, m, left, right, grid);
    }
    let mut right = Some(right);
    let mut present: HashMap<Vec<u8>, Mask> = HashMap::new();
    let mut key = Vec::new();
    stream(move || {
        if let Some(mut right) = right.take() {
            while let Some(c) = right.next()? {
                signature(&c.id, m, &mut key);
                if !present.contains_key(&key) {
                    q.charge(grid.n as u64 + 64)?;
                }
                mark(&c, present.entry_ref(&key).or_insert_with(|| vec![false; grid.n]));
            }
        }
        while let Some(mut c) = left.next()? {
            signature(&c.id, m, &mut key);
            filter(&mut c, present.get(&key), op == BinaryOp::And);
            if !c.is_vacant() {
                return Ok(Some(c));
            }
        }
        Ok(None)
    })
}

fn or<'a>(q: &'a Query<'a>, m: &'a VectorMatching, left: Stream<'a>, right: Stream<'a>, grid: Grid) -> Stream<'a> {
    let mut sides = Some((left, right));
    let mut ready = Vec::new().into_iter();
    stream(move || {
        if let Some((left, mut right)) = sides.take() {
            ready = both(q, m, left, &mut right, grid)?.into_iter();
        }
        Ok(ready.next())
    })
}

fn both<'a>(
    q: &'a Query<'a>,
    m: &VectorMatching,
    left: Stream<'a>,
    right: &mut Stream<'a>,
    grid: Grid,
) -> Result<Vec<Column>, QueryError> {
    let mut held = q.collect(left)?;
    let mut present: HashMap<Vec<u8>, Mask> = HashMap::new();
    let mut key = Vec::new();
    for c in &held.columns {
        signature(&c.id, m, &mut key);
        mark(c, present.entry_ref(&key).or_insert_with(|| vec![false; grid.n]));
    }
    let added = q.collect(crate::column::FromFn(|| {
        while let Some(mut c) = right.next()? {
            signature(&c.id, m, &mut key);
            if let Some(mask) = present.get(&key) {
                filter(&mut c, Some(mask), false);
                if c.is_vacant() {
                    continue;
                }
            }
            return Ok(Some(c));
        }
        Ok(None)
    }));
    let mut all = std::mem::take(&mut held.columns);
    all.append(&mut added?.columns);
    merge(all, Duplicates::Merge)
}
