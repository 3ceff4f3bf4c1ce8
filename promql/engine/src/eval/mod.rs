//! Evaluation: an expression over a grid becomes a scalar per step, a string, or a stream of series.
mod aggregate;
mod aggregate_select;
mod binary;
mod extent;
mod groups;
mod hints;
mod invariant;
pub(crate) mod lanes;
mod matching;
pub(crate) mod merge;
mod order;
mod picks;
pub(crate) mod range;
mod ranked;
mod scalar_ops;
pub(crate) mod selector;
mod set_ops;
mod shared;
mod stats_only;

use std::time::Instant;

use ferula_promql_parser::{Expr, ValueType};

use crate::column::{Column, Stream, map, stream};
use crate::error::QueryError;
use crate::functions;
use crate::grid::Grid;
use crate::plan::{Analysis, Measured};
use crate::query::Query;

pub(crate) use extent::extent;
pub(crate) use groups::GroupTable;
pub(crate) use hints::{Use, uses};
pub(crate) use invariant::is_step_invariant;
pub(crate) use order::{defines_order, picked_from};
pub(crate) use shared::{Common, Holding};
pub(crate) use stats_only::{Hinter, stats_only};

/// The value of an expression over a grid.
pub(crate) enum Output<'a> {
    /// One value per step.
    Scalar(Vec<f64>),
    String(String),
    Series(Stream<'a>),
}

impl<'a> Output<'a> {
    pub fn scalar(self) -> Result<Vec<f64>, QueryError> {
        match self {
            Output::Scalar(v) => Ok(v),
            _ => Err(QueryError::execution("expected a scalar")),
        }
    }
    pub fn series(self) -> Result<Stream<'a>, QueryError> {
        match self {
            Output::Series(s) => Ok(s),
            _ => Err(QueryError::execution("expected an instant vector")),
        }
    }
    pub fn string(self) -> Result<String, QueryError> {
        match self {
            Output::String(s) => Ok(s),
            _ => Err(QueryError::execution("expected a string")),
        }
    }
}

/// Evaluates `expr` at every step of `grid`. Streams borrow the query and the expression.
pub(crate) fn eval<'a>(q: &'a Query<'a>, expr: &'a Expr, grid: Grid) -> Result<Output<'a>, QueryError> {
    match &q.analysis {
        None => eval_all(q, expr, grid),
        Some(analysis) => measured(q, analysis, expr, grid),
    }
}

/// As [`eval_all`], noting what it costs: opening it, and every series that is asked of it.
fn measured<'a>(
    q: &'a Query<'a>,
    analysis: &'a Analysis,
    expr: &'a Expr,
    grid: Grid,
) -> Result<Output<'a>, QueryError> {
    let span = (expr.span().start, expr.span().end);
    let start = move || (Instant::now(), q.samples.decoded());
    let cost = move |(began, decoded): (Instant, u64)| Measured {
        time: began.elapsed(),
        samples_decoded: q.samples.decoded() - decoded,
        ..Measured::default()
    };
    let begun = start();
    let out = eval_all(q, expr, grid)?;
    let samples = if let Output::Scalar(v) = &out { v.len() as u64 } else { 0 };
    analysis.add(span, Measured { evaluations: 1, samples, bytes: 8 * samples, ..cost(begun) });
    let Output::Series(mut input) = out else { return Ok(out) };
    Ok(Output::Series(stream(move || {
        let begun = start();
        let next = input.next()?;
        let found = next.as_ref().map_or((0, 0, 0), |c| (1, c.samples(), c.bytes()));
        let (series, samples, bytes) = found;
        analysis.add(span, Measured { series, samples, bytes, ..cost(begun) });
        Ok(next)
    })))
}

fn eval_all<'a>(q: &'a Query<'a>, expr: &'a Expr, grid: Grid) -> Result<Output<'a>, QueryError> {
    q.admit(grid)?;
    q.tick(1)?;
    if grid.n > 1024 {
        // Every node holds at least one column at a time.
        q.charge(8 * grid.n as u64)?;
    }
    if q.optimises
        && grid.n > 1
        && !matches!(expr, Expr::Number(_) | Expr::String(_) | Expr::Paren(_))
        && is_step_invariant(expr)
    {
        // The same at every step: computed once, at the first.
        return broadcast(q, eval_once(q, expr, Grid { n: 1, ..grid })?, grid);
    }
    eval_once(q, expr, grid)
}

fn eval_once<'a>(q: &'a Query<'a>, expr: &'a Expr, grid: Grid) -> Result<Output<'a>, QueryError> {
    if let Some(id) = q.common_id(expr) {
        return Ok(Output::Series(shared::eval(q, id, expr, grid)?));
    }
    eval_node(q, expr, grid)
}

fn eval_node<'a>(q: &'a Query<'a>, expr: &'a Expr, grid: Grid) -> Result<Output<'a>, QueryError> {
    match expr {
        Expr::Number(n) => Ok(Output::Scalar(vec![n.value; grid.n])),
        Expr::String(s) => Ok(Output::String(s.value.clone())),
        Expr::Paren(p) => eval(q, &p.expr, grid),
        Expr::Vector(v) => Ok(Output::Series(selector::instant(q, v, grid)?)),
        Expr::Matrix(_) | Expr::Subquery(_) => {
            Err(QueryError::execution("a range vector can only be an argument of a function"))
        }
        Expr::Unary(u) => unary(q, u.negative, &u.expr, grid),
        Expr::Binary(b) => binary::eval(q, b, grid),
        Expr::Aggregate(a) if matches!(expr.value_type(), ValueType::Vector) => {
            Ok(Output::Series(aggregate::eval(q, a, grid)?))
        }
        Expr::Aggregate(_) => Err(QueryError::execution("an aggregation has to give an instant vector")),
        Expr::Call(c) => functions::call(q, c, grid),
    }
}

fn broadcast<'a>(q: &'a Query<'a>, once: Output<'a>, grid: Grid) -> Result<Output<'a>, QueryError> {
    Ok(match once {
        Output::Scalar(v) => Output::Scalar(vec![v.first().copied().unwrap_or(f64::NAN); grid.n]),
        Output::String(s) => Output::String(s),
        Output::Series(mut input) => Output::Series(stream(move || {
            let Some(c) = input.next()? else { return Ok(None) };
            q.tick(1 + (grid.n >> 6) as u32)?;
            let mut out = Column { floats: Vec::new(), histograms: Vec::new(), ..c };
            out.floats = vec![c.floats.first().copied().unwrap_or(crate::column::ABSENT); grid.n];
            if let Some((_, h)) = c.histograms.first() {
                out.histograms = (0..grid.n as u32).map(|i| (i, h.clone())).collect();
            }
            Ok(Some(out))
        })),
    })
}

fn unary<'a>(q: &'a Query<'a>, negative: bool, expr: &'a Expr, grid: Grid) -> Result<Output<'a>, QueryError> {
    let inner = eval(q, expr, grid)?;
    if !negative {
        return Ok(inner);
    }
    Ok(match inner {
        Output::Scalar(v) => Output::Scalar(v.into_iter().map(|x| -x).collect()),
        Output::Series(s) => {
            let negated = map(s, |c| {
                for v in c.floats.iter_mut().filter(|v| crate::column::is_present(**v)) {
                    *v = -*v;
                }
                for (_, h) in &mut c.histograms {
                    std::sync::Arc::make_mut(h).mul(-1.0);
                }
                q.drop_name(c);
                Ok(())
            });
            Output::Series(merge::unique(q, expr, negated, merge::Duplicates::Refuse))
        }
        other => other,
    })
}
