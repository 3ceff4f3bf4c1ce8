//! `absent` and `absent_over_time`: one series where the argument has none.
use ferula_model::labels::METRIC_NAME;
use ferula_model::{Labels, LabelsBuilder, MatchOp};
use ferula_promql_parser::Expr;

use super::Args;
use crate::column::{ABSENT, Column, Stream, stream};
use crate::error::QueryError;
use crate::eval::range::RangeVector;
use crate::grid::Grid;
use crate::identity::Identity;
use crate::query::Query;

pub(super) fn absent<'a>(q: &'a Query<'a>, args: &Args<'a>, grid: Grid) -> Result<Stream<'a>, QueryError> {
    let expr = args.expr(0)?;
    let mut input = args.vector(q, 0, grid)?;
    Ok(once(expr, grid, move |present| {
        while let Some(c) = input.next()? {
            (0..grid.n).filter(|s| c.has(*s)).for_each(|s| present[s] = true);
        }
        Ok(())
    }))
}

pub(super) fn absent_over_time<'a>(q: &'a Query<'a>, args: &Args<'a>, grid: Grid) -> Result<Stream<'a>, QueryError> {
    let expr = args.expr(0)?;
    let mut vector = RangeVector::open(q, expr, grid)?;
    Ok(once(expr, grid, move |present| {
        while let Some(series) = vector.next()? {
            vector.windows(&series.id, |w| {
                present[w.step] = true;
                Ok(())
            })?;
        }
        Ok(())
    }))
}

fn once<'a>(
    expr: &'a Expr,
    grid: Grid,
    mut find: impl FnMut(&mut [bool]) -> Result<(), QueryError> + 'a,
) -> Stream<'a> {
    let mut done = false;
    stream(move || {
        if std::mem::replace(&mut done, true) {
            return Ok(None);
        }
        let mut present = vec![false; grid.n];
        find(&mut present)?;
        let mut c = Column::new(Identity::owned(labels_of(expr)), 0);
        c.floats = present.into_iter().map(|p| if p { ABSENT } else { 1.0 }).collect();
        Ok((!c.is_vacant()).then_some(c))
    })
}

/// What the selector pins by equality; a label that is matched more than once says nothing.
fn labels_of(expr: &Expr) -> Labels {
    let matchers = match expr.without_parens() {
        Expr::Vector(v) => &v.matchers,
        Expr::Matrix(m) => &m.selector.matchers,
        _ => return Labels::empty(),
    };
    let mut b = LabelsBuilder::new();
    for m in matchers.iter().filter(|m| m.name != METRIC_NAME) {
        let once = matchers.iter().filter(|o| o.name == m.name).count() == 1;
        if m.op == MatchOp::Equal && once {
            b.set(&m.name, &m.value);
        }
    }
    b.labels()
}
