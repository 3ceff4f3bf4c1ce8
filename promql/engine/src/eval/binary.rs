//! Binary operators: which implementation for which types, and long chains without recursion.
use ferula_promql_parser::{BinaryExpr, Cardinality};

use super::{Output, matching, scalar_ops, set_ops};
use crate::column::from_vec;
use crate::error::QueryError;
use crate::grid::Grid;
use crate::query::Query;

/// After so many operators in a row a stream is read into memory, so that pulling a series never recurses deeper.
const CHAIN_MAX: usize = 32;

pub(crate) fn eval<'a>(q: &'a Query<'a>, b: &'a BinaryExpr, grid: Grid) -> Result<Output<'a>, QueryError> {
    let (first, chain) = b.spine();
    let mut value = super::eval(q, first, grid)?;
    for (i, node) in chain.into_iter().enumerate() {
        let right = super::eval(q, &node.rhs, grid)?;
        value = combine(q, node, value, right, grid)?;
        if i % CHAIN_MAX == CHAIN_MAX - 1
            && let Output::Series(s) = value
        {
            let mut held = q.collect(s)?;
            value = Output::Series(from_vec(std::mem::take(&mut held.columns)));
        }
    }
    Ok(value)
}

fn combine<'a>(
    q: &'a Query<'a>,
    b: &'a BinaryExpr,
    left: Output<'a>,
    right: Output<'a>,
    grid: Grid,
) -> Result<Output<'a>, QueryError> {
    Ok(match (left, right) {
        (Output::Scalar(l), Output::Scalar(r)) => Output::Scalar(scalar_ops::scalars(b.op, l, &r)),
        (Output::Series(l), Output::Scalar(r)) => Output::Series(scalar_ops::vector_scalar(q, b, &b.lhs, l, r, false)),
        (Output::Scalar(l), Output::Series(r)) => Output::Series(scalar_ops::vector_scalar(q, b, &b.rhs, r, l, true)),
        (Output::Series(l), Output::Series(r)) => {
            let m = b.matching.as_ref().ok_or_else(|| QueryError::execution("vector matching is missing"))?;
            Output::Series(match m.cardinality {
                Cardinality::ManyToMany => set_ops::eval(q, b.op, m, l, r, grid),
                _ => matching::eval(q, b, m, l, r, grid),
            })
        }
        _ => return Err(QueryError::execution("binary operation on a string")),
    })
}
