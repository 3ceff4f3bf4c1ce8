//! Which blocks go, and what of the options may change while the store is open.
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::db::Db;
use crate::error::Error;
use crate::options::Options;

/// The options that a reload of the configuration changes.
#[derive(Debug, Default)]
pub struct Limits {
    retention_ms: AtomicI64,
    size_bytes: AtomicU64,
    /// Bits of a float: percent of the whole disk.
    percent: AtomicU64,
    /// Bits of a float.
    stale_series_ratio: AtomicU64,
}

impl Limits {
    pub(crate) fn new(options: &Options) -> Limits {
        let limits = Limits::default();
        limits.set(options);
        limits
    }
    fn set(&self, options: &Options) {
        self.retention_ms.store(options.retention_ms, Ordering::Relaxed);
        self.size_bytes.store(options.retention_size_bytes, Ordering::Relaxed);
        self.percent.store(options.retention_percent.to_bits(), Ordering::Relaxed);
        self.stale_series_ratio.store(options.stale_series_ratio.to_bits(), Ordering::Relaxed);
    }
    /// Share of stale series from which on they leave the head; 0: never.
    pub fn stale_series_ratio(&self) -> f64 {
        f64::from_bits(self.stale_series_ratio.load(Ordering::Relaxed))
    }
    pub fn retention_ms(&self) -> i64 {
        self.retention_ms.load(Ordering::Relaxed)
    }
    pub fn retention_size_bytes(&self) -> u64 {
        self.size_bytes.load(Ordering::Relaxed)
    }
    /// 0: no such limit.
    pub fn retention_percent(&self) -> f64 {
        f64::from_bits(self.percent.load(Ordering::Relaxed))
    }
}

impl Db {
    /// Takes over what a reload may change: retention, the out-of-order window, the encoding of new float chunks, the number
    /// of exemplars, when stale series leave the head. Everything else stays as it was when the store was opened.
    pub fn apply_options(&self, options: &Options) -> Result<(), Error> {
        let window = options.out_of_order_window_ms.max(0);
        if window > 0 && self.head.wbl.get().is_none() {
            let wbl = self.open_wbl()?;
            let _ = self.head.wbl.set(wbl); // somebody else may have been first
        }
        self.head.apply_options(options);
        self.limits.set(options);
        Ok(())
    }

    /// Bytes that blocks may take: the share of the disk if one is set, or the size.
    fn size_limit(&self) -> Result<u64, Error> {
        let percent = self.limits.retention_percent();
        if percent <= 0.0 {
            return Ok(self.limits.retention_size_bytes());
        }
        let total =
            self.fs.total_space(&self.dir).map_err(Error::io("asking for the size of the disk of", &self.dir))?;
        Ok((total as f64 * percent / 100.0) as u64)
    }

    /// Drops blocks that are too old, counted from the newest block's end, and the oldest ones beyond the size limit.
    pub(crate) fn apply_retention(&self) -> Result<(), Error> {
        let blocks = self.blocks();
        let newest = blocks.iter().map(|b| b.meta.max_time_ms).max().unwrap_or(0);
        let retention = self.limits.retention_ms();
        for b in blocks.iter().filter(|b| retention > 0 && newest - b.meta.max_time_ms >= retention) {
            tracing::info!(ulid = b.meta.ulid, "the block is older than the retention");
            self.counts.time_retentions.fetch_add(1, Ordering::Relaxed);
            self.remove_block(b)?;
        }
        let limit = self.size_limit()?;
        if limit == 0 {
            return Ok(());
        }
        // The log and the head's chunks count, as upstream has it: they cannot be dropped, blocks can.
        let mut left = limit.saturating_sub(self.wal_size_bytes() + self.head_chunks_size_bytes());
        let mut too_much = false;
        for b in self.blocks().iter().rev() {
            too_much = too_much || b.size_bytes > left;
            left = left.saturating_sub(b.size_bytes);
            if too_much {
                tracing::info!(ulid = b.meta.ulid, "the block exceeds the size limit");
                self.counts.size_retentions.fetch_add(1, Ordering::Relaxed);
                self.remove_block(b)?;
            }
        }
        Ok(())
    }

    fn head_chunks_size_bytes(&self) -> u64 {
        self.head.chunks.as_ref().map_or(0, |c| c.size_bytes())
    }

    /// Bytes of the log's files, checkpoints included.
    pub(crate) fn wal_size_bytes(&self) -> u64 {
        fn size(fs: &dyn ferula_fs::Fs, dir: &std::path::Path) -> u64 {
            let entries = fs.list(dir).unwrap_or_default();
            let of = |e: &ferula_fs::Entry| {
                let path = dir.join(&e.name);
                if e.is_dir { size(fs, &path) } else { fs.metadata(&path).map_or(0, |m| m.len) }
            };
            entries.iter().map(of).sum()
        }
        size(&*self.fs, self.wal.dir()) + self.head.wbl.get().map_or(0, |w| size(&*self.fs, w.dir()))
    }
}
