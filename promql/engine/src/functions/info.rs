//! `info`: adds the labels of info series to other series.
use super::{Args, unsupported};
use crate::column::Stream;
use crate::error::QueryError;
use crate::grid::Grid;
use crate::query::Query;

pub(super) fn info<'a>(_q: &'a Query<'a>, _args: &Args<'a>, _grid: Grid) -> Result<Stream<'a>, QueryError> {
    Err(unsupported("info"))
}
