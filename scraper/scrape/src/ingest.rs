//! The blocking half of a scrape: one pass that parses a body, appends its samples, marks what vanished, reports, commits.
use ferula_exposition::parse::{Entry, Limits, Parser, Sample, Syntax};
use ferula_model::{Exemplar, SeriesRef, Value, stale_nan};
use ferula_storage::{AppendError, AppendOptions, Appendable, Appender, CommitStats, Durability, StorageError};

use crate::cache::{Cache, End, Id};
use crate::error::ScrapeError;
use crate::job::Job;
use crate::metadata::Families;
use crate::metrics::Metrics;
use crate::report::{Report, ReportSeries};
use crate::series::{Resolved, resolve};
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
    let mut parser = Parser::new(body.bytes, body.syntax, pass.limits);
    let mut samples = Samples { cache, app, pass, counts, appended: 0, over_limit: false };
    while let Some(entry) = parser.next_expecting(samples.cache.expected()) {
        match entry? {
            Entry::Sample(sample) => samples.add(&mut parser, sample)?,
            Entry::Type { family, metric_type } => families.set_type(&family, metric_type),
            Entry::Help { family, text } => families.set_help(&family, &text),
            Entry::Unit { family, unit } => families.set_unit(&family, unit),
            Entry::Comment => {}
        }
    }
    if samples.over_limit {
        pass.metrics.exceeded_sample_limit.inc();
        return Err(ScrapeError::SampleLimit);
    }
    Ok(())
}

/// The samples of one body on their way into one batch.
struct Samples<'p, 'a> {
    cache: &'p mut Cache,
    app: &'p mut dyn Appender,
    pass: &'p Pass<'a>,
    counts: &'p mut Counts,
    appended: u64,
    over_limit: bool,
}

impl Samples<'_, '_> {
    fn add(&mut self, parser: &mut Parser<'_>, sample: Sample<'_>) -> Result<(), ScrapeError> {
        self.counts.scraped += 1;
        let known = if sample.expected { self.cache.take_expected() } else { self.cache.find(sample.series) };
        match known {
            Some(id) => self.add_known(parser, sample, id),
            None => self.add_new(parser, sample),
        }
    }

    fn add_known(&mut self, parser: &mut Parser<'_>, sample: Sample<'_>, id: Id) -> Result<(), ScrapeError> {
        let repeated = self.cache.see(id);
        if self.cache.is_dropped(id) {
            return Ok(());
        }
        self.counts.post_relabel += 1;
        let explicit = self.explicit_time(&sample);
        if repeated && explicit.is_none() {
            self.pass.metrics.duplicate_timestamp.inc();
            return Ok(());
        }
        let exemplar = if sample.has_exemplar { parser.exemplar() } else { None };
        match self.append(self.cache.series(id), None, &sample, exemplar.as_slice()) {
            Err(AppendError::UnknownSeries) => self.add_forgotten(parser, sample, id),
            result => {
                if self.accept(result)?.is_some() && self.is_tracked(explicit) {
                    self.cache.track(id);
                }
                Ok(())
            }
        }
    }

    /// The store dropped the series since: it is created again under the same entry.
    fn add_forgotten(&mut self, parser: &mut Parser<'_>, sample: Sample<'_>, id: Id) -> Result<(), ScrapeError> {
        if sample.expected {
            match parser.reread() {
                Some(Ok(_)) => {}
                Some(Err(e)) => return Err(e.into()),
                None => return Err(ScrapeError::Internal("a known line could not be read again".into())),
            }
        }
        let Resolved::Series(labels) = self.resolve(parser)? else { return Ok(()) };
        let exemplar = if sample.has_exemplar { parser.exemplar() } else { None };
        let result = self.append(SeriesRef::NONE, Some(&labels), &sample, exemplar.as_slice());
        if let Some(series) = self.accept(result)? {
            self.cache.set_series(id, series);
            if self.is_tracked(self.explicit_time(&sample)) {
                self.cache.track(id);
            }
        }
        Ok(())
    }

    fn add_new(&mut self, parser: &mut Parser<'_>, sample: Sample<'_>) -> Result<(), ScrapeError> {
        let labels = match self.resolve(parser)? {
            Resolved::Series(labels) => labels,
            other => {
                if matches!(other, Resolved::Spoofed) {
                    self.pass.metrics.spoofed.inc();
                }
                self.cache.insert(sample.series, SeriesRef::NONE, true);
                return Ok(());
            }
        };
        self.counts.post_relabel += 1;
        let exemplar = if sample.has_exemplar { parser.exemplar() } else { None };
        let result = self.append(SeriesRef::NONE, Some(&labels), &sample, exemplar.as_slice());
        // What the store refused is not remembered: it needs no stale marker when it goes.
        if let Some(series) = self.accept(result)? {
            let id = self.cache.insert(sample.series, series, false);
            if self.is_tracked(self.explicit_time(&sample)) {
                self.cache.track(id);
            }
            self.counts.added += u64::from(!self.over_limit);
        }
        Ok(())
    }

    fn resolve(&self, parser: &Parser<'_>) -> Result<Resolved, ScrapeError> {
        let mut pairs = Vec::with_capacity(8);
        parser.labels(|name, value| pairs.push((name, value)));
        let resolved = resolve(&mut pairs, self.pass.job, self.pass.target);
        if matches!(resolved, Err(ScrapeError::LabelLimit(_))) {
            self.pass.metrics.exceeded_label_limits.inc();
        }
        resolved
    }

    fn explicit_time(&self, sample: &Sample<'_>) -> Option<i64> {
        sample.t_ms.filter(|_| self.pass.job.config.honor_timestamps)
    }

    /// Series with timestamps of their own are not ours to end, unless the configuration says so.
    fn is_tracked(&self, explicit: Option<i64>) -> bool {
        explicit.is_none() || self.pass.job.config.track_timestamps_staleness
    }

    fn append(
        &mut self,
        series: SeriesRef,
        labels: Option<&ferula_model::Labels>,
        sample: &Sample<'_>,
        exemplars: &[Exemplar],
    ) -> Result<SeriesRef, AppendError> {
        let explicit = self.explicit_time(sample);
        if explicit.is_some_and(|t| t > self.pass.t_ms.saturating_add(AHEAD_MAX_MS)) {
            return Err(AppendError::OutOfBounds);
        }
        let limit = self.pass.job.config.sample_limit;
        if limit > 0 && self.appended >= limit {
            self.over_limit = true;
        }
        if self.over_limit {
            return Ok(SeriesRef::NONE); // only counted from here on; the batch will be rolled back
        }
        self.appended += 1;
        let options = AppendOptions { exemplars, ..AppendOptions::default() };
        self.app.append(series, labels, 0, explicit.unwrap_or(self.pass.t_ms), Value::Float(sample.value), &options)
    }

    /// Counts what is expected to happen to single samples; the rest ends the scrape.
    fn accept(&self, result: Result<SeriesRef, AppendError>) -> Result<Option<SeriesRef>, ScrapeError> {
        let m = self.pass.metrics;
        match result {
            Ok(series) => return Ok(Some(series).filter(|s| !s.is_none())),
            Err(AppendError::OutOfOrder | AppendError::TooOld) => m.out_of_order.inc(),
            Err(AppendError::DuplicateTimestamp) => m.duplicate_timestamp.inc(),
            Err(AppendError::OutOfBounds) => m.out_of_bounds.inc(),
            Err(AppendError::OutOfOrderExemplar) => m.exemplar_out_of_order.inc(),
            Err(AppendError::SeriesBudget) => m.series_refused.inc(),
            Err(e) => return Err(e.into()),
        }
        Ok(None)
    }
}
