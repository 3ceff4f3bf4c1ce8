//! What the store does to itself: head to blocks, small blocks to large ones, retention, deletion, snapshots.
use std::hash::BuildHasher;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use ferula_model::Matcher;

use crate::block::meta::{Compaction, FROM_OUT_OF_ORDER, Parent};
use crate::block::{Block, Meta};
use crate::compact::plan::{plan, ranges};
use crate::compact::source::{BlockSource, HeadSource, OutOfOrderSource, Source};
use crate::compact::write;
use crate::db::{BadBlock, Db};
use crate::error::Error;
use crate::format::names;
use crate::observed::Compacting;
use crate::query::select::select;
use crate::record::tombstones::{Tombstone, encode};
use crate::wal::{checkpoint, segment};

/// How often waiting for readers and commits looks again.
const POLL: Duration = Duration::from_millis(5);

impl Db {
    /// Everything that is due: cuts the head into blocks, merges blocks, drops what is too old. Runs by itself once a
    /// minute when `options.background` is set. A failure leaves the old state, which is tried again.
    pub fn compact(&self) -> Result<(), Error> {
        self.wait_until_replayed()?;
        let _one_at_a_time = self.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self.compact_locked();
        if result.is_err() {
            self.counts.compactions_failed.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    fn compact_locked(&self) -> Result<(), Error> {
        self.reload_blocks_locked()?;
        let range = self.options.block_range_ms;
        let mut was_cut = false;
        while self.head.is_initialised() {
            let (mint, maxt) = (self.head.min_time(), self.head.max_time());
            if maxt.saturating_sub(mint) <= range.saturating_mul(3) / 2 {
                break;
            }
            self.counts.compactions_triggered.fetch_add(1, Ordering::Relaxed);
            let end = mint.div_euclid(range).saturating_mul(range).saturating_add(range);
            self.head_to_block(mint, end)?;
            was_cut = true;
        }
        if was_cut {
            self.out_of_order_to_blocks()?;
        }
        self.release_stale_series()?;
        while self.merge_once()? {}
        self.apply_retention()
    }

    pub(crate) fn ulid(&self) -> String {
        let now = u64::try_from(self.clock.now_ms()).unwrap_or(0);
        let random = || std::collections::hash_map::RandomState::new().hash_one(now);
        let bits = u128::from(random()) << 64 | u128::from(random());
        ulid::Ulid::from_parts(now, bits).to_string()
    }

    /// Writes the head's samples of the half-open range into a block, then forgets them and what the log has of them.
    pub(crate) fn head_to_block(&self, mint_ms: i64, end_ms: i64) -> Result<(), Error> {
        let ulid = self.ulid();
        let meta = Meta {
            compaction: Compaction { level: 1, sources: vec![ulid.clone()], ..Compaction::default() },
            ulid,
            min_time_ms: mint_ms,
            max_time_ms: end_ms,
            version: 1,
            ..Meta::default()
        };
        // From here on nothing older is taken; what is on its way is waited for.
        self.head.set_min_valid_time(end_ms);
        self.wait_until_passed(i64::MIN)?;
        let source: Box<dyn Source> = Box::new(HeadSource::new(&self.head, mint_ms, end_ms));
        let timed = Compacting::begin(self.head.observed.get());
        let block = write::block(&*self.fs, &self.dir, meta, vec![source])?;
        drop(timed);
        self.counts.compactions.fetch_add(1, Ordering::Relaxed);
        if let Some(block) = block {
            let (ulid, samples) = (block.meta.ulid.clone(), block.meta.stats.num_samples);
            tracing::info!(ulid, mint_ms, end_ms, samples, "the head was written into a block");
            self.add_block(block);
        }
        // Readers from before the block was visible read these samples from the head.
        self.wait_until_passed(end_ms)?;
        self.head.truncate_memory(end_ms);
        if let Some(chunks) = &self.head.chunks {
            let result = chunks.truncate(end_ms);
            self.counts.head_truncations_failed.fetch_add(u64::from(result.is_err()), Ordering::Relaxed);
            result?;
        }
        let began = std::time::Instant::now();
        let result = self.truncate_log(end_ms);
        if let Some(observed) = self.head.observed.get() {
            observed.wal_truncation.observe_duration(began.elapsed());
        }
        self.counts.wal_truncations_failed.fetch_add(u64::from(result.is_err()), Ordering::Relaxed);
        result
    }

    /// Writes all samples that came out of order into blocks of their own, one for each range; these overlap others and
    /// are merged with them next.
    pub(crate) fn out_of_order_to_blocks(&self) -> Result<(), Error> {
        let Some(wbl) = self.head.wbl.get() else { return Ok(()) };
        let bounds = |(a, b): (i64, i64), (c, d): (i64, i64)| (a.min(c), b.max(d));
        let all = self.head.series.all();
        let late = all.iter().filter_map(|s| s.state().out_of_order().and_then(|o| o.bounds())).reduce(bounds);
        drop(all);
        let Some((oldest, newest)) = late else { return Ok(()) };
        // What comes from here on is in the new segment and stays there until next time.
        let segment = wbl.next_segment()?;
        self.wait_until_passed(i64::MIN)?;
        let range = self.options.block_range_ms;
        let mut taken = Vec::new();
        let mut start = oldest.div_euclid(range) * range;
        while start <= newest {
            let end = start.saturating_add(range);
            let ulid = self.ulid();
            let compaction = Compaction {
                level: 1,
                sources: vec![ulid.clone()],
                hints: vec![FROM_OUT_OF_ORDER.to_owned()],
                ..Compaction::default()
            };
            let (min_time_ms, max_time_ms) = (start, end);
            let meta = Meta { ulid, compaction, min_time_ms, max_time_ms, version: 1, ..Meta::default() };
            let mut source = OutOfOrderSource::new(&self.head, start, end);
            let block = write::block(&*self.fs, &self.dir, meta, vec![Box::new(&mut source)])?;
            taken.append(&mut source.taken);
            if let Some(block) = block {
                self.counts.compactions.fetch_add(1, Ordering::Relaxed);
                self.add_block(block);
            }
            start = end;
        }
        self.wait_until_passed(i64::MAX)?;
        for (series, times) in taken {
            series.state().remove_out_of_order(&times);
        }
        checkpoint::remove_before(&*self.fs, wbl.dir(), segment.saturating_sub(1))
    }

    /// Waits for commits and readers of now that could touch samples before `mint_ms`. A reader that is held on to for too
    /// long is given up: it must not stop compaction for good.
    pub(crate) fn wait_until_passed(&self, mint_ms: i64) -> Result<(), Error> {
        let moment = self.head.isolation.now();
        let started = std::time::Instant::now();
        while !self.head.isolation.has_passed(moment, mint_ms) {
            if started.elapsed() >= self.options.reader_patience {
                let readers = self.head.isolation.expire(moment, mint_ms);
                if readers > 0 {
                    tracing::warn!(readers, "queries took too long for compaction to wait; they end with an error");
                }
            }
            if !self.stop.wait(POLL) {
                return Err(Error::Invalid("the store is being closed".to_owned()));
            }
        }
        Ok(())
    }

    /// Replaces the older two thirds of the log by a checkpoint.
    fn truncate_log(&self, mint_ms: i64) -> Result<(), Error> {
        self.wal.next_segment()?;
        let dir = self.wal.dir();
        let segments = segment::list(&*self.fs, dir)?;
        // The last one has just been begun, and what is being written to must stay.
        let [first, .., last, _] = segments[..] else { return Ok(()) };
        let last = first + (last - first) * 2 / 3;
        if last <= first {
            return Ok(());
        }
        let released = self.head.released.refs();
        let is_known = |r: u64| self.head.knows(r) || released.contains(&r);
        let keep = checkpoint::Keep { series: &is_known, mint_ms, compression: self.options.wal_compression };
        let result = checkpoint::write(&self.fs, dir, last, &keep);
        self.counts.checkpoints.fetch_add(1, Ordering::Relaxed);
        let stats = match result {
            Ok(stats) => stats,
            Err(e) => {
                self.counts.checkpoints_failed.fetch_add(1, Ordering::Relaxed);
                checkpoint::remove_unfinished(&*self.fs, dir); // on a full disk it is in the way
                return Err(e);
            }
        };
        self.counts.checkpoint_deletions.fetch_add(1, Ordering::Relaxed);
        let removed = checkpoint::remove_before(&*self.fs, dir, last);
        self.counts.checkpoint_deletions_failed.fetch_add(u64::from(removed.is_err()), Ordering::Relaxed);
        removed?;
        self.head.released.forget(last, mint_ms);
        self.counts.wal_truncations.fetch_add(1, Ordering::Relaxed);
        tracing::info!(last, ?stats, "the log was truncated");
        if let Err(error) = self.restart_index.rewrite(&self.head, &self.wal) {
            tracing::warn!(%error, "the restart index cannot be written; a restart will read the whole log");
        }
        Ok(())
    }

    /// Merges the blocks that the plan names; `false` when there are none.
    fn merge_once(&self) -> Result<bool, Error> {
        let blocks: Vec<Arc<Block>> = self.blocks().iter().filter(|b| !self.is_delayed(&b.meta)).cloned().collect();
        let metas: Vec<&Meta> = blocks.iter().map(|b| &b.meta).collect();
        let chosen = plan(&metas, &ranges(self.options.block_range_ms, self.max_block_range()));
        let parents: Vec<Arc<Block>> = chosen.iter().filter_map(|i| blocks.get(*i).cloned()).collect();
        if parents.is_empty() {
            return Ok(false);
        }
        self.counts.compactions_triggered.fetch_add(1, Ordering::Relaxed);
        self.replace(&parents, 1)?;
        Ok(true)
    }

    fn max_block_range(&self) -> i64 {
        const MONTH_MS: i64 = 31 * 24 * 60 * 60 * 1000;
        match (self.options.max_block_range_ms, self.limits.retention_ms()) {
            (0, 0) => MONTH_MS,
            (0, retention) => {
                (retention / 10).clamp(self.options.block_range_ms, MONTH_MS.max(self.options.block_range_ms))
            }
            (set, _) => set,
        }
    }

    /// Writes one block out of several and then removes these.
    fn replace(&self, parents: &[Arc<Block>], deeper: u32) -> Result<(), Error> {
        let mut sources_of: Vec<String> = parents.iter().flat_map(|p| p.meta.compaction.sources.clone()).collect();
        sources_of.sort();
        sources_of.dedup();
        let compaction = Compaction {
            level: parents.iter().map(|p| p.meta.compaction.level).max().unwrap_or(0) + deeper,
            sources: sources_of,
            parents: parents
                .iter()
                .map(|p| Parent {
                    ulid: p.meta.ulid.clone(),
                    min_time_ms: p.meta.min_time_ms,
                    max_time_ms: p.meta.max_time_ms,
                })
                .collect(),
            hints: hints_of(parents),
            ..Compaction::default()
        };
        let meta = Meta {
            ulid: self.ulid(),
            min_time_ms: parents.iter().map(|p| p.meta.min_time_ms).min().unwrap_or(0),
            max_time_ms: parents.iter().map(|p| p.meta.max_time_ms).max().unwrap_or(0),
            compaction,
            version: 1,
            ..Meta::default()
        };
        let mut sources: Vec<Box<dyn Source + '_>> = Vec::new();
        let (late, in_order): (Vec<_>, Vec<_>) = parents.iter().partition(|p| p.meta.is_out_of_order());
        for p in late.into_iter().chain(in_order) {
            sources.push(Box::new(BlockSource::new(p)?));
        }
        let overlap = parents.windows(2).any(|w| matches!(w, [a, b] if b.meta.min_time_ms < a.meta.max_time_ms));
        self.counts.vertical_compactions.fetch_add(u64::from(overlap), Ordering::Relaxed);
        let timed = Compacting::begin(self.head.observed.get());
        let merged = write::block(&*self.fs, &self.dir, meta, sources)?;
        drop(timed);
        self.counts.compactions.fetch_add(1, Ordering::Relaxed);
        if let Some(block) = merged {
            self.add_block(block);
        }
        parents.iter().try_for_each(|p| self.remove_block(p))
    }

    pub(crate) fn add_block(&self, block: Block) {
        let mut new: Vec<Arc<Block>> = self.blocks().iter().cloned().collect();
        new.push(Arc::new(block));
        self.set_blocks(new);
    }

    /// To be called while `compacting` is held.
    pub(crate) fn set_blocks(&self, mut new: Vec<Arc<Block>>) {
        new.sort_by_key(|b| (b.meta.min_time_ms, b.meta.max_time_ms));
        *self.blocks.write().unwrap_or_else(PoisonError::into_inner) = new.into();
        self.block_generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes a block out of service and removes its folder. Readers that hold it keep their mappings.
    pub(crate) fn remove_block(&self, block: &Block) -> Result<(), Error> {
        let mut blocks = self.blocks.write().unwrap_or_else(PoisonError::into_inner);
        *blocks = blocks.iter().filter(|b| b.meta.ulid != block.meta.ulid).cloned().collect();
        drop(blocks);
        self.block_generation.fetch_add(1, Ordering::AcqRel);
        let gone = self.dir.join(format!("{}{}", block.meta.ulid, names::TMP_FOR_DELETION));
        self.fs.rename(&block.dir, &gone).map_err(Error::io("renaming", &block.dir))?;
        self.fs.sync_dir(&self.dir).map_err(Error::io("syncing", &self.dir))?;
        self.fs.remove_dir_all(&gone).map_err(Error::io("removing", &gone))
    }

    /// Marks samples of the inclusive range as deleted, in the head and in every block, durably. No matchers at all mean
    /// nothing, not everything: upstream has it so, and a slip of the hand should not cost all data.
    pub fn delete_series(&self, matcher_sets: &[Vec<Matcher>], mint_ms: i64, maxt_ms: i64) -> Result<(), Error> {
        self.wait_until_replayed()?;
        let _no_compaction = self.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        for matchers in matcher_sets.iter().filter(|m| !m.is_empty()) {
            for block in self.blocks().iter().filter(|b| b.overlaps(mint_ms, maxt_ms)) {
                let series = select(&block.index, matchers)?;
                if !series.is_empty() {
                    let end = block.meta.max_time_ms.saturating_sub(1);
                    block.delete(&*self.fs, &series, mint_ms.max(block.meta.min_time_ms), maxt_ms.min(end))?;
                }
            }
            let refs = select(&self.head.index(), matchers)?;
            let stones: Vec<Tombstone> = self
                .head
                .series_of(&refs)
                .iter()
                .filter_map(|s| {
                    // Not beyond what is there: later samples are not meant.
                    let state = s.state();
                    let (from, to) = (mint_ms.max(state.min_time()?), maxt_ms.min(state.max_time()?));
                    (from <= to).then_some(Tombstone { series: s.series_ref(), mint_ms: from, maxt_ms: to })
                })
                .collect();
            if stones.is_empty() {
                continue;
            }
            let mut record = Vec::new();
            encode(stones.iter().copied(), &mut record);
            let position = self.wal.write(vec![(record, 0)])?;
            self.wal.sync_to(position)?;
            stones.iter().for_each(|t| self.head.add_tombstone(t.series, t.mint_ms, t.maxt_ms));
        }
        Ok(())
    }

    /// Rewrites every block that has deleted stretches without them.
    pub fn clean_tombstones(&self) -> Result<(), Error> {
        let _one_at_a_time = self.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        let began = std::time::Instant::now();
        for block in self.blocks().iter().filter(|b| b.tombstone_count() > 0) {
            self.replace(std::slice::from_ref(block), 0)?;
        }
        if let Some(observed) = self.head.observed.get() {
            observed.tombstone_cleanup.observe_duration(began.elapsed());
        }
        Ok(())
    }

    /// Makes `snapshots/<time>-<random>/` with all blocks (by hard link) and, unless `skip_head`, the head as one more.
    /// Returns the folder's name.
    pub fn snapshot(&self, skip_head: bool) -> Result<String, Error> {
        self.wait_until_replayed()?;
        let _no_compaction = self.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        let ulid = self.ulid();
        // Upstream's name: sixteen hexadecimal digits behind the time.
        let random = std::collections::hash_map::RandomState::new().hash_one(&ulid) >> 1;
        let name = format!("{}-{random:016x}", utc(self.clock.now_ms()));
        let parent = self.dir.join("snapshots");
        let dir = parent.join(&name);
        self.fs.create_dir_all(&dir).map_err(Error::io("creating", &dir))?;
        for block in self.blocks().iter() {
            self.link_tree(&block.dir, &dir.join(&block.meta.ulid))?;
        }
        if !skip_head && self.head.is_initialised() {
            let (mint, end) = (self.head.min_time(), self.head.max_time().saturating_add(1));
            let meta = Meta {
                compaction: Compaction { level: 1, sources: vec![ulid.clone()], ..Compaction::default() },
                ulid,
                min_time_ms: mint,
                max_time_ms: end,
                version: 1,
                ..Meta::default()
            };
            let source: Box<dyn Source> = Box::new(HeadSource::new(&self.head, mint, end));
            write::block(&*self.fs, &dir, meta, vec![source])?;
        }
        for d in [&dir, &parent, &self.dir] {
            self.fs.sync_dir(d).map_err(Error::io("syncing", d))?;
        }
        Ok(name)
    }

    fn link_tree(&self, from: &Path, to: &Path) -> Result<(), Error> {
        self.fs.create_dir_all(to).map_err(Error::io("creating", to))?;
        for e in self.fs.list(from).map_err(Error::io("listing", from))? {
            let (a, b) = (from.join(&e.name), to.join(&e.name));
            if e.is_dir {
                self.link_tree(&a, &b)?;
            } else {
                self.fs.hard_link(&a, &b).map_err(Error::io("linking", &b))?;
            }
        }
        self.fs.sync_dir(to).map_err(Error::io("syncing", to))
    }
}

/// A block that reaches further than every plain cut of the head that went into it must not decide where the head begins:
/// the head has newer samples of other series.
fn hints_of(parents: &[Arc<Block>]) -> Vec<String> {
    let end =
        |late: bool| parents.iter().filter(|p| p.meta.is_out_of_order() == late).map(|p| p.meta.max_time_ms).max();
    if end(true) > end(false) { vec![FROM_OUT_OF_ORDER.to_owned()] } else { Vec::new() }
}

/// `20060102T150405Z`, as upstream names snapshots.
fn utc(t_ms: i64) -> String {
    let (days, second) = (t_ms.div_euclid(86_400_000), t_ms.div_euclid(1000).rem_euclid(86_400));
    // Civil date from days since 1970, counting years from March (after Howard Hinnant).
    let z = days + 719_468;
    let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

/// Opens every block of the directory and clears away what unfinished work left. A block that cannot be opened stays
/// where it is and is named.
pub(crate) fn load_blocks(fs: &dyn ferula_fs::Fs, root: &Path) -> Result<(Vec<Arc<Block>>, Vec<BadBlock>), Error> {
    let (mut blocks, mut bad) = (Vec::new(), Vec::new());
    for e in fs.list(root).map_err(Error::io("listing", root))?.into_iter().filter(|e| e.is_dir) {
        let dir = root.join(&e.name);
        let unfinished = [names::TMP_FOR_CREATION, names::TMP_FOR_DELETION, names::TMP];
        let is_ulid = |n: &str| ulid::Ulid::from_string(n).is_ok();
        if let Some(stem) = unfinished.iter().find_map(|s| e.name.strip_suffix(s))
            && is_ulid(stem)
        {
            tracing::info!(dir = %dir.display(), "removing what unfinished work left");
            fs.remove_dir_all(&dir).map_err(Error::io("removing", &dir))?;
            continue;
        }
        if !is_ulid(&e.name) {
            continue;
        }
        match Block::open(fs, &dir) {
            Ok(block) => blocks.push(Arc::new(block)),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "the block cannot be read; it is left in place and not served");
                bad.push(BadBlock {
                    range: Meta::read(fs, &dir).ok().map(|m| (m.min_time_ms, m.max_time_ms)),
                    dir,
                    error,
                });
            }
        }
    }
    // A crash between writing a block and removing those it was made of leaves both.
    let replaced: Vec<String> =
        blocks.iter().flat_map(|b| b.meta.compaction.parents.iter().map(|p| p.ulid.clone())).collect();
    let mut live = Vec::new();
    for b in blocks {
        if replaced.contains(&b.meta.ulid) {
            let gone: PathBuf = root.join(format!("{}{}", b.meta.ulid, names::TMP_FOR_DELETION));
            fs.rename(&b.dir, &gone).map_err(Error::io("renaming", &b.dir))?;
            fs.remove_dir_all(&gone).map_err(Error::io("removing", &gone))?;
        } else {
            live.push(b);
        }
    }
    live.sort_by_key(|b| (b.meta.min_time_ms, b.meta.max_time_ms));
    Ok((live, bad))
}

#[cfg(test)]
mod tests {
    #[test]
    fn utc_names() {
        assert_eq!(super::utc(1_700_000_000_000), "20231114T221320Z");
        assert_eq!(super::utc(951_782_400_000), "20000229T000000Z");
    }
}
