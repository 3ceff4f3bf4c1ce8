//! Extended range selectors: `anchored` windows begin with the sample before them, `smoothed` ones begin and end with
//! values interpolated at their edges. Nothing is extrapolated.
use std::sync::Arc;

use ferula_model::labels::METRIC_NAME;
use ferula_model::{CounterResetHint, FloatHistogram};
use ferula_promql_parser::{RangeExtension, Span};

use super::rate::histogram_increase;
use super::{BoxedKernel, over_time, unsupported};
use crate::column::Point;
use crate::error::QueryError;
use crate::eval::range::{Points, SeriesWindows, Window, advance};
use crate::identity::Identity;
use crate::query::Run;

pub(super) fn kernel(q: &Arc<Run>, name: &'static str, v: &SeriesWindows) -> Result<BoxedKernel, QueryError> {
    let q = Arc::clone(q);
    let (span, seconds) = (v.span, v.range_ms as f64 / 1000.0);
    Ok(match name {
        "rate" => Box::new(move |w: &Window<'_>| Ok(increase(&q, w, true, seconds, span))),
        "increase" => Box::new(move |w: &Window<'_>| Ok(increase(&q, w, true, 1.0, span))),
        "delta" => Box::new(move |w: &Window<'_>| Ok(increase(&q, w, false, 1.0, span))),
        "changes" | "resets" if v.extension == Some(RangeExtension::Anchored) => {
            over_time::neighbours(name, q.semantics.start_timestamps)
        }
        _ => return Err(unsupported(name)),
    })
}

/// Last less first, counter resets made good, over `seconds`.
fn increase(q: &Run, w: &Window<'_>, counter: bool, seconds: f64, span: Span) -> Option<Point> {
    if !w.floats.is_empty() && !w.histograms.is_empty() {
        q.notes.mixed_floats_histograms(w.id.get(METRIC_NAME), span);
        return None;
    }
    if let [only] = w.histograms {
        let mut none = FloatHistogram::clone(only);
        none.mul(0.0).compact(0);
        none.counter_reset_hint = CounterResetHint::Gauge;
        return Some(Point::Histogram(Arc::new(none)));
    }
    if !w.histograms.is_empty() {
        let mut h = histogram_increase(q, w, counter, span)?;
        h.div(seconds);
        return Some(Point::Histogram(Arc::new(h)));
    }
    let mut difference = w.floats.last()? - w.floats.first()?;
    if counter {
        difference += w.floats.windows(2).filter(|p| p[1] < p[0]).map(|p| p[0]).sum::<f64>();
    }
    Some(Point::Float(difference / seconds))
}

pub(super) fn windows(
    q: &Run,
    v: &SeriesWindows,
    id: &Identity,
    counter: bool,
    mut f: impl FnMut(&Window<'_>) -> Result<(), QueryError>,
) -> Result<(), QueryError> {
    let p = &v.points;
    let lookback = q.semantics.lookback_ms;
    let smoothed = v.extension == Some(RangeExtension::Smoothed);
    let (mut fl, mut fh, mut hl, mut hh) = (0, 0, 0, 0);
    let mut scratch = Points::default();
    for step in 0..v.times.n {
        let end_ms = v.times.at(step);
        let start_ms = end_ms.saturating_sub(v.range_ms);
        advance(&p.float_ms, &mut fl, start_ms);
        advance(&p.float_ms, &mut fh, end_ms);
        advance(&p.histogram_ms, &mut hl, start_ms);
        advance(&p.histogram_ms, &mut hh, end_ms);
        q.tick(1 + ((fh - fl + hh - hl) >> 8) as u32)?;
        let frame = Window {
            float_ms: &[],
            floats: &[],
            float_start_ms: &[],
            histogram_ms: &[],
            histograms: &[],
            histogram_start_ms: &[],
            start_ms,
            end_ms,
            now_ms: v.grid.at(step),
            step,
            id,
            float_offset: 0,
        };
        if smoothed {
            scratch.clear();
            let edges = Edges { start_ms, end_ms, lookback };
            smooth_floats(p, (fl, fh), &edges, counter, &mut scratch);
            if smooth_histograms(p, (hl, hh), &edges, counter, &mut scratch).is_none() {
                q.notes.mixed_schemas(id.get(METRIC_NAME), v.span);
                continue;
            }
            if !scratch.floats.is_empty() || !scratch.histograms.is_empty() {
                f(&Window {
                    float_ms: &scratch.float_ms,
                    floats: &scratch.floats,
                    histogram_ms: &scratch.histogram_ms,
                    histograms: &scratch.histograms,
                    ..frame
                })?;
            }
            continue;
        }
        if fl == fh && hl == hh {
            continue;
        }
        // The anchor is the newest sample of either kind at or before the start.
        let before = |times: &[i64], first: usize| {
            let t = *times.get(first.checked_sub(1)?)?;
            (t > start_ms.saturating_sub(lookback)).then_some(t)
        };
        let (bf, bh) = (before(&p.float_ms, fl), before(&p.histogram_ms, hl));
        let (with_f, with_h) = (usize::from(bf.is_some() && bf >= bh), usize::from(bh.is_some() && bh > bf));
        let (ff, hf) = (fl - with_f, hl - with_h);
        f(&Window {
            float_ms: &p.float_ms[ff..fh],
            floats: &p.floats[ff..fh],
            float_start_ms: p.float_start_ms.get(ff..fh).unwrap_or(&[]),
            histogram_ms: &p.histogram_ms[hf..hh],
            histograms: &p.histograms[hf..hh],
            histogram_start_ms: p.histogram_start_ms.get(hf..hh).unwrap_or(&[]),
            float_offset: ff,
            ..frame
        })?;
    }
    Ok(())
}

struct Edges {
    start_ms: i64,
    end_ms: i64,
    lookback: i64,
}

/// Which samples (by position) the two edges lie between.
struct Around {
    left: (usize, usize),
    right: (usize, usize),
    inner: std::ops::Range<usize>,
}

impl Edges {
    /// `first..past`: the samples within `(start, end]`. `None`: there is nothing to interpolate.
    fn around(&self, times: &[i64], (first, past): (usize, usize)) -> Option<Around> {
        let before = first.checked_sub(1).filter(|i| times[*i] > self.start_ms.saturating_sub(self.lookback));
        let after = (past < times.len() && times[past] <= self.end_ms.saturating_add(self.lookback)).then_some(past);
        let inside = first < past;
        if !inside && (before.is_none() || after.is_none()) {
            return None;
        }
        let next = if inside { first } else { after? };
        let last = if inside { past - 1 } else { before? };
        let exact_end = inside && times[past - 1] == self.end_ms;
        Some(Around {
            left: (before.unwrap_or(next), next),
            right: (last, if exact_end { last } else { after.unwrap_or(last) }),
            inner: first..(if exact_end { past - 1 } else { past }),
        })
    }
}

fn share(times: &[i64], (a, b): (usize, usize), at_ms: i64) -> f64 {
    if a == b || at_ms <= times[a] { 0.0 } else { (at_ms - times[a]) as f64 / (times[b] - times[a]) as f64 }
}

/// The value `share` of the way from `a` to `b`; a counter that was reset between has risen from zero.
fn between(a: f64, b: f64, share: f64, counter: bool) -> f64 {
    if counter && b < a && share > 0.0 { b * share } else { a + (b - a) * share }
}

fn smooth_floats(p: &Points, window: (usize, usize), edges: &Edges, counter: bool, out: &mut Points) {
    let Some(a) = edges.around(&p.float_ms, window) else { return };
    let mut push = |t: i64, v: f64| {
        out.float_ms.push(t);
        out.floats.push(v);
    };
    let value =
        |(i, j): (usize, usize), t: i64| between(p.floats[i], p.floats[j], share(&p.float_ms, (i, j), t), counter);
    push(edges.start_ms, value(a.left, edges.start_ms));
    a.inner.for_each(|i| push(p.float_ms[i], p.floats[i]));
    push(edges.end_ms, value(a.right, edges.end_ms));
}

/// `None`: two histograms to interpolate between do not combine.
fn smooth_histograms(p: &Points, window: (usize, usize), edges: &Edges, counter: bool, out: &mut Points) -> Option<()> {
    let Some(a) = edges.around(&p.histogram_ms, window) else { return Some(()) };
    let value = |(i, j): (usize, usize), t: i64| {
        histogram_between(&p.histograms[i], &p.histograms[j], share(&p.histogram_ms, (i, j), t), counter)
    };
    let (left, crossed) = value(a.left, edges.start_ms)?;
    let (right, _) = value(a.right, edges.end_ms)?;
    out.histogram_ms.push(edges.start_ms);
    out.histograms.push(left);
    for (n, i) in a.inner.enumerate() {
        let mut h = Arc::clone(&p.histograms[i]);
        if crossed && n == 0 {
            // The reset before this sample is part of the interpolated edge already.
            Arc::make_mut(&mut h).counter_reset_hint = CounterResetHint::NotCounterReset;
        }
        out.histogram_ms.push(p.histogram_ms[i]);
        out.histograms.push(h);
    }
    out.histogram_ms.push(edges.end_ms);
    out.histograms.push(right);
    Some(())
}

/// The histogram and whether a counter reset lies between; `None` where the two do not combine.
fn histogram_between(
    a: &Arc<FloatHistogram>,
    b: &Arc<FloatHistogram>,
    share: f64,
    counter: bool,
) -> Option<(Arc<FloatHistogram>, bool)> {
    if share == 0.0 {
        return Some((Arc::clone(a), false));
    }
    if !a.is_compatible(b) {
        return None;
    }
    let reset = counter && b.detect_reset(a);
    let mut h = FloatHistogram::clone(b);
    if !reset {
        h.sub(a).ok()?;
    }
    h.mul(share);
    if !reset {
        h.add(a).ok()?;
    }
    let gauge = a.counter_reset_hint == CounterResetHint::Gauge && b.counter_reset_hint == CounterResetHint::Gauge;
    h.counter_reset_hint = match (gauge, reset) {
        (true, _) => CounterResetHint::Gauge,
        (_, true) => CounterResetHint::CounterReset,
        _ => CounterResetHint::Unknown,
    };
    Some((Arc::new(h), reset))
}

/// `selector smoothed` at one time.
pub(crate) fn interpolated(q: &Run, p: &Points, t_ms: i64, lookback_ms: i64, name: &str, span: Span) -> Option<Point> {
    let near = |times: &[i64]| {
        let past = times.partition_point(|t| *t <= t_ms);
        let before = past.checked_sub(1).filter(|i| times[*i] > t_ms.saturating_sub(lookback_ms));
        let after = (past < times.len() && times[past] <= t_ms.saturating_add(lookback_ms)).then_some(past);
        (before, after)
    };
    let (f, h) = (near(&p.float_ms), near(&p.histogram_ms));
    if (f.0.is_some() || f.1.is_some()) && (h.0.is_some() || h.1.is_some()) {
        q.notes.mixed_floats_histograms(name, span);
        return None;
    }
    if let (Some(i), after) = f {
        let j = after.unwrap_or(i);
        return Some(Point::Float(between(p.floats[i], p.floats[j], share(&p.float_ms, (i, j), t_ms), false)));
    }
    let (Some(i), after) = h else { return None };
    let j = after.unwrap_or(i);
    let (a, b) = (&p.histograms[i], &p.histograms[j]);
    let counter = a.counter_reset_hint != CounterResetHint::Gauge;
    match histogram_between(a, b, share(&p.histogram_ms, (i, j), t_ms), counter) {
        Some((h, _)) => Some(Point::Histogram(h)),
        None => {
            q.notes.mixed_schemas(name, span);
            None
        }
    }
}
