//! Labelled families: children found by their label values, in bounded number.
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use ferula_exposition::family::{Metric, MetricValue, Text};

use crate::{Counter, Gauge, Histogram, Summary};

/// Children of one vector; what comes later shares the child `other`.
pub const CHILDREN_MAX: usize = 10_000;

pub type CounterVec = Vector<Counter>;
pub type GaugeVec = Vector<Gauge>;
pub type HistogramVec = Vector<Histogram>;
pub type SummaryVec = Vector<Summary>;

/// What a vector can hold.
pub trait Instrument: Clone + Send + Sync + 'static {
    fn value(&self) -> MetricValue;
}

impl Instrument for Counter {
    fn value(&self) -> MetricValue {
        MetricValue::Number(self.get())
    }
}
impl Instrument for Gauge {
    fn value(&self) -> MetricValue {
        MetricValue::Number(self.get())
    }
}
impl Instrument for Histogram {
    fn value(&self) -> MetricValue {
        MetricValue::Histogram(self.snapshot())
    }
}
impl Instrument for Summary {
    fn value(&self) -> MetricValue {
        MetricValue::Summary(self.snapshot())
    }
}

/// Clones share the children.
pub struct Vector<T>(Arc<Core<T>>);

impl<T> Clone for Vector<T> {
    fn clone(&self) -> Self {
        Vector(Arc::clone(&self.0))
    }
}

impl<T> std::fmt::Debug for Vector<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vector({})", self.0.names.join(","))
    }
}

struct Core<T> {
    names: Box<[String]>,
    new: Box<dyn Fn() -> T + Send + Sync>,
    children: RwLock<HashMap<Box<str>, Child<T>>>,
}

struct Child<T> {
    labels: Vec<(Text, Text)>,
    metric: T,
}

impl<T: Instrument> Vector<T> {
    pub(crate) fn new(names: &[&str], new: impl Fn() -> T + Send + Sync + 'static) -> Vector<T> {
        Vector(Arc::new(Core {
            names: names.iter().map(|n| (*n).to_owned()).collect(),
            new: Box::new(new),
            children: RwLock::default(),
        }))
    }

    pub(crate) fn label_names(&self) -> &[String] {
        &self.0.names
    }

    /// The child with these label values, in the order of the label names; missing values count as empty, surplus ones
    /// are ignored. Takes a read lock and one allocation: keep the child where events are frequent.
    pub fn with(&self, values: &[&str]) -> T {
        debug_assert_eq!(values.len(), self.0.names.len(), "label values for {:?}", self.0.names);
        let key = key(values);
        if let Some(child) = self.0.children.read().unwrap_or_else(PoisonError::into_inner).get(key.as_str()) {
            return child.metric.clone();
        }
        let mut children = self.0.children.write().unwrap_or_else(PoisonError::into_inner);
        if children.len() >= CHILDREN_MAX && !children.contains_key(key.as_str()) {
            let other = vec!["other"; self.0.names.len()];
            return self.insert(&mut children, self::key(&other), &other);
        }
        self.insert(&mut children, key, values)
    }

    fn insert(&self, children: &mut HashMap<Box<str>, Child<T>>, key: String, values: &[&str]) -> T {
        let child = children.entry(key.into_boxed_str()).or_insert_with(|| {
            let mut labels: Vec<(Text, Text)> = Vec::with_capacity(self.0.names.len());
            for (i, name) in self.0.names.iter().enumerate() {
                let value = values.get(i).copied().unwrap_or("");
                labels.push((name.clone().into(), value.to_owned().into()));
            }
            labels.sort();
            Child { labels, metric: (self.0.new)() }
        });
        child.metric.clone()
    }

    /// Takes a child off the page, for instance when its scrape pool is gone. Holders of it may go on counting unseen.
    pub fn remove(&self, values: &[&str]) -> bool {
        self.0.children.write().unwrap_or_else(PoisonError::into_inner).remove(key(values).as_str()).is_some()
    }

    /// Takes all children off the page.
    pub fn reset(&self) {
        self.0.children.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn metrics(&self) -> Vec<Metric> {
        // Snapshots of summaries take locks and sort: not under ours.
        let children: Vec<(Vec<(Text, Text)>, T)> = {
            let map = self.0.children.read().unwrap_or_else(PoisonError::into_inner);
            map.values().map(|c| (c.labels.clone(), c.metric.clone())).collect()
        };
        children.into_iter().map(|(labels, metric)| Metric::new(labels, metric.value())).collect()
    }
}

/// Values joined by a character that stands in no name of ours; a clash would only join two children.
fn key(values: &[&str]) -> String {
    values.join("\u{1f}")
}
