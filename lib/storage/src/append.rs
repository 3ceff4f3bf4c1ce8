//! Writing: append, then commit or roll back.
use ferula_model::{Exemplar, Labels, Metadata, SeriesRef, Value};

use crate::StorageError;

/// Where samples go in. One appender is one batch; appenders of several threads run side by side. It owns what it needs, so
/// that a batch can wait for the rest of a body without holding a thread.
pub trait Appendable: Send + Sync {
    fn appender(&self) -> Box<dyn Appender>;
}

pub trait Appender: Send {
    /// Adds one sample of one series to the batch.
    ///
    /// * `series`: a reference an earlier append returned, or [`SeriesRef::NONE`].
    /// * `labels`: the final label set; may be `None` when `series` is given. If that series is gone by then, the
    ///   answer is [`AppendError::UnknownSeries`] and the caller repeats with labels.
    /// * `start_ms`: when the counter or histogram began, or 0 for unknown. `t_ms`: the sample's time.
    ///
    /// An error concerns this sample only; the batch goes on.
    fn append(
        &mut self,
        series: SeriesRef,
        labels: Option<&Labels>,
        start_ms: i64,
        t_ms: i64,
        value: Value<'_>,
        options: &AppendOptions<'_>,
    ) -> Result<SeriesRef, AppendError>;

    /// The series of the samples that probably come next, in that order. A store may find many together, which is cheaper
    /// than one by one; nothing else follows from it.
    fn expect(&mut self, series: &[SeriesRef]) {
        let _ = series;
    }

    /// Adds a zero at `start_ms`, when the counter or histogram began to count whose sample at `t_ms` is appended next;
    /// `like` says of which kind it is. `series`, `labels` and `options` as in [`Appender::append`]. Refused, which is no
    /// incident and not counted, unless it is older than that sample, newer than what the series has, and within the
    /// store's range. The default refuses always: a store without such zeros.
    fn append_start_zero(
        &mut self,
        series: SeriesRef,
        labels: Option<&Labels>,
        start_ms: i64,
        t_ms: i64,
        like: Value<'_>,
        options: &AppendOptions<'_>,
    ) -> Result<SeriesRef, AppendError> {
        let _ = (series, labels, start_ms, t_ms, like, options);
        Err(AppendError::OutOfOrder)
    }

    /// Adds one exemplar to a series that is there already, without a sample. `series` and `labels` as in
    /// [`Appender::append`], but nothing is created: a series not known is [`AppendError::UnknownSeries`]. One the store
    /// has already is accepted and not kept twice. A store without exemplars takes them all and keeps none.
    fn append_exemplar(
        &mut self,
        series: SeriesRef,
        labels: Option<&Labels>,
        exemplar: &Exemplar,
    ) -> Result<SeriesRef, AppendError> {
        let _ = (labels, exemplar);
        Ok(series)
    }

    /// Makes the batch visible, all of it or nothing, after it is in the write-ahead log.
    fn commit(self: Box<Self>, durability: Durability) -> Result<CommitStats, StorageError>;

    /// Forgets the batch. Series it created may stay.
    fn rollback(self: Box<Self>);
}

/// What travels with one sample. All fields have a cheap default.
#[derive(Clone, Copy, Debug, Default)]
pub struct AppendOptions<'a> {
    pub exemplars: &'a [Exemplar],
    pub metadata: Option<&'a Metadata>,
    /// The metric family's name where it differs from the series name (`foo` for `foo_bucket`).
    pub family: Option<&'a str>,
    /// Refuse a sample older than the series' newest even inside the out-of-order window (rules ask for this).
    pub reject_out_of_order: bool,
    /// Refuse to create a series: [`AppendError::SeriesBudget`]. Set by callers whose own budget is spent.
    pub existing_series_only: bool,
}

/// When `commit` may return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Written to the log file; synced at most one second later. Scrapes and rule results.
    #[default]
    Written,
    /// Synced to disk. Whatever acknowledges a remote sender.
    Synced,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommitStats {
    pub floats: u64,
    pub histograms: u64,
    pub exemplars: u64,
    /// Exemplars that came with accepted samples and were older than the newest of their series.
    pub exemplars_out_of_order: u64,
    pub series_created: u64,
    /// Samples accepted by `append` that turned out unacceptable when the batch was applied.
    pub out_of_order: u64,
}

/// Expected outcomes for one sample: small, counted by the caller, never logged one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum AppendError {
    #[error("out of order sample")]
    OutOfOrder,
    #[error("out of bounds")]
    OutOfBounds,
    #[error("too old sample")]
    TooOld,
    #[error("duplicate sample for timestamp")]
    DuplicateTimestamp,
    #[error("unknown series reference")]
    UnknownSeries,
    #[error("empty or invalid label set")]
    InvalidLabels,
    #[error("label set has a label name twice")]
    DuplicateLabel,
    #[error("invalid histogram")]
    InvalidHistogram,
    #[error("out of order exemplar")]
    OutOfOrderExemplar,
    #[error("series budget exceeded")]
    SeriesBudget,
    #[error("storage is read-only")]
    ReadOnly,
}
