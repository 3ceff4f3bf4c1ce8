//! The times a query needs from storage.
use ferula_promql_parser::{At, Duration, DurationContext, DurationUse, Expr, RangeExtension};

use crate::error::QueryError;
use crate::query::Semantics;

/// `(oldest, newest)`, inclusive, over all selectors: with lookback, ranges, offsets, `@` and enclosing subqueries.
pub(crate) fn extent(
    expr: &Expr,
    start_ms: i64,
    end_ms: i64,
    step_ms: i64,
    semantics: &Semantics,
) -> Result<(i64, i64), QueryError> {
    let durations = DurationContext { step_ms, range_ms: if step_ms == 0 { 0 } else { end_ms - start_ms } };
    let resolve = |d: &Duration, used_as| d.resolve(used_as, durations).map_err(super::selector::duration_error);
    let pinned = |at: At| match at {
        At::Timestamp(t) => t,
        At::Start => start_ms,
        At::End => end_ms,
    };
    let moved = |(from, to): (i64, i64), at: Option<At>, offset: &Option<Duration>| -> Result<(i64, i64), QueryError> {
        let offset = offset.as_ref().map_or(Ok(0), |d| resolve(d, DurationUse::Offset))?;
        let (from, to) = at.map_or((from, to), |at| (pinned(at), pinned(at)));
        Ok((from.saturating_sub(offset), to.saturating_sub(offset)))
    };
    let mut bounds: Option<(i64, i64)> = None;
    let mut open = vec![(expr, (start_ms, end_ms))];
    while let Some((e, times)) = open.pop() {
        let needed = match e {
            Expr::Vector(v) => {
                let (from, to) = moved(times, v.at, &v.offset)?;
                let after = if v.extension == Some(RangeExtension::Smoothed) { semantics.lookback_ms } else { 0 };
                (from.saturating_sub(semantics.lookback_ms), to.saturating_add(after))
            }
            Expr::Matrix(m) => {
                let v = &m.selector;
                let (from, to) = moved(times, v.at, &v.offset)?;
                let before = if v.extension.is_some() { semantics.lookback_ms } else { 0 };
                let after = if v.extension == Some(RangeExtension::Smoothed) { semantics.lookback_ms } else { 0 };
                let range = resolve(&m.range, DurationUse::Positive)?;
                (from.saturating_sub(range).saturating_sub(before), to.saturating_add(after))
            }
            Expr::Subquery(s) => {
                let (from, to) = moved(times, s.at, &s.offset)?;
                let range = resolve(&s.range, DurationUse::Positive)?;
                open.push((&*s.expr, (from.saturating_sub(range), to)));
                continue;
            }
            Expr::Call(c) if c.func.name == "info" => {
                // Info series are read where the first selector of the argument is read.
                open.extend(c.args.iter().map(|a| (a, times)));
                let mut shifted = times;
                let mut e = c.args.first();
                while let Some(inner) = e {
                    e = match inner {
                        Expr::Vector(v) => {
                            shifted = moved(shifted, v.at, &v.offset)?;
                            None
                        }
                        Expr::Matrix(m) => {
                            shifted = moved(shifted, m.selector.at, &m.selector.offset)?;
                            None
                        }
                        Expr::Subquery(s) => {
                            shifted = moved(shifted, s.at, &s.offset)?;
                            Some(&*s.expr)
                        }
                        other => other.children().into_iter().find(|c| !c.selectors().is_empty()),
                    };
                }
                (shifted.0.saturating_sub(semantics.lookback_ms), shifted.1)
            }
            other => {
                open.extend(other.children().into_iter().map(|c| (c, times)));
                continue;
            }
        };
        bounds = Some(match bounds {
            None => needed,
            Some((a, b)) => (a.min(needed.0), b.max(needed.1)),
        });
    }
    Ok(bounds.unwrap_or((start_ms, end_ms)))
}
