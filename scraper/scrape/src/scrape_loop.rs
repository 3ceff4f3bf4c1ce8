//! One target's rhythm: wait, fetch, ingest, again; and its orderly end.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::budget::Account;
use crate::fetch::fetch;
use crate::ingest::State;
use crate::job::Job;
use crate::manager::Context;
use crate::metadata::Families;
use crate::pool::PoolShared;
use crate::reading::Reading;
use crate::target::Target;

/// What a loop is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Run,
    /// The target is gone: end its series once it is sure not to come back.
    Leave,
    /// The server stops, or restarts the target: write nothing more.
    Quit,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    #[default]
    Unknown,
    Up,
    Down,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Up => "up",
            Health::Down => "down",
        }
    }
}

/// How the last scrape went.
#[derive(Clone, Debug, Default)]
pub(crate) struct Status {
    pub health: Health,
    pub last_error: String,
    pub last_scrape_ms: Option<i64>,
    pub last_duration: Duration,
    pub series: u64,
    pub series_refused: u64,
    pub refused_examples: Vec<String>,
}

/// What the loop shares with its pool and the API.
pub(crate) struct Shared {
    /// Replaced when only the discovered labels changed.
    pub target: ArcSwap<Target>,
    status: Mutex<Status>,
    families: Mutex<Families>,
}

impl Shared {
    pub(crate) fn new(target: Arc<Target>) -> Shared {
        Shared { target: ArcSwap::new(target), status: Mutex::default(), families: Mutex::default() }
    }
    pub(crate) fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(crate) fn families(&self) -> MutexGuard<'_, Families> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) struct Loop {
    pub context: Arc<Context>,
    pub pool: Arc<PoolShared>,
    pub shared: Arc<Shared>,
    pub orders: watch::Receiver<Order>,
    /// `None` before the first scrape, and after one that panicked.
    state: Option<Box<State>>,
    /// How long the last body was, so that the next one's buffer need not grow.
    body_bytes: u64,
    /// The job the cache belongs to.
    cached_for: Option<Arc<Job>>,
    /// Among how many places in the interval its own was chosen.
    places: u64,
    /// Wall time of the last scrape's place in the rhythm, in ms.
    aligned_ms: Option<i64>,
    last_start: Option<Duration>,
}

/// Timers fire a little late. Within this much, the stamp is the exact place in the rhythm: regular stamps compress.
const TOLERANCE_MS: i64 = 2;

impl Loop {
    pub(crate) fn new(
        context: Arc<Context>,
        pool: Arc<PoolShared>,
        shared: Arc<Shared>,
        orders: watch::Receiver<Order>,
        places: u64,
    ) -> Loop {
        Loop {
            context,
            pool,
            shared,
            orders,
            state: None,
            body_bytes: 0,
            cached_for: None,
            places,
            aligned_ms: None,
            last_start: None,
        }
    }

    pub(crate) async fn run(mut self) {
        let target = self.shared.target.load_full();
        let clock = Arc::clone(&self.context.clock);
        let interval = target.interval.std();
        let delay = match self.context.options.first_scrape_at_once {
            true => 0,
            false => target.offset_ms(clock.now_ms(), self.context.seed(), self.places),
        };
        let mut next = clock.monotonic() + Duration::from_millis(delay.unsigned_abs());
        drop(target);
        while self.wait_until(next).await {
            // Boxed, so that an idle target's task holds none of a request's state.
            Box::pin(self.scrape()).await;
            next += interval;
            let now = clock.monotonic();
            if now > next + interval {
                // Places that were missed altogether are skipped, never caught up.
                let missed = (now - next).as_nanos() / interval.as_nanos().max(1);
                next += interval * u32::try_from(missed).unwrap_or(u32::MAX);
            }
        }
        let order = *self.orders.borrow();
        if order == Order::Leave && self.aligned_ms.is_some() {
            self.leave(next, interval).await;
        }
    }

    /// `false` when the loop shall end instead.
    async fn wait_until(&mut self, at: Duration) -> bool {
        let deadline = Instant::now() + at.saturating_sub(self.context.clock.monotonic());
        let Loop { orders, .. } = self;
        tokio::select! {
            biased;
            _ = orders.wait_for(|o| *o != Order::Run) => false,
            () = tokio::time::sleep_until(deadline) => true,
        }
    }

    /// Waits until the next two scrapes would have been, and a tenth of the interval more: a target that comes back by
    /// then has newer samples, which the markers (stamped with the first of those times) do not overtake.
    async fn leave(&mut self, next: Duration, interval: Duration) {
        if !self.wait_leaving(next).await {
            return;
        }
        let t_ms = self.context.clock.now_ms();
        if !self.wait_leaving(next + interval + interval / 10).await {
            return;
        }
        let (job, target) = (self.pool.job.load_full(), self.shared.target.load_full());
        let Some(mut state) = self.state.take() else { return };
        let pass = self.context.pass(&job, &target, t_ms);
        let done = catch(|| state.end_all(self.context.store.as_ref(), &pass));
        if let Some(Err(e)) = done {
            tracing::error!(error = %e, "Stale commit failed");
        }
    }

    async fn wait_leaving(&mut self, at: Duration) -> bool {
        let deadline = Instant::now() + at.saturating_sub(self.context.clock.monotonic());
        let Loop { orders, .. } = self;
        tokio::select! {
            biased;
            _ = orders.wait_for(|o| *o == Order::Quit) => false,
            () = tokio::time::sleep_until(deadline) => true,
        }
    }

    /// The stamp of a scrape that begins now.
    fn stamp(&mut self, interval_ms: i64) -> i64 {
        let now = self.context.clock.now_ms();
        let aligned = match self.aligned_ms {
            // Whole intervals later; from a clock that was set back, a new rhythm begins.
            Some(before) if now >= before => now - (now - before) % interval_ms.max(1),
            _ => now,
        };
        self.aligned_ms = Some(aligned);
        if now - aligned <= TOLERANCE_MS.min(interval_ms / 100) { aligned } else { now }
    }

    fn fresh_state(&self) -> Box<State> {
        let account = Account::new(Arc::clone(&self.pool.ledger), Arc::clone(&self.context.ledger));
        Box::new(State::new(account))
    }

    async fn scrape(&mut self) {
        let (context, shared) = (Arc::clone(&self.context), Arc::clone(&self.shared));
        let (job, target) = (self.pool.job.load_full(), self.shared.target.load_full());
        let started = context.clock.monotonic();
        if let Some(before) = self.last_start.replace(started) {
            let length = context.metrics.interval_length.with(&[&target.interval.to_string()]);
            length.observe_duration(started.saturating_sub(before));
        }
        let t_ms = self.stamp(target.interval.ms());
        let mut incoming = match self.pool.forced_error() {
            Some(e) => Err(e),
            None => tokio::select! {
                biased;
                _ = self.orders.wait_for(|o| *o != Order::Run) => return,
                fetched = fetch(&job, &target, &context.options.body_budget) => fetched,
            },
        };
        let mut state = self.state.take().unwrap_or_else(|| self.fresh_state());
        if let Some(before) = self.cached_for.replace(Arc::clone(&job))
            && !Arc::ptr_eq(&before, &job)
            && !before.same_series(&job)
        {
            state.cache.reset();
        }
        let mut reading = Reading::new(job, target, t_ms, started, self.body_bytes);
        loop {
            let wire = match &mut incoming {
                Ok(incoming) => tokio::select! {
                    biased;
                    _ = self.orders.wait_for(|o| *o != Order::Run) => {
                        reading.abandon(&mut state);
                        self.state = Some(state);
                        return;
                    }
                    wire = incoming.gather() => wire.map(|wire| (wire, incoming.form())),
                },
                Err(e) => Err(e.clone()),
            };
            let before = context.clock.monotonic();
            let step = catch(|| reading.step(&mut state, &shared, &context, wire));
            let Some(done) = step else { return };
            if let Some(body_bytes) = done {
                self.state = Some(state);
                self.body_bytes = body_bytes;
                return;
            }
            if let Ok(incoming) = &mut incoming {
                incoming.extend_deadline(context.clock.monotonic().saturating_sub(before));
            }
            tokio::task::yield_now().await; // other targets of this thread may be due
        }
    }
}

/// What `step` returns, or `None` if it panicked: a bug that one target's body finds must not end the others' scrapes. What
/// `step` borrowed is to be dropped then.
fn catch<T>(step: impl FnOnce() -> T) -> Option<T> {
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(step));
    done.inspect_err(|_| tracing::error!("A scrape panicked; its target starts afresh")).ok()
}
