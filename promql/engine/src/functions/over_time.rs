//! `*_over_time` and the other functions of a window that need no extrapolation.
use std::sync::Arc;

use ferula_model::histogram::HistogramSum;
use ferula_model::labels::METRIC_NAME;
use ferula_model::{CounterResetHint, FloatHistogram};
use ferula_promql_parser::Span;

use super::rate::is_reset;
use super::{Args, BoxedKernel, Frame, Kernel, unsupported};
use crate::column::Point;
use crate::error::QueryError;
use crate::eval::range::{SeriesWindows, Window};
use crate::grid::Grid;
use crate::math::{Mean, Sum, fold_windows, linear_regression, quantile, variance};
use crate::query::{Query, Run};

/// A kernel that never fails.
fn plain(mut f: impl FnMut(&Window<'_>) -> Option<Point> + Send + 'static) -> BoxedKernel {
    Box::new(move |w: &Window<'_>| Ok(f(w)))
}

/// A kernel of floats only: windows without any have no result, histograms beside them are noted and ignored.
fn floats(
    q: &Arc<Run>,
    span: Span,
    at_least: usize,
    mut f: impl FnMut(&Window<'_>) -> f64 + Send + 'static,
) -> BoxedKernel {
    let q = Arc::clone(q);
    plain(move |w| {
        if w.floats.is_empty() {
            return None;
        }
        if w.floats.len() < at_least {
            if !w.histograms.is_empty() {
                q.notes.ignored_in_mixed_range(w.id.get(METRIC_NAME), span);
            }
            return None;
        }
        if !w.histograms.is_empty() {
            q.notes.ignored_in_mixed_range(w.id.get(METRIC_NAME), span);
        }
        Some(Point::Float(f(w)))
    })
}

pub(super) fn kernel<'a>(
    q: &'a Query<'a>,
    args: &Args<'a>,
    grid: Grid,
    name: &'static str,
    v: &SeriesWindows,
) -> Result<BoxedKernel, QueryError> {
    let span = v.span;
    let run = || Arc::clone(&q.run);
    Ok(match name {
        "avg_over_time" | "sum_over_time" => Box::new(Total { q: run(), span, average: name == "avg_over_time" }),
        "count_over_time" => plain(|w| Some(Point::Float(w.len() as f64))),
        "present_over_time" => plain(|_| Some(Point::Float(1.0))),
        "last_over_time" => plain(|w| edge(w, true)),
        "first_over_time" => plain(|w| edge(w, false)),
        "max_over_time" | "min_over_time" => Box::new(Extremum { q: run(), span, max: name == "max_over_time" }),
        "ts_of_max_over_time" => floats(&q.run, span, 1, |w| extremum(w, |a, b| b >= a).0),
        "ts_of_min_over_time" => floats(&q.run, span, 1, |w| extremum(w, |a, b| b <= a).0),
        "ts_of_first_over_time" => plain(|w| {
            let first = w.float_ms.first().into_iter().chain(w.histogram_ms.first()).min()?;
            Some(Point::Float(*first as f64 / 1000.0))
        }),
        "ts_of_last_over_time" => plain(|w| {
            let last = w.float_ms.last().into_iter().chain(w.histogram_ms.last()).max()?;
            Some(Point::Float(*last as f64 / 1000.0))
        }),
        "stddev_over_time" => floats(&q.run, span, 1, |w| variance(w.floats).sqrt()),
        "stdvar_over_time" => floats(&q.run, span, 1, |w| variance(w.floats)),
        "mad_over_time" => floats(&q.run, span, 1, |w| {
            if w.floats.iter().any(|v| v.is_nan()) {
                return f64::NAN;
            }
            let mut v = w.floats.to_vec();
            let median = quantile(0.5, &mut v);
            v.iter_mut().for_each(|x| *x = (*x - median).abs());
            quantile(0.5, &mut v)
        }),
        "quantile_over_time" => {
            let phi = args.scalar(q, 0, grid)?;
            let phi_span = args.span(0)?;
            let (mut scratch, run) = (Vec::new(), run());
            floats(&q.run, phi_span, 1, move |w| {
                let p = phi.get(w.step).copied().unwrap_or(f64::NAN);
                if !(0.0..=1.0).contains(&p) {
                    run.notes.invalid_quantile(p, phi_span);
                }
                scratch.clear();
                scratch.extend_from_slice(w.floats);
                quantile(p, &mut scratch)
            })
        }
        "deriv" => floats(&q.run, span, 2, |w| linear_regression(w.float_ms, w.floats, w.float_ms[0]).0),
        "predict_linear" => {
            let ahead = args.scalar(q, 1, grid)?;
            floats(&q.run, span, 2, move |w| {
                let (slope, intercept) = linear_regression(w.float_ms, w.floats, w.now_ms);
                slope * ahead.get(w.step).copied().unwrap_or(f64::NAN) + intercept
            })
        }
        "double_exponential_smoothing" => {
            let (sf, tf) = (args.scalar(q, 1, grid)?, args.scalar(q, 2, grid)?);
            let bad = |what: &str, sign: &str, v: f64| {
                QueryError::execution(format!("invalid {what} factor. Expected: 0 < {sign} < 1, got: {v:.6}"))
            };
            let run = run();
            Box::new(move |w: &Window<'_>| {
                let (sf, tf) = (sf[w.step], tf[w.step]);
                if sf <= 0.0 || sf >= 1.0 {
                    return Err(bad("smoothing", "sf", sf));
                }
                if tf <= 0.0 || tf >= 1.0 {
                    return Err(bad("trend", "tf", tf));
                }
                if w.floats.len() < 2 {
                    if w.floats.len() == 1 && !w.histograms.is_empty() {
                        run.notes.ignored_in_mixed_range(w.id.get(METRIC_NAME), span);
                    }
                    return Ok(None);
                }
                if !w.histograms.is_empty() {
                    run.notes.ignored_in_mixed_range(w.id.get(METRIC_NAME), span);
                }
                Ok(Some(Point::Float(smoothed(w.floats, sf, tf))))
            })
        }
        "changes" | "resets" => neighbours(name, q.semantics.start_timestamps),
        _ => return Err(unsupported(name)),
    })
}

/// Holt's linear method.
fn smoothed(v: &[f64], sf: f64, tf: f64) -> f64 {
    let (mut before, mut level, mut trend) = (0.0, v[0], v[1] - v[0]);
    for (i, x) in v.iter().enumerate().skip(1) {
        if i > 1 {
            trend = tf * (level - before) + (1.0 - tf) * trend;
        }
        (before, level) = (level, sf * x + (1.0 - sf) * (level + trend));
    }
    level
}

/// `(time in seconds, value)` of the float that beats all before it; NaN is beaten by anything.
fn extremum(w: &Window<'_>, beats: impl Fn(f64, f64) -> bool) -> (f64, f64) {
    let (mut at, mut best) = (0, w.floats[0]);
    for (i, v) in w.floats.iter().enumerate().skip(1) {
        if beats(best, *v) || best.is_nan() {
            (at, best) = (i, *v);
        }
    }
    (w.float_ms[at] as f64 / 1000.0, best)
}

fn edge(w: &Window<'_>, last: bool) -> Option<Point> {
    let (f, h) = if last {
        (w.float_ms.last().zip(w.floats.last()), w.histogram_ms.last().zip(w.histograms.last()))
    } else {
        (w.float_ms.first().zip(w.floats.first()), w.histogram_ms.first().zip(w.histograms.first()))
    };
    match (f, h) {
        (Some((tf, _)), Some((th, h))) if (th > tf) == last => Some(Point::Histogram(Arc::clone(h))),
        (Some((_, v)), _) => Some(Point::Float(*v)),
        (None, Some((_, h))) => Some(Point::Histogram(Arc::clone(h))),
        (None, None) => None,
    }
}

/// `changes` and `resets`: how many neighbours, in time order, differ so; a change of kind always counts.
pub(super) fn neighbours(name: &str, start_timestamps: bool) -> BoxedKernel {
    if name == "changes" {
        return plain(|w| {
            Some(Point::Float(steps(w, |a, b| match (a, b) {
                (Seen::Float(_, a), Seen::Float(_, b)) => a != b && !(a.is_nan() && b.is_nan()),
                (Seen::Histogram(_, a), Seen::Histogram(_, b)) => !a.is_same(b),
                _ => true,
            })))
        });
    }
    plain(move |w| {
        Some(Point::Float(steps(w, |a, b| {
            let fell = match (a, b) {
                (Seen::Float(_, a), Seen::Float(_, b)) => b < a,
                (Seen::Histogram(_, a), Seen::Histogram(_, b)) => b.detect_reset(a),
                _ => true,
            };
            fell || (start_timestamps && is_reset(a.times(), b.times()))
        })))
    })
}

/// A sample with its own time and its start time (0: unknown).
#[derive(Clone, Copy)]
enum Seen<'w> {
    Float((i64, i64), f64),
    Histogram((i64, i64), &'w FloatHistogram),
}

impl Seen<'_> {
    fn times(&self) -> (i64, i64) {
        match self {
            Seen::Float(t, _) | Seen::Histogram(t, _) => *t,
        }
    }
}

fn steps<'w>(w: &Window<'w>, differ: impl Fn(Seen<'w>, Seen<'w>) -> bool) -> f64 {
    let start = |starts: &[i64], i: usize| starts.get(i).copied().unwrap_or(0);
    let (mut f, mut h, mut n) = (0, 0, 0u64);
    let mut previous: Option<Seen<'w>> = None;
    while f < w.floats.len() || h < w.histograms.len() {
        let take_float = match (w.float_ms.get(f), w.histogram_ms.get(h)) {
            (Some(a), Some(b)) => a < b,
            (a, _) => a.is_some(),
        };
        let now = if take_float {
            Seen::Float((w.float_ms[f], start(w.float_start_ms, f)), w.floats[f])
        } else {
            Seen::Histogram((w.histogram_ms[h], start(w.histogram_start_ms, h)), &w.histograms[h])
        };
        if take_float {
            f += 1
        } else {
            h += 1
        }
        n += u64::from(previous.is_some_and(|before| differ(before, now)));
        previous = Some(now);
    }
    n as f64
}

/// `sum_over_time` and `avg_over_time`.
struct Total {
    q: Arc<Run>,
    span: Span,
    average: bool,
}

impl Kernel for Total {
    fn window(&mut self, w: &Window<'_>) -> Result<Option<Point>, QueryError> {
        Ok(total(&self.q, self.span, self.average, w))
    }
    fn column(&mut self, series: &Frame<'_>, out: &mut [f64]) -> Result<bool, QueryError> {
        fold_windows(&series.points.floats, &series.plan.bounds, Sum::default(), Sum::add_finite, |i, w, s| {
            out[i] = match (s.sum.is_finite(), self.average) {
                (true, true) => s.sum / w.len() as f64 + s.comp / w.len() as f64,
                (true, false) => s.value(),
                (false, true) => Mean::of(w),
                (false, false) => sum_of(w),
            };
            self.q.tick((w.len() >> 8) as u32)
        })?;
        Ok(true)
    }
}

/// `max_over_time` and `min_over_time`: NaN gives way to anything.
struct Extremum {
    q: Arc<Run>,
    span: Span,
    max: bool,
}

impl Extremum {
    fn better(&self) -> impl Fn(f64, f64) -> f64 + use<> {
        let max = self.max;
        move |best, v| if (if max { v > best } else { v < best }) || best.is_nan() { v } else { best }
    }
}

impl Kernel for Extremum {
    fn window(&mut self, w: &Window<'_>) -> Result<Option<Point>, QueryError> {
        let Some((first, rest)) = w.floats.split_first() else { return Ok(None) };
        if !w.histograms.is_empty() {
            self.q.notes.ignored_in_mixed_range(w.id.get(METRIC_NAME), self.span);
        }
        Ok(Some(Point::Float(rest.iter().copied().fold(*first, self.better()))))
    }
    fn column(&mut self, series: &Frame<'_>, out: &mut [f64]) -> Result<bool, QueryError> {
        let put = |i: usize, w: &[f64], best: f64| {
            out[i] = best;
            self.q.tick((w.len() >> 8) as u32)
        };
        fold_windows(&series.points.floats, &series.plan.bounds, f64::NAN, self.better(), put)?;
        Ok(true)
    }
}

fn sum_of(values: &[f64]) -> f64 {
    let mut s = Sum::default();
    values.iter().for_each(|v| s.add(*v));
    if s.sum.is_infinite() { s.sum } else { s.value() }
}

fn total(q: &Run, span: Span, average: bool, w: &Window<'_>) -> Option<Point> {
    if !w.floats.is_empty() && !w.histograms.is_empty() {
        q.notes.mixed_floats_histograms(w.id.get(METRIC_NAME), span);
        return None;
    }
    if w.histograms.is_empty() {
        if average {
            return Some(Point::Float(Mean::of(w.floats)));
        }
        return Some(Point::Float(sum_of(w.floats)));
    }
    let mut all = w.histograms.iter();
    let mut sum = HistogramSum::new(FloatHistogram::clone(all.next()?));
    let (mut count, mut incremental) = (1.0, false);
    let mut reconciled = false;
    for h in all {
        count += 1.0;
        let before = (average && !incremental).then(|| sum.clone());
        let mut merged = if incremental { mean_step(&mut sum, h, count) } else { sum.add(h) };
        if let Some(before) = before
            && merged.is_ok()
            && sum.raw().has_overflow()
        {
            sum = before;
            sum.mul(1.0 / (count - 1.0));
            incremental = true;
            merged = mean_step(&mut sum, h, count);
        }
        match merged {
            Ok(m) => reconciled |= m.bounds_reconciled,
            Err(_) => {
                q.notes.mixed_schemas(w.id.get(METRIC_NAME), span);
                return None;
            }
        }
    }
    if reconciled {
        q.notes.bounds_reconciled("aggregation", span);
    }
    let saw = |hint| w.histograms.iter().any(|h| h.counter_reset_hint == hint);
    if saw(CounterResetHint::CounterReset) && saw(CounterResetHint::NotCounterReset) {
        q.notes.reset_collision("aggregation", span);
    }
    let mut h = sum.finish();
    if average && !incremental {
        h.div(count);
    }
    h.compact(0);
    Some(Point::Histogram(Arc::new(h)))
}

fn mean_step(
    sum: &mut HistogramSum,
    h: &FloatHistogram,
    count: f64,
) -> Result<ferula_model::histogram::Merged, ferula_model::histogram::HistogramError> {
    sum.mul((count - 1.0) / count);
    let mut share = h.clone();
    share.div(count);
    sum.add(&share)
}
