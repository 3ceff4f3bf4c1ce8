//! Counters and gauges: f64 values in atomics.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// An f64 that threads add to.
#[derive(Debug, Default)]
pub(crate) struct AtomicF64(AtomicU64);

impl AtomicF64 {
    pub(crate) fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
    pub(crate) fn set(&self, v: f64) {
        self.0.store(v.to_bits(), Ordering::Relaxed);
    }
    pub(crate) fn add(&self, v: f64) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |b| Some((f64::from_bits(b) + v).to_bits()));
    }
}

/// Only goes up. Clones share the value.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<CounterCore>);

/// Whole increments and the rest apart, so that the common `inc` never retries.
#[derive(Debug, Default)]
struct CounterCore {
    whole: AtomicU64,
    rest: AtomicF64,
}

impl Counter {
    pub fn inc(&self) {
        self.0.whole.fetch_add(1, Ordering::Relaxed);
    }
    pub fn inc_by(&self, n: u64) {
        self.0.whole.fetch_add(n, Ordering::Relaxed);
    }
    /// Negative and NaN amounts are ignored: a counter never goes down.
    pub fn add(&self, v: f64) {
        if v > 0.0 {
            self.0.rest.add(v);
        }
    }
    pub fn get(&self) -> f64 {
        self.0.whole.load(Ordering::Relaxed) as f64 + self.0.rest.get()
    }
}

/// Goes up and down. Clones share the value.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<AtomicF64>);

impl Gauge {
    pub fn set(&self, v: f64) {
        self.0.set(v);
    }
    pub fn add(&self, v: f64) {
        self.0.add(v);
    }
    pub fn sub(&self, v: f64) {
        self.0.add(-v);
    }
    pub fn inc(&self) {
        self.0.add(1.0);
    }
    pub fn dec(&self) {
        self.0.add(-1.0);
    }
    pub fn get(&self) -> f64 {
        self.0.get()
    }
}
