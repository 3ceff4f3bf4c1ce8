//! Range vectors: the samples of one series at a time, and windows sliding over them.
use std::sync::Arc;

use ferula_model::labels::METRIC_NAME;
use ferula_model::{CounterResetHint, FloatHistogram, is_stale_nan};
use ferula_promql_parser::{Duration, DurationUse, Expr, RangeExtension, Span, VectorSelector};
use ferula_storage::{Column as Batch, SampleBatch, Series, SeriesSet};

use super::Hinter;
use super::selector::{Reference, duration_error, next_series, reference, select};
use crate::column::{Column, Stream, histogram_samples, is_present, stream};
use crate::error::QueryError;
use crate::functions::extended;
use crate::grid::Grid;
use crate::identity::Identity;
use crate::query::{Query, Run};
use crate::wide::has_stale;

/// All samples of one series that any window may see, floats and histograms apart, both in rising time.
#[derive(Default)]
pub(crate) struct Points {
    pub float_ms: Vec<i64>,
    pub floats: Vec<f64>,
    /// Start times beside `float_ms`, or empty.
    pub float_start_ms: Vec<i64>,
    pub histogram_ms: Vec<i64>,
    pub histograms: Vec<Arc<FloatHistogram>>,
    pub histogram_start_ms: Vec<i64>,
}

/// Samples taken from a subquery between two looks at the deadline; there may be as many as a query may hold.
const SAMPLES_UNCHECKED: usize = 1 << 18;

impl Points {
    pub fn clear(&mut self) {
        self.float_ms.clear();
        self.floats.clear();
        self.float_start_ms.clear();
        self.histogram_ms.clear();
        self.histograms.clear();
        self.histogram_start_ms.clear();
    }
    fn is_empty(&self) -> bool {
        self.float_ms.is_empty() && self.histogram_ms.is_empty()
    }

    fn read(
        &mut self,
        q: &Run,
        series: &mut Series,
        oldest: i64,
        newest: i64,
        batch: &mut SampleBatch,
        mut hinter: Option<Hinter>,
    ) -> Result<(), QueryError> {
        self.clear();
        series.samples.skip_to(oldest);
        let mut batches = 0;
        while series.samples.next_batch(batch)? {
            // The series itself has been counted.
            q.tick(u32::from(batches > 0) + (batch.len() >> 10) as u32)?;
            batches += 1;
            q.samples.add_decoded(batch.len() as u64);
            let from = batch.t_ms.partition_point(|t| *t < oldest);
            let to = batch.t_ms.partition_point(|t| *t <= newest);
            if let (Some(hinter), Batch::Histograms(all)) = (&mut hinter, &mut batch.values) {
                all.iter_mut().for_each(|h| *h = hinter.hinted(h));
            }
            let starts = batch.start_ms.get(from..to);
            match &mut batch.values {
                Batch::Floats(v) if self.is_empty() && to - from == v.len() && starts.is_none_or(<[_]>::is_empty) => {
                    // All there is, very often: taken over as it is.
                    std::mem::swap(&mut self.float_ms, &mut batch.t_ms);
                    std::mem::swap(&mut self.floats, v);
                    if has_stale(&self.floats) {
                        self.remove_stale();
                    }
                    continue;
                }
                Batch::Floats(v) => {
                    let (Some(t), Some(v)) = (batch.t_ms.get(from..to), v.get(from..to)) else { continue };
                    if let Some(s) = starts {
                        self.float_start_ms.resize(self.float_ms.len(), 0);
                        self.float_start_ms
                            .extend(s.iter().zip(v).filter(|(_, v)| !is_stale_nan(**v)).map(|(s, _)| *s));
                    }
                    if has_stale(v) {
                        for (t, v) in t.iter().zip(v).filter(|(_, v)| !is_stale_nan(**v)) {
                            self.float_ms.push(*t);
                            self.floats.push(*v);
                        }
                    } else {
                        self.float_ms.extend_from_slice(t);
                        self.floats.extend_from_slice(v);
                    }
                }
                Batch::Histograms(h) => {
                    let (Some(t), Some(h)) = (batch.t_ms.get(from..to), h.get(from..to)) else { continue };
                    for (i, (t, h)) in t.iter().zip(h).enumerate().filter(|(_, (_, h))| !h.is_stale()) {
                        if let Some(s) = starts.and_then(|s| s.get(i)) {
                            self.histogram_start_ms.resize(self.histogram_ms.len(), 0);
                            self.histogram_start_ms.push(*s);
                        }
                        self.histogram_ms.push(*t);
                        self.histograms.push(Arc::clone(h));
                    }
                }
            }
            if to < batch.t_ms.len() {
                break;
            }
        }
        if !self.float_start_ms.is_empty() {
            self.float_start_ms.resize(self.float_ms.len(), 0);
        }
        if !self.histogram_start_ms.is_empty() {
            self.histogram_start_ms.resize(self.histogram_ms.len(), 0);
        }
        Ok(())
    }

    fn remove_stale(&mut self) {
        let mut values = self.floats.iter();
        self.float_ms.retain(|_| values.next().is_some_and(|v| !is_stale_nan(*v)));
        self.floats.retain(|v| !is_stale_nan(*v));
    }

    fn take_column(&mut self, q: &Run, c: &Column, grid: Grid) -> Result<(), QueryError> {
        self.clear();
        // Not more than has been charged, as growing by doubling would.
        self.float_ms.reserve_exact(c.floats.len());
        self.floats.reserve_exact(c.floats.len());
        for (block, floats) in c.floats.chunks(SAMPLES_UNCHECKED).enumerate() {
            let first = block * SAMPLES_UNCHECKED;
            for (i, v) in floats.iter().enumerate().filter(|(_, v)| is_present(**v)) {
                self.float_ms.push(grid.at(first + i));
                self.floats.push(*v);
            }
            q.tick((floats.len() >> 8) as u32)?;
        }
        for (i, h) in &c.histograms {
            self.histogram_ms.push(grid.at(*i as usize));
            let mut h = Arc::clone(h);
            if h.counter_reset_hint != CounterResetHint::Gauge && h.counter_reset_hint != CounterResetHint::Unknown {
                // It speaks of the sample before this one in the store, which the subquery may have skipped.
                Arc::make_mut(&mut h).counter_reset_hint = CounterResetHint::Unknown;
            }
            self.histograms.push(h);
        }
        Ok(())
    }
}

/// The samples of one series in `(start_ms, end_ms]`, for the step at `step_ms`.
#[derive(Clone, Copy)]
pub(crate) struct Window<'w> {
    pub float_ms: &'w [i64],
    pub floats: &'w [f64],
    pub float_start_ms: &'w [i64],
    pub histogram_ms: &'w [i64],
    pub histograms: &'w [Arc<FloatHistogram>],
    pub histogram_start_ms: &'w [i64],
    pub start_ms: i64,
    pub end_ms: i64,
    /// The evaluation time, and its number on the grid.
    pub now_ms: i64,
    pub step: usize,
    pub id: &'w Identity,
    /// Where the first float of this window stands among all floats of the series.
    pub float_offset: usize,
}

impl Window<'_> {
    pub fn len(&self) -> usize {
        self.float_ms.len() + self.histogram_ms.len()
    }
}

/// Where the window of every step lies in the floats of a series: positions `from..to`. Series scraped together have
/// equal times, so that it is computed once for all of them.
#[derive(Default)]
pub(crate) struct Plan {
    times: Vec<i64>,
    pub bounds: Vec<(u32, u32)>,
    /// Changes whenever the bounds do.
    pub version: u64,
    read: u64,
    /// Without what the window before had.
    fresh: u64,
    widest: u64,
    /// Steps whose window is not empty.
    filled: u64,
}

impl Plan {
    fn update(&mut self, times: &[i64], steps: &Reference, range_ms: i64) {
        if self.version > 0 && self.times == times {
            return;
        }
        self.times.clear();
        self.times.extend_from_slice(times);
        self.bounds.clear();
        self.version += 1;
        (self.read, self.fresh, self.widest, self.filled) = (0, 0, 0, 0);
        // The first window may lie, and may be, millions of samples wide; the others are near it.
        let within = |bound: i64| times.partition_point(|t| *t <= bound);
        let (mut from, mut to, mut seen) = (within(steps.at(0).saturating_sub(range_ms)), within(steps.at(0)), 0);
        for step in 0..steps.n {
            let end = steps.at(step);
            advance(times, &mut from, end.saturating_sub(range_ms));
            advance(times, &mut to, end);
            self.bounds.push((from as u32, to as u32));
            self.read += (to - from) as u64;
            self.fresh += to.saturating_sub(from.max(seen)) as u64;
            seen = to;
            self.filled += u64::from(from < to);
            self.widest = self.widest.max((to - from) as u64);
        }
    }
}

/// Where the series of a range vector come from.
pub(crate) enum Source<'a> {
    Stored(Box<dyn SeriesSet>),
    Subquery { stream: Stream<'a>, grid: Grid },
}

/// A range vector: series after series, each with its samples.
pub(crate) struct RangeVector<'a> {
    source: Source<'a>,
    current: SeriesWindows,
}

impl std::ops::Deref for RangeVector<'_> {
    type Target = SeriesWindows;
    fn deref(&self) -> &SeriesWindows {
        &self.current
    }
}

/// The samples of one series at a time, and the windows on them. Several threads may have one each.
pub(crate) struct SeriesWindows {
    q: Arc<Run>,
    batch: SampleBatch,
    /// Inclusive bounds of what any window may see.
    bounds: (i64, i64),
    stats_only: bool,
    pub points: Points,
    pub plan: Plan,
    pub times: Reference,
    pub range_ms: i64,
    pub grid: Grid,
    counted: bool,
    tally: Tally,
    pub extension: Option<RangeExtension>,
    /// What annotations about the argument point at.
    pub span: Span,
}

/// Samples that steps saw, counted as the query's when the stream ends: all threads count in the same place, and an
/// atomic operation for each series is dear.
struct Tally {
    q: Arc<Run>,
    read: u64,
    fresh: u64,
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.q.samples.add_read(self.read, self.fresh);
    }
}

/// One series of a range vector; its samples stand in [`SeriesWindows::points`].
pub(crate) struct RangeSeries {
    pub id: Identity,
    pub drop_name: bool,
}

impl<'a> RangeVector<'a> {
    /// `expr` is a matrix selector or a subquery, perhaps in parentheses.
    pub fn open(q: &'a Query<'a>, expr: &'a Expr, grid: Grid) -> Result<RangeVector<'a>, QueryError> {
        match expr.without_parens() {
            Expr::Matrix(m) => {
                let v = &m.selector;
                let range_ms = resolve_range(q, &m.range)?;
                let times = reference(q, v.at, &v.offset, grid)?;
                let before = if v.extension.is_some() { q.semantics.lookback_ms } else { 0 };
                let after = if v.extension == Some(RangeExtension::Smoothed) { q.semantics.lookback_ms } else { 0 };
                let oldest = times.first_ms.saturating_sub(range_ms).saturating_sub(before).saturating_add(1);
                let newest = times.last().saturating_add(after);
                let set = select(q, v, oldest, newest, range_ms, grid.step_ms, false)?;
                let stats_only = q.outline.stats_only.contains(&v.span.start);
                let current = SeriesWindows {
                    bounds: (oldest, newest),
                    stats_only,
                    extension: v.extension,
                    ..SeriesWindows::new(&q.run, times, range_ms, grid, m.span)
                };
                Ok(RangeVector { source: Source::Stored(set), current })
            }
            Expr::Subquery(s) => {
                let range_ms = resolve_range(q, &s.range)?;
                let step = match &s.step {
                    Some(d) => d.resolve(DurationUse::Positive, q.durations()).map_err(duration_error)?,
                    None => q.semantics.subquery_step_ms,
                }
                .max(1);
                let times = reference(q, s.at, &s.offset, grid)?;
                // The inner grid stands at multiples of its step, whatever the outer one does; left-open as ranges are.
                let before = times.first_ms.saturating_sub(range_ms);
                let mut start = step.saturating_mul(before / step);
                if start <= before {
                    start = start.saturating_add(step);
                }
                let inner = Grid::range(start, times.last(), step);
                q.admit(inner)?;
                if inner.n > 1024 {
                    // A column of it becomes samples, values and times, and the plan of the windows keeps the times.
                    q.charge(24 * inner.n as u64)?;
                }
                let stream = super::eval(q, &s.expr, inner)?.series()?;
                // Upstream's annotations about subqueries point at the start of the query.
                let current = SeriesWindows::new(&q.run, times, range_ms, grid, Span::default());
                Ok(RangeVector { source: Source::Subquery { stream, grid: inner }, current })
            }
            _ => Err(QueryError::execution("expected a range vector")),
        }
    }

    pub fn next(&mut self) -> Result<Option<RangeSeries>, QueryError> {
        loop {
            let found = match &mut self.source {
                Source::Stored(set) => match next_series(&self.current.q, set)? {
                    Some(series) => self.current.read(series)?,
                    None => return Ok(None),
                },
                Source::Subquery { stream, grid } => match stream.next()? {
                    Some(c) => self.current.take_column(c, *grid)?,
                    None => return Ok(None),
                },
            };
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// The parts, for those who read the series on several threads.
    pub fn into_parts(self) -> (Source<'a>, SeriesWindows) {
        (self.source, self.current)
    }
}

impl SeriesWindows {
    fn new(q: &Arc<Run>, times: Reference, range_ms: i64, grid: Grid, span: Span) -> SeriesWindows {
        SeriesWindows {
            q: Arc::clone(q),
            batch: SampleBatch::default(),
            bounds: (i64::MIN, i64::MAX),
            stats_only: false,
            points: Points::default(),
            plan: Plan::default(),
            times,
            range_ms,
            grid,
            counted: q.counts(grid),
            tally: Tally { q: Arc::clone(q), read: 0, fresh: 0 },
            extension: None,
            span,
        }
    }

    /// Another one of the same shape, for another thread.
    pub fn fork(&self) -> SeriesWindows {
        SeriesWindows {
            bounds: self.bounds,
            stats_only: self.stats_only,
            extension: self.extension,
            ..SeriesWindows::new(&self.q, self.times, self.range_ms, self.grid, self.span)
        }
    }

    /// Reads all samples of a stored series; `None` where there are none.
    pub fn read(&mut self, mut series: Series) -> Result<Option<RangeSeries>, QueryError> {
        let (oldest, newest) = self.bounds;
        let hinter = self.stats_only.then(Hinter::default);
        self.points.read(&self.q, &mut series, oldest, newest, &mut self.batch, hinter)?;
        Ok(self.found(Identity::new(series.labels), false))
    }

    /// Takes the values of a subquery's column for samples; `None` where there are none.
    pub fn take_column(&mut self, c: Column, grid: Grid) -> Result<Option<RangeSeries>, QueryError> {
        self.points.take_column(&self.q, &c, grid)?;
        Ok(self.found(c.id, c.drop_name))
    }

    fn found(&mut self, id: Identity, drop_name: bool) -> Option<RangeSeries> {
        if self.points.is_empty() {
            return None;
        }
        if self.points.histogram_ms.is_empty() && self.extension.is_none() {
            self.plan.update(&self.points.float_ms, &self.times, self.range_ms);
        }
        Some(RangeSeries { id, drop_name })
    }

    /// Counts a series of floats that a kernel takes as a whole, by [`Plan`].
    pub fn account(&mut self) -> Result<(), QueryError> {
        if self.counted && self.q.samples.wants_steps() {
            let mut seen = 0;
            for (step, (from, to)) in self.plan.bounds.iter().enumerate().filter(|(_, (from, to))| from < to) {
                let fresh = to.saturating_sub((*from).max(seen));
                self.q.samples.add_read_at(step, u64::from(to - from), u64::from(fresh));
                seen = *to;
            }
        }
        if self.counted {
            self.tally.read += self.plan.read;
            self.tally.fresh += self.plan.fresh;
        }
        self.q.hold_briefly(self.plan.widest + self.plan.filled)?;
        self.q.tick((self.plan.read >> 8) as u32)
    }

    /// Calls `f` for the window of every step that holds any sample.
    pub fn windows(
        &self,
        id: &Identity,
        mut f: impl FnMut(&Window<'_>) -> Result<(), QueryError>,
    ) -> Result<(), QueryError> {
        let p = &self.points;
        let within = |bound: i64| p.float_ms.partition_point(|t| *t <= bound);
        let first_ms = self.times.at(0);
        let (mut fl, mut fh) = (within(first_ms.saturating_sub(self.range_ms)), within(first_ms));
        let (mut hl, mut hh) = (0, 0);
        let (mut read, mut widest, mut filled, mut pending) = (0u64, 0u64, 0u64, 0u64);
        let (mut fresh, mut seen) = (0u64, (0, 0));
        let histogram_weight = p.histograms.first().map_or(0, |h| histogram_samples(h));
        for step in 0..self.times.n {
            let end_ms = self.times.at(step);
            let start_ms = end_ms.saturating_sub(self.range_ms);
            advance(&p.float_ms, &mut fl, start_ms);
            advance(&p.float_ms, &mut fh, end_ms);
            if !p.histogram_ms.is_empty() {
                advance(&p.histogram_ms, &mut hl, start_ms);
                advance(&p.histogram_ms, &mut hh, end_ms);
            }
            if fl == fh && hl == hh {
                continue;
            }
            let samples = (fh - fl) as u64 + (hh - hl) as u64 * histogram_weight;
            read += samples;
            let new =
                fh.saturating_sub(fl.max(seen.0)) as u64 + hh.saturating_sub(hl.max(seen.1)) as u64 * histogram_weight;
            fresh += new;
            seen = (fh, hh);
            widest = widest.max(samples);
            filled += 1;
            if self.counted && self.q.samples.wants_steps() {
                self.q.samples.add_read_at(step, samples, new);
            }
            pending += 1 + (samples >> 6);
            if pending > 1024 {
                self.q.tick(std::mem::take(&mut pending).min(1 << 20) as u32)?;
            }
            f(&Window {
                float_ms: &p.float_ms[fl..fh],
                floats: &p.floats[fl..fh],
                float_start_ms: p.float_start_ms.get(fl..fh).unwrap_or(&[]),
                histogram_ms: &p.histogram_ms[hl..hh],
                histograms: &p.histograms[hl..hh],
                histogram_start_ms: p.histogram_start_ms.get(hl..hh).unwrap_or(&[]),
                start_ms,
                end_ms,
                now_ms: self.grid.at(step),
                step,
                id,
                float_offset: fl,
            })?;
        }
        if self.counted {
            self.q.samples.add_read(read, fresh);
        }
        self.q.hold_briefly(widest + filled)?;
        self.q.tick(1 + (read >> 8) as u32)
    }
}

/// Moves `at` to the first time after `bound`.
#[inline]
pub(crate) fn advance(times: &[i64], at: &mut usize, bound: i64) {
    while times.get(*at).is_some_and(|t| *t <= bound) {
        *at += 1;
    }
}

fn resolve_range(q: &Query<'_>, range: &Duration) -> Result<i64, QueryError> {
    range.resolve(DurationUse::Positive, q.durations()).map_err(duration_error)
}

/// `selector smoothed`: at every step the value interpolated between the samples around it.
pub(crate) fn smoothed_instant<'a>(q: &'a Query<'a>, v: &VectorSelector, grid: Grid) -> Result<Stream<'a>, QueryError> {
    let times = reference(q, v.at, &v.offset, grid)?;
    let lookback = q.semantics.lookback_ms;
    let oldest = times.first_ms.saturating_sub(lookback).saturating_add(1);
    let newest = times.last().saturating_add(lookback);
    let mut set = select(q, v, oldest, newest, 0, grid.step_ms, false)?;
    let mut batch = SampleBatch::default();
    let mut points = Points::default();
    let span = v.span;
    Ok(stream(move || {
        while let Some(mut series) = next_series(q, &mut set)? {
            points.read(q, &mut series, oldest, newest, &mut batch, None)?;
            let mut c = Column::new(Identity::new(series.labels), times.n);
            for step in 0..times.n {
                let name = c.id.get(METRIC_NAME).to_owned();
                if let Some(p) = extended::interpolated(q, &points, times.at(step), lookback, &name, span) {
                    c.set(step, p);
                }
            }
            if !c.is_vacant() {
                q.samples.add_read(c.samples(), c.samples());
                return Ok(Some(c));
            }
        }
        Ok(None)
    }))
}
