//! `prometheus_tsdb_*`: names, types and help of Prometheus 3.5, read from the head's and the log's own counters.
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use ferula_fs::Fs;
use ferula_instrument::{Family, Metric, Registry};

use crate::db::{Counts as DbCounts, Db};
use crate::head::{Counts, Head};
use crate::observed::Observed;
use crate::wal::writer::Stats;

/// Registers functions that hold the store weakly: a registry may outlive it.
pub fn register(registry: &Registry, db: &Arc<Db>) {
    of_blocks(registry, db);
    let _ = db.head.observed.set(Observed::new(registry));
    let fsync = "prometheus_tsdb_wal_fsync_duration_seconds";
    let fsync = registry.summary(fsync, "Duration of write log fsync.", &[0.5, 0.9, 0.99]);
    let _ = db.wal.stats.fsync.set(fsync);
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
    gauge("isolation_high_watermark", "The highest TSDB append ID that has been given out.", |h| {
        h.isolation.high_watermark() as f64
    });
    gauge(
        "exemplar_series_with_exemplars_in_storage",
        "Number of series with exemplars currently in circular storage.",
        |h| h.exemplars().series() as f64,
    );
    gauge(
        "exemplar_last_exemplars_timestamp_seconds",
        "The timestamp of the oldest exemplar stored in circular storage. Useful to check for what timerange the current \
         exemplar buffer limit allows. This usually means the last timestampfor all exemplars for a typical setup. This is \
         not true though if one of the series timestamp is in future compared to rest series.",
        |h| h.exemplars().oldest_ms().unwrap_or(0) as f64 / 1000.0,
    );
    gauge("exemplar_exemplars_in_storage", "Number of exemplars currently in circular storage.", |h| {
        h.exemplars().len() as f64
    });
    gauge("exemplar_max_exemplars", "Total number of exemplars the exemplar storage can store, resizeable.", |h| {
        h.exemplars().capacity() as f64
    });
    gauge("head_chunks_storage_size_bytes", "Size of the chunks_head directory.", |h| {
        h.chunks.as_ref().map_or(0.0, |c| c.size_bytes() as f64)
    });
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
    counter("head_series_not_found_total", "Total number of requests for series that were not found.", |c| {
        &c.series_not_found
    });
    counter("mmap_chunks_total", "Total number of chunks that were memory-mapped.", |c| &c.chunks_mapped);
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
        |c| vec![("float", &c.out_of_order_appended), ("histogram", &c.out_of_order_histograms_appended)],
    );
    by_type(
        registry,
        &head,
        "out_of_order_samples_total",
        "Total number of out of order samples ingestion failed attempts due to out of order being disabled.",
        |c| vec![("float", &c.out_of_order), ("histogram", &c.out_of_order_histograms)],
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
    let (saved, compression) = (Weak::clone(&wal), db.options.wal_compression.name());
    let name = "prometheus_tsdb_wal_record_bytes_saved_total";
    registry.named_collector(name, move |out| {
        let Some(wal) = saved.upgrade() else { return };
        let help = "Total number of bytes saved by the optional record compression. Use this metric to learn about the \
                    effectiveness compression.";
        let mut family = Family::counter(name.to_owned(), help.to_owned());
        let bytes = wal.stats.bytes_saved.load(Ordering::Relaxed) as f64;
        family.metrics.push(Metric::number(vec![("compression".into(), compression.into())], bytes));
        out.push(family);
    });
    of_wal("wal_page_flushes_total", "Total number of page flushes.", |s| &s.writes);
    of_wal("wal_completed_pages_total", "Total number of completed pages.", |s| &s.pages_completed);
    of_wal("wal_record_part_writes_total", "Total number of record parts written before flushing.", |s| &s.fragments);
    of_wal(
        "wal_record_parts_bytes_written_total",
        "Total number of record part bytes written before flushing, including CRC and compression headers.",
        |s| &s.bytes_written,
    );
    let segment = Weak::clone(&wal);
    registry.gauge_fn(
        "prometheus_tsdb_wal_segment_current",
        "Write log segment index that TSDB is currently writing to.",
        move || segment.upgrade().map_or(0.0, |w| w.position().segment as f64),
    );
}

/// Of all files in a folder and those below; 0 for what cannot be read.
fn size_bytes(fs: &dyn Fs, dir: &Path) -> u64 {
    let (mut folders, mut sum) = (vec![dir.to_owned()], 0);
    while let Some(folder) = folders.pop() {
        for e in fs.list(&folder).unwrap_or_default() {
            let path = folder.join(&e.name);
            if e.is_dir {
                folders.push(path);
            } else {
                sum += fs.metadata(&path).map_or(0, |m| m.len);
            }
        }
    }
    sum
}

fn of_blocks(registry: &Registry, db: &Arc<Db>) {
    let db = Arc::downgrade(db);
    let gauge = |name: &str, help: &str, f: fn(&Db) -> f64| {
        let db = Weak::clone(&db);
        registry.gauge_fn(&format!("prometheus_tsdb_{name}"), help, move || db.upgrade().map_or(0.0, |d| f(&d)));
    };
    gauge("blocks_loaded", "Number of currently loaded data blocks", |d| d.blocks().len() as f64);
    gauge("symbol_table_size_bytes", "Size of symbol table in memory for loaded blocks", |d| {
        d.blocks().iter().map(|b| b.index.symbol_table_bytes()).sum::<u64>() as f64
    });
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
    counter("wal_truncations_failed_total", "Total number of write log truncations that failed.", |c| {
        &c.wal_truncations_failed
    });
    counter("head_truncations_failed_total", "Total number of head truncations that failed.", |c| {
        &c.head_truncations_failed
    });
    counter("checkpoint_deletions_total", "Total number of checkpoint deletions attempted.", |c| {
        &c.checkpoint_deletions
    });
    counter("checkpoint_deletions_failed_total", "Total number of checkpoint deletions that failed.", |c| {
        &c.checkpoint_deletions_failed
    });
    counter("vertical_compactions_total", "Total number of compactions done on overlapping blocks.", |c| {
        &c.vertical_compactions
    });
    counter("compactions_skipped_total", "Total number of skipped compactions due to disabled auto compaction.", |c| {
        &c.compactions_skipped
    });
    counter("mmap_chunk_corruptions_total", "Total number of memory-mapped chunk corruptions.", |c| {
        &c.head_chunk_corruptions
    });
    counter("reloads_total", "Number of times the database reloaded block data from disk.", |c| &c.reloads);
    counter(
        "reloads_failures_total",
        "Number of times the database failed to reloadBlocks block data from disk.",
        |c| &c.reloads_failed,
    );
    counter("snapshot_replay_error_total", "Total number snapshot replays that failed.", |c| &c.snapshot_errors);
    gauge("data_replay_duration_seconds", "Time taken to replay the data on disk.", |d| {
        f64::from_bits(d.counts.replay_seconds.load(Ordering::Relaxed))
    });
    gauge("wal_storage_size_bytes", "Size of the write log directory.", |d| size_bytes(&*d.fs, d.wal.dir()) as f64);
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
