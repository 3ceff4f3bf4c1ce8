//! Appending while the log is still being read: batches are logged at once and applied, in their order, when what came
//! before them has been.
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use ferula_storage::{CommitStats, Durability};

use super::Head;
use super::append::Batch;
use crate::error::Error;
use crate::wal::Wal;
use crate::wal::writer::Bound;

/// Series records kept for the restart index; when there are more, it is written anew.
const FRESH_MAX_BYTES: usize = 16 << 20;

/// Batches that wait.
#[derive(Default)]
pub(crate) struct Deferred {
    is_on: AtomicBool,
    waiting: Mutex<Waiting>,
    ended: Condvar,
}

#[derive(Default)]
struct Waiting {
    is_on: bool,
    batches: Vec<Batch>,
    /// Why the log could not be read to its end.
    failure: Option<String>,
}

impl std::fmt::Debug for Deferred {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Deferred({:?})", self.is_on)
    }
}

/// Series records as they were logged, in that order.
pub(crate) type FreshRecords = Vec<Vec<u8>>;

/// Series records that are in the log and not yet in the restart index.
#[derive(Debug, Default)]
pub(crate) struct Fresh {
    is_on: bool,
    records: FreshRecords,
    bytes: usize,
    /// There were too many: what is here is not all.
    overflowed: bool,
}

impl Head {
    /// From here on commits are logged and wait.
    pub(crate) fn start_deferring(&self) {
        self.deferred.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_on = true;
        self.deferred.is_on.store(true, Ordering::Release);
    }

    /// Keeps a logged batch for later; gives it back when there is nothing to wait for. What it counts for now is what
    /// was accepted.
    pub(super) fn defer(&self, batch: Batch, stats: &mut CommitStats) -> Option<Batch> {
        if !self.is_replaying() {
            return Some(batch);
        }
        let mut waiting = self.deferred.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.is_on {
            return Some(batch);
        }
        stats.floats += (batch.samples.len() - batch.histograms) as u64;
        stats.histograms += batch.histograms as u64;
        stats.exemplars += batch.exemplars.len() as u64;
        waiting.batches.push(batch);
        None
    }

    /// Whether the head lacks samples that the log has.
    pub fn is_replaying(&self) -> bool {
        self.deferred.is_on.load(Ordering::Acquire)
    }

    /// Applies what waits and lets commits through again. `failure`: what the log holds could not be read.
    pub(crate) fn stop_deferring(&self, failure: Option<String>) -> Result<(), Error> {
        let mut result = Ok(());
        loop {
            // Of a queue that never ends the last part is taken while no commit is on its way.
            let batches = self.take_deferred();
            if batches.is_empty() {
                let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
                let mut waiting = self.deferred.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if waiting.batches.is_empty() {
                    waiting.is_on = false;
                    waiting.failure = failure;
                    self.deferred.is_on.store(false, Ordering::Release);
                    self.deferred.ended.notify_all();
                    return result;
                }
                continue;
            }
            for batch in batches {
                let mut stats = CommitStats::default();
                let late = self.apply_counted(batch, &mut stats);
                result = result.and(self.log_late(late, Durability::Written));
            }
        }
    }

    fn take_deferred(&self) -> Vec<Batch> {
        std::mem::take(&mut self.deferred.waiting.lock().unwrap_or_else(PoisonError::into_inner).batches)
    }

    /// Waits until the log has been read, at most so long. `false`: not yet.
    pub fn wait_replayed(&self, at_most: Duration) -> bool {
        if !self.is_replaying() {
            return true;
        }
        let waiting = self.deferred.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.deferred.ended.wait_timeout_while(waiting, at_most, |w| w.is_on);
        !waited.unwrap_or_else(PoisonError::into_inner).0.is_on
    }

    /// Why samples of the log are missing from the head, if any are.
    pub(crate) fn replay_failure(&self) -> Option<String> {
        self.deferred.waiting.lock().unwrap_or_else(PoisonError::into_inner).failure.clone()
    }

    /// Keeps series records for the restart index from here on.
    pub(crate) fn remember_logged(&self) {
        *self.fresh.lock().unwrap_or_else(PoisonError::into_inner) = Fresh { is_on: true, ..Fresh::default() };
    }

    /// To be called while the gate is held, after the record was written.
    pub(super) fn note_fresh(&self, record: Vec<u8>) {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        if !fresh.is_on || fresh.overflowed {
            return;
        }
        fresh.bytes += record.len();
        fresh.records.push(record);
        if fresh.bytes > FRESH_MAX_BYTES {
            *fresh = Fresh { is_on: true, overflowed: true, ..Fresh::default() };
        }
    }

    /// The end of the log at a moment when no commit is on its way, and the series records written since the last call;
    /// `None` when there were too many to keep.
    pub(crate) fn mark(&self, wal: &Wal) -> Result<(Bound, Option<FreshRecords>), Error> {
        let _alone = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let bound = wal.bound()?;
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = std::mem::replace(&mut *fresh, Fresh { is_on: true, ..Fresh::default() });
        Ok((bound, (!taken.overflowed).then_some(taken.records)))
    }
}
