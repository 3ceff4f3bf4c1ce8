//! Running out of disk: before the disk is full the store stops taking samples, and goes on by itself when there is room.
//!
//! A reserve file is given up at that moment, so that compaction, checkpoints and retention have room to work with; they are
//! what makes room again. Queries and rules go on. Cost: one statvfs a second, and one for each refused commit.
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ferula_fs::{Fs, Open};

use crate::error::Error;
use crate::format::names;
use crate::options::Options;

/// Unless the options say otherwise the store wants two segments of the log free, but no more than this part of the disk.
const SMALL_DISK_PART: u64 = 50;
/// So much is written at once when the reserve is made.
const BLOCK: usize = 1 << 20;

#[derive(Debug)]
pub struct Space {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    reserve_bytes: u64,
    wanted_bytes: Option<u64>,
    segment_bytes: u64,
    is_low: AtomicBool,
    /// Whether the reserve file is there.
    reserve: Mutex<bool>,
    free_bytes: AtomicU64,
    pub commits_refused: AtomicU64,
}

impl Space {
    pub fn new(fs: Arc<dyn Fs>, dir: &Path, options: &Options) -> Space {
        let there = fs.metadata(&dir.join(names::RESERVE)).is_ok_and(|m| m.len >= options.reserve_bytes);
        Space {
            fs,
            dir: dir.to_owned(),
            reserve_bytes: options.reserve_bytes,
            wanted_bytes: options.free_space_min_bytes,
            segment_bytes: match options.wal_segment_size_bytes {
                0 => crate::format::wal::SEGMENT_BYTES,
                set => set,
            },
            is_low: AtomicBool::new(false),
            reserve: Mutex::new(there),
            free_bytes: AtomicU64::new(0),
            commits_refused: AtomicU64::new(0),
        }
    }

    /// Whether samples are refused now.
    pub fn is_low(&self) -> bool {
        self.is_low.load(Ordering::Acquire)
    }
    /// As of the last look.
    pub fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Relaxed)
    }

    /// Bytes below which samples are refused.
    pub fn watermark_bytes(&self) -> u64 {
        match self.wanted_bytes {
            Some(n) => n,
            None => {
                let total = self.fs.total_space(&self.dir).unwrap_or(u64::MAX);
                (2 * self.segment_bytes).min(total / SMALL_DISK_PART)
            }
        }
    }

    /// To be asked before every commit.
    pub fn admit(&self) -> Result<(), Error> {
        if !self.is_low() {
            return Ok(());
        }
        self.look();
        if !self.is_low() {
            return Ok(());
        }
        self.commits_refused.fetch_add(1, Ordering::Relaxed);
        Err(Error::DiskLow { free_bytes: self.free_bytes(), wanted_bytes: self.watermark_bytes() })
    }

    /// Looks how much is free, and changes over if need be.
    pub fn look(&self) {
        let Ok(free) = self.fs.free_space(&self.dir) else { return };
        self.free_bytes.store(free, Ordering::Relaxed);
        let watermark = self.watermark_bytes();
        // What the reserve gave must not count as room, and a little more is wanted than before: no flutter.
        let back = watermark.saturating_add(watermark / 4).saturating_add(self.reserve_bytes);
        if !self.is_low() && free < watermark {
            self.refuse(free, watermark);
        } else if self.is_low() && free >= back {
            self.is_low.store(false, Ordering::Release);
            tracing::info!(free_bytes = free, "the disk has room again; samples are taken");
        }
        if !self.is_low() && free >= back.saturating_add(self.reserve_bytes) {
            self.make_reserve();
        }
    }

    /// The disk has just refused a write.
    pub fn note_full(&self) {
        let free = self.fs.free_space(&self.dir).unwrap_or(0);
        self.free_bytes.store(free, Ordering::Relaxed);
        if !self.is_low() {
            self.refuse(free, self.watermark_bytes());
        }
    }

    fn refuse(&self, free: u64, watermark: u64) {
        if self.is_low.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::error!(
            free_bytes = free,
            wanted_bytes = watermark,
            "the disk is nearly full: no samples are taken until there is room again; queries and alerting go on"
        );
        let mut there = self.reserve.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut *there) {
            let path = self.dir.join(names::RESERVE);
            if let Err(error) = self.fs.remove_file(&path) {
                tracing::warn!(file = %path.display(), %error, "cannot give up the reserve");
            }
        }
    }

    fn make_reserve(&self) {
        let mut there = self.reserve.lock().unwrap_or_else(PoisonError::into_inner);
        if *there || self.reserve_bytes == 0 {
            return;
        }
        let path = self.dir.join(names::RESERVE);
        let written = (|| {
            let file = self.fs.open(&path, Open::Truncate)?;
            let zeros = vec![0; BLOCK];
            let mut left = self.reserve_bytes;
            while left > 0 {
                let n = left.min(BLOCK as u64);
                file.append(zeros.get(..n as usize).unwrap_or(&[]))?;
                left -= n;
            }
            file.sync_data()
        })();
        match written {
            Ok(()) => *there = true,
            // There is no room for it: then it is not wanted either.
            Err(_) => drop(self.fs.remove_file(&path)),
        }
    }
}
