//! A job's targets and their loops, kept in step with what discovery finds.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use ferula_model::Labels;
use ferula_scraper_discovery::{JobGroups, TargetGroup};
use hashbrown::{HashMap, HashSet};
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinHandle};

use crate::budget::Ledger;
use crate::error::ScrapeError;
use crate::job::Job;
use crate::manager::Context;
use crate::scrape_loop::{Loop, Order, Shared};
use crate::target::{GroupTargets, Target, build_group};

/// What the loops of a pool share.
pub(crate) struct PoolShared {
    pub job: ArcSwap<Job>,
    /// Too many targets: every scrape of the pool fails with this.
    over_limit: ArcSwapOption<(usize, u64)>,
    pub ledger: Arc<Ledger>,
}

impl PoolShared {
    pub(crate) fn forced_error(&self) -> Option<ScrapeError> {
        self.over_limit.load().as_ref().map(|o| ScrapeError::TargetLimit { targets: o.0, limit: o.1 })
    }
}

/// Places in an interval at least: a place may begin this part of the interval before the one upstream would choose.
const PLACES_MIN: usize = 32;

struct LoopHandle {
    shared: Arc<Shared>,
    orders: watch::Sender<Order>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Members {
    loops: HashMap<u64, LoopHandle>,
    /// Loops on their way out, which still owe stale markers.
    leaving: Vec<LoopHandle>,
    dropped: Vec<Labels>,
    dropped_count: usize,
    /// No loop may start any more.
    ended: bool,
    built: Built,
}

/// What the groups came to last time: discovery shares groups that did not change, and those need no relabelling again.
#[derive(Default)]
struct Built {
    job: Option<Arc<Job>>,
    /// By the group's address, which the group itself, held here, keeps from being anyone else's.
    groups: HashMap<usize, (Arc<TargetGroup>, Arc<GroupTargets>)>,
}

impl Built {
    /// The targets of all groups, in order; only what is new is built.
    fn update(&mut self, job: &Arc<Job>, groups: &JobGroups) -> Vec<Arc<GroupTargets>> {
        let same_job = self.job.as_ref().is_some_and(|j| Arc::ptr_eq(j, job));
        let mut before = std::mem::take(&mut self.groups);
        if !same_job {
            before.clear();
        }
        self.job = Some(Arc::clone(job));
        let mut out = Vec::new();
        for group in groups.iter().flat_map(|g| g.iter()) {
            let key = Arc::as_ptr(group).addr();
            let entry = before
                .remove(&key)
                .unwrap_or_else(|| (Arc::clone(group), Arc::new(build_group(&job.config, &job.rules, group))));
            out.push(Arc::clone(&entry.1));
            self.groups.insert(key, entry);
        }
        out
    }
}

pub(crate) struct Pool {
    context: Arc<Context>,
    shared: Arc<PoolShared>,
    members: Mutex<Members>,
    /// The job changed: build the targets again.
    rebuild: Notify,
    follower: Mutex<Option<AbortHandle>>,
}

/// What the API shows of a pool.
pub(crate) struct PoolView {
    pub active: Vec<Arc<Shared>>,
    pub dropped: Vec<Labels>,
    pub dropped_count: usize,
}

impl Pool {
    /// Starts following `groups`.
    pub(crate) fn start(context: Arc<Context>, job: Job, groups: watch::Receiver<JobGroups>) -> Arc<Pool> {
        context.metrics.pools.inc();
        context.metrics.sync_failed.with(&[&job.config.job_name]).inc_by(0); // there from the start
        let shared = Arc::new(PoolShared {
            job: ArcSwap::from_pointee(job),
            over_limit: ArcSwapOption::empty(),
            ledger: Arc::default(),
        });
        let pool = Arc::new(Pool {
            context: Arc::clone(&context),
            shared,
            members: Mutex::default(),
            rebuild: Notify::new(),
            follower: Mutex::default(),
        });
        let follower = context.runtime.spawn(Arc::clone(&pool).follow(groups));
        *pool.follower.lock().unwrap_or_else(PoisonError::into_inner) = Some(follower.abort_handle());
        pool
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    pub(crate) fn job(&self) -> Arc<Job> {
        self.shared.job.load_full()
    }

    /// Puts a new configuration to use. Loops of targets that stay the same go on.
    pub(crate) fn reload(&self, job: Job) {
        self.context.metrics.pool_reloads.inc();
        self.shared.job.store(Arc::new(job));
        self.rebuild.notify_one();
    }

    async fn follow(self: Arc<Self>, mut groups: watch::Receiver<JobGroups>) {
        let mut reloaded = false;
        loop {
            let now = groups.borrow_and_update().clone();
            if now.is_some() {
                let pool = Arc::clone(&self);
                // Relabelling ten thousand targets takes a while; the runtime has other things to do.
                let started = self.context.clock.monotonic();
                if let Err(e) = tokio::task::spawn_blocking(move || pool.sync(&now)).await {
                    tracing::error!(error = %e, "Building targets failed");
                }
                if reloaded {
                    let length =
                        self.context.metrics.reload_length.with(&[&self.job().config.scrape_interval.to_string()]);
                    length.observe_duration(self.context.clock.monotonic().saturating_sub(started));
                }
            }
            reloaded = tokio::select! {
                changed = groups.changed() => match changed {
                    Ok(()) => false,
                    Err(_) => return,
                },
                () = self.rebuild.notified() => true,
            };
        }
    }

    fn sync(&self, groups: &JobGroups) {
        let started = self.context.clock.monotonic();
        let job = self.job();
        let (name, metrics) = (job.config.job_name.as_str(), &self.context.metrics);
        // Taken out, for building may take long and readers of the members must not wait for it.
        let mut built = std::mem::take(&mut self.members().built);
        let groups = built.update(&job, groups);
        let mut seen = HashSet::new();
        let active: Vec<Arc<Target>> =
            groups.iter().flat_map(|g| &g.active).filter(|t| seen.insert(t.hash)).cloned().collect();
        for failure in groups.iter().flat_map(|g| &g.failures) {
            metrics.sync_failed.with(&[name]).inc();
            tracing::error!(scrape_pool = name, err = %failure, "Creating target failed");
        }
        let limit = job.config.target_limit;
        let over = limit > 0 && active.len() as u64 > limit;
        if over {
            metrics.exceeded_target_limit.inc();
        }
        self.shared.over_limit.store(over.then(|| Arc::new((active.len(), limit))));
        metrics.pool_targets.with(&[name]).set(active.len() as f64);
        metrics.pool_target_limit.with(&[name]).set(limit as f64);

        let mut members = self.members();
        if members.ended {
            return;
        }
        members.built = built;
        let keep = match job.config.keep_dropped_targets {
            0 => usize::MAX,
            n => usize::try_from(n).unwrap_or(usize::MAX),
        };
        members.dropped_count = groups.iter().map(|g| g.dropped.len()).sum();
        members.dropped = groups.iter().flat_map(|g| &g.dropped).take(keep).cloned().collect();
        let mut before = std::mem::take(&mut members.loops);
        // A power of two, so that those who come later, when there are more, find the same places among theirs.
        let company = self.context.options.company.max(1);
        let places = (active.len() / company).max(PLACES_MIN).next_power_of_two() as u64;
        let places = if company == 1 { u64::MAX } else { places };
        for target in active {
            let hash = target.hash;
            let handle = match before.remove(&hash) {
                Some(handle) => {
                    handle.shared.target.store(target);
                    handle
                }
                None => self.spawn(target, places),
            };
            members.loops.insert(hash, handle);
        }
        members.leaving.retain(|l| !l.task.is_finished());
        for (_, handle) in before {
            handle.orders.send_replace(Order::Leave);
            members.leaving.push(handle);
        }
        drop(members);
        metrics.pool_syncs.with(&[name]).inc();
        let took = self.context.clock.monotonic().saturating_sub(started);
        metrics.sync_length.with(&[name]).observe_duration(took);
    }

    fn spawn(&self, target: Arc<Target>, places: u64) -> LoopHandle {
        let runtime = self.context.runtime_for(&target);
        let shared = Arc::new(Shared::new(target));
        let (orders, receiver) = watch::channel(Order::Run);
        let one = Loop::new(Arc::clone(&self.context), Arc::clone(&self.shared), Arc::clone(&shared), receiver, places);
        LoopHandle { shared, orders, task: runtime.spawn(one.run()) }
    }

    /// The job is gone: all targets leave, each ending its series when it is sure not to come back.
    pub(crate) fn leave(&self) {
        self.stop_following();
        let mut members = self.members();
        members.ended = true;
        let Members { loops, leaving, .. } = &mut *members;
        for (_, handle) in loops.drain() {
            handle.orders.send_replace(Order::Leave);
            leaving.push(handle);
        }
        let (job, metrics) = (self.job(), &self.context.metrics);
        let name = [job.config.job_name.as_str()];
        metrics.pool_targets.remove(&name);
        metrics.pool_target_limit.remove(&name);
    }

    /// Whether a pool that left has nothing more to do.
    pub(crate) fn is_done(&self) -> bool {
        let mut members = self.members();
        members.leaving.retain(|l| !l.task.is_finished());
        members.loops.is_empty() && members.leaving.is_empty()
    }

    /// Ends all loops at once and waits for them.
    pub(crate) async fn quit(&self) {
        self.stop_following();
        let handles: Vec<LoopHandle> = {
            let mut members = self.members();
            members.ended = true;
            let Members { loops, leaving, .. } = &mut *members;
            loops.drain().map(|(_, handle)| handle).chain(leaving.drain(..)).collect()
        };
        for handle in &handles {
            handle.orders.send_replace(Order::Quit);
        }
        for handle in handles {
            let _ = handle.task.await; // a panic was reported where it happened
        }
    }

    fn stop_following(&self) {
        if let Some(follower) = self.follower.lock().unwrap_or_else(PoisonError::into_inner).take() {
            follower.abort();
        }
    }

    pub(crate) fn view(&self) -> PoolView {
        let members = self.members();
        PoolView {
            active: members.loops.values().map(|l| Arc::clone(&l.shared)).collect(),
            dropped: members.dropped.clone(),
            dropped_count: members.dropped_count,
        }
    }
}
