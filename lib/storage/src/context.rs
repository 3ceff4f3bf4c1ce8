//! What every read carries: deadline, cancellation, budget, statistics.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ferula_model::Budget;

/// Set once by whoever gives up on a query; seen by everyone who works on it.
#[derive(Clone, Debug, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    pub fn new() -> Self {
        Self::default()
    }
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Interrupted {
    #[error("query was canceled")]
    Cancelled,
    #[error("query timed out")]
    TimedOut,
}

/// Counted while reading: series and chunks by storage, samples by who reads them, many at a time.
#[derive(Debug, Default)]
pub struct QueryStats {
    pub series: AtomicU64,
    pub chunks: AtomicU64,
    pub samples: AtomicU64,
    pub bytes: AtomicU64,
}

impl QueryStats {
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// Shared by all parts of one query. Cloning is three reference counts.
#[derive(Clone, Debug)]
pub struct QueryContext {
    pub deadline: Option<Instant>,
    pub cancel: CancelFlag,
    pub budget: Budget,
    pub stats: Arc<QueryStats>,
}

impl QueryContext {
    pub fn new(timeout: Option<Duration>, budget: Budget) -> Self {
        QueryContext {
            deadline: timeout.and_then(|t| Instant::now().checked_add(t)),
            cancel: CancelFlag::new(),
            budget,
            stats: Arc::default(),
        }
    }
    /// No deadline, no budget: for tests and internal reads.
    pub fn background() -> Self {
        QueryContext::new(None, Budget::unlimited())
    }
    /// To be asked once per batch of work (1,024 series, steps or samples, or a few milliseconds).
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.cancel.is_cancelled() {
            return Err(Interrupted::Cancelled);
        }
        match self.deadline {
            Some(d) if Instant::now() >= d => Err(Interrupted::TimedOut),
            _ => Ok(()),
        }
    }
}
