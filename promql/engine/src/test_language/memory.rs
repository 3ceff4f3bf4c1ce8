//! A store in memory, for tests: series in label order, samples in time order, no limits.
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferula_model::{CounterResetHint, FloatHistogram, Labels, Matcher, SeriesRef, Value};
use ferula_storage::{
    Annotations, AppendError, AppendOptions, Appendable, Appender, CommitStats, Durability, LabelHints, Querier,
    QueryContext, Queryable, SampleBatch, SampleIter, SelectHints, Series, SeriesSet, StorageError,
};

#[derive(Clone)]
enum Stored {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

type SampleMap = BTreeMap<i64, (i64, Stored)>;

/// Samples by series. Every append is visible at once; later appends at the same time win.
#[derive(Clone, Default)]
pub struct MemoryStore {
    series: Arc<Mutex<BTreeMap<Labels, SampleMap>>>,
}

impl MemoryStore {
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Labels, SampleMap>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Appendable for MemoryStore {
    fn appender(&self) -> Box<dyn Appender> {
        Box::new(MemoryAppender { store: self.clone(), stats: CommitStats::default() })
    }
}

struct MemoryAppender {
    store: MemoryStore,
    stats: CommitStats,
}

impl Appender for MemoryAppender {
    fn append(
        &mut self,
        _series: SeriesRef,
        labels: Option<&Labels>,
        start_ms: i64,
        t_ms: i64,
        value: Value<'_>,
        _options: &AppendOptions<'_>,
    ) -> Result<SeriesRef, AppendError> {
        let labels = labels.ok_or(AppendError::UnknownSeries)?;
        let stored = match value {
            Value::Float(v) => Stored::Float(v),
            Value::Histogram(h) => Stored::Histogram(Arc::new(h.to_float())),
            Value::FloatHistogram(h) => Stored::Histogram(Arc::new(h.clone())),
        };
        self.stats.floats += 1;
        self.store.lock().entry(labels.clone()).or_default().insert(t_ms, (start_ms, stored));
        Ok(SeriesRef::NONE)
    }
    fn commit(self: Box<Self>, _durability: Durability) -> Result<CommitStats, StorageError> {
        Ok(self.stats)
    }
    fn rollback(self: Box<Self>) {}
}

impl Queryable for MemoryStore {
    fn querier(&self, mint_ms: i64, maxt_ms: i64) -> Result<Box<dyn Querier>, StorageError> {
        Ok(Box::new(MemoryQuerier { series: Arc::clone(&self.series), mint_ms, maxt_ms }))
    }
}

struct MemoryQuerier {
    series: Arc<Mutex<BTreeMap<Labels, SampleMap>>>,
    mint_ms: i64,
    maxt_ms: i64,
}

impl MemoryQuerier {
    fn matching(&self, matchers: &[Matcher]) -> Vec<Labels> {
        let all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |l: &&Labels| matchers.iter().all(|m| m.matches(l.get(&m.name).unwrap_or("")));
        all.keys().filter(fits).cloned().collect()
    }
}

impl Querier for MemoryQuerier {
    fn select(
        &self,
        _ctx: &QueryContext,
        _sorted: bool,
        _hints: &SelectHints,
        matchers: &[Matcher],
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        let all = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |l: &Labels| matchers.iter().all(|m| m.matches(l.get(&m.name).unwrap_or("")));
        let found = all.iter().filter(|(l, _)| fits(l)).map(|(l, samples)| {
            let samples = samples.range(self.mint_ms..=self.maxt_ms.max(self.mint_ms));
            let mut samples: Vec<_> = samples.map(|(t, (st, v))| (*t, *st, v.clone())).collect();
            hint(&mut samples);
            (l.clone(), samples)
        });
        let found: Vec<_> = found.filter(|(_, s)| !s.is_empty()).collect();
        Ok(Box::new(MemorySet(found.into_iter())))
    }

    fn label_values(
        &self,
        _ctx: &QueryContext,
        name: &str,
        _hints: &LabelHints,
        matchers: &[Matcher],
    ) -> Result<(Vec<String>, Annotations), StorageError> {
        let mut values: Vec<String> =
            self.matching(matchers).iter().filter_map(|l| l.get(name).map(str::to_owned)).collect();
        values.sort();
        values.dedup();
        Ok((values, Annotations::default()))
    }

    fn label_names(
        &self,
        _ctx: &QueryContext,
        _hints: &LabelHints,
        matchers: &[Matcher],
    ) -> Result<(Vec<String>, Annotations), StorageError> {
        let found = self.matching(matchers);
        let mut names: Vec<String> = found.iter().flat_map(|l| l.iter().map(|(n, _)| n.to_owned())).collect();
        names.sort();
        names.dedup();
        Ok((names, Annotations::default()))
    }
}

/// Counter-reset hints as a store gives them: "no reset" within a chunk, unknown where a chunk begins.
fn hint(samples: &mut [(i64, i64, Stored)]) {
    let mut previous: Option<Arc<FloatHistogram>> = None;
    for (_, _, v) in samples {
        let Stored::Histogram(h) = v else {
            previous = None;
            continue;
        };
        let written = Arc::clone(h);
        if written.counter_reset_hint != CounterResetHint::Gauge {
            let continues = previous.as_ref().is_some_and(|p| {
                p.counter_reset_hint != CounterResetHint::Gauge && !p.is_stale() && !written.detect_reset(p)
            });
            let hint = if continues { CounterResetHint::NotCounterReset } else { CounterResetHint::Unknown };
            Arc::make_mut(h).counter_reset_hint = hint;
        }
        previous = Some(written);
    }
}

type Found = (Labels, Vec<(i64, i64, Stored)>);

struct MemorySet(std::vec::IntoIter<Found>);

impl SeriesSet for MemorySet {
    fn next(&mut self) -> Option<Result<Series, StorageError>> {
        let (labels, samples) = self.0.next()?;
        Some(Ok(Series { labels: Arc::new(labels), samples: Box::new(MemoryIter(samples.into_iter().peekable())) }))
    }
}

struct MemoryIter(std::iter::Peekable<std::vec::IntoIter<(i64, i64, Stored)>>);

/// Small, so that tests cross batch borders.
const BATCH: usize = 50;

impl SampleIter for MemoryIter {
    fn next_batch(&mut self, out: &mut SampleBatch) -> Result<bool, StorageError> {
        out.clear();
        let is_float = match self.0.peek() {
            None => return Ok(false),
            Some((_, _, v)) => matches!(v, Stored::Float(_)),
        };
        let same = |s: &(i64, i64, Stored)| matches!(s.2, Stored::Float(_)) == is_float;
        for _ in 0..BATCH {
            let Some((t, start, v)) = self.0.next_if(same) else { break };
            match v {
                Stored::Float(v) => {
                    let (times, values) = out.floats_mut();
                    times.push(t);
                    values.push(v);
                }
                Stored::Histogram(h) => {
                    let (times, values) = out.histograms_mut();
                    times.push(t);
                    values.push(h);
                }
            }
            out.start_ms.push(start);
        }
        Ok(true)
    }
}
