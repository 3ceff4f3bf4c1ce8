//! Blocks that come and go while the store is open, and those that must not be merged yet.
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use crate::block::{Block, Meta};
use crate::db::{BadBlock, Db};
use crate::error::Error;

impl Db {
    /// Looks at the folder again: blocks that somebody put there are served, those whose folder is gone are not any more.
    /// Runs with every [`Db::compact`].
    pub fn reload_blocks(&self) -> Result<(), Error> {
        let _no_compaction = self.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        self.reload_blocks_locked()
    }

    pub(crate) fn reload_blocks_locked(&self) -> Result<(), Error> {
        self.counts.reloads.fetch_add(1, Ordering::Relaxed);
        let result = self.look_for_blocks();
        self.counts.reloads_failed.fetch_add(u64::from(result.is_err()), Ordering::Relaxed);
        result
    }

    fn look_for_blocks(&self) -> Result<(), Error> {
        let known = self.blocks();
        let entries = self.fs.list(&self.dir).map_err(Error::io("listing", &self.dir))?;
        let is_block = |name: &str| ulid::Ulid::from_string(name).is_ok();
        let names: Vec<&str> = entries.iter().filter(|e| e.is_dir && is_block(&e.name)).map(|e| &*e.name).collect();
        let kept: Vec<Arc<Block>> = known.iter().filter(|b| names.contains(&&*b.meta.ulid)).cloned().collect();
        let (mut new, mut bad) = (Vec::new(), Vec::new());
        for name in names.iter().filter(|n| !known.iter().any(|b| b.meta.ulid == **n)) {
            let dir = self.dir.join(name);
            match Block::open(&*self.fs, &dir) {
                Ok(block) => new.push(Arc::new(block)),
                Err(error) => {
                    let range = Meta::read(&*self.fs, &dir).ok().map(|m| (m.min_time_ms, m.max_time_ms));
                    bad.push(BadBlock { dir, error, range });
                }
            }
        }
        let mut bad_blocks = self.bad_blocks.write().unwrap_or_else(PoisonError::into_inner);
        for b in bad.iter().filter(|b| !bad_blocks.iter().any(|o| o.dir == b.dir)) {
            let (dir, error) = (b.dir.display(), &b.error);
            tracing::warn!(%dir, %error, "the block cannot be read; it is left in place and not served");
        }
        *bad_blocks = bad;
        drop(bad_blocks);
        if new.is_empty() && kept.len() == known.len() {
            return Ok(());
        }
        for b in &new {
            tracing::info!(ulid = b.meta.ulid, "a block has appeared");
        }
        self.set_blocks(kept.into_iter().chain(new).collect());
        Ok(())
    }

    /// Whether the block must not be merged: a shipper (Thanos) has yet to upload it as it is. A list that cannot be read
    /// delays nothing, as upstream has it.
    pub(crate) fn is_delayed(&self, meta: &Meta) -> bool {
        #[derive(serde::Deserialize)]
        struct Uploaded {
            #[serde(default)]
            uploaded: Vec<String>,
        }
        let Some(path) = &self.options.delay_compact_file else { return false };
        if meta.compaction.level != 1 {
            return false;
        }
        let read = self.fs.read(path).map_err(|e| e.to_string());
        match read.and_then(|bytes| serde_json::from_slice::<Uploaded>(&bytes).map_err(|e| e.to_string())) {
            Ok(list) => !list.uploaded.contains(&meta.ulid),
            Err(error) => {
                tracing::warn!(file = %path.display(), error, "cannot read the list of uploaded blocks");
                false
            }
        }
    }
}
