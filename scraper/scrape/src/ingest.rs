//! The blocking half of a scrape: one pass that parses a body, appends its samples, marks what vanished, reports, commits.
use ferula_exposition::parse::{Limits, Syntax};
use ferula_model::{Exemplar, SeriesRef, Value, stale_nan};
use ferula_storage::{AppendError, AppendOptions, Appendable, Appender, CommitStats, Durability, StorageError};

use crate::cache::{Cache, End, Id};
use crate::error::ScrapeError;
use crate::job::Job;
use crate::metadata::Families;
use crate::metrics::Metrics;
use crate::report::{Report, ReportSeries};
use crate::series::Resolved;
use crate::target::Target;

/// What a target's loop remembers between scrapes.
#[derive(Default)]
pub(crate) struct State {
    pub cache: Cache,
    pub report: ReportSeries,
    stale: Vec<SeriesRef>,
}

/// A body ready to be parsed. An empty one is a scrape without samples.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parsable<'a> {
    pub bytes: &'a [u8],
    pub syntax: Syntax,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Samples in the body.
    pub scraped: u64,
    /// Those that relabelling left.
    pub post_relabel: u64,
    /// Series the cache did not know.
    pub added: u64,
}

/// What one pass needs to know besides the body.
pub(crate) struct Pass<'a> {
    pub job: &'a Job,
    pub target: &'a Target,
    pub metrics: &'a Metrics,
    pub limits: Limits,
    /// The scrape's time, which samples without their own get.
    pub t_ms: i64,
}

/// Samples further in the future are refused, whatever the target's clock says.
const AHEAD_MAX_MS: i64 = 10 * 60 * 1000;

/// Appends, reports and commits one scrape. `body` is what was fetched, or why nothing was. `finish` makes the report once
/// the samples are in. Returns why the scrape failed, if it did.
pub(crate) fn ingest(
    state: &mut State,
    families: &mut Families,
    store: &dyn Appendable,
    pass: &Pass<'_>,
    body: Result<Parsable<'_>, ScrapeError>,
    finish: impl FnOnce(Counts, Option<&ScrapeError>) -> Report,
) -> (Option<ScrapeError>, Result<CommitStats, StorageError>) {
    let mut app = store.appender();
    let mut counts = Counts::default();
    state.cache.begin();
    families.begin();
    let result = match body {
        Ok(b) if b.bytes.is_empty() => Ok(End::Failed),
        Ok(b) => append_body(&mut state.cache, families, app.as_mut(), pass, b, &mut counts).map(|()| End::Complete),
        Err(e) => Err(e),
    };
    if result.is_err() {
        app.rollback();
        app = store.appender();
    }
    let (end, error) = match result {
        Ok(end) => (end, None),
        Err(e) => (End::Failed, Some(e)),
    };
    state.stale.clear();
    if state.cache.end(end, &mut state.stale) {
        pass.metrics.cache_flush_forced.inc();
    }
    if end == End::Complete {
        families.end();
    }
    append_stale(app.as_mut(), &state.stale, pass.t_ms);
    let report = finish(counts, error.as_ref());
    let extra = pass.job.config.extra_scrape_metrics == Some(true);
    state.report.append(app.as_mut(), pass.target, extra, pass.t_ms, &report);
    (error, app.commit(Durability::Written))
}

/// The target is gone for good: ends all its series, the report series too.
pub(crate) fn end_all(state: &mut State, store: &dyn Appendable, pass: &Pass<'_>) -> Result<CommitStats, StorageError> {
    let mut app = store.appender();
    state.cache.begin();
    state.stale.clear();
    state.cache.end(End::Failed, &mut state.stale);
    append_stale(app.as_mut(), &state.stale, pass.t_ms);
    let extra = pass.job.config.extra_scrape_metrics == Some(true);
    state.report.append_stale(app.as_mut(), pass.target, extra, pass.t_ms);
    app.commit(Durability::Written)
}

fn append_stale(app: &mut dyn Appender, stale: &[SeriesRef], t_ms: i64) {
    let options = AppendOptions { reject_out_of_order: true, ..AppendOptions::default() };
    for series in stale {
        // A series the store forgot, or one that has newer samples by another way, needs no marker.
        let _ = app.append(*series, None, 0, t_ms, Value::Float(stale_nan()), &options);
    }
}

fn append_body(
    cache: &mut Cache,
    families: &mut Families,
    app: &mut dyn Appender,
    pass: &Pass<'_>,
    body: Parsable<'_>,
    counts: &mut Counts,
) -> Result<(), ScrapeError> {
    let samples = Samples { cache, app, pass, counts, appended: 0, over_limit: false };
    let over_limit = match body.syntax {
        Syntax::Protobuf => crate::bodies::append_protobuf(samples, families, body.bytes)?,
        _ => crate::bodies::append_text(samples, families, body)?,
    };
    if over_limit {
        pass.metrics.exceeded_sample_limit.inc();
        return Err(ScrapeError::SampleLimit);
    }
    Ok(())
}

/// One sample as it comes from any of the formats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'x> {
    /// The series as written: what the cache knows it by.
    pub key: &'x [u8],
    pub value: Value<'x>,
    pub t_ms: Option<i64>,
    pub exemplars: &'x [Exemplar],
}

/// The samples of one body on their way into one batch.
pub(crate) struct Samples<'p, 'a> {
    pub cache: &'p mut Cache,
    app: &'p mut dyn Appender,
    pub pass: &'p Pass<'a>,
    counts: &'p mut Counts,
    appended: u64,
    pub over_limit: bool,
}

impl Samples<'_, '_> {
    /// Takes one sample. `known` is its entry in the cache; otherwise `resolve` says what the line means, and it is asked
    /// for nothing else.
    pub(crate) fn add(
        &mut self,
        known: Option<Id>,
        incoming: &Incoming<'_>,
        resolve: &mut dyn FnMut() -> Result<Resolved, ScrapeError>,
    ) -> Result<(), ScrapeError> {
        self.counts.scraped += 1;
        match known {
            Some(id) => self.add_known(id, incoming, resolve),
            None => self.add_new(incoming, resolve),
        }
    }

    fn add_known(
        &mut self,
        id: Id,
        incoming: &Incoming<'_>,
        resolve: &mut dyn FnMut() -> Result<Resolved, ScrapeError>,
    ) -> Result<(), ScrapeError> {
        let repeated = self.cache.see(id);
        if self.cache.is_dropped(id) {
            return Ok(());
        }
        self.counts.post_relabel += 1;
        if repeated && self.explicit_time(incoming).is_none() {
            self.pass.metrics.duplicate_timestamp.inc();
            return Ok(());
        }
        let mut result = self.append(self.cache.series(id), None, incoming);
        if result == Err(Refused::Append(AppendError::UnknownSeries)) {
            // The store dropped the series since: it is created again under the same entry.
            let Resolved::Series(labels) = self.resolved(resolve)? else { return Ok(()) };
            result = self.append(SeriesRef::NONE, Some(&labels), incoming);
        }
        if let Some(series) = self.accept(result)? {
            self.cache.set_series(id, series);
            self.track(id, incoming);
        }
        Ok(())
    }

    fn add_new(
        &mut self,
        incoming: &Incoming<'_>,
        resolve: &mut dyn FnMut() -> Result<Resolved, ScrapeError>,
    ) -> Result<(), ScrapeError> {
        let labels = match self.resolved(resolve)? {
            Resolved::Series(labels) => labels,
            other => {
                if matches!(other, Resolved::Spoofed) {
                    self.pass.metrics.spoofed.inc();
                }
                self.cache.insert(incoming.key, SeriesRef::NONE, true);
                return Ok(());
            }
        };
        self.counts.post_relabel += 1;
        let result = self.append(SeriesRef::NONE, Some(&labels), incoming);
        // What the store refused is not remembered: it needs no stale marker when it goes.
        if let Some(series) = self.accept(result)? {
            let id = self.cache.insert(incoming.key, series, false);
            self.track(id, incoming);
            self.counts.added += u64::from(!self.over_limit);
        }
        Ok(())
    }

    fn resolved(&self, resolve: &mut dyn FnMut() -> Result<Resolved, ScrapeError>) -> Result<Resolved, ScrapeError> {
        let resolved = resolve();
        if matches!(resolved, Err(ScrapeError::LabelLimit(_))) {
            self.pass.metrics.exceeded_label_limits.inc();
        }
        resolved
    }

    fn explicit_time(&self, incoming: &Incoming<'_>) -> Option<i64> {
        incoming.t_ms.filter(|_| self.pass.job.config.honor_timestamps)
    }

    /// Series with timestamps of their own are not ours to end, unless the configuration says so.
    fn track(&mut self, id: Id, incoming: &Incoming<'_>) {
        if self.explicit_time(incoming).is_none() || self.pass.job.config.track_timestamps_staleness {
            self.cache.track(id);
        }
    }

    fn append(
        &mut self,
        series: SeriesRef,
        labels: Option<&ferula_model::Labels>,
        incoming: &Incoming<'_>,
    ) -> Result<SeriesRef, Refused> {
        let explicit = self.explicit_time(incoming);
        if explicit.is_some_and(|t| t > self.pass.t_ms.saturating_add(AHEAD_MAX_MS)) {
            return Err(Refused::Append(AppendError::OutOfBounds));
        }
        let limit = self.pass.job.config.sample_limit;
        if limit > 0 && self.appended >= limit {
            self.over_limit = true;
        }
        if self.over_limit {
            return Ok(SeriesRef::NONE); // only counted from here on; the batch will be rolled back
        }
        self.appended += 1;
        let reduced =
            crate::histogram_limits::apply(&self.pass.job.config, incoming.value).ok_or(Refused::BucketLimit)?;
        let value = reduced.as_ref().map_or(incoming.value, |r| r.value());
        let options = AppendOptions { exemplars: incoming.exemplars, ..AppendOptions::default() };
        let t_ms = explicit.unwrap_or(self.pass.t_ms);
        self.app.append(series, labels, 0, t_ms, value, &options).map_err(Refused::Append)
    }

    /// Counts what is expected to happen to single samples; the rest ends the scrape.
    fn accept(&self, result: Result<SeriesRef, Refused>) -> Result<Option<SeriesRef>, ScrapeError> {
        let m = self.pass.metrics;
        let refused = match result {
            Ok(series) => return Ok(Some(series).filter(|s| !s.is_none())),
            Err(Refused::BucketLimit) => {
                m.exceeded_bucket_limit.inc();
                return Err(ScrapeError::BucketLimit);
            }
            Err(Refused::Append(e)) => e,
        };
        match refused {
            AppendError::OutOfOrder | AppendError::TooOld => m.out_of_order.inc(),
            AppendError::DuplicateTimestamp => m.duplicate_timestamp.inc(),
            AppendError::OutOfBounds => m.out_of_bounds.inc(),
            AppendError::OutOfOrderExemplar => m.exemplar_out_of_order.inc(),
            AppendError::SeriesBudget => m.series_refused.inc(),
            e => return Err(e.into()),
        }
        Ok(None)
    }
}

/// Why one sample was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Append(AppendError),
    BucketLimit,
}
