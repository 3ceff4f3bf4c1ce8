//! Classic histograms with fixed bucket boundaries.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ferula_exposition::family;

use crate::scalar::AtomicF64;

/// Clones share the counts.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Core>);

#[derive(Debug)]
struct Core {
    /// Ascending upper bounds, inclusive, without `+Inf`.
    bounds: Box<[f64]>,
    /// Per bucket, not cumulative; one more than `bounds`.
    counts: Box<[AtomicU64]>,
    sum: AtomicF64,
}

impl Histogram {
    /// `bounds` may come in any order; duplicates, NaN and `+Inf` are dropped.
    pub(crate) fn new(bounds: &[f64]) -> Histogram {
        let mut bounds: Vec<f64> = bounds.iter().copied().filter(|b| !b.is_nan() && *b != f64::INFINITY).collect();
        bounds.sort_by(f64::total_cmp);
        bounds.dedup();
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram(Arc::new(Core { bounds: bounds.into(), counts, sum: AtomicF64::default() }))
    }

    /// NaN falls into the last bucket, as upstream counts it.
    pub fn observe(&self, v: f64) {
        let i = if v.is_nan() { self.0.bounds.len() } else { self.0.bounds.partition_point(|b| *b < v) };
        if let Some(count) = self.0.counts.get(i) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.0.sum.add(v);
    }

    /// Seconds.
    pub fn observe_duration(&self, d: Duration) {
        self.observe(d.as_secs_f64());
    }

    pub fn count(&self) -> u64 {
        self.0.counts.iter().map(|c| c.load(Ordering::Relaxed)).sum()
    }

    pub fn sum(&self) -> f64 {
        self.0.sum.get()
    }

    pub(crate) fn snapshot(&self) -> family::Histogram {
        let mut cumulative = 0u64;
        let mut buckets = Vec::with_capacity(self.0.bounds.len());
        for (bound, count) in self.0.bounds.iter().zip(&self.0.counts) {
            cumulative += count.load(Ordering::Relaxed);
            buckets.push(family::Bucket { upper_bound: *bound, cumulative_count: cumulative as f64, exemplar: None });
        }
        cumulative += self.0.counts.last().map_or(0, |c| c.load(Ordering::Relaxed));
        family::Histogram { count: cumulative as f64, sum: self.sum(), buckets, native: None }
    }
}

/// `count` bounds: `start`, `start * factor`, ...
pub fn exponential_buckets(start: f64, factor: f64, count: usize) -> Vec<f64> {
    std::iter::successors(Some(start), |b| Some(b * factor)).take(count).collect()
}

/// `count` bounds: `start`, `start + width`, ...
pub fn linear_buckets(start: f64, width: f64, count: usize) -> Vec<f64> {
    std::iter::successors(Some(start), |b| Some(b + width)).take(count).collect()
}
