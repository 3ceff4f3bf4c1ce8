//! Instant vector selectors: the newest sample within the lookback, at every step.
use std::sync::Arc;

use ferula_model::{FloatHistogram, is_stale_nan};
use ferula_promql_parser::{DurationUse, RangeExtension, VectorSelector};
use ferula_storage::{Column as Batch, SampleBatch, SelectHints, Series, SeriesSet};

use super::Hinter;
use super::lanes::{Lane, lanes};
use super::picks::Picks;
use crate::column::{Column, Stream, histogram_samples};
use crate::error::QueryError;
use crate::grid::Grid;
use crate::identity::Identity;
use crate::query::{Query, Run};
use crate::wide;

/// What a selector's column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    Value,
    /// The sample's own time, in seconds: `timestamp()`.
    Time,
    /// The sample's start time, in seconds: `start_timestamp()`.
    StartTime,
    /// The sample's own time in ms, NaN for a histogram: what `info()` needs to know about info series.
    InfoTime,
}

/// With fewer steps it does not pay to find out what all take.
const STEPS_AT_ONCE: usize = 8;

/// The times a selector looks at, one per step of the grid: `@` pins them, `offset` shifts them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reference {
    pub first_ms: i64,
    /// 0 when pinned.
    pub step_ms: i64,
    pub n: usize,
}

impl Reference {
    pub fn at(&self, i: usize) -> i64 {
        self.first_ms.saturating_add(self.step_ms.saturating_mul(i as i64))
    }
    pub fn last(&self) -> i64 {
        self.at(self.n.saturating_sub(1))
    }
}

pub(crate) fn duration_error(e: ferula_promql_parser::DurationError) -> QueryError {
    QueryError::execution(e.message)
}

pub(crate) fn reference(
    q: &Query<'_>,
    at: Option<ferula_promql_parser::At>,
    offset: &Option<ferula_promql_parser::Duration>,
    grid: Grid,
) -> Result<Reference, QueryError> {
    let offset = match offset {
        Some(d) => d.resolve(DurationUse::Offset, q.durations()).map_err(duration_error)?,
        None => 0,
    };
    Ok(match at {
        Some(at) => Reference { first_ms: q.resolve_at(at).saturating_sub(offset), step_ms: 0, n: grid.n },
        None => Reference { first_ms: grid.start_ms.saturating_sub(offset), step_ms: grid.step_ms, n: grid.n },
    })
}

/// Opens a selection. Bounds are inclusive. `newest_only`: nothing but each series' newest sample will be looked at.
pub(crate) fn select(
    q: &Query<'_>,
    v: &VectorSelector,
    start_ms: i64,
    end_ms: i64,
    range_ms: i64,
    step_ms: i64,
    newest_only: bool,
) -> Result<Box<dyn SeriesSet>, QueryError> {
    let hints = match q.outline.uses.get(&v.span.start) {
        Some(u) => SelectHints {
            function: u.function.to_owned(),
            grouping: u.grouping.clone(),
            by: u.by,
            ..SelectHints::default()
        },
        None => SelectHints::default(),
    };
    let resolved = q.kept.and_then(|kept| kept.selection(v.span.start));
    // What interpolates takes every sample that it finds for one it may use.
    let may_begin_earlier = v.extension.is_none();
    let hints = SelectHints { resolved, start_ms, end_ms, step_ms, range_ms, newest_only, may_begin_earlier, ..hints };
    Ok(q.querier.select(&q.ctx, q.outline.sorted.contains(&v.span.start), &hints, &v.matchers)?)
}

/// The next series of a set; at its end the set's annotations are taken over.
pub(crate) fn next_series(q: &Run, set: &mut Box<dyn SeriesSet>) -> Result<Option<Series>, QueryError> {
    match set.next() {
        Some(s) => {
            q.tick(1)?;
            Ok(Some(s?))
        }
        None => {
            q.notes.take_storage(set.annotations());
            Ok(None)
        }
    }
}

pub(crate) fn instant<'a>(q: &'a Query<'a>, v: &VectorSelector, grid: Grid) -> Result<Stream<'a>, QueryError> {
    instant_of(q, v, grid, Take::Value)
}

pub(crate) fn instant_of<'a>(
    q: &'a Query<'a>,
    v: &VectorSelector,
    grid: Grid,
    take: Take,
) -> Result<Stream<'a>, QueryError> {
    if v.extension == Some(RangeExtension::Smoothed) {
        return super::range::smoothed_instant(q, v, grid);
    }
    let times = reference(q, v.at, &v.offset, grid)?;
    let lookback = q.semantics.lookback_ms;
    // Left-open: a sample exactly one lookback ago is too old.
    let oldest = times.first_ms.saturating_sub(lookback).saturating_add(1);
    let looks_once = times.first_ms == times.last();
    let set = select(q, v, oldest, times.last(), 0, grid.step_ms, looks_once)?;
    let (counted, stats_only) = (q.counts(grid), q.outline.stats_only.contains(&v.span.start));
    let lane = move || Instants {
        q: Arc::clone(&q.run),
        times,
        oldest,
        counted,
        stats_only,
        take,
        batch: SampleBatch::default(),
        picks: Picks::default(),
    };
    Ok(lanes(q, set, grid, lane(), Some(Box::new(move || Ok(lane())))))
}

/// An instant selector on one thread.
struct Instants {
    q: Arc<Run>,
    times: Reference,
    oldest: i64,
    counted: bool,
    stats_only: bool,
    take: Take,
    batch: SampleBatch,
    picks: Picks,
}

impl Lane for Instants {
    fn column(&mut self, mut series: Series) -> Result<Option<Column>, QueryError> {
        let Instants { q, times, batch, .. } = self;
        series.samples.skip_to(self.oldest);
        let mut walk = Walk::new(q, *times, self.counted, self.take, Identity::new(series.labels));
        let mut hinter = self.stats_only.then(Hinter::default);
        let mut batches = 0;
        while walk.step < times.n && series.samples.next_batch(batch)? {
            q.tick(1 + (batch.len() >> 10) as u32)?;
            q.samples.add_decoded(batch.len() as u64);
            if let (Some(hinter), Batch::Histograms(all)) = (&mut hinter, &mut batch.values) {
                all.iter_mut().for_each(|h| *h = hinter.hinted(h));
            }
            walk.feed(batch, batches, &mut self.picks);
            batches += 1;
        }
        walk.finish()
    }
}

#[derive(Clone)]
enum Newest {
    None,
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// Walks the steps along the samples of one series.
struct Walk<'a> {
    q: &'a Run,
    times: Reference,
    lookback: i64,
    take: Take,
    out: Column,
    step: usize,
    newest: Newest,
    newest_ms: i64,
    newest_start_ms: i64,
    samples: u64,
    counted: bool,
    any: bool,
}

impl<'a> Walk<'a> {
    fn new(q: &'a Run, times: Reference, counted: bool, take: Take, id: Identity) -> Walk<'a> {
        let lookback = q.semantics.lookback_ms;
        let out = Column { id, drop_name: false, floats: q.empty_floats(times.n), histograms: Vec::new() };
        Walk {
            q,
            times,
            lookback,
            take,
            out,
            step: 0,
            newest: Newest::None,
            newest_ms: i64::MIN,
            newest_start_ms: 0,
            samples: 0,
            counted,
            any: false,
        }
    }

    /// Gives the newest sample to all steps before `until_ms` (exclusive).
    fn settle(&mut self, until_ms: i64) {
        while self.step < self.times.n {
            let now = self.times.at(self.step);
            if now >= until_ms {
                return;
            }
            if self.newest_ms > now.saturating_sub(self.lookback) {
                self.emit();
            }
            self.step += 1;
        }
    }

    fn emit(&mut self) {
        let weight = match &self.newest {
            Newest::None => return,
            Newest::Float(v) => {
                if is_stale_nan(*v) {
                    return;
                }
                if self.take == Take::Value {
                    self.out.floats[self.step] = *v;
                }
                1
            }
            Newest::Histogram(h) => {
                if h.is_stale() {
                    return;
                }
                if self.take == Take::Value {
                    self.out.histograms.push((self.step as u32, Arc::clone(h)));
                }
                histogram_samples(h)
            }
        };
        match self.take {
            Take::Value => {}
            Take::Time => self.out.floats[self.step] = self.newest_ms as f64 / 1000.0,
            Take::InfoTime => {
                let float = matches!(self.newest, Newest::Float(_));
                self.out.floats[self.step] = if float { self.newest_ms as f64 } else { f64::NAN };
            }
            Take::StartTime => self.out.floats[self.step] = self.newest_start_ms as f64 / 1000.0,
        }
        self.any = true;
        self.samples += weight;
        if self.counted && self.q.samples.wants_steps() {
            self.q.samples.add_read_at(self.step, weight, weight);
        }
    }

    /// The `n`th batch of the series.
    fn feed(&mut self, batch: &SampleBatch, n: usize, picks: &mut Picks) {
        let mut i = self.feed_floats(batch, n, picks).unwrap_or(0);
        while i < batch.t_ms.len() && self.step < self.times.n {
            // All samples up to the current step's time but the last are of no use to any step.
            let now = self.times.at(self.step);
            let ahead = &batch.t_ms[i..];
            let due = if ahead.first().is_some_and(|t| *t > now) {
                0
            } else if self.times.n == 1 || ahead.len() > 16 && ahead[16] <= now {
                ahead.partition_point(|t| *t <= now)
            } else {
                ahead.iter().take_while(|t| **t <= now).count()
            };
            if due > 0 {
                i += due;
                self.newest_ms = batch.t_ms[i - 1];
                self.newest = match &batch.values {
                    Batch::Floats(v) => v.get(i - 1).map_or(Newest::None, |v| Newest::Float(*v)),
                    Batch::Histograms(h) => h.get(i - 1).map_or(Newest::None, |h| Newest::Histogram(Arc::clone(h))),
                };
                self.newest_start_ms = batch.start_ms.get(i - 1).copied().unwrap_or(0);
            }
            match batch.t_ms.get(i) {
                Some(next) => self.settle(*next),
                None => return,
            }
        }
    }

    /// All steps between the first and the last sample at once, where only values are wanted. How many samples are done.
    fn feed_floats(&mut self, batch: &SampleBatch, n: usize, picks: &mut Picks) -> Option<usize> {
        let (Batch::Floats(values), Take::Value) = (&batch.values, self.take) else { return None };
        if self.times.n < STEPS_AT_ONCE || self.counted && self.q.samples.wants_steps() {
            return None;
        }
        self.settle(*batch.t_ms.first()?);
        let places = picks.of(n, &batch.t_ms, &self.times, self.step, self.lookback)?;
        let out = self.out.floats.get_mut(self.step..self.step + places.len())?;
        // A stale marker is no value, as what is absent.
        let taken = wide::take(values, places, out);
        self.step += places.len();
        self.samples += taken;
        self.any |= taken > 0;
        Some(values.len() - 1)
    }

    fn finish(mut self) -> Result<Option<Column>, QueryError> {
        self.settle(i64::MAX);
        if self.counted {
            self.q.samples.add_read(self.samples, self.samples);
        }
        Ok(self.any.then_some(self.out))
    }
}
