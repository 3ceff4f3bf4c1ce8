//! The registry: names to metrics, and how they become a page.
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use ferula_exposition::family::{Family, Metric, Text, sort_and_merge};
use ferula_model::{Clock, MetricType, SystemClock};

use crate::vector::{Instrument, Vector};
use crate::{Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramVec, Summary, SummaryVec};

/// Clones share everything. One per role: the all-in-one process has several.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Clock>,
    entries: RwLock<BTreeMap<String, Entry>>,
    collectors: RwLock<Vec<(String, Collect)>>,
}

type Collect = Arc<dyn Fn(&mut Vec<Family>) + Send + Sync>;

#[derive(Clone)]
struct Entry {
    help: Text,
    source: Source,
}

#[derive(Clone)]
enum Source {
    Counter(CounterVec),
    Gauge(GaugeVec),
    Histogram(HistogramVec),
    Summary(SummaryVec),
    Function(MetricType, Vec<(Text, Text)>, Arc<dyn Fn() -> f64 + Send + Sync>),
}

/// Takes its own kind of vector out of a [`Source`] and puts it in.
trait Kind: Instrument {
    fn into_source(vector: Vector<Self>) -> Source;
    fn from_source(source: &Source) -> Option<&Vector<Self>>;
}

macro_rules! kind {
    ($type:ty, $variant:ident) => {
        impl Kind for $type {
            fn into_source(vector: Vector<Self>) -> Source {
                Source::$variant(vector)
            }
            fn from_source(source: &Source) -> Option<&Vector<Self>> {
                match source {
                    Source::$variant(v) => Some(v),
                    _ => None,
                }
            }
        }
    };
}
kind!(Counter, Counter);
kind!(Gauge, Gauge);
kind!(Histogram, Histogram);
kind!(Summary, Summary);

impl Default for Registry {
    fn default() -> Self {
        Registry::new()
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Registry({} metrics)", self.0.entries.read().unwrap_or_else(PoisonError::into_inner).len())
    }
}

impl Registry {
    pub fn new() -> Registry {
        Registry::with_clock(Arc::new(SystemClock))
    }

    /// The clock turns the window of the summaries.
    pub fn with_clock(clock: Arc<dyn Clock>) -> Registry {
        Registry(Arc::new(Inner { clock, entries: RwLock::default(), collectors: RwLock::default() }))
    }

    fn vector<T: Kind>(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        new: impl Fn() -> T + Send + Sync + 'static,
    ) -> Vector<T> {
        let mut entries = self.0.entries.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get(name) {
            match T::from_source(&entry.source) {
                Some(v) if v.label_names().iter().map(String::as_str).eq(labels.iter().copied()) => return v.clone(),
                _ => {
                    debug_assert!(false, "metric {name} is registered already, with another type or other labels");
                    return Vector::new(labels, new);
                }
            }
        }
        let vector = Vector::new(labels, new);
        let entry = Entry { help: help.to_owned().into(), source: T::into_source(vector.clone()) };
        entries.insert(name.to_owned(), entry);
        vector
    }

    pub fn counter(&self, name: &str, help: &str) -> Counter {
        self.counter_vec(name, help, &[]).with(&[])
    }
    pub fn counter_vec(&self, name: &str, help: &str, labels: &[&str]) -> CounterVec {
        self.vector(name, help, labels, Counter::default)
    }
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.gauge_vec(name, help, &[]).with(&[])
    }
    pub fn gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.vector(name, help, labels, Gauge::default)
    }
    /// `quantiles` between 0 and 1, tolerating a rank error of a tenth of the distance to the nearer end; none gives
    /// count and sum only.
    pub fn summary(&self, name: &str, help: &str, quantiles: &[f64]) -> Summary {
        self.summary_vec(name, help, &[], quantiles).with(&[])
    }
    pub fn summary_vec(&self, name: &str, help: &str, labels: &[&str], quantiles: &[f64]) -> SummaryVec {
        let (quantiles, clock) = (quantiles.to_vec(), Arc::clone(&self.0.clock));
        self.vector(name, help, labels, move || Summary::new(&quantiles, Arc::clone(&clock)))
    }
    /// `buckets` are upper bounds; `+Inf` is implied.
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        self.histogram_vec(name, help, &[], buckets).with(&[])
    }
    pub fn histogram_vec(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        let buckets = buckets.to_vec();
        self.vector(name, help, labels, move || Histogram::new(&buckets))
    }

    /// Asked at every gather. Registered again, the new function replaces the old one.
    pub fn gauge_fn(&self, name: &str, help: &str, f: impl Fn() -> f64 + Send + Sync + 'static) {
        self.function(name, help, MetricType::Gauge, &[], Arc::new(f));
    }
    /// As [`Registry::gauge_fn`], for something that only goes up.
    pub fn counter_fn(&self, name: &str, help: &str, f: impl Fn() -> f64 + Send + Sync + 'static) {
        self.function(name, help, MetricType::Counter, &[], Arc::new(f));
    }
    /// A gauge that is always 1 and carries facts as labels.
    pub fn info(&self, name: &str, help: &str, labels: &[(&str, &str)]) {
        self.function(name, help, MetricType::Gauge, labels, Arc::new(|| 1.0));
    }

    fn function(
        &self,
        name: &str,
        help: &str,
        metric_type: MetricType,
        labels: &[(&str, &str)],
        f: Arc<dyn Fn() -> f64 + Send + Sync>,
    ) {
        let mut labels: Vec<(Text, Text)> =
            labels.iter().map(|(n, v)| ((*n).to_owned().into(), (*v).to_owned().into())).collect();
        labels.sort();
        let source = Source::Function(metric_type, labels, f);
        let entry = Entry { help: help.to_owned().into(), source };
        self.0.entries.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), entry);
    }

    /// Adds whole families at every gather, for what is cheaper to list than to keep counted.
    pub fn collector(&self, f: impl Fn(&mut Vec<Family>) + Send + Sync + 'static) {
        self.0.collectors.write().unwrap_or_else(PoisonError::into_inner).push((String::new(), Arc::new(f)));
    }

    /// As [`Registry::collector`]; a collector registered under the same key is replaced.
    pub fn named_collector(&self, key: &str, f: impl Fn(&mut Vec<Family>) + Send + Sync + 'static) {
        let mut collectors = self.0.collectors.write().unwrap_or_else(PoisonError::into_inner);
        collectors.retain(|(k, _)| k != key);
        collectors.push((key.to_owned(), Arc::new(f)));
    }

    /// Takes a metric or a named collector off the page.
    pub fn remove(&self, name: &str) {
        self.0.entries.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        self.0.collectors.write().unwrap_or_else(PoisonError::into_inner).retain(|(k, _)| k.is_empty() || k != name);
    }

    /// Everything, families sorted by name and metrics by label values. No lock of ours is held while functions and
    /// collectors run.
    pub fn gather(&self) -> Vec<Family> {
        let entries: Vec<(String, Entry)> = {
            let map = self.0.entries.read().unwrap_or_else(PoisonError::into_inner);
            map.iter().map(|(n, e)| (n.clone(), e.clone())).collect()
        };
        let collectors: Vec<Collect> = {
            let list = self.0.collectors.read().unwrap_or_else(PoisonError::into_inner);
            list.iter().map(|(_, c)| Arc::clone(c)).collect()
        };
        let mut families: Vec<Family> = Vec::with_capacity(entries.len());
        for (name, entry) in entries {
            let (metric_type, metrics) = entry.source.gather();
            families.push(Family { metrics, ..Family::new(name, entry.help, metric_type) });
        }
        for collect in collectors {
            collect(&mut families);
        }
        sort_and_merge(families)
    }
}

impl Source {
    fn gather(&self) -> (MetricType, Vec<Metric>) {
        match self {
            Source::Counter(v) => (MetricType::Counter, v.metrics()),
            Source::Gauge(v) => (MetricType::Gauge, v.metrics()),
            Source::Histogram(v) => (MetricType::Histogram, v.metrics()),
            Source::Summary(v) => (MetricType::Summary, v.metrics()),
            Source::Function(t, labels, f) => (*t, vec![Metric::number(labels.clone(), f())]),
        }
    }
}
