//! Extended range selectors: `anchored` and `smoothed`.
use super::{Kernel, unsupported};
use crate::column::Point;
use crate::error::QueryError;
use crate::eval::range::{Points, RangeVector, Window};
use crate::identity::Identity;
use crate::query::Query;

pub(super) fn kernel<'a>(
    _q: &'a Query<'a>,
    name: &'static str,
    _v: &RangeVector<'a>,
) -> Result<Box<dyn Kernel + 'a>, QueryError> {
    Err(unsupported(name))
}

pub(super) fn windows(
    v: &RangeVector<'_>,
    id: &Identity,
    f: impl FnMut(&Window<'_>) -> Result<(), QueryError>,
) -> Result<(), QueryError> {
    v.windows(id, f)
}

pub(crate) fn interpolated(_p: &Points, _t_ms: i64, _lookback_ms: i64) -> Option<Point> {
    None
}
