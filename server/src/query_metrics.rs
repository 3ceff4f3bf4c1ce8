//! `prometheus_engine_*`: what queries cost, for the dashboards that know these names.
use std::time::Duration;

use ferula_instrument::{Counter, Gauge, Registry, SummaryVec};
use ferula_promql_engine::SampleStats;

/// How long the phases of a query took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timings {
    /// In line for a thread, and for a turn to compute.
    pub queued: Duration,
    /// Parsing.
    pub prepared: Duration,
    pub evaluated: Duration,
}

pub(crate) struct QueryMetrics {
    running: Gauge,
    samples: Counter,
    samples_read: Counter,
    duration: SummaryVec,
}

/// Counts a query, waiting or running, while it lives.
pub(crate) struct Running(Gauge);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl QueryMetrics {
    pub(crate) fn new(concurrency: usize, registry: &Registry) -> QueryMetrics {
        let max = registry.gauge("prometheus_engine_queries_concurrent_max", "The max number of concurrent queries.");
        max.set(concurrency as f64);
        QueryMetrics {
            running: registry
                .gauge("prometheus_engine_queries", "The current number of queries being executed or waiting."),
            samples: registry
                .counter("prometheus_engine_query_samples_total", "The total number of samples loaded by all queries."),
            samples_read: registry.counter(
                "prometheus_engine_query_samples_read_total",
                "The total number of samples read by all queries.",
            ),
            duration: registry.summary_vec(
                "prometheus_engine_query_duration_seconds",
                "Query timings",
                &["slice"],
                &[0.5, 0.9, 0.99],
            ),
        }
    }

    pub(crate) fn running(&self) -> Running {
        self.running.inc();
        Running(self.running.clone())
    }

    pub(crate) fn observe(&self, timings: Timings, samples: &SampleStats) {
        self.samples.add(samples.total_queryable as f64);
        self.samples_read.add(samples.read as f64);
        for (slice, took) in [
            ("queue_time", timings.queued),
            ("prepare_time", timings.prepared),
            ("inner_eval", timings.evaluated),
            ("result_sort", Duration::ZERO),
        ] {
            self.duration.with(&[slice]).observe(took.as_secs_f64());
        }
    }
}
