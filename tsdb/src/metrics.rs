//! `prometheus_tsdb_*`: names, types and help of Prometheus 3.5, read from the head's and the log's own counters.
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use ferula_instrument::{Family, Metric, Registry};

use crate::db::{Counts as DbCounts, Db};
use crate::head::{Counts, Head};
use crate::wal::writer::Stats;

/// Registers functions that hold the store weakly: a registry may outlive it.
pub fn register(registry: &Registry, db: &Arc<Db>) {
    of_blocks(registry, db);
    let (head, wal) = (Arc::downgrade(&db.head), Arc::downgrade(&db.wal));
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
    gauge("head_chunks_storage_size_bytes", "Size of the chunks_head directory.", |h| {
        h.chunks.as_ref().map_or(0.0, |c| c.size_bytes() as f64)
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
        "head_out_of_order_samples_appended_total",
        "Total number of appended out of order samples.",
        |c| vec![("float", &c.out_of_order_appended)],
    );
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

fn of_blocks(registry: &Registry, db: &Arc<Db>) {
    let db = Arc::downgrade(db);
    let gauge = |name: &str, help: &str, f: fn(&Db) -> f64| {
        let db = Weak::clone(&db);
        registry.gauge_fn(&format!("prometheus_tsdb_{name}"), help, move || db.upgrade().map_or(0.0, |d| f(&d)));
    };
    gauge("blocks_loaded", "Number of currently loaded data blocks", |d| d.blocks().len() as f64);
    gauge(
        "storage_blocks_bytes",
        "The number of bytes that are currently used for local storage by all blocks.",
        |d| d.blocks().iter().map(|b| b.size_bytes).sum::<u64>() as f64,
    );
    gauge(
        "retention_limit_bytes",
        "Max number of bytes to be retained in the tsdb blocks, configured 0 means disabled",
        |d| d.limits.retention_size_bytes() as f64,
    );
    gauge("retention_limit_seconds", "How long to retain samples in storage.", |d| {
        (d.limits.retention_ms() / 1000) as f64
    });
    gauge(
        "lowest_timestamp",
        "Lowest timestamp value stored in the database. The unit is decided by the library consumer.",
        |d| d.min_time().unwrap_or(0) as f64,
    );
    gauge("lowest_timestamp_seconds", "Lowest timestamp value stored in the database.", |d| {
        (d.min_time().unwrap_or(0) / 1000) as f64
    });
    gauge(
        "clean_start",
        "-1: lockfile is disabled. 0: a lockfile from a previous execution was replaced. 1: lockfile creation was clean",
        |_| 1.0,
    );
    let counter = |name: &str, help: &str, f: fn(&DbCounts) -> &AtomicU64| {
        let db = Weak::clone(&db);
        registry.counter_fn(&format!("prometheus_tsdb_{name}"), help, move || {
            db.upgrade().map_or(0.0, |d| f(&d.counts).load(Ordering::Relaxed) as f64)
        });
    };
    counter("compactions_total", "Total number of compactions that were executed for the partition.", |c| {
        &c.compactions
    });
    counter("compactions_triggered_total", "Total number of triggered compactions for the partition.", |c| {
        &c.compactions_triggered
    });
    counter("compactions_failed_total", "Total number of compactions that failed for the partition.", |c| {
        &c.compactions_failed
    });
    counter("checkpoint_creations_total", "Total number of checkpoint creations attempted.", |c| &c.checkpoints);
    counter("checkpoint_creations_failed_total", "Total number of checkpoint creations that failed.", |c| {
        &c.checkpoints_failed
    });
    counter("wal_truncations_total", "Total number of write log truncations attempted.", |c| &c.wal_truncations);
    counter("wal_corruptions_total", "Total number of WAL corruptions.", |c| &c.wal_corruptions);
    counter(
        "time_retentions_total",
        "The number of times that blocks were deleted because the maximum time limit was exceeded.",
        |c| &c.time_retentions,
    );
    counter(
        "size_retentions_total",
        "The number of times that blocks were deleted because the maximum number of bytes was exceeded.",
        |c| &c.size_retentions,
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
