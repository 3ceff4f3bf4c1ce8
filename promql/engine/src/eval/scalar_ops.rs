//! Binary operators on single values, and on series against a scalar.
use std::sync::Arc;

use ferula_model::{CounterResetHint, FloatHistogram};
use ferula_promql_parser::{BinaryExpr, BinaryOp, Expr};

use super::merge::{Duplicates, unique};
use crate::column::{Point, Stream, is_present, map};
use crate::query::Query;

/// Arithmetic on floats; comparisons and set operators are not arithmetic.
#[inline(always)]
pub(crate) fn arithmetic(op: BinaryOp, l: f64, r: f64) -> Option<f64> {
    Some(match op {
        BinaryOp::Add => l + r,
        BinaryOp::Sub => l - r,
        BinaryOp::Mul => l * r,
        BinaryOp::Div => l / r,
        BinaryOp::Mod => l % r,
        BinaryOp::Pow => l.powf(r),
        BinaryOp::Atan2 => l.atan2(r),
        _ => return None,
    })
}

#[inline(always)]
pub(crate) fn compare(op: BinaryOp, l: f64, r: f64) -> bool {
    match op {
        BinaryOp::Eql => l == r,
        BinaryOp::Neq => l != r,
        BinaryOp::Lte => l <= r,
        BinaryOp::Lss => l < r,
        BinaryOp::Gte => l >= r,
        BinaryOp::Gtr => l > r,
        _ => false,
    }
}

/// Whether the result is a new quantity, which the metric's name does not describe.
pub(crate) fn drops_name(op: BinaryOp) -> bool {
    use BinaryOp::*;
    matches!(op, Add | Sub | Mul | Div | Mod | Pow | Atan2)
}

/// One scalar per step on both sides.
pub(crate) fn scalars(op: BinaryOp, mut l: Vec<f64>, r: &[f64]) -> Vec<f64> {
    for (l, r) in l.iter_mut().zip(r) {
        *l = match arithmetic(op, *l, *r) {
            Some(v) => v,
            None => f64::from(u8::from(compare(op, *l, *r))),
        };
    }
    l
}

/// `l op r` on any two values: `None` where there is no result (filtered, or types that do not combine). With `bool`
/// comparisons the caller looks only at whether there is one.
pub(crate) fn points(q: &Query<'_>, b: &BinaryExpr, l: &Point, r: &Point) -> Option<Point> {
    let op = b.op;
    match (l, r) {
        (Point::Float(x), Point::Float(y)) => match arithmetic(op, *x, *y) {
            Some(v) => Some(Point::Float(v)),
            None if op.is_comparison() => compare(op, *x, *y).then_some(Point::Float(*x)),
            None => incompatible(q, b, "float", "float"),
        },
        (Point::Float(x), Point::Histogram(h)) => match op {
            BinaryOp::Mul => Some(scaled(h, |h| {
                h.mul(*x);
            })),
            _ => incompatible(q, b, "float", "histogram"),
        },
        (Point::Histogram(h), Point::Float(y)) => match op {
            BinaryOp::Mul => Some(scaled(h, |h| {
                h.mul(*y);
            })),
            BinaryOp::Div => Some(scaled(h, |h| {
                h.div(*y);
            })),
            BinaryOp::TrimUpper | BinaryOp::TrimLower => Some(scaled(h, |h| h.trim(*y, op == BinaryOp::TrimUpper))),
            _ => incompatible(q, b, "histogram", "float"),
        },
        (Point::Histogram(x), Point::Histogram(y)) => match op {
            BinaryOp::Eql => x.is_same(y).then(|| l.clone()),
            BinaryOp::Neq => (!x.is_same(y)).then(|| l.clone()),
            BinaryOp::Add | BinaryOp::Sub => {
                let mut sum = FloatHistogram::clone(x);
                let (operation, merged) =
                    if op == BinaryOp::Add { ("addition", sum.add(y)) } else { ("subtraction", sum.sub(y)) };
                let Ok(merged) = merged else {
                    q.notes.incompatible_layout(op.as_str(), b.span);
                    return None;
                };
                if merged.counter_reset_collision {
                    q.notes.reset_collision(operation, b.span);
                }
                if merged.bounds_reconciled {
                    q.notes.bounds_reconciled(operation, b.span);
                }
                if op == BinaryOp::Sub {
                    sum.counter_reset_hint = CounterResetHint::Gauge;
                }
                sum.compact(0);
                Some(Point::Histogram(Arc::new(sum)))
            }
            _ => incompatible(q, b, "histogram", "histogram"),
        },
    }
}

fn scaled(h: &Arc<FloatHistogram>, f: impl FnOnce(&mut FloatHistogram)) -> Point {
    let mut h = FloatHistogram::clone(h);
    f(&mut h);
    Point::Histogram(Arc::new(h))
}

fn incompatible(q: &Query<'_>, b: &BinaryExpr, l: &str, r: &str) -> Option<Point> {
    q.notes.incompatible_types(l, b.op.as_str(), r, b.span);
    None
}

/// A vector against one scalar per step. `scalar_left`: the scalar stands on the left; a comparison keeps the
/// vector's value all the same.
pub(crate) fn vector_scalar<'a>(
    q: &'a Query<'a>,
    b: &'a BinaryExpr,
    vector_expr: &'a Expr,
    vector: Stream<'a>,
    scalar: Vec<f64>,
    scalar_left: bool,
) -> Stream<'a> {
    let op = b.op;
    let comparison = op.is_comparison();
    let renamed = drops_name(op) || b.return_bool;
    let out = map(vector, move |c| {
        q.tick(1 + (c.floats.len() >> 6) as u32)?;
        for (v, s) in c.floats.iter_mut().zip(&scalar).filter(|(v, _)| is_present(**v)) {
            let (l, r) = if scalar_left { (*s, *v) } else { (*v, *s) };
            *v = match arithmetic(op, l, r) {
                Some(x) => x,
                None if comparison => match (compare(op, l, r), b.return_bool) {
                    (keep, true) => f64::from(u8::from(keep)),
                    (true, false) => *v,
                    (false, false) => crate::column::ABSENT,
                },
                None => {
                    q.notes.incompatible_types("float", op.as_str(), "float", b.span);
                    crate::column::ABSENT
                }
            };
        }
        if !c.histograms.is_empty() {
            for (step, h) in std::mem::take(&mut c.histograms) {
                let s = Point::Float(scalar.get(step as usize).copied().unwrap_or(f64::NAN));
                let h = Point::Histogram(h);
                let result = if scalar_left { points(q, b, &s, &h) } else { points(q, b, &h, &s) };
                // No comparison of a histogram with a float has a result, `bool` or not.
                if let Some(p) = result {
                    c.set(step as usize, p);
                }
            }
        }
        if renamed {
            q.drop_name(c);
        }
        Ok(())
    });
    if renamed { unique(q, vector_expr, out, Duplicates::Merge) } else { out }
}
