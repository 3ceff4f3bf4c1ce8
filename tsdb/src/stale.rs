//! Early release of stale series: in a cluster that replaces its pods all the time, most series of the head would be of
//! pods that are gone. Their samples go into blocks of their own, and they leave the head before it is cut.
//!
//! The blocks carry the hint of samples that came out of order, because they say nothing about where the head begins: with
//! an older Prometheus neither. The log gets tombstones for what is in the blocks, so that a replay does not show it twice,
//! nor show again what has been deleted from the block.
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::block::Meta;
use crate::block::meta::{Compaction, FROM_OUT_OF_ORDER};
use crate::compact::source::HeadSource;
use crate::compact::write;
use crate::db::Db;
use crate::error::Error;
use crate::head::series::MemSeries;
use crate::record::tombstones::{Tombstone, encode};

/// Tombstones in one record.
const STONES_AT_ONCE: usize = 4096;

impl Db {
    /// To be called while `compacting` is held.
    pub(crate) fn release_stale_series(&self) -> Result<(), Error> {
        let ratio = self.limits.stale_series_ratio();
        if ratio <= 0.0 || !self.head.is_initialised() || self.blocks_are_shipped() {
            return Ok(());
        }
        let upto_ms = self.head.max_time().saturating_sub(self.options.block_range_ms / 8);
        let (new, mut done) = self.head.stale_series(upto_ms);
        let wanted = (self.head.series_count() as f64 * ratio).max(self.options.stale_series_min as f64);
        if !new.is_empty() && new.len() as f64 >= wanted {
            let series: Vec<Arc<MemSeries>> = new.iter().map(|(s, _)| Arc::clone(s)).collect();
            self.stale_to_blocks(&series)?;
            drop(series);
            // Readers from before the blocks were visible read these samples from the head.
            let newest = new.iter().map(|(_, last_ms)| *last_ms).max().unwrap_or(upto_ms);
            self.wait_until_passed(newest.saturating_add(1))?;
            for some in new.chunks(STONES_AT_ONCE) {
                let stones = some.iter().filter_map(|(s, maxt_ms)| {
                    Some(Tombstone { series: s.series_ref(), mint_ms: s.state().min_time()?, maxt_ms: *maxt_ms })
                });
                let mut record = Vec::new();
                encode(stones, &mut record);
                self.wal.write(vec![(record, 0)])?;
            }
            self.wal.sync()?;
            done.extend(new);
        }
        if done.is_empty() {
            return Ok(());
        }
        let released = self.head.release(done, self.wal.position().segment);
        self.counts.stale_series_released.fetch_add(released, Ordering::Relaxed);
        tracing::info!(released, left = self.head.series_count(), "stale series have left the head");
        Ok(())
    }

    /// Whether somebody (Thanos) takes blocks away as they are: overlapping ones would stop its compactor.
    fn blocks_are_shipped(&self) -> bool {
        self.options.delay_compact_file.is_some() || self.options.max_block_range_ms == self.options.block_range_ms
    }

    /// One block for each range that they have samples in.
    fn stale_to_blocks(&self, series: &[Arc<MemSeries>]) -> Result<(), Error> {
        let bounds = |s: &Arc<MemSeries>| {
            let state = s.state();
            Some((state.min_time()?, state.max_time()?))
        };
        let both = |a: (i64, i64), b: (i64, i64)| (a.0.min(b.0), a.1.max(b.1));
        let Some((oldest, newest)) = series.iter().filter_map(bounds).reduce(both) else { return Ok(()) };
        let range = self.options.block_range_ms;
        let oldest = oldest.max(self.head.min_valid_time()); // what is older is in a block
        let mut start = oldest.div_euclid(range) * range;
        while start <= newest {
            let end = start.saturating_add(range);
            let ulid = self.ulid();
            let meta = Meta {
                compaction: Compaction {
                    level: 1,
                    sources: vec![ulid.clone()],
                    hints: vec![FROM_OUT_OF_ORDER.to_owned()],
                    ..Compaction::default()
                },
                ulid,
                min_time_ms: start.max(oldest),
                max_time_ms: end.min(newest.saturating_add(1)),
                version: 1,
                ..Meta::default()
            };
            let source = HeadSource::of(&self.head, series.to_vec(), meta.min_time_ms, meta.max_time_ms);
            if let Some(block) = write::block(&*self.fs, &self.dir, meta, vec![Box::new(source)])? {
                self.counts.compactions.fetch_add(1, Ordering::Relaxed);
                self.add_block(block);
            }
            start = end;
        }
        Ok(())
    }
}
