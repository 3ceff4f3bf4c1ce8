//! Keeping label sets unique where operators take the name away.
use ferula_model::MatchOp;
use ferula_model::labels::METRIC_NAME;
use ferula_promql_parser::{Expr, VectorSelector};
use hashbrown::HashMap;

use crate::column::{Column, Stream, stream};
use crate::error::QueryError;
use crate::query::Query;

pub(crate) const SAME_LABELSET: &str = "vector cannot contain metrics with the same labelset";

/// What happens to two series that end up with equal labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duplicates {
    /// An error, whatever their steps: functions of range vectors, negation.
    Refuse,
    /// One series, unless both have a value at the same step.
    Merge,
}

/// The selector names exactly one metric.
pub(crate) fn pins_name(v: &VectorSelector) -> bool {
    v.matchers.iter().any(|m| m.name == METRIC_NAME && m.op == MatchOp::Equal)
}

/// Whether all series of an instant vector expression have the same name, or none, by construction. Then labels are
/// unique without it too.
pub(crate) fn one_name(expr: &Expr) -> bool {
    let mut e = expr;
    loop {
        e = match e {
            Expr::Vector(v) => return pins_name(v),
            Expr::Matrix(m) => return pins_name(&m.selector),
            Expr::Subquery(s) => &s.expr,
            Expr::Paren(p) => &p.expr,
            Expr::Unary(u) => &u.expr,
            Expr::Aggregate(a) => {
                // A grouping that does not tell names apart.
                let by_name = a.grouping.iter().any(|l| l == METRIC_NAME);
                if !a.op.has_param() || a.op == ferula_promql_parser::AggregateOp::Quantile {
                    return a.without || !by_name;
                }
                &a.expr
            }
            Expr::Call(c) if matches!(c.func.name, "label_replace" | "label_join" | "info") => return false,
            Expr::Call(c) => {
                use ferula_promql_parser::ValueType::{Matrix, Vector};
                match c.args.iter().find(|a| matches!(a.value_type(), Vector | Matrix)) {
                    Some(a) => a,
                    None => return true,
                }
            }
            _ => return false,
        }
    }
}

/// Makes the label sets of a stream unique that was computed, with names dropped, from `input_expr`.
pub(crate) fn unique<'a>(q: &'a Query<'a>, input_expr: &Expr, s: Stream<'a>, how: Duplicates) -> Stream<'a> {
    if q.semantics.delayed_name_removal || one_name(input_expr) { s } else { always_unique(q, s, how) }
}

/// Reads the whole stream, then hands it out with equal label sets merged or refused.
pub(crate) fn always_unique<'a>(q: &'a Query<'a>, s: Stream<'a>, how: Duplicates) -> Stream<'a> {
    let mut input = Some(s);
    let mut ready = Vec::new().into_iter();
    stream(move || {
        if let Some(s) = input.take() {
            let mut held = q.collect(s)?;
            ready = merge(std::mem::take(&mut held.columns), how)?.into_iter();
        }
        Ok(ready.next())
    })
}

/// Merges columns of equal labels, in the order of first appearance.
pub(crate) fn merge(columns: Vec<Column>, how: Duplicates) -> Result<Vec<Column>, QueryError> {
    if columns.len() < 2 {
        return Ok(columns);
    }
    let mut seen: HashMap<Vec<u8>, usize> = HashMap::with_capacity(columns.len());
    let mut out: Vec<Column> = Vec::with_capacity(columns.len());
    let mut key = Vec::new();
    for c in columns {
        c.id.key_into(&mut key, |_| true);
        // A name that will go and one that stays are different series, though not yet to be told apart.
        key.push(u8::from(c.drop_name));
        match seen.get(&key) {
            None => {
                seen.insert(key.clone(), out.len());
                out.push(c);
            }
            Some(i) => {
                let first = &mut out[*i];
                if how == Duplicates::Refuse || first.overlaps(&c) {
                    return Err(QueryError::execution(SAME_LABELSET));
                }
                first.absorb(c);
            }
        }
    }
    Ok(out)
}
