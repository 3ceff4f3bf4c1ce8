//! Collecting a batch: every sample is checked against its series when it comes, and again when it is applied.
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferula_model::{Exemplar, Labels, SeriesRef, Value, is_stale_nan};
use ferula_storage::{AppendError, AppendOptions, Appender, CommitStats, Durability, StorageError};

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
}

#[derive(Default)]
pub(super) struct Batch {
    pub floats: Vec<(Arc<MemSeries>, i64, f64)>,
    pub histograms: Vec<(Arc<MemSeries>, i64, Native)>,
    pub exemplars: Vec<(Arc<MemSeries>, ExemplarRecord)>,
    pub created: u64,
    pub mint_ms: i64,
    pub maxt_ms: i64,
}

impl HeadAppender {
    pub fn new(head: Arc<Head>) -> Self {
        add(&head.counts.appenders, 1);
        let batch = Batch { mint_ms: i64::MAX, maxt_ms: i64::MIN, ..Batch::default() };
        HeadAppender { head, batch, appendable_from: None }
    }

    fn series(
        &mut self,
        series: SeriesRef,
        labels: Option<&Labels>,
        options: &AppendOptions<'_>,
    ) -> Result<Arc<MemSeries>, AppendError> {
        if !series.is_none()
            && let Some(found) = self.head.series.by_ref(series.0)
        {
            return Ok(found);
        }
        let labels = labels.ok_or(AppendError::UnknownSeries)?;
        if labels.is_empty() {
            return Err(AppendError::InvalidLabels);
        }
        if options.existing_series_only {
            return self
                .head
                .series
                .by_labels(ferula_model::LabelView::stable_hash(labels), labels)
                .ok_or(AppendError::SeriesBudget);
        }
        let (found, is_new) = self.head.get_or_create(labels)?;
        self.batch.created += u64::from(is_new);
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

    fn add_exemplars(&mut self, series: &Arc<MemSeries>, t_ms: i64, exemplars: &[Exemplar]) {
        if exemplars.is_empty() {
            return;
        }
        let head = &self.head;
        let ring = head.exemplars();
        for e in exemplars {
            let record = ExemplarRecord {
                series: series.series_ref,
                t_ms: e.t_ms.unwrap_or(t_ms),
                value: e.value,
                labels: e.labels.clone(),
            };
            match ring.check(&record) {
                Verdict::New => self.batch.exemplars.push((Arc::clone(series), record)),
                Verdict::Known => {}
                Verdict::OutOfOrder => add(&head.counts.exemplars_out_of_order, 1),
            }
        }
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
        _start_ms: i64,
        t_ms: i64,
        value: Value<'_>,
        options: &AppendOptions<'_>,
    ) -> Result<SeriesRef, AppendError> {
        match value {
            Value::Histogram(h) => h.validate().map_err(|_| AppendError::InvalidHistogram)?,
            Value::FloatHistogram(h) => h.validate().map_err(|_| AppendError::InvalidHistogram)?,
            Value::Float(_) => {}
        }
        let is_late = t_ms < self.from(t_ms);
        if is_late && !self.head.takes_out_of_order(t_ms, self.head.max_time())? {
            add(&self.head.counts.out_of_bounds, 1);
            return Err(AppendError::OutOfBounds);
        }
        let series = self.series(series, labels, options)?;
        let state = series.state();
        // A stale marker is of the kind its series is of.
        let stale_histogram = match (value, state.last_histogram()) {
            (Value::Float(v), Some(last)) if is_stale_nan(v) => Some(match last {
                Native::Integer(_) => Native::Integer(ferula_model::Histogram { sum: v, ..Default::default() }),
                Native::Float(_) => Native::Float(ferula_model::FloatHistogram { sum: v, ..Default::default() }),
            }),
            _ => None,
        };
        let native = match value {
            Value::Float(_) => stale_histogram,
            Value::Histogram(h) => Some(Native::Integer(h.clone())),
            Value::FloatHistogram(h) => Some(Native::Float(h.clone())),
        };
        let checked = match (&native, value) {
            (Some(h), _) => state.check_histogram(t_ms, h),
            (None, Value::Float(v)) => state.check_float(t_ms, v.to_bits()),
            _ => Ok(()),
        };
        drop(state);
        let out_of_order = is_late || checked == Err(AppendError::OutOfOrder);
        if out_of_order {
            if options.reject_out_of_order || !self.head.takes_out_of_order(t_ms, self.head.max_time())? {
                add(&self.head.counts.out_of_order, 1);
                return Err(AppendError::OutOfOrder);
            }
        } else {
            checked?;
        }
        self.add_exemplars(&series, t_ms, options.exemplars);
        let id = SeriesRef(series.series_ref);
        if !out_of_order {
            self.batch.mint_ms = self.batch.mint_ms.min(t_ms);
            self.batch.maxt_ms = self.batch.maxt_ms.max(t_ms);
        }
        match (native, value) {
            (Some(h), _) => self.batch.histograms.push((series, t_ms, h)),
            (None, Value::Float(v)) => self.batch.floats.push((series, t_ms, v)),
            _ => {}
        }
        Ok(id)
    }

    fn commit(mut self: Box<Self>, durability: Durability) -> Result<CommitStats, StorageError> {
        let batch = std::mem::take(&mut self.batch);
        Ok(self.head.commit(batch, durability)?)
    }

    fn rollback(self: Box<Self>) {}
}
