//! `prometheus_tsdb_*`: names, types and help of Prometheus 3.5, read from the head's and the log's own counters.
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use ferula_instrument::{Family, Metric, Registry};

use crate::head::{Counts, Head};
use crate::wal::Wal;
use crate::wal::writer::Stats;

/// Registers functions that hold the store weakly: a registry may outlive it.
pub fn register(registry: &Registry, head: &Arc<Head>, wal: &Arc<Wal>) {
    let head = Arc::downgrade(head);
    let gauge = |name: &str, help: &str, f: fn(&Head) -> f64| {
        let head = Weak::clone(&head);
        registry.gauge_fn(&format!("prometheus_tsdb_{name}"), help, move || head.upgrade().map_or(0.0, |h| f(&h)));
    };
    gauge("head_series", "Total number of series in the head block.", |h| h.series_count() as f64);
    gauge("head_chunks", "Total number of chunks in the head block.", |h| h.chunk_count() as f64);
    gauge("head_min_time", "Minimum time bound of the head block. The unit is decided by the library consumer.", |h| {
        h.min_time() as f64
    });
    gauge("head_max_time", "Maximum timestamp of the head block. The unit is decided by the library consumer.", |h| {
        h.max_time() as f64
    });
    gauge("head_min_time_seconds", "Minimum time bound of the head block.", |h| (h.min_time() / 1000) as f64);
    gauge("head_max_time_seconds", "Maximum timestamp of the head block.", |h| (h.max_time() / 1000) as f64);
    gauge("head_active_appenders", "Number of currently active appender transactions", |h| {
        h.counts.appenders.load(Ordering::Relaxed) as f64
    });
    gauge("isolation_low_watermark", "The lowest TSDB append ID that is still referenced.", |h| {
        h.isolation.low_watermark() as f64
    });
    gauge("exemplar_exemplars_in_storage", "Number of exemplars currently in circular storage.", |h| {
        h.exemplars().len() as f64
    });
    gauge("exemplar_max_exemplars", "Total number of exemplars the exemplar storage can store, resizeable.", |h| {
        h.exemplars().capacity() as f64
    });
    gauge("symbol_table_size_bytes", "Size of symbol table in memory for loaded blocks", |_| 0.0);

    let counter = |name: &str, help: &str, f: fn(&Counts) -> &AtomicU64| {
        let head = Weak::clone(&head);
        registry.counter_fn(&format!("prometheus_tsdb_{name}"), help, move || {
            head.upgrade().map_or(0.0, |h| f(&h.counts).load(Ordering::Relaxed) as f64)
        });
    };
    counter("head_series_created_total", "Total number of series created in the head", |c| &c.series_created);
    counter("head_series_removed_total", "Total number of series removed in the head", |c| &c.series_removed);
    counter("head_chunks_created_total", "Total number of chunks created in the head", |c| &c.chunks_created);
    counter("head_chunks_removed_total", "Total number of chunks removed in the head", |c| &c.chunks_removed);
    counter("head_truncations_total", "Total number of head truncations attempted.", |c| &c.truncations);
    counter("exemplar_exemplars_appended_total", "Total number of appended exemplars.", |c| &c.exemplars_appended);
    counter(
        "exemplar_out_of_order_exemplars_total",
        "Total number of out of order exemplar ingestion failed attempts.",
        |c| &c.exemplars_out_of_order,
    );

    by_type(registry, &head, "head_samples_appended_total", "Total number of appended samples.", |c| {
        vec![("float", &c.floats_appended), ("histogram", &c.histograms_appended)]
    });
    by_type(
        registry,
        &head,
        "out_of_order_samples_total",
        "Total number of out of order samples ingestion failed attempts due to out of order being disabled.",
        |c| vec![("float", &c.out_of_order)],
    );
    by_type(
        registry,
        &head,
        "out_of_bound_samples_total",
        "Total number of out of bound samples ingestion failed attempts with out of order support disabled.",
        |c| vec![("float", &c.out_of_bounds)],
    );
    by_type(
        registry,
        &head,
        "too_old_samples_total",
        "Total number of out of order samples ingestion failed attempts with out of support enabled, but sample outside of time window.",
        |c| vec![("float", &c.too_old)],
    );

    let wal = Arc::downgrade(wal);
    let of_wal = |name: &str, help: &str, f: fn(&Stats) -> &AtomicU64| {
        let wal = Weak::clone(&wal);
        registry.counter_fn(&format!("prometheus_tsdb_{name}"), help, move || {
            wal.upgrade().map_or(0.0, |w| f(&w.stats).load(Ordering::Relaxed) as f64)
        });
    };
    of_wal("wal_writes_failed_total", "Total number of write log writes that failed.", |s| &s.writes_failed);
    of_wal("wal_record_bytes_saved_total", "Total number of bytes saved by the optional record compression.", |s| {
        &s.bytes_saved
    });
    let segment = Weak::clone(&wal);
    registry.gauge_fn(
        "prometheus_tsdb_wal_segment_current",
        "Write log segment index that TSDB is currently writing to.",
        move || segment.upgrade().map_or(0.0, |w| w.position().segment as f64),
    );
}

fn by_type(
    registry: &Registry,
    head: &Weak<Head>,
    name: &str,
    help: &str,
    counts: fn(&Counts) -> Vec<(&'static str, &AtomicU64)>,
) {
    let (head, name, help) = (Weak::clone(head), format!("prometheus_tsdb_{name}"), help.to_owned());
    registry.named_collector(&name.clone(), move |out| {
        let Some(h) = head.upgrade() else { return };
        let mut family = Family::counter(name.clone(), help.clone());
        for (kind, count) in counts(&h.counts) {
            let value = count.load(Ordering::Relaxed) as f64;
            family.metrics.push(Metric::number(vec![("type".into(), kind.into())], value));
        }
        out.push(family);
    });
}
