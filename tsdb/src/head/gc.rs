//! Dropping what is old: chunks before a time, and series that have nothing left.
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use hashbrown::HashSet;

use super::series::MemSeries;
use super::{Head, add};

impl Head {
    /// Drops every sample before `mint_ms` that lies in a whole chunk before it, and the series that are empty then.
    /// Readers keep what they already took.
    pub fn truncate_memory(&self, mint_ms: i64) {
        let began = std::time::Instant::now();
        let mut empty = Vec::new();
        let mut oldest = i64::MAX;
        for series in self.series.all() {
            let mut state = series.state();
            let dropped = state.truncate(mint_ms);
            add(&self.counts.chunks_removed, dropped as u64);
            match state.min_time() {
                Some(t) => oldest = oldest.min(t),
                None => {
                    drop(state);
                    empty.push(series);
                }
            }
        }
        self.remove(empty);
        self.set_min_valid_time(mint_ms);
        // A gap is skipped at once; a chunk that reaches over the border stays whole, but its older part is in a block.
        if self.is_initialised() {
            self.min_time.store(if oldest == i64::MAX { mint_ms } else { oldest.max(mint_ms) }, Ordering::Release);
        }
        self.tombstones.write().unwrap_or_else(PoisonError::into_inner).retain(|_, intervals| {
            intervals.retain(|(_, maxt)| *maxt >= mint_ms);
            !intervals.is_empty()
        });
        add(&self.counts.truncations, 1);
        if let Some(observed) = self.observed.get() {
            observed.head_gc.observe_duration(began.elapsed());
        }
    }

    /// Removes series that are empty and that no appender or reader holds.
    fn remove(&self, mut candidates: Vec<Arc<MemSeries>>) {
        candidates.retain(|series| self.series.remove_if(series, |s| s.state().is_empty()));
        self.forget_removed(&candidates);
    }

    /// Takes series that can no longer be found by their labels out of everything else.
    pub(crate) fn forget_removed(&self, series: &[Arc<MemSeries>]) {
        if series.is_empty() {
            return;
        }
        let dead: HashSet<u32> = series.iter().map(|s| s.series_ref() as u32).collect();
        let pairs: HashSet<(u32, u32)> = series.iter().flat_map(|s| s.symbols()).copied().collect();
        // Nobody makes a series meanwhile: it could be of a string that is about to go.
        let alone = self.creating.write().unwrap_or_else(PoisonError::into_inner);
        let mut postings = self.postings.write().unwrap_or_else(PoisonError::into_inner);
        let unused = postings.remove(&dead, &pairs, &self.symbols);
        self.symbols.free(&unused);
        drop(postings);
        drop(alone);
        self.metadata().remove(&dead);
        add(&self.counts.series_removed, dead.len() as u64);
        self.counts.series.fetch_sub(dead.len() as u64, Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}
