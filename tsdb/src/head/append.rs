//! Collecting a batch: every sample is checked against its series when it comes, and again when it is applied.
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferula_model::{
    CounterResetHint, Exemplar, FloatHistogram, Histogram, Labels, Metadata, SeriesRef, Value, is_stale_nan,
};
use ferula_storage::{AppendError, AppendOptions, Appender, CommitStats, Durability, StorageError};

use hashbrown::HashMap;

use super::exemplars::Verdict;
use super::series::MemSeries;
use super::{Head, add};
use crate::record::exemplars::ExemplarRecord;
use crate::record::histograms::Native;

/// One batch. Cost of a float of a known series: two short locks and 32 bytes until the commit.
pub struct HeadAppender {
    pub(super) head: Arc<Head>,
    pub(super) batch: Batch,
    /// Decided by the first sample.
    appendable_from: Option<i64>,
    /// Series of samples that probably come next, the last of them first.
    expected: Vec<Arc<MemSeries>>,
    /// The next new series is probably much like it.
    created_last: Option<Arc<MemSeries>>,
}

#[derive(Default)]
pub(super) struct Batch {
    /// In the order they came.
    pub samples: Vec<Pending>,
    /// Start times beside the samples; shorter when the last ones have none.
    pub starts: Vec<i64>,
    /// How many of the samples are histograms.
    pub histograms: usize,
    pub exemplars: Vec<(Arc<MemSeries>, ExemplarRecord)>,
    pub late_exemplars: u64,
    pub metadata: Vec<(Arc<MemSeries>, Metadata)>,
    pub created: u64,
    /// Whether some series had no record in the log when its sample came.
    pub has_unlogged: bool,
    pub mint_ms: i64,
    pub maxt_ms: i64,
    /// What a series is of at this point of the batch, where that may be other than what the series itself says.
    kinds: HashMap<u64, Kind>,
}

#[derive(Debug)]
pub(super) struct Pending {
    pub series: Arc<MemSeries>,
    pub t_ms: i64,
    pub value: PendingValue,
}

#[derive(Debug)]
pub(super) enum PendingValue {
    Float(u64),
    Histogram(Box<Native>),
}

/// Of which kind a stale marker has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Float,
    Integer,
    FloatHistogram,
}

impl Kind {
    fn of(h: Option<&Native>) -> Kind {
        match h {
            None => Kind::Float,
            Some(Native::Integer(_)) => Kind::Integer,
            Some(Native::Float(_)) => Kind::FloatHistogram,
        }
    }
}

/// An empty histogram that fits the chunk its first sample will open; `None` for floats.
fn start_zero(like: Value<'_>) -> Option<Native> {
    match like {
        Value::Float(_) => None,
        Value::Histogram(h) => Some(Native::Integer(Histogram {
            counter_reset_hint: CounterResetHint::CounterReset,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            custom_values: h.custom_values.clone(),
            ..Histogram::default()
        })),
        Value::FloatHistogram(h) => Some(Native::Float(FloatHistogram {
            counter_reset_hint: CounterResetHint::CounterReset,
            schema: h.schema,
            zero_threshold: h.zero_threshold,
            custom_values: h.custom_values.clone(),
            ..FloatHistogram::default()
        })),
    }
}

impl HeadAppender {
    pub fn new(head: Arc<Head>) -> Self {
        add(&head.counts.appenders, 1);
        let samples = head.spare_batch();
        let batch = Batch { samples, mint_ms: i64::MAX, maxt_ms: i64::MIN, ..Batch::default() };
        HeadAppender { head, batch, appendable_from: None, expected: Vec::new(), created_last: None }
    }

    fn series(
        &mut self,
        series: SeriesRef,
        labels: Option<&Labels>,
        options: &AppendOptions<'_>,
    ) -> Result<Arc<MemSeries>, AppendError> {
        if !series.is_none() {
            if let Some(next) = self.expected.pop_if(|s| s.series_ref() == series.0) {
                return Ok(next);
            }
            self.expected.clear();
            if let Some(found) = self.head.series.by_ref(series.0) {
                return Ok(found);
            }
        }
        let labels = labels.ok_or_else(|| {
            add(&self.head.counts.series_not_found, 1);
            AppendError::UnknownSeries
        })?;
        if labels.is_empty() {
            return Err(AppendError::InvalidLabels);
        }
        if options.existing_series_only {
            return self.head.series_of_labels(labels).ok_or(AppendError::SeriesBudget);
        }
        let (found, is_new) = self.head.get_or_create(labels, self.created_last.as_deref())?;
        if is_new {
            self.batch.created += 1;
            self.created_last = Some(Arc::clone(&found));
        }
        Ok(found)
    }

    fn from(&mut self, t_ms: i64) -> i64 {
        let head = &self.head;
        if t_ms < head.min_valid_time() {
            return head.min_valid_time(); // must not decide the range of an empty head
        }
        *self.appendable_from.get_or_insert_with(|| {
            head.initialise(t_ms);
            head.appendable_from()
        })
    }

    fn add_exemplar(&mut self, series: &Arc<MemSeries>, t_ms: i64, e: &Exemplar) -> Verdict {
        let record = ExemplarRecord {
            series: series.series_ref(),
            t_ms: e.t_ms.unwrap_or(t_ms),
            value: e.value,
            labels: e.labels.clone(),
        };
        let verdict = self.head.exemplars().check(&record);
        match verdict {
            Verdict::New => {
                self.batch.has_unlogged |= !series.is_logged();
                self.batch.exemplars.push((Arc::clone(series), record));
            }
            Verdict::Known => {}
            Verdict::OutOfOrder => add(&self.head.counts.exemplars_out_of_order, 1),
        }
        verdict
    }

    fn note_metadata(&mut self, series: &Arc<MemSeries>, metadata: &Metadata) {
        let is_known = self.head.metadata().get(series.series_ref()).is_some_and(|m| **m == *metadata);
        if !is_known {
            self.batch.has_unlogged |= !series.is_logged();
            self.batch.metadata.push((Arc::clone(series), metadata.clone()));
        }
    }

    fn push(&mut self, series: Arc<MemSeries>, start_ms: i64, t_ms: i64, value: PendingValue) {
        let batch = &mut self.batch;
        batch.has_unlogged |= !series.is_logged();
        batch.histograms += usize::from(matches!(value, PendingValue::Histogram(_)));
        if start_ms != 0 && self.head.start_times {
            batch.starts.resize(batch.samples.len(), 0);
            batch.starts.push(start_ms);
        }
        batch.samples.push(Pending { series, t_ms, value });
    }
}

impl Drop for HeadAppender {
    fn drop(&mut self) {
        self.head.counts.appenders.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Appender for HeadAppender {
    fn append(
        &mut self,
        series: SeriesRef,
        labels: Option<&Labels>,
        start_ms: i64,
        t_ms: i64,
        value: Value<'_>,
        options: &AppendOptions<'_>,
    ) -> Result<SeriesRef, AppendError> {
        match value {
            Value::Histogram(h) => h.validate().map_err(|_| AppendError::InvalidHistogram)?,
            Value::FloatHistogram(h) => h.validate().map_err(|_| AppendError::InvalidHistogram)?,
            Value::Float(_) => {}
        }
        if t_ms == i64::MIN {
            add(&self.head.counts.out_of_bounds, 1);
            return Err(AppendError::OutOfBounds); // stands for no time
        }
        let is_late = t_ms < self.from(t_ms);
        if is_late && !self.head.takes_out_of_order(t_ms, self.head.max_time())? {
            add(&self.head.counts.out_of_bounds, 1);
            return Err(AppendError::OutOfBounds);
        }
        let series = self.series(series, labels, options)?;
        let state = series.state();
        let mut kind = Kind::of(state.last_histogram());
        if !self.batch.kinds.is_empty()
            && let Some(in_batch) = self.batch.kinds.get(&series.series_ref())
        {
            kind = *in_batch;
        }
        let value = match (value, kind) {
            // A stale marker is of the kind its series is of.
            (Value::Float(v), Kind::Integer) if is_stale_nan(v) => {
                PendingValue::Histogram(Box::new(Native::Integer(Histogram { sum: v, ..Default::default() })))
            }
            (Value::Float(v), Kind::FloatHistogram) if is_stale_nan(v) => {
                PendingValue::Histogram(Box::new(Native::Float(FloatHistogram { sum: v, ..Default::default() })))
            }
            (Value::Float(v), _) => PendingValue::Float(v.to_bits()),
            (Value::Histogram(h), _) => PendingValue::Histogram(Box::new(Native::Integer(h.clone()))),
            (Value::FloatHistogram(h), _) => PendingValue::Histogram(Box::new(Native::Float(h.clone()))),
        };
        let (checked, new_kind) = match &value {
            PendingValue::Float(bits) => (state.check_float(t_ms, *bits), Kind::Float),
            PendingValue::Histogram(h) => (state.check_histogram(t_ms, h), Kind::of(Some(h))),
        };
        drop(state);
        let out_of_order = is_late || checked == Err(AppendError::OutOfOrder);
        if out_of_order {
            if let Some(observed) = self.head.observed.get() {
                observed.late_by_seconds.observe(self.head.max_time().saturating_sub(t_ms) as f64 / 1000.0);
            }
            if options.reject_out_of_order || !self.head.takes_out_of_order(t_ms, self.head.max_time())? {
                add(self.head.counts.out_of_order(matches!(value, PendingValue::Histogram(_))), 1);
                return Err(AppendError::OutOfOrder);
            }
        } else {
            checked?;
            self.batch.mint_ms = self.batch.mint_ms.min(t_ms);
            self.batch.maxt_ms = self.batch.maxt_ms.max(t_ms);
        }
        let id = SeriesRef(series.series_ref());
        for e in options.exemplars {
            let verdict = self.add_exemplar(&series, t_ms, e);
            self.batch.late_exemplars += u64::from(verdict == Verdict::OutOfOrder);
        }
        if let (true, Some(metadata)) = (self.head.metadata_records, options.metadata) {
            self.note_metadata(&series, metadata);
        }
        if new_kind != kind || new_kind != Kind::Float {
            self.batch.kinds.insert(id.0, new_kind);
        }
        self.push(series, start_ms, t_ms, value);
        Ok(id)
    }

    fn expect(&mut self, series: &[SeriesRef]) {
        self.expected.clear();
        self.head.series.by_refs(series.iter().map(|s| s.0), &mut self.expected);
        self.expected.reverse();
    }

    fn append_start_zero(
        &mut self,
        series: SeriesRef,
        labels: Option<&Labels>,
        start_ms: i64,
        t_ms: i64,
        like: Value<'_>,
        options: &AppendOptions<'_>,
    ) -> Result<SeriesRef, AppendError> {
        if start_ms >= t_ms {
            return Err(AppendError::OutOfOrder);
        }
        // The sample decides the range of an empty head, not a start that may be months ago.
        if start_ms < self.from(t_ms) {
            return Err(AppendError::OutOfBounds);
        }
        let series = self.series(series, labels, options)?;
        let state = series.state();
        let (checked, value, kind) = match start_zero(like) {
            None => (state.check_float(start_ms, 0), PendingValue::Float(0), Kind::Float),
            Some(h) => {
                let kind = Kind::of(Some(&h));
                (state.check_histogram(start_ms, &h), PendingValue::Histogram(Box::new(h)), kind)
            }
        };
        let last = Kind::of(state.last_histogram());
        drop(state);
        checked?;
        self.batch.mint_ms = self.batch.mint_ms.min(start_ms);
        self.batch.maxt_ms = self.batch.maxt_ms.max(start_ms);
        let id = SeriesRef(series.series_ref());
        if kind != last || kind != Kind::Float {
            self.batch.kinds.insert(id.0, kind);
        }
        self.push(series, 0, start_ms, value);
        Ok(id)
    }

    fn append_exemplar(
        &mut self,
        series: SeriesRef,
        labels: Option<&Labels>,
        exemplar: &Exemplar,
    ) -> Result<SeriesRef, AppendError> {
        let of_labels = |l: &Labels| self.head.series_of_labels(l);
        let found = self.head.series.by_ref(series.0).or_else(|| labels.and_then(of_labels));
        let found = found.ok_or(AppendError::UnknownSeries)?;
        match self.add_exemplar(&found, 0, exemplar) {
            Verdict::OutOfOrder => Err(AppendError::OutOfOrderExemplar),
            Verdict::New | Verdict::Known => Ok(SeriesRef(found.series_ref())),
        }
    }

    fn commit(mut self: Box<Self>, durability: Durability) -> Result<CommitStats, StorageError> {
        let batch = std::mem::take(&mut self.batch);
        Ok(self.head.commit(batch, durability)?)
    }

    fn rollback(self: Box<Self>) {}
}
