//! Series budgets: how many series a target, a job and the whole server may bring. Beside upstream's limits, which fail the
//! scrape as a whole: over budget only *new* series are refused, the known ones go on.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a job or the server brought so far. The limit comes with the configuration and is passed in.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    held: AtomicU64,
    refused: AtomicU64,
}

impl Ledger {
    /// Series that its targets' caches know.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }
    /// Refusals since the start: a series that keeps coming counts with every scrape.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// Whose budget is spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Target,
    Job,
    Server,
    /// The store's own, for series from everywhere.
    Store,
}

impl Scope {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Scope::Target => "target",
            Scope::Job => "job",
            Scope::Server => "server",
            Scope::Store => "store",
        }
    }
}

/// The three limits that hold for one target; 0 is none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub target: u64,
    pub job: u64,
    pub server: u64,
}

/// One target's share of its job's and the server's ledger, given back when it goes.
pub(crate) struct Account {
    job: Arc<Ledger>,
    server: Arc<Ledger>,
    held: u64,
    /// Of the scrape that goes on, or went last.
    pub refused: u64,
    /// A few of those, as they would be stored.
    pub examples: Vec<String>,
}

/// Examples kept, and the longest of them.
const EXAMPLES_MAX: usize = 5;
const EXAMPLE_BYTES_MAX: usize = 200;

impl Account {
    pub(crate) fn new(job: Arc<Ledger>, server: Arc<Ledger>) -> Account {
        Account { job, server, held: 0, refused: 0, examples: Vec::new() }
    }

    /// Series this target holds.
    pub(crate) fn held(&self) -> u64 {
        self.held
    }

    pub(crate) fn begin(&mut self) {
        self.refused = 0;
        self.examples.clear();
    }

    /// Whose budget has no room for one series more. Targets of a job that add series at the same moment may pass it by a
    /// few: a budget protects memory, it is no invariant.
    pub(crate) fn spent(&self, limits: &Limits) -> Option<Scope> {
        let is_spent = |held: u64, limit: u64| limit > 0 && held >= limit;
        if is_spent(self.held, limits.target) {
            return Some(Scope::Target);
        }
        if is_spent(self.job.held(), limits.job) {
            return Some(Scope::Job);
        }
        is_spent(self.server.held(), limits.server).then_some(Scope::Server)
    }

    pub(crate) fn take(&mut self) {
        self.held += 1;
        self.job.held.fetch_add(1, Ordering::Relaxed);
        self.server.held.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn refuse(&mut self, series: &ferula_model::Labels) {
        self.refused += 1;
        self.job.refused.fetch_add(1, Ordering::Relaxed);
        self.server.refused.fetch_add(1, Ordering::Relaxed);
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(series.to_string().chars().take(EXAMPLE_BYTES_MAX).collect());
        }
    }

    /// After a scrape: the cache knows `series` now.
    pub(crate) fn settle(&mut self, series: u64) {
        let (more, less) = (series.saturating_sub(self.held), self.held.saturating_sub(series));
        for ledger in [&self.job, &self.server] {
            ledger.held.fetch_add(more, Ordering::Relaxed);
            ledger.held.fetch_sub(less, Ordering::Relaxed);
        }
        self.held = series;
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.settle(0);
    }
}
