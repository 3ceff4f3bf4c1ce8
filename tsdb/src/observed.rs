//! How long maintenance takes and what it makes: the store's histograms and summaries.
//!
//! They exist once the metrics are registered; without a registry nothing is observed. Bounds and names are those of
//! Prometheus 3.5.
use std::time::Instant;

use ferula_instrument::{Gauge, Histogram, Registry, Summary};

#[derive(Clone, Debug)]
pub struct Observed {
    pub head_gc: Summary,
    pub wal_truncation: Summary,
    pub compaction: Histogram,
    pub tombstone_cleanup: Histogram,
    /// Of chunks of the head on their way into a block.
    pub chunk_range_ms: Histogram,
    pub chunk_samples: Histogram,
    pub chunk_bytes: Histogram,
    /// How much older than the head's newest a late sample was.
    pub late_by_seconds: Histogram,
    pub writing_block: Gauge,
}

impl Observed {
    pub fn new(registry: &Registry) -> Observed {
        let exponential = |start: f64, factor: f64, n: i32| (0..n).map(|i| start * factor.powi(i)).collect::<Vec<_>>();
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            registry.histogram(&format!("prometheus_tsdb_{name}"), help, buckets)
        };
        let summary = |name: &str, help: &str| registry.summary(&format!("prometheus_tsdb_{name}"), help, &[]);
        Observed {
            head_gc: summary("head_gc_duration_seconds", "Runtime of garbage collection in the head block."),
            wal_truncation: summary("wal_truncate_duration_seconds", "Duration of WAL truncation."),
            compaction: histogram(
                "compaction_duration_seconds",
                "Duration of compaction runs",
                &exponential(1.0, 2.0, 14),
            ),
            tombstone_cleanup: histogram(
                "tombstone_cleanup_seconds",
                "The time taken to recompact blocks to remove tombstones.",
                &[],
            ),
            chunk_range_ms: histogram(
                "compaction_chunk_range_seconds",
                "Final time range of chunks on their first compaction",
                &exponential(100.0, 4.0, 10),
            ),
            chunk_samples: histogram(
                "compaction_chunk_samples",
                "Final number of samples on their first compaction",
                &exponential(4.0, 1.5, 12),
            ),
            chunk_bytes: histogram(
                "compaction_chunk_size_bytes",
                "Final size of chunks on their first compaction",
                &exponential(32.0, 1.5, 12),
            ),
            late_by_seconds: histogram(
                "sample_ooo_delta",
                "Delta in seconds by which a sample is considered out of order (reported regardless of OOO time window and whether sample is accepted or not).",
                &[600.0, 1800.0, 3600.0, 7200.0, 10800.0, 21600.0, 43200.0],
            ),
            writing_block: registry.gauge(
                "prometheus_tsdb_compaction_populating_block",
                "Set to 1 when a block is currently being written to the disk.",
            ),
        }
    }
}

/// Says that a block is being written, and how long it took, when it is dropped.
pub struct Compacting<'a>(Option<(&'a Observed, Instant)>);

impl<'a> Compacting<'a> {
    pub fn begin(observed: Option<&'a Observed>) -> Compacting<'a> {
        observed.inspect(|o| o.writing_block.set(1.0));
        Compacting(observed.map(|o| (o, Instant::now())))
    }
}

impl Drop for Compacting<'_> {
    fn drop(&mut self) {
        if let Some((observed, began)) = self.0 {
            observed.writing_block.set(0.0);
            observed.compaction.observe_duration(began.elapsed());
        }
    }
}
