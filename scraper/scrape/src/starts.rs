//! Start times of counters, summaries and histograms: which samples get a zero before them.
use hashbrown::HashMap;

use crate::cache::Id;

/// What is done with the start times that targets expose. With none of both they are left alone: OpenMetrics' `_created`
/// lines are samples like others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartTimes {
    /// A zero is stored at the start time, where that is newer than what the series has: upstream's
    /// `created-timestamp-zero-ingestion`.
    pub as_zeros: bool,
    /// Samples are stored with their start time: upstream's `st-storage`.
    pub with_samples: bool,
}

impl StartTimes {
    pub(crate) fn are_read(self) -> bool {
        self.as_zeros || self.with_samples
    }
}

/// The start that a zero was tried for, by series: it stays what it is until the target restarts, and would be refused
/// with every scrape. Empty unless zeros are wanted; then 16 bytes a series.
#[derive(Default)]
pub(crate) struct TriedStarts(HashMap<Id, i64>);

impl TriedStarts {
    /// Not while the start is ahead of the samples: that may be a clock's fault and pass.
    pub(crate) fn is_due(&self, id: Option<Id>, start_ms: i64, t_ms: i64) -> bool {
        start_ms != 0 && start_ms < t_ms && id.is_none_or(|id| self.0.get(&id) != Some(&start_ms))
    }
    pub(crate) fn note(&mut self, id: Id, start_ms: i64) {
        if start_ms != 0 {
            self.0.insert(id, start_ms);
        } else if !self.0.is_empty() {
            self.0.remove(&id); // of the series that had the place before
        }
    }
    /// The batch was rolled back, its zeros too.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}
