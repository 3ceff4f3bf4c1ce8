//! All jobs of a server: configuration in, pools running, snapshots out.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferula_exposition::family::Family;
use ferula_exposition::parse::Limits;
use ferula_instrument::Registry;
use ferula_model::{Budget, Clock, Labels, Metadata};
use ferula_scraper_discovery::{Discovery, ProviderStatus, SdConfigs};
use ferula_storage::Appendable;
use tokio::runtime::Handle;

use crate::budget::Ledger;
use crate::config::{ConfigError, ScrapeConfig};
use crate::ingest::Pass;
use crate::job::Job;
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::scrape_loop::Health;
use crate::starts::StartTimes;
use crate::target::{Fnv, Target};
use crate::threads::Threads;

/// What a server decides about scraping apart from the configuration file.
#[derive(Clone, Debug)]
pub struct ScrapeOptions {
    /// This machine's name: servers of a pair differ by it and by their external labels, so they scrape at other times.
    pub host: String,
    /// Scrape new targets at once instead of at their place in the interval: for the built-in configuration, where the
    /// user waits for the first sample.
    pub first_scrape_at_once: bool,
    pub user_agent: String,
    /// All bodies in memory, compressed and uncompressed. A scrape that finds it spent fails.
    pub body_budget: Budget,
    pub parse_limits: Limits,
    /// How many targets of a job share a place in the interval, about. Waking up for a scrape, with all that the machine
    /// forgot meanwhile, costs as much as reading hundreds of lines; those who come together share it. 1 is nobody.
    pub company: usize,
    /// Threads that scrape; 0 means as many as cores.
    pub threads: usize,
    pub start_times: StartTimes,
    /// Tell the store type, help and unit of every series: upstream's `metadata-wal-records`.
    pub passes_metadata: bool,
    /// Type and unit become labels of every series: upstream's `type-and-unit-labels`.
    pub type_and_unit_labels: bool,
}

impl Default for ScrapeOptions {
    fn default() -> Self {
        ScrapeOptions {
            host: String::new(),
            first_scrape_at_once: false,
            user_agent: concat!("Prometheus/3.5.0 Ferula/", env!("CARGO_PKG_VERSION")).to_owned(),
            body_budget: Budget::root("scrape bodies", 512 << 20),
            parse_limits: Limits::default(),
            company: 8,
            threads: 0,
            start_times: StartTimes::default(),
            passes_metadata: false,
            type_and_unit_labels: false,
        }
    }
}

/// What every loop needs.
pub(crate) struct Context {
    pub options: ScrapeOptions,
    pub store: Arc<dyn Appendable>,
    pub clock: Arc<dyn Clock>,
    pub metrics: Metrics,
    pub runtime: Handle,
    /// Of the threads that scrape; at least one.
    scrapers: Vec<Handle>,
    /// All series of all targets, and how many there may be; 0 is no limit.
    pub ledger: Arc<Ledger>,
    series_max: AtomicU64,
    seed: AtomicU64,
}

impl Context {
    pub(crate) fn seed(&self) -> u64 {
        self.seed.load(Ordering::Relaxed)
    }
    /// Where a target is scraped. Targets of one host and port share a thread, as they share connections.
    pub(crate) fn runtime_for(&self, target: &Target) -> &Handle {
        let mut hash = Fnv::new();
        hash.write(target.url.authority().as_bytes());
        if let Some(socket) = &target.unix_socket {
            hash.write(socket.as_os_str().as_encoded_bytes());
        }
        self.scrapers.get(hash.0 as usize % self.scrapers.len().max(1)).unwrap_or(&self.runtime)
    }
    pub(crate) fn series_max(&self) -> u64 {
        self.series_max.load(Ordering::Relaxed)
    }
    pub(crate) fn pass<'a>(&'a self, job: &'a Job, target: &'a Target, t_ms: i64) -> Pass<'a> {
        let limits = self.options.parse_limits;
        Pass {
            job,
            target,
            metrics: &self.metrics,
            limits,
            server_series_max: self.series_max(),
            t_ms,
            starts: self.options.start_times,
            passes_metadata: self.options.passes_metadata,
            type_and_unit_labels: self.options.type_and_unit_labels,
        }
    }
}

/// Scrapes all jobs until it is stopped.
pub struct ScrapeManager {
    context: Arc<Context>,
    discovery: Discovery,
    pools: Mutex<BTreeMap<String, Arc<Pool>>>,
    /// Of jobs that are gone, while they still owe stale markers.
    leaving: Mutex<Vec<Arc<Pool>>>,
    /// Without a reference in what runs on them: they end with the manager.
    _threads: Threads,
}

/// One target as the API shows it.
#[derive(Clone, Debug)]
pub struct TargetSnapshot {
    pub discovered_labels: Labels,
    pub labels: Labels,
    pub scrape_pool: String,
    pub scrape_url: String,
    pub last_error: String,
    /// In ms since 1970; `None` before the first scrape.
    pub last_scrape_ms: Option<i64>,
    pub last_scrape_duration: std::time::Duration,
    pub health: Health,
    /// Series the target holds, and new ones the last scrape brought over a budget, with a few examples.
    pub series: u64,
    pub series_refused: u64,
    pub refused_examples: Vec<String>,
    pub scrape_interval: ferula_yaml::Duration,
    pub scrape_timeout: ferula_yaml::Duration,
}

/// One job as the API shows it.
#[derive(Clone, Debug)]
pub struct PoolSnapshot {
    pub name: String,
    /// In the order of their labels.
    pub active: Vec<TargetSnapshot>,
    /// Labels before relabelling; at most `keep_dropped_targets` of `dropped_count`.
    pub dropped: Vec<Labels>,
    pub dropped_count: usize,
    pub discovery: Vec<ProviderStatus>,
    pub series: SeriesBudget,
    /// Each target's budget; 0 is none.
    pub target_series_max: u64,
}

/// How a series budget stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SeriesBudget {
    /// 0 is no limit.
    pub max: u64,
    /// Series that the targets under it hold.
    pub held: u64,
    /// Refusals since the start. A series that keeps coming is refused with every scrape.
    pub refused_total: u64,
}

impl SeriesBudget {
    fn of(ledger: &Ledger, max: u64) -> SeriesBudget {
        SeriesBudget { max, held: ledger.held(), refused_total: ledger.refused() }
    }
}

impl ScrapeManager {
    /// Must be called within a tokio runtime, on which everything runs but the scraping itself: that has threads of its own,
    /// and not getting them is the error.
    pub fn new(
        options: ScrapeOptions,
        store: Arc<dyn Appendable>,
        clock: Arc<dyn Clock>,
        registry: &Registry,
    ) -> std::io::Result<Arc<ScrapeManager>> {
        let runtime = Handle::current();
        let threads = Threads::start(options.threads)?;
        let metrics = Metrics::new(registry);
        let budget = options.body_budget.clone();
        registry.gauge_fn("ferula_scrape_body_bytes", "Bytes of scraped bodies held in memory.", move || {
            budget.used_bytes() as f64
        });
        let discovery = Discovery::new("scrape", runtime.clone(), Arc::clone(&clock), registry);
        let context = Context {
            options,
            store,
            clock,
            metrics,
            runtime,
            scrapers: threads.handles().to_vec(),
            ledger: Arc::default(),
            series_max: AtomicU64::new(0),
            seed: AtomicU64::new(0),
        };
        let ledger = Arc::clone(&context.ledger);
        registry.gauge_fn("ferula_scrape_series", "Series that the targets' last scrapes brought.", move || {
            ledger.held() as f64
        });
        let manager = Arc::new(ScrapeManager {
            context: Arc::new(context),
            discovery,
            pools: Mutex::default(),
            leaving: Mutex::default(),
            _threads: threads,
        });
        let weak = Arc::downgrade(&manager);
        registry.named_collector("scrape metadata", move |families| {
            if let Some(manager) = weak.upgrade() {
                manager.describe_metadata(families);
            }
        });
        Ok(manager)
    }

    /// How much metadata the targets of each job hold, counted when somebody asks.
    fn describe_metadata(&self, out: &mut Vec<Family>) {
        let pools: Vec<(String, Arc<Pool>)> = self.pools().iter().map(|(n, p)| (n.clone(), Arc::clone(p))).collect();
        let mut entries = Family::gauge(
            "prometheus_target_metadata_cache_entries",
            "Total number of metric metadata entries in the cache",
        );
        let mut bytes = Family::gauge(
            "prometheus_target_metadata_cache_bytes",
            "The number of bytes that are currently used for storing metric metadata in the cache",
        );
        for (name, pool) in pools {
            let (mut n, mut size) = (0usize, 0usize);
            for shared in pool.view().active {
                for (family, metadata) in shared.families().iter() {
                    n += 1;
                    size +=
                        family.len() + metadata.help.len() + metadata.unit.len() + metadata.metric_type.as_str().len();
                }
            }
            entries.push_with([("scrape_job", name.clone().into())], n as f64);
            bytes.push_with([("scrape_job", name.into())], size as f64);
        }
        out.extend([entries, bytes]);
    }

    fn pools(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Pool>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces all jobs by `configs` ([`ScrapeConfig::resolve`]d), or changes nothing and says why. Jobs that are equal
    /// go on undisturbed; of changed ones, targets whose labels and URL stay go on with their caches.
    pub fn apply(&self, configs: Vec<ScrapeConfig>, external_labels: &Labels) -> Result<(), ConfigError> {
        let mut pools = self.pools();
        let mut jobs: BTreeMap<String, Option<Job>> = BTreeMap::new();
        let mut discovery: BTreeMap<String, SdConfigs> = BTreeMap::new();
        for config in configs {
            let name = config.job_name.clone();
            discovery.insert(name.clone(), config.discovery());
            let running = pools.get(&name).map(|p| p.job());
            let job = match &running {
                Some(job) if job.config == config => None,
                before => {
                    let made = Job::new(config, before.as_deref(), &self.context.options.user_agent);
                    if made.is_err() {
                        self.context.metrics.pools_failed.inc();
                    }
                    Some(made?)
                }
            };
            if jobs.insert(name.clone(), job).is_some() {
                let message = format!("found multiple scrape configs with job name {name:?}");
                return Err(ConfigError { field: "job_name".into(), message });
            }
        }
        self.discovery.apply(&discovery).map_err(|e| ConfigError { field: String::new(), message: e.to_string() })?;
        let mut seed = Fnv::new();
        seed.write(self.context.options.host.as_bytes());
        seed.write(external_labels.to_string().as_bytes());
        self.context.seed.store(seed.0, Ordering::Relaxed);

        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.retain(|pool| !pool.is_done());
        pools.retain(|name, pool| {
            let stays = jobs.contains_key(name);
            if !stays {
                pool.leave();
                leaving.push(Arc::clone(pool));
            }
            stays
        });
        drop(leaving);
        for (name, job) in jobs {
            match (job, pools.get(&name)) {
                (None, _) => {}
                (Some(job), Some(pool)) => pool.reload(job),
                (Some(job), None) => {
                    if let Some(groups) = self.discovery.subscribe(&name) {
                        pools.insert(name, Pool::start(Arc::clone(&self.context), job, groups));
                    }
                }
            }
        }
        Ok(())
    }

    /// How many series all targets together may hold; 0 is no limit. Known ones go on when it is exceeded.
    pub fn set_series_budget(&self, max: u64) {
        self.context.series_max.store(max, Ordering::Relaxed);
    }

    /// How the budget of all targets stands.
    pub fn series_budget(&self) -> SeriesBudget {
        SeriesBudget::of(&self.context.ledger, self.context.series_max())
    }

    /// Every job with its targets, in the order of their names.
    pub fn targets(&self) -> Vec<PoolSnapshot> {
        let pools: Vec<(String, Arc<Pool>)> = self.pools().iter().map(|(n, p)| (n.clone(), Arc::clone(p))).collect();
        pools
            .into_iter()
            .map(|(name, pool)| {
                let view = pool.view();
                let mut active: Vec<TargetSnapshot> = view
                    .active
                    .iter()
                    .map(|shared| {
                        let (target, status) = (shared.target.load(), shared.status());
                        TargetSnapshot {
                            discovered_labels: target.discovered.clone(),
                            labels: target.labels.clone(),
                            scrape_pool: name.clone(),
                            scrape_url: target.url_text.clone(),
                            last_error: status.last_error.clone(),
                            last_scrape_ms: status.last_scrape_ms,
                            last_scrape_duration: status.last_duration,
                            health: status.health,
                            series: status.series,
                            series_refused: status.series_refused,
                            refused_examples: status.refused_examples.clone(),
                            scrape_interval: target.interval,
                            scrape_timeout: target.timeout,
                        }
                    })
                    .collect();
                active.sort_by(|a, b| a.labels.cmp(&b.labels).then_with(|| a.scrape_url.cmp(&b.scrape_url)));
                let job = pool.job();
                PoolSnapshot {
                    active,
                    series: SeriesBudget::of(pool.ledger(), job.config.job_series_budget),
                    target_series_max: job.config.target_series_budget,
                    dropped: view.dropped,
                    dropped_count: view.dropped_count,
                    discovery: self.discovery.status(&name),
                    name,
                }
            })
            .collect()
    }

    /// The configuration a job runs with; `None` for a job that does not exist.
    pub fn config(&self, job: &str) -> Option<ScrapeConfig> {
        self.pools().get(job).map(|pool| pool.job().config.clone())
    }

    /// Calls `f` with the labels of every target and each of its metric families.
    pub fn for_each_family(&self, f: &mut dyn FnMut(&Labels, &str, &Metadata)) {
        let pools: Vec<Arc<Pool>> = self.pools().values().map(Arc::clone).collect();
        for pool in pools {
            for shared in pool.view().active {
                let (target, families) = (shared.target.load(), shared.families());
                for (family, metadata) in families.iter() {
                    f(&target.labels, family, metadata);
                }
            }
        }
    }

    /// Ends all loops and waits for them: afterwards nothing is appended. No stale markers are written, for the server
    /// may be back within a moment.
    pub async fn stop(&self) {
        let _ = self.discovery.apply(&BTreeMap::new()); // an empty set is never refused
        let mut pools: Vec<Arc<Pool>> = std::mem::take(&mut *self.pools()).into_values().collect();
        pools.append(&mut self.leaving.lock().unwrap_or_else(PoisonError::into_inner));
        for pool in pools {
            pool.quit().await;
        }
    }
}
