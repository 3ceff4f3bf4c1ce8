//! Jobs and their providers: starting, keeping, stopping, and handing out what they found.
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ferula_instrument::Registry;
use ferula_model::Clock;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::config::SdConfigs;
use crate::error::Error;
use crate::group::TargetGroup;
use crate::mechanism::{Mechanism, Prepared, Shared};
use crate::metrics::Metrics;

/// Everything a job's providers found, provider by provider. `None` until the first of them has answered.
pub type JobGroups = Option<Arc<Vec<Arc<TargetGroup>>>>;

/// How one provider fares, for the API.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProviderStatus {
    pub mechanism: &'static str,
    /// When the set was last confirmed, in ms since 1970; `None` before the first time.
    pub last_update_ms: Option<i64>,
    /// Why the latest refresh failed, if it did. The set is that of the last success then.
    pub last_error: Option<String>,
    pub targets: usize,
}

/// Follows the targets of many jobs. Dropping it stops all providers.
pub struct Discovery {
    /// Which of the server's two discoveries this is: `scrape` or `notify`.
    name: &'static str,
    runtime: Handle,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    shared: Shared,
    jobs: Mutex<BTreeMap<String, Job>>,
}

struct Job {
    shared: Arc<JobShared>,
    providers: Vec<Provider>,
}

struct Provider {
    id: u64,
    source: Source,
    _task: Option<AbortOnDrop>,
}

/// What a provider runs on. Equal ones survive a reload.
#[derive(Clone, Debug, PartialEq)]
enum Source {
    Static(Vec<TargetGroup>),
    Found(Mechanism),
}

impl Source {
    fn name(&self) -> &'static str {
        match self {
            Source::Static(_) => "static",
            Source::Found(mechanism) => mechanism.name(),
        }
    }
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct JobShared {
    name: String,
    slots: Mutex<Slots>,
    groups: watch::Sender<JobGroups>,
}

#[derive(Default)]
struct Slots {
    list: Vec<Slot>,
    gate: Gate,
}

/// When the slots' union may be published.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Gate {
    #[default]
    Open,
    /// Every provider has answered.
    Complete,
    /// The slots are being replaced.
    Shut,
}

/// One provider's last word.
struct Slot {
    id: u64,
    /// Whether the first refresh is over, well or badly.
    answered: bool,
    groups: Vec<Arc<TargetGroup>>,
    status: ProviderStatus,
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Discovery {
    /// Providers run as tasks on `runtime`.
    pub fn new(name: &'static str, runtime: Handle, clock: Arc<dyn Clock>, registry: &Registry) -> Discovery {
        let metrics = Metrics::new(registry);
        metrics.failed_configs.with(&[name]).set(0.0);
        metrics.updates_delayed.with(&[name]).inc_by(0);
        Discovery { name, runtime, clock, metrics, shared: Shared::default(), jobs: Mutex::default() }
    }

    /// Replaces all jobs. Nothing changes if any configuration is refused. Providers with equal configuration go on.
    pub fn apply(&self, jobs: &BTreeMap<String, SdConfigs>) -> Result<(), Error> {
        let mut wanted = BTreeMap::new();
        for (name, configs) in jobs {
            configs.validate()?;
            configs.require_built()?;
            wanted.insert(name.clone(), self.sources(configs)?);
        }
        let mut running = lock(&self.jobs);
        running.retain(|name, job| {
            let stays = wanted.contains_key(name);
            if !stays {
                self.forget(name, job);
            }
            stays
        });
        for (name, sources) in wanted {
            let job = running.entry(name.clone()).or_insert_with(|| Job {
                shared: Arc::new(JobShared { name, slots: Mutex::default(), groups: watch::Sender::new(None) }),
                providers: Vec::new(),
            });
            self.apply_job(job, sources);
        }
        Ok(())
    }

    /// A job that is gone leaves no metrics behind.
    fn forget(&self, name: &str, job: &Job) {
        for of_job in [&self.metrics.discovered, &self.metrics.sent, &self.metrics.last_update] {
            of_job.remove(&[self.name, name]);
        }
        for provider in &job.providers {
            let labels = [provider.source.name(), name];
            self.metrics.refresh_failures.remove(&labels);
            self.metrics.refresh_duration.remove(&labels);
        }
    }

    fn apply_job(&self, job: &mut Job, wanted: Vec<(Source, Option<Prepared>)>) {
        // The targets of dropped providers stay until their successors have answered: no gap over a reload.
        lock(&job.shared.slots).gate = Gate::Shut;
        let mut before = std::mem::take(&mut job.providers);
        for (source, prepared) in wanted {
            let provider = match before.iter().position(|p| p.source == source) {
                Some(at) => before.swap_remove(at),
                None => self.start(&job.shared, source, prepared),
            };
            job.providers.push(provider);
        }
        let order: Vec<u64> = job.providers.iter().map(|p| p.id).collect();
        {
            let mut slots = lock(&job.shared.slots);
            let first_time = job.shared.groups.borrow().is_none();
            slots.gate = if first_time { Gate::Open } else { Gate::Complete };
            slots.list.retain(|s| order.contains(&s.id));
            slots.list.sort_by_key(|s| order.iter().position(|id| *id == s.id));
        }
        drop(before); // ends their tasks
        job.shared.publish();
    }

    fn start(&self, job: &Arc<JobShared>, source: Source, prepared: Option<Prepared>) -> Provider {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let status = ProviderStatus { mechanism: source.name(), ..ProviderStatus::default() };
        lock(&job.slots).list.push(Slot { id, answered: false, groups: Vec::new(), status });
        let publish = Publisher {
            id,
            job: Arc::clone(job),
            name: self.name,
            clock: Arc::clone(&self.clock),
            metrics: self.metrics.clone(),
        };
        let task = match (&source, prepared) {
            (Source::Found(_), Some(prepared)) => Some(self.runtime.spawn(prepared(publish))),
            (Source::Found(_), None) => None, // sources() prepares each
            (Source::Static(groups), _) => {
                publish.groups(groups.clone(), None);
                None
            }
        };
        Provider { id, source, _task: task.map(|t| AbortOnDrop(t.abort_handle())) }
    }

    fn sources(&self, configs: &SdConfigs) -> Result<Vec<(Source, Option<Prepared>)>, Error> {
        let mut out = Vec::new();
        // A job without any mechanism has no targets, which is an answer too.
        let groups = configs.static_configs.iter().enumerate().map(|(i, g)| g.group(i)).collect();
        out.push((Source::Static(groups), None));
        for mechanism in &configs.mechanisms {
            let prepared = mechanism.prepare(&self.shared)?;
            out.push((Source::Found(mechanism.clone()), Some(prepared)));
        }
        Ok(out)
    }

    /// Follows the groups of a job; the value at hand is the current one.
    pub fn subscribe(&self, job: &str) -> Option<watch::Receiver<JobGroups>> {
        lock(&self.jobs).get(job).map(|j| j.shared.groups.subscribe())
    }

    /// How every provider of a job fares.
    pub fn status(&self, job: &str) -> Vec<ProviderStatus> {
        let jobs = lock(&self.jobs);
        jobs.get(job).map_or_else(Vec::new, |j| lock(&j.shared.slots).list.iter().map(|s| s.status.clone()).collect())
    }
}

impl JobShared {
    /// Makes the slots' union visible.
    fn publish(&self) {
        let mut slots = lock(&self.slots);
        let answered = slots.list.iter().filter(|s| s.answered).count();
        let open = match slots.gate {
            Gate::Open => answered > 0,
            Gate::Complete => answered == slots.list.len(),
            Gate::Shut => false,
        };
        if !open {
            return;
        }
        slots.gate = Gate::Open;
        let all: Vec<Arc<TargetGroup>> = slots.list.iter().flat_map(|s| &s.groups).cloned().collect();
        self.groups.send_if_modified(|held| {
            let same = held
                .as_ref()
                .is_some_and(|h| h.len() == all.len() && h.iter().zip(&all).all(|(a, b)| Arc::ptr_eq(a, b)));
            if !same {
                *held = Some(Arc::new(all));
            }
            !same
        });
    }
}

/// A provider's way to say what it found.
pub(crate) struct Publisher {
    id: u64,
    job: Arc<JobShared>,
    name: &'static str,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl Publisher {
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
    pub(crate) fn monotonic(&self) -> Duration {
        self.clock.monotonic()
    }

    /// The provider's whole set now, and what went wrong for a part of it. Groups equal to last time's are shared.
    /// They are asked for one by one, so that only those which changed are ever held twice.
    pub(crate) fn groups(&self, groups: impl IntoIterator<Item = TargetGroup>, error: Option<String>) {
        let now_ms = self.clock.now_ms();
        let before: Vec<Arc<TargetGroup>> = match lock(&self.job.slots).list.iter().find(|s| s.id == self.id) {
            Some(slot) => slot.groups.clone(),
            None => return,
        };
        let by_source: HashMap<&str, &Arc<TargetGroup>> = before.iter().map(|g| (g.source.as_str(), g)).collect();
        let shared = groups.into_iter().map(|g| match by_source.get(g.source.as_str()) {
            Some(old) if ***old == g => Arc::clone(old),
            _ => Arc::new(g),
        });
        let groups: Vec<Arc<TargetGroup>> = shared.collect();
        drop(by_source);
        let targets = groups.iter().map(|g| g.targets.len()).sum();
        {
            let mut slots = lock(&self.job.slots);
            let Some(slot) = slots.list.iter_mut().find(|s| s.id == self.id) else { return };
            slot.groups = groups;
            slot.answered = true;
            slot.status.last_update_ms = Some(now_ms);
            slot.status.last_error = error;
            slot.status.targets = targets;
            let total: usize = slots.list.iter().map(|s| s.status.targets).sum();
            self.metrics.gauge(self.name, &self.job.name).set(total as f64);
        }
        self.metrics.received_updates.with(&[self.name]).inc();
        self.metrics.last_update.with(&[self.name, &self.job.name]).set(now_ms as f64 / 1000.0);
        self.job.publish();
        self.metrics.updates.with(&[self.name]).inc();
        self.metrics.sent.with(&[self.name, &self.job.name]).set(now_ms as f64 / 1000.0);
    }

    /// Nothing new, for this reason; the last set stays.
    pub(crate) fn failed(&self, reason: String) {
        tracing::error!(job = %self.job.name, error = %reason, "Unable to refresh target groups");
        if let Some(slot) = lock(&self.job.slots).list.iter_mut().find(|s| s.id == self.id) {
            slot.answered = true;
            slot.status.last_error = Some(reason);
        }
        self.job.publish();
    }

    pub(crate) fn refreshed(&self, mechanism: &str, took: Duration) {
        self.metrics.refresh_duration.with(&[mechanism, &self.job.name]).observe_duration(took);
    }

    pub(crate) fn refresh_failed(&self, mechanism: &str) {
        self.metrics.refresh_failures.with(&[mechanism, &self.job.name]).inc();
    }
}
