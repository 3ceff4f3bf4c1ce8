//! The blocking half of a scrape: parses a body piece by piece, appends its samples, marks what vanished, reports, commits.
//!
//! ```text
//!  State::begin -> read(piece) ... read(last piece) -> end     all of it one batch
//!                                   \-> abandon: the target leaves or the server stops
//! ```
use ferula_exposition::parse::{Limits, Progress, Syntax};
use ferula_model::{Exemplar, SeriesRef, Value, stale_nan};
use ferula_storage::{AppendError, AppendOptions, Appendable, Appender, CommitStats, Durability, StorageError};

use crate::budget::{self, Account, Scope};
use crate::cache::{Cache, End, Id};
use crate::error::ScrapeError;
use crate::job::Job;
use crate::metadata::{Families, is_part_of};
use crate::metrics::Metrics;
use crate::nhcb::Collector;
use crate::report::{Report, ReportSeries};
use crate::series::{Resolve, Resolved};
use crate::starts::{StartTimes, TriedStarts};
use crate::target::Target;

/// What a target's loop remembers between scrapes.
pub(crate) struct State {
    pub cache: Cache,
    pub report: ReportSeries,
    pub account: Account,
    stale: Vec<SeriesRef>,
    announced: Vec<SeriesRef>,
    starts: TriedStarts,
}

/// Part of a body, ready to be parsed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece<'a> {
    pub bytes: &'a [u8],
    pub syntax: Syntax,
    pub is_last: bool,
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

/// One scrape's batch, between its first piece and its end.
pub(crate) struct Batch {
    app: Box<dyn Appender>,
    counts: Counts,
    appended: u64,
    over_limit: bool,
    collector: Option<Collector>,
    progress: Progress,
}

/// What one pass needs to know besides the body.
pub(crate) struct Pass<'a> {
    pub job: &'a Job,
    pub target: &'a Target,
    pub metrics: &'a Metrics,
    pub limits: Limits,
    /// Series the whole server may hold; 0 is no limit.
    pub server_series_max: u64,
    /// The scrape's time, which samples without their own get.
    pub t_ms: i64,
    pub starts: StartTimes,
    /// Whether the store wants to know type, help and unit of every series.
    pub passes_metadata: bool,
    /// Whether every series gets its family's type and unit as labels.
    pub type_and_unit_labels: bool,
}

/// Samples further in the future are refused, whatever the target's clock says.
const AHEAD_MAX_MS: i64 = 10 * 60 * 1000;

impl State {
    pub(crate) fn new(account: Account) -> State {
        State {
            cache: Cache::default(),
            report: ReportSeries::default(),
            account,
            stale: Vec::new(),
            announced: Vec::new(),
            starts: TriedStarts::default(),
        }
    }

    pub(crate) fn begin(&mut self, families: &mut Families, store: &dyn Appendable, pass: &Pass<'_>) -> Batch {
        self.cache.begin();
        self.account.begin();
        self.stale.clear();
        let collector = Collector::for_config(&pass.job.config);
        let asks_for_families = pass.passes_metadata || pass.type_and_unit_labels || pass.starts.are_read();
        families.begin(collector.is_none() && !asks_for_families);
        Batch {
            app: store.appender(),
            counts: Counts::default(),
            appended: 0,
            over_limit: false,
            collector,
            progress: Progress::default(),
        }
    }

    /// Reads what is whole of `piece` into the batch. Returns how many of its bytes that was.
    pub(crate) fn read(
        &mut self,
        families: &mut Families,
        batch: &mut Batch,
        pass: &Pass<'_>,
        piece: Piece<'_>,
    ) -> Result<usize, ScrapeError> {
        let Batch { app, counts, appended, over_limit, collector, progress } = batch;
        let State { cache, account, starts, announced, .. } = self;
        let (app, budgets) = (app.as_mut(), pass.budgets());
        let samples =
            Samples { cache, app, families, pass, account, starts, announced, budgets, counts, appended, over_limit };
        match piece.syntax {
            Syntax::Protobuf => crate::bodies::append_protobuf(samples, collector, progress, piece),
            _ => crate::bodies::append_text(samples, collector, progress, piece),
        }
    }

    /// Ends the batch: stale marks, report, commit. `body_bytes` is how long the body was, or why it was not taken.
    /// `finish` makes the report once the samples are in. Returns why the scrape failed, if it did.
    pub(crate) fn end(
        &mut self,
        families: &mut Families,
        store: &dyn Appendable,
        pass: &Pass<'_>,
        mut batch: Batch,
        body_bytes: Result<u64, ScrapeError>,
        finish: impl FnOnce(Counts, Option<&ScrapeError>) -> Report,
    ) -> (Option<ScrapeError>, Result<CommitStats, StorageError>) {
        let result = match body_bytes {
            Ok(_) if batch.over_limit => {
                pass.metrics.exceeded_sample_limit.inc();
                Err(ScrapeError::SampleLimit)
            }
            // A scrape without samples; upstream ends the series all the same.
            Ok(0) => Ok(End::Failed),
            Ok(_) => Ok(End::Complete),
            Err(e) => Err(e),
        };
        if result.is_err() {
            batch.app.rollback();
            batch.app = store.appender();
        }
        let (end, error) = match result {
            Ok(end) => (end, None),
            Err(e) => (End::Failed, Some(e)),
        };
        if self.cache.end(end, &mut self.stale) {
            pass.metrics.cache_flush_forced.inc();
        }
        self.account.settle(self.cache.series_count());
        match end {
            End::Complete => families.end(),
            End::Failed => {
                families.fail();
                self.starts.forget();
            }
        }
        let app = batch.app.as_mut();
        append_stale(app, &self.stale, pass.t_ms);
        self.stale.clear();
        let report = finish(batch.counts, error.as_ref());
        let extra = pass.job.config.extra_scrape_metrics == Some(true);
        self.report.append(app, pass, extra, &report);
        (error, batch.app.commit(Durability::Written))
    }

    /// The scrape is broken off for good: what it would have ended is owed to [`State::end_all`].
    pub(crate) fn abandon(&mut self, batch: Batch) {
        batch.app.rollback();
        self.starts.forget();
        self.cache.end(End::Failed, &mut self.stale);
    }

    /// The target is gone for good: ends all its series, the report series too.
    pub(crate) fn end_all(&mut self, store: &dyn Appendable, pass: &Pass<'_>) -> Result<CommitStats, StorageError> {
        let mut app = store.appender();
        self.cache.begin();
        self.cache.end(End::Failed, &mut self.stale);
        append_stale(app.as_mut(), &self.stale, pass.t_ms);
        let extra = pass.job.config.extra_scrape_metrics == Some(true);
        self.report.append_stale(app.as_mut(), pass, extra);
        app.commit(Durability::Written)
    }
}

impl Pass<'_> {
    fn budgets(&self) -> budget::Limits {
        let c = &self.job.config;
        budget::Limits { target: c.target_series_budget, job: c.job_series_budget, server: self.server_series_max }
    }
}

impl Batch {
    /// Whole lines read.
    pub(crate) fn lines(&self) -> usize {
        self.progress.lines()
    }

    /// What the batch holds in memory, about: samples that wait, and what is remembered of new series.
    pub(crate) fn bytes(&self) -> u64 {
        self.appended * 48 + self.counts.added * 256
    }
}

fn append_stale(app: &mut dyn Appender, stale: &[SeriesRef], t_ms: i64) {
    let options = AppendOptions { reject_out_of_order: true, ..AppendOptions::default() };
    for series in stale {
        // A series the store forgot, or one that has newer samples by another way, needs no marker.
        let _ = app.append(*series, None, 0, t_ms, Value::Float(stale_nan()), &options);
    }
}

/// One sample as it comes from any of the formats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Incoming<'x> {
    /// The series as written: what the cache knows it by.
    pub key: &'x [u8],
    pub value: Value<'x>,
    pub t_ms: Option<i64>,
    /// When it began to count; 0 if that is not known, or not asked for.
    pub start_ms: i64,
    pub exemplars: &'x [Exemplar],
}

/// The samples of one body on their way into one batch.
pub(crate) struct Samples<'p, 'a> {
    pub cache: &'p mut Cache,
    app: &'p mut dyn Appender,
    pub families: &'p mut Families,
    pub pass: &'p Pass<'a>,
    account: &'p mut Account,
    starts: &'p mut TriedStarts,
    announced: &'p mut Vec<SeriesRef>,
    budgets: budget::Limits,
    counts: &'p mut Counts,
    appended: &'p mut u64,
    over_limit: &'p mut bool,
}

impl Samples<'_, '_> {
    /// The entry of the line that comes now, which is the expected one.
    pub(crate) fn take_expected(&mut self) -> Option<Id> {
        if self.cache.announce(self.announced) {
            self.app.expect(self.announced);
        }
        self.cache.take_expected()
    }

    /// Takes one sample. `known` is its entry in the cache; otherwise `resolve` says what the line means, and it is asked
    /// for nothing else.
    pub(crate) fn add(
        &mut self,
        known: Option<Id>,
        incoming: &Incoming<'_>,
        resolve: &mut Resolve<'_>,
    ) -> Result<(), ScrapeError> {
        self.counts.scraped += 1;
        match known {
            Some(id) => self.add_known(id, incoming, resolve),
            None => self.add_new(incoming, resolve),
        }
    }

    fn add_known(&mut self, id: Id, incoming: &Incoming<'_>, resolve: &mut Resolve<'_>) -> Result<(), ScrapeError> {
        let repeated = self.cache.see(id);
        if self.cache.is_dropped(id) {
            return Ok(());
        }
        self.counts.post_relabel += 1;
        if repeated && self.explicit_time(incoming).is_none() {
            self.pass.metrics.duplicate_timestamp.inc();
            return Ok(());
        }
        let has_zero = self.zero_is_due(Some(id), incoming);
        let has_news = self.pass.passes_metadata && self.families.current().is_some_and(|(_, _, news)| news);
        let mut labels = None;
        if has_news {
            let Resolved::Series(resolved) = self.resolved(resolve)? else { return Ok(()) };
            labels = Some(resolved);
        }
        let how = How { has_zero, ..How::default() };
        let mut result = self.append(self.cache.series(id), labels.as_ref(), incoming, how);
        if result == Err(Refused::Append(AppendError::UnknownSeries)) {
            // The store dropped the series since: it is created again under the same entry.
            let Resolved::Series(labels) = self.resolved(resolve)? else { return Ok(()) };
            result = self.append(SeriesRef::NONE, Some(&labels), incoming, how);
        }
        if let Some(series) = self.accept(result)? {
            self.cache.set_series(id, series);
            self.track(id, incoming);
            if has_zero {
                self.starts.note(id, incoming.start_ms);
            }
        }
        Ok(())
    }

    fn add_new(&mut self, incoming: &Incoming<'_>, resolve: &mut Resolve<'_>) -> Result<(), ScrapeError> {
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
        let spent = self.account.spent(&self.budgets);
        let has_zero = self.zero_is_due(None, incoming);
        let how = How { existing_series_only: spent.is_some(), has_zero };
        let result = self.append(SeriesRef::NONE, Some(&labels), incoming, how);
        if result == Err(Refused::Append(AppendError::SeriesBudget)) {
            let scope = spent.unwrap_or(Scope::Store);
            self.account.refuse(&labels);
            self.pass.metrics.series_refused.with(&[&self.pass.job.config.job_name, scope.as_str()]).inc();
            return Ok(());
        }
        // What the store refused is not remembered: it needs no stale marker when it goes.
        if let Some(series) = self.accept(result)? {
            let id = self.cache.insert(incoming.key, series, false);
            self.account.take();
            self.track(id, incoming);
            self.starts.note(id, if has_zero { incoming.start_ms } else { 0 });
            self.counts.added += u64::from(!*self.over_limit);
        }
        Ok(())
    }

    fn resolved(&self, resolve: &mut Resolve<'_>) -> Result<Resolved, ScrapeError> {
        let family = self.families.current().filter(|_| self.pass.type_and_unit_labels);
        let resolved = resolve(family.map(|(name, metadata, _)| (name, metadata)));
        if matches!(resolved, Err(ScrapeError::LabelLimit(_))) {
            self.pass.metrics.exceeded_label_limits.inc();
        }
        resolved
    }

    fn explicit_time(&self, incoming: &Incoming<'_>) -> Option<i64> {
        incoming.t_ms.filter(|_| self.pass.job.config.honor_timestamps)
    }

    fn zero_is_due(&self, id: Option<Id>, incoming: &Incoming<'_>) -> bool {
        let t_ms = self.explicit_time(incoming).unwrap_or(self.pass.t_ms);
        self.pass.starts.as_zeros && self.starts.is_due(id, incoming.start_ms, t_ms)
    }

    /// Series with timestamps of their own are not ours to end, unless the configuration says so.
    fn track(&mut self, id: Id, incoming: &Incoming<'_>) {
        if self.explicit_time(incoming).is_none() || self.pass.job.config.track_timestamps_staleness {
            self.cache.track(id);
        }
    }

    fn append(
        &mut self,
        mut series: SeriesRef,
        labels: Option<&ferula_model::Labels>,
        incoming: &Incoming<'_>,
        how: How,
    ) -> Result<SeriesRef, Refused> {
        let explicit = self.explicit_time(incoming);
        if explicit.is_some_and(|t| t > self.pass.t_ms.saturating_add(AHEAD_MAX_MS)) {
            return Err(Refused::Append(AppendError::OutOfBounds));
        }
        let limit = self.pass.job.config.sample_limit;
        if limit > 0 && *self.appended >= limit {
            *self.over_limit = true;
        }
        if *self.over_limit {
            return Ok(SeriesRef::NONE); // only counted from here on; the batch will be rolled back
        }
        *self.appended += 1;
        let reduced =
            crate::histogram_limits::apply(&self.pass.job.config, incoming.value).ok_or(Refused::BucketLimit)?;
        let value = reduced.as_ref().map_or(incoming.value, |r| r.value());
        let How { existing_series_only, has_zero } = how;
        let mut options = AppendOptions { existing_series_only, ..AppendOptions::default() };
        let t_ms = explicit.unwrap_or(self.pass.t_ms);
        if has_zero {
            let zero = self.app.append_start_zero(series, labels, incoming.start_ms, t_ms, value, &options);
            series = zero.unwrap_or(series); // refused where the series is older than its start: the rule
        }
        options.exemplars = incoming.exemplars;
        if let (true, Some(labels), Some((family, metadata, _))) =
            (self.pass.passes_metadata, labels, self.families.current())
            && is_part_of(labels.metric_name(), family, metadata.metric_type)
        {
            (options.metadata, options.family) = (Some(metadata), Some(family));
        }
        let start_ms = if self.pass.starts.with_samples { incoming.start_ms } else { 0 };
        self.app.append(series, labels, start_ms, t_ms, value, &options).map_err(Refused::Append)
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
            // Only where the store forgot a series that the cache knew: it counts as refused, without a name.
            AppendError::SeriesBudget => {
                m.series_refused.with(&[&self.pass.job.config.job_name, Scope::Store.as_str()]).inc()
            }
            e => return Err(e.into()),
        }
        Ok(None)
    }
}

/// What is particular about one sample's way into the store.
#[derive(Clone, Copy, Debug, Default)]
struct How {
    existing_series_only: bool,
    /// A zero at its start time comes before it.
    has_zero: bool,
}

/// Why one sample was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    Append(AppendError),
    BucketLimit,
}
