//! `rate`, `increase`, `delta` with extrapolation to the window's edges, and `irate`, `idelta`.
use std::sync::Arc;

use ferula_model::labels::METRIC_NAME;
use ferula_model::{CounterResetHint, FloatHistogram};
use ferula_promql_parser::Span;

use super::{BoxedKernel, Frame, Kernel};
use crate::column::Point;
use crate::error::QueryError;
use crate::eval::range::{Points, SeriesWindows, Window};
use crate::identity::{Identity, TYPE_LABEL};
use crate::query::Run;
use crate::wide::{self, Edges, zero_is_outside};

pub(super) fn kernel(q: &Arc<Run>, name: &'static str, v: &SeriesWindows) -> Option<BoxedKernel> {
    let (q, span) = (Arc::clone(q), v.span);
    Some(match name {
        "rate" | "increase" | "delta" => Box::new(Extrapolated {
            q,
            span,
            counter: name != "delta",
            per_second: (name == "rate").then_some(v.range_ms as f64 / 1000.0),
            resets: Vec::new(),
            next_reset: 0,
            edges: Edges::default(),
            to_end: Vec::new(),
            all_have_two: false,
            version: 0,
        }),
        "irate" | "idelta" => {
            let rate = name == "irate";
            Box::new(move |w: &Window<'_>| Ok(instant(&q, span, rate, w)))
        }
        _ => return None,
    })
}

/// A counter should be named as one.
pub(super) fn check_counter_name(q: &Run, id: &Identity, span: Span) {
    let name = id.get(METRIC_NAME);
    if name.is_empty() {
        return;
    }
    let kind = if q.semantics.type_and_unit_labels { id.raw(TYPE_LABEL) } else { "" };
    if !kind.is_empty() {
        if !matches!(kind, "counter" | "histogram") {
            q.notes.possible_non_counter_label(name, kind, span);
        }
    } else if !["_total", "_sum", "_count", "_bucket"].iter().any(|s| name.ends_with(s)) {
        q.notes.possible_non_counter(name, span);
    }
}

/// Whether the later of two samples, each `(time, start time)`, began anew: it started after the earlier one, or right
/// at it while the earlier one has a start of its own before itself (a delta). Start time 0 is unknown.
pub(super) fn is_reset((t, start): (i64, i64), (next_t, next_start): (i64, i64)) -> bool {
    next_start != 0 && next_start < next_t && (next_start > t || (next_start == t && start != 0 && start < t))
}

struct Extrapolated {
    q: Arc<Run>,
    span: Span,
    counter: bool,
    /// The range in seconds, for a rate.
    per_second: Option<f64>,
    /// Positions of all floats that come after a counter reset, found once per series instead of once per window.
    resets: Vec<usize>,
    /// The first of them that the current window may see.
    next_reset: usize,
    /// Per step, for the plan of this version; `to_end` as `to_start`.
    edges: Edges,
    to_end: Vec<f64>,
    /// No window has fewer than two samples.
    all_have_two: bool,
    version: u64,
}

impl Extrapolated {
    /// The start time of a window's first sample, where the counter then certainly was zero: if it lies in the window.
    fn zero_at(&self, w: &Window<'_>, times: &[i64], starts: &[i64]) -> Option<i64> {
        if !self.counter || !self.q.semantics.start_timestamps {
            return None;
        }
        starts.first().copied().filter(|s| *s != 0 && *s > w.start_ms && *s < times[0])
    }

    fn look_at_times(&mut self, series: &Frame<'_>, times: &[i64]) {
        let bounds = &series.plan.bounds;
        self.edges.clear();
        self.to_end.clear();
        self.all_have_two = bounds.iter().all(|(from, to)| to.saturating_sub(*from) >= 2);
        for (step, (from, to)) in bounds.iter().enumerate() {
            let end_ms = series.times.at(step);
            let window = times.get(*from as usize..*to as usize).unwrap_or(&[]);
            let spans = span_of(window, end_ms.saturating_sub(series.range_ms), end_ms, self.per_second);
            let [to_start, to_end, sampled, factor] = spans;
            self.edges.first.push(*from);
            self.edges.last.push(to.saturating_sub(1));
            self.edges.to_start.push(to_start);
            self.edges.sampled.push(sampled);
            self.edges.factor.push(factor);
            self.to_end.push(to_end);
        }
    }

    fn watch_overlaps(&self, w: &Window<'_>, times: &[i64], starts: &[i64]) {
        if self.counter && self.q.semantics.start_timestamps {
            let overlaps = |i: usize| starts[i] != 0 && starts[i] < times[i - 1] && starts[i] != starts[i - 1];
            if (1..starts.len()).any(overlaps) {
                self.q.notes.start_time_overlap(w.id.get(METRIC_NAME), self.span);
            }
        }
    }
}

impl Kernel for Extrapolated {
    /// The result of [`window`](Kernel::window), operation by operation, with everything that depends on times only
    /// taken out: series scraped together share it.
    fn column(&mut self, series: &Frame<'_>, out: &mut [f64]) -> Result<bool, QueryError> {
        let (times, v) = (&series.points.float_ms, &series.points.floats);
        if !series.points.float_start_ms.is_empty() && self.q.semantics.start_timestamps {
            return Ok(false);
        }
        if self.version != series.plan.version {
            self.version = series.plan.version;
            self.look_at_times(series, times);
        }
        if self.all_have_two && self.resets.is_empty() && !wide::increases(v, &self.edges, self.counter, out) {
            return Ok(true);
        }
        let counter = self.counter;
        let mut next_reset = 0;
        let Edges { to_start, sampled, factor, .. } = &self.edges;
        let times = to_start.iter().zip(&self.to_end).zip(sampled).zip(factor);
        let steps = out.iter_mut().zip(&series.plan.bounds).zip(times);
        for ((out, (from, to)), (((to_start, to_end), sampled), factor)) in steps {
            let (from, to) = (*from as usize, *to as usize);
            if to - from < 2 {
                continue;
            }
            let (first, last) = (v[from], v[to - 1]);
            let mut increase = last - first;
            if !self.resets.is_empty() {
                while self.resets.get(next_reset).is_some_and(|r| *r <= from) {
                    next_reset += 1;
                }
                for r in self.resets[next_reset..].iter().take_while(|r| **r < to) {
                    increase += v[r - 1];
                }
            }
            let mut factor = *factor;
            if counter && increase > 0.0 && first >= 0.0 && !zero_is_outside(first, increase, *to_start, *sampled) {
                let to_zero = sampled * (first / increase);
                if to_zero < *to_start {
                    factor = (sampled + to_zero + to_end) / sampled;
                    if let Some(seconds) = self.per_second {
                        factor /= seconds;
                    }
                }
            }
            *out = increase * factor;
        }
        Ok(true)
    }

    fn series(&mut self, p: &Points) {
        self.resets.clear();
        self.next_reset = 0;
        if self.counter {
            if wide::ever_falls(&p.floats) {
                let pairs = p.floats.iter().zip(p.floats.get(1..).unwrap_or(&[]));
                let falls = pairs.enumerate().filter(|(_, (before, v))| v < before);
                self.resets.extend(falls.map(|(i, _)| i + 1));
            }
            let starts = &p.float_start_ms;
            if self.q.semantics.start_timestamps && !starts.is_empty() {
                let at = |i: usize| (p.float_ms[i], starts[i]);
                self.resets.extend((1..starts.len()).filter(|i| is_reset(at(i - 1), at(*i))));
                self.resets.sort_unstable();
                self.resets.dedup();
            }
        }
    }

    #[inline]
    fn window(&mut self, w: &Window<'_>) -> Result<Option<Point>, QueryError> {
        if !w.float_ms.is_empty() && !w.histogram_ms.is_empty() {
            self.q.notes.mixed_floats_histograms(w.id.get(METRIC_NAME), self.span);
            return Ok(None);
        }
        if !w.histogram_ms.is_empty() {
            let zero_at = self.zero_at(w, w.histogram_ms, w.histogram_start_ms);
            if w.histogram_ms.len() < 2 && zero_at.is_none() {
                return Ok(None);
            }
            self.watch_overlaps(w, w.histogram_ms, w.histogram_start_ms);
            let increase = histogram_increase_from(&self.q, w, self.counter, zero_at.is_some(), self.span);
            let Some(mut h) = increase else { return Ok(None) };
            let first = w.histograms.first().map_or(-1.0, |h| h.count);
            let zero = (h.count > 0.0 && first >= 0.0).then(|| first / h.count);
            let factor = factor(w.histogram_ms, w, self.counter, zero, zero_at);
            h.mul(factor / self.per_second.unwrap_or(1.0));
            return Ok(Some(Point::Histogram(Arc::new(h))));
        }
        let (Some(first), Some(last)) = (w.floats.first(), w.floats.last()) else { return Ok(None) };
        let mut zero_at = None;
        if !w.float_start_ms.is_empty() {
            zero_at = self.zero_at(w, w.float_ms, w.float_start_ms);
            self.watch_overlaps(w, w.float_ms, w.float_start_ms);
        }
        if w.floats.len() < 2 && zero_at.is_none() {
            return Ok(None);
        }
        let mut increase = last - first;
        if zero_at.is_some() {
            increase += first;
        }
        while self.resets.get(self.next_reset).is_some_and(|r| *r <= w.float_offset) {
            self.next_reset += 1;
        }
        let end = w.float_offset + w.floats.len();
        for r in self.resets[self.next_reset..].iter().take_while(|r| **r < end) {
            increase += w.floats[r - w.float_offset - 1];
        }
        let zero = (increase > 0.0 && *first >= 0.0).then(|| first / increase);
        let mut f = factor(w.float_ms, w, self.counter, zero, zero_at);
        if let Some(seconds) = self.per_second {
            f /= seconds;
        }
        Ok(Some(Point::Float(increase * f)))
    }
}

/// The parts of [`factor`] for a window of these times, before any zero point is looked at: seconds to its start and to
/// its end, seconds sampled, and the factor where the counter's zero lies outside, per second if wanted.
fn span_of(times: &[i64], start_ms: i64, end_ms: i64, per_second: Option<f64>) -> [f64; 4] {
    let (Some(first), Some(last)) = (times.first(), times.last()) else { return [0.0; 4] };
    let mut to_start = (first - start_ms) as f64 / 1000.0;
    let mut to_end = (end_ms - last) as f64 / 1000.0;
    let sampled = (last - first) as f64 / 1000.0;
    let average = sampled / (times.len() - 1) as f64;
    let threshold = average * 1.1;
    if to_start >= threshold {
        to_start = average / 2.0;
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    let mut factor = (sampled + to_start + to_end) / sampled;
    if let Some(seconds) = per_second {
        factor /= seconds;
    }
    [to_start, to_end, sampled, factor]
}

/// How much longer than the samples the window is, up to the edges where samples stop short of them by at most 1.1
/// average intervals, else by half an interval; a counter is not extrapolated below zero. `zero` is the first value
/// over the increase: how many sampled intervals ago the counter would have been zero.
/// `zero_at`: it is known when it was zero; then nothing is extrapolated before that.
#[inline]
fn factor(times: &[i64], w: &Window<'_>, counter: bool, zero: Option<f64>, zero_at: Option<i64>) -> f64 {
    let (first, last) = (times[0], times[times.len() - 1]);
    if let Some(zero_at) = zero_at {
        if times.len() < 2 {
            return 1.0;
        }
        let sampled = (last - zero_at) as f64 / 1000.0;
        let average = (last - first) as f64 / 1000.0 / (times.len() - 1) as f64;
        let to_end = (w.end_ms - last) as f64 / 1000.0;
        let to_end = if to_end >= average * 1.1 { average / 2.0 } else { to_end };
        return (sampled + to_end) / sampled;
    }
    let mut to_start = (first - w.start_ms) as f64 / 1000.0;
    let mut to_end = (w.end_ms - last) as f64 / 1000.0;
    let sampled = (last - first) as f64 / 1000.0;
    let average = sampled / (times.len() - 1) as f64;
    let threshold = average * 1.1;
    if to_start >= threshold {
        to_start = average / 2.0;
    }
    if counter && let Some(zero) = zero {
        let to_zero = sampled * zero;
        if to_zero < to_start {
            to_start = to_zero;
        }
    }
    if to_end >= threshold {
        to_end = average / 2.0;
    }
    (sampled + to_start + to_end) / sampled
}

/// The difference of the last and the first histogram, plus what counter resets between hid. `None` with an
/// annotation where they do not combine.
pub(super) fn histogram_increase(q: &Run, w: &Window<'_>, counter: bool, span: Span) -> Option<FloatHistogram> {
    histogram_increase_from(q, w, counter, false, span)
}

/// As [`histogram_increase`]; `from_zero`: the counter is known to have been zero before the first sample.
fn histogram_increase_from(
    q: &Run,
    w: &Window<'_>,
    counter: bool,
    from_zero: bool,
    span: Span,
) -> Option<FloatHistogram> {
    let times = |i: usize| (w.histogram_ms[i], w.histogram_start_ms.get(i).copied().unwrap_or(0));
    let by_start = q.semantics.start_timestamps && !w.histogram_start_ms.is_empty();
    let restarted = |i: usize| by_start && is_reset(times(i - 1), times(i));
    let name = || w.id.get(METRIC_NAME);
    let all = w.histograms;
    let (first, last) = (all.first()?, all.last()?);
    let is_gauge = |h: &FloatHistogram| h.counter_reset_hint == CounterResetHint::Gauge;
    if counter && (is_gauge(first) || is_gauge(last)) {
        q.notes.not_a_counter(name(), span);
    }
    // After a reset right behind the first sample its layout does not matter: it counts as empty.
    let nothing;
    let mut previous: &FloatHistogram = first;
    let follower = all.get(1).filter(|second| second.detect_reset(first) || restarted(1));
    if counter && let Some(model) = if from_zero { Some(first) } else { follower } {
        nothing = FloatHistogram {
            schema: model.schema,
            zero_threshold: model.zero_threshold,
            custom_values: model.custom_values.clone(),
            ..FloatHistogram::default()
        };
        previous = &nothing;
    }
    if !last.is_compatible(previous) {
        q.notes.mixed_schemas(name(), span);
        return None;
    }
    let mut schema = previous.schema.min(last.schema);
    if counter {
        for h in all.iter().take(all.len() - 1).skip(1) {
            if is_gauge(h) {
                q.notes.not_a_counter(name(), span);
            }
            if !h.is_compatible(previous) {
                q.notes.mixed_schemas(name(), span);
                return None;
            }
            schema = schema.min(h.schema);
        }
    }
    let mut increase = last.copy_to_schema(schema);
    let mut combine = |other: &FloatHistogram, subtract: bool| {
        // Conflicting reset hints are looked at here explicitly, so they are no news.
        let merged = if subtract { increase.sub(other) } else { increase.add(other) };
        match merged {
            Ok(m) => {
                if m.bounds_reconciled {
                    q.notes.bounds_reconciled(if subtract { "subtraction" } else { "addition" }, span);
                }
                Some(())
            }
            Err(_) => {
                q.notes.mixed_schemas(name(), span);
                None
            }
        }
    };
    combine(previous, true)?;
    if counter {
        if from_zero {
            previous = first;
        }
        for (i, h) in all.iter().enumerate().skip(1) {
            if h.detect_reset(previous) || restarted(i) {
                combine(previous, false)?;
            }
            previous = h;
        }
    } else if !is_gauge(first) || !is_gauge(last) {
        q.notes.not_a_gauge(name(), span);
    }
    increase.counter_reset_hint = CounterResetHint::Gauge;
    increase.compact(0);
    Some(increase)
}

/// Time and start time, and the float or else the histogram.
type Newest<'w> = ((i64, i64), Result<f64, &'w Arc<FloatHistogram>>);

/// The last two samples, whatever their kinds.
fn last_two<'w>(w: &Window<'w>) -> Option<[Newest<'w>; 2]> {
    let (mut f, mut h) = (w.floats.len(), w.histograms.len());
    let mut newest = || {
        let (tf, th) = (f.checked_sub(1).map(|i| w.float_ms[i]), h.checked_sub(1).map(|i| w.histogram_ms[i]));
        match (tf, th) {
            (Some(t), other) if other.is_none_or(|o| t > o) => {
                f -= 1;
                Some(((t, w.float_start_ms.get(f).copied().unwrap_or(0)), Ok(w.floats[f])))
            }
            (_, Some(t)) => {
                h -= 1;
                Some(((t, w.histogram_start_ms.get(h).copied().unwrap_or(0)), Err(&w.histograms[h])))
            }
            _ => None,
        }
    };
    let second = newest()?;
    Some([newest()?, second])
}

fn instant(q: &Run, span: Span, rate: bool, w: &Window<'_>) -> Option<Point> {
    let [(t1, a), (t2, b)] = last_two(w)?;
    let seconds = (t2.0 - t1.0) as f64 / 1000.0;
    let restarted = q.semantics.start_timestamps && is_reset(t1, t2);
    let name = || w.id.get(METRIC_NAME);
    match (a, b) {
        (Ok(a), Ok(b)) => {
            let difference = if rate && (b < a || restarted) { b } else { b - a };
            Some(Point::Float(if rate { difference / seconds } else { difference }))
        }
        (Err(a), Err(b)) => {
            let is_gauge = |h: &FloatHistogram| h.counter_reset_hint == CounterResetHint::Gauge;
            if rate && (is_gauge(a) || is_gauge(b)) {
                q.notes.not_a_counter(name(), span);
            }
            if !rate && (!is_gauge(a) || !is_gauge(b)) {
                q.notes.not_a_gauge(name(), span);
            }
            let mut h = FloatHistogram::clone(b);
            if !rate || !(b.detect_reset(a) || restarted) {
                match h.sub(a) {
                    Ok(m) => {
                        if m.bounds_reconciled {
                            q.notes.bounds_reconciled("subtraction", span);
                        }
                    }
                    Err(_) => {
                        q.notes.mixed_schemas(name(), span);
                        return None;
                    }
                }
            }
            h.counter_reset_hint = CounterResetHint::Gauge;
            h.compact(0);
            if rate {
                h.div(seconds);
            }
            Some(Point::Histogram(Arc::new(h)))
        }
        _ => {
            q.notes.mixed_floats_histograms(name(), span);
            None
        }
    }
}
