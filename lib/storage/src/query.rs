//! Reading: select series, walk their samples in batches of columns.
use std::sync::Arc;

use ferula_model::{Exemplar, FloatHistogram, LabelView, Labels, Matcher};

use crate::{Annotations, QueryContext, Resolved, StorageError};

pub trait Queryable: Send + Sync {
    /// A querier over `mint_ms..=maxt_ms`, both inclusive, with a consistent view: no half commit is ever seen.
    fn querier(&self, mint_ms: i64, maxt_ms: i64) -> Result<Box<dyn Querier>, StorageError>;

    /// Grows whenever the set of series changes (creation, deletion, reload): rules keep resolved sets by it.
    fn generation(&self) -> u64 {
        0
    }
}

pub trait Querier: Send + Sync {
    /// All series that satisfy every matcher. `sorted`: in label order; otherwise in any order. May block.
    fn select(
        &self,
        ctx: &QueryContext,
        sorted: bool,
        hints: &SelectHints,
        matchers: &[Matcher],
    ) -> Result<Box<dyn SeriesSet>, StorageError>;

    /// Values of `name`, sorted, of the series that satisfy all matchers.
    fn label_values(
        &self,
        ctx: &QueryContext,
        name: &str,
        hints: &LabelHints,
        matchers: &[Matcher],
    ) -> Result<(Vec<String>, Annotations), StorageError>;

    /// Label names, sorted, of the series that satisfy all matchers.
    fn label_names(
        &self,
        ctx: &QueryContext,
        hints: &LabelHints,
        matchers: &[Matcher],
    ) -> Result<(Vec<String>, Annotations), StorageError>;

    /// Exemplars of the series that satisfy any of the matcher sets, within the querier's bounds.
    fn exemplars(
        &self,
        ctx: &QueryContext,
        matcher_sets: &[Vec<Matcher>],
    ) -> Result<Vec<ExemplarSeries>, StorageError> {
        let _ = (ctx, matcher_sets);
        Ok(Vec::new())
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct ExemplarSeries {
    pub labels: Labels,
    pub exemplars: Vec<Exemplar>,
}

/// What the engine will do with the selection; storage may use it to read less.
#[derive(Clone, Debug, Default)]
pub struct SelectHints {
    /// Inclusive bounds this selector really needs, in ms.
    pub start_ms: i64,
    pub end_ms: i64,
    pub step_ms: i64,
    pub range_ms: i64,
    /// Name of the innermost function or aggregation around the selector, or "".
    pub function: String,
    pub grouping: Vec<String>,
    pub by: bool,
    /// Stop after so many series; 0 means all.
    pub limit: usize,
    /// Of each series only the newest sample of `start_ms..=end_ms` is wanted: an instant selector. Storage may leave out
    /// older ones.
    pub newest_only: bool,
    /// Samples before the bounds are no harm: storage that has some at hand need not cut them off.
    pub may_begin_earlier: bool,
    /// Only labels are wanted (the series endpoint): no chunk need be opened.
    pub series_only: bool,
    /// Where the store may leave what it found out about these matchers, for the next time they are asked.
    pub resolved: Option<Arc<Resolved>>,
}

impl SelectHints {
    /// What of a querier's inclusive bounds the selector needs. No bounds at all stand for those of the querier.
    pub fn within(&self, mint_ms: i64, maxt_ms: i64) -> (i64, i64) {
        match (self.start_ms, self.end_ms) {
            (0, 0) => (mint_ms, maxt_ms),
            (start, end) => (start.max(mint_ms), end.min(maxt_ms)),
        }
    }
}

#[derive(Clone, Debug, Default)]
pub struct LabelHints {
    /// 0 means all.
    pub limit: usize,
}

/// A stream of series. After the first error the set is exhausted.
pub trait SeriesSet: Send {
    fn next(&mut self) -> Option<Result<Series, StorageError>>;
    /// What was noticed so far; to be asked after the last `next`.
    fn annotations(&mut self) -> Annotations {
        Annotations::default()
    }
    /// The next `n` series or fewer, as a set that another thread may read at the same time. `None`: they can only be had
    /// one by one, or there are no more.
    fn split_off(&mut self, _n: usize) -> Option<Box<dyn SeriesSet>> {
        None
    }
}

/// One selected series: its labels as a view, and where its samples are.
pub struct Series {
    pub labels: Arc<dyn LabelView>,
    pub samples: Box<dyn SampleIter>,
}

/// Samples of one series in strictly increasing time, within the querier's bounds, a batch at a time.
pub trait SampleIter: Send {
    /// Clears `out` and fills it with the next samples (typically one chunk); `false` at the end. All samples of one
    /// batch have one kind, so a series that changes from floats to histograms yields several batches.
    fn next_batch(&mut self, out: &mut SampleBatch) -> Result<bool, StorageError>;
    /// No sample that is left is earlier than this, as far as can be told without reading; [`i64::MAX`] if none is left.
    fn next_ms(&self) -> Option<i64> {
        None
    }
    /// Lets the iterator skip whatever lies wholly before `t_ms`; later batches may still begin earlier.
    fn skip_to(&mut self, t_ms: i64) {
        let _ = t_ms;
    }
}

/// Columns of one batch. The reader owns and reuses the memory.
#[derive(Clone, Debug, Default)]
pub struct SampleBatch {
    pub t_ms: Vec<i64>,
    /// Start times, parallel to `t_ms`, or empty when the series has none.
    pub start_ms: Vec<i64>,
    pub values: Column,
}

/// The values of one batch, parallel to its times.
#[derive(Clone, Debug)]
pub enum Column {
    Floats(Vec<f64>),
    Histograms(Vec<Arc<FloatHistogram>>),
}

impl Default for Column {
    fn default() -> Self {
        Column::Floats(Vec::new())
    }
}

impl SampleBatch {
    pub fn len(&self) -> usize {
        self.t_ms.len()
    }
    pub fn is_empty(&self) -> bool {
        self.t_ms.is_empty()
    }
    pub fn clear(&mut self) {
        self.t_ms.clear();
        self.start_ms.clear();
        match &mut self.values {
            Column::Floats(v) => v.clear(),
            Column::Histograms(v) => v.clear(),
        }
    }
    /// The float column, emptied of anything else first: what a float chunk decodes into.
    pub fn floats_mut(&mut self) -> (&mut Vec<i64>, &mut Vec<f64>) {
        if !matches!(self.values, Column::Floats(_)) {
            self.clear();
            self.values = Column::Floats(Vec::new());
        }
        match &mut self.values {
            Column::Floats(v) => (&mut self.t_ms, v),
            Column::Histograms(_) => unreachable!("replaced above"),
        }
    }
    /// The histogram column, emptied of anything else first.
    pub fn histograms_mut(&mut self) -> (&mut Vec<i64>, &mut Vec<Arc<FloatHistogram>>) {
        if !matches!(self.values, Column::Histograms(_)) {
            self.clear();
            self.values = Column::Histograms(Vec::new());
        }
        match &mut self.values {
            Column::Histograms(v) => (&mut self.t_ms, v),
            Column::Floats(_) => unreachable!("replaced above"),
        }
    }
}
