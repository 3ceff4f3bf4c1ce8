//! Series that left the head before its truncation would have taken them: stale ones whose samples are in a block.
//!
//! The log has their samples for some time yet, so their references stay known to checkpoints, and a series that comes back
//! goes on behind its last sample, as if it had never left. Cost: about 48 bytes a series, until neither the log nor the
//! head's range has anything of it.
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::{HashMap, HashSet};

use super::series::MemSeries;
use super::{Head, add};

#[derive(Clone, Copy, Debug)]
struct Gone {
    series: u64,
    /// Its newest sample.
    last_ms: i64,
    /// The log has nothing of it in later segments.
    segment: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Released {
    /// By the hash of the labels.
    gone: Mutex<HashMap<u64, Gone>>,
    /// How many there are: mostly none.
    len: AtomicUsize,
    /// References and newest times of series that are in a block, but were in use when they should have gone.
    in_use: Mutex<HashMap<u64, i64>>,
}

impl Released {
    fn gone(&self) -> MutexGuard<'_, HashMap<u64, Gone>> {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// The newest time of the series with labels of this hash, if it has left.
    pub fn last_ms(&self, hash: u64) -> Option<i64> {
        if self.len.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.gone().get(&hash).map(|g| g.last_ms)
    }
    /// References that the log may still have samples of.
    pub fn refs(&self) -> HashSet<u64> {
        self.gone().values().map(|g| g.series).collect()
    }
    /// Forgets series of which nothing is left: the log was cut up to `segment`, the head's range begins at `mint_ms`.
    pub fn forget(&self, segment: u64, mint_ms: i64) {
        let mut gone = self.gone();
        gone.retain(|_, g| g.segment > segment || g.last_ms >= mint_ms);
        self.len.store(gone.len(), Ordering::Release);
    }
    fn insert(&self, hash: u64, new: Gone) {
        let mut gone = self.gone();
        gone.insert(hash, new);
        self.len.store(gone.len(), Ordering::Release);
    }
    fn remove(&self, hash: u64) {
        let mut gone = self.gone();
        gone.remove(&hash);
        self.len.store(gone.len(), Ordering::Release);
    }
}

/// A stale series and its newest time.
pub(crate) type Stale = (Arc<MemSeries>, i64);

impl Head {
    /// Series whose newest sample is a stale marker, not newer than `upto_ms`: those that have to be written into a block,
    /// and those that are in one.
    pub(crate) fn stale_series(&self, upto_ms: i64) -> (Vec<Stale>, Vec<Stale>) {
        let in_use = self.released.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        let with_exemplars = |s: &MemSeries| self.exemplars().has_series(s.series_ref());
        let mut stale: Vec<Stale> = Vec::new();
        self.series.each(|s| {
            let last_ms = s.state().stale_since().filter(|t| *t <= upto_ms);
            stale.extend(last_ms.map(|t| (Arc::clone(s), t)));
        });
        stale.retain(|(s, _)| !with_exemplars(s));
        stale.into_iter().partition(|(s, last_ms)| in_use.get(&s.series_ref()) != Some(last_ms))
    }

    /// Takes series that are in a block out of the head, as far as nobody uses them and nothing has been added. Those in use
    /// are noted for the next time. `segment`: the log's newest.
    pub(crate) fn release(&self, stale: Vec<Stale>, segment: u64) -> u64 {
        let mut in_use = HashMap::new();
        let mut dead = Vec::new();
        for (series, last_ms) in stale {
            let (hash, number) = (series.hash, series.series_ref());
            // First, so that who makes it anew finds it.
            self.released.insert(hash, Gone { series: number, last_ms, segment });
            if self.series.remove_if(&series, |s| s.state().stale_since() == Some(last_ms)) {
                add(&self.counts.chunks_removed, series.state().full.len() as u64);
                dead.push(series);
            } else {
                self.released.remove(hash);
                in_use.insert(number, last_ms);
            }
        }
        *self.released.in_use.lock().unwrap_or_else(PoisonError::into_inner) = in_use;
        self.forget_removed(&dead);
        dead.len() as u64
    }
}
