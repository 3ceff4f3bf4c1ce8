//! `ferula_tsdb_*`: what upstream has no metric for.
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use ferula_instrument::Registry;

use crate::db::Db;

/// Registers functions that hold the store weakly.
pub fn register(registry: &Registry, db: &Arc<Db>) {
    let db = Arc::downgrade(db);
    let gauge = |name: &str, help: &str, f: fn(&Db) -> f64| {
        let db = Weak::clone(&db);
        registry.gauge_fn(&format!("ferula_tsdb_{name}"), help, move || db.upgrade().map_or(0.0, |d| f(&d)));
    };
    gauge("read_only", "Whether samples are refused because the disk is nearly full.", |d| {
        f64::from(u8::from(d.space.is_low()))
    });
    gauge("free_bytes", "Bytes free on the disk of the data directory.", |d| d.space.free_bytes() as f64);
    gauge("free_bytes_wanted", "Bytes free below which samples are refused.", |d| d.space.watermark_bytes() as f64);
    gauge("replaying", "Whether samples of the log are still being read.", |d| {
        f64::from(u8::from(d.head.is_replaying()))
    });
    gauge(
        "unreadable_blocks",
        "Blocks that are left in place and not served: damaged, or of an unknown version.",
        |d| d.bad_blocks().len() as f64,
    );
    let counter = |name: &str, help: &str, f: fn(&Db) -> f64| {
        let db = Weak::clone(&db);
        registry.counter_fn(&format!("ferula_tsdb_{name}"), help, move || db.upgrade().map_or(0.0, |d| f(&d)));
    };
    counter("commits_refused_total", "Commits refused because the disk is nearly full.", |d| {
        d.space.commits_refused.load(Ordering::Relaxed) as f64
    });
    counter(
        "stale_series_released_total",
        "Stale series that left the head, into a block, before the head was cut.",
        |d| d.counts.stale_series_released.load(Ordering::Relaxed) as f64,
    );
    counter("restart_index_written_bytes_total", "Bytes written to the restart index.", |d| {
        d.restart_index.bytes_written() as f64
    });
    counter("faults_caught_total", "Page faults on files that were cut while they were in use.", |_| {
        ferula_fs::faults_caught() as f64
    });
}
