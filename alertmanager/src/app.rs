//! One Alertmanager: the core behind a lock, the shell that sends, and what outside code calls.
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use ferula_instrument::Registry;
use ferula_model::Clock;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;

use crate::alert::{Alert, PostableAlert};
use crate::cluster::{self, Cluster, ClusterError};
use crate::config::{Config, ConfigError};
use crate::core::{Core, CoreOptions, Delivery, Inserted, Intent, LogChange, Now, Place};
use crate::history::{self, Event, History};
use crate::matcher;
use crate::metrics::Metrics;
use crate::notify::template::{TemplateError, TemplateSet};
use crate::notify::{self, Context};
use crate::options::Options;
use crate::receiver::http::Clients;
use crate::silence::{Silence, SilenceError, SilenceId, SilenceLimits};
use crate::store::{self, Entry, State, Store, StoreError, Unsynced};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("error loading configuration file: {0}")]
    Config(#[from] ConfigError),
    #[error("failed to parse templates: {0}")]
    Template(#[from] TemplateError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// Why a silence was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SilenceFailure {
    #[error(transparent)]
    Silence(#[from] SilenceError),
    #[error("the silence could not be written to disk")]
    NotDurable,
}

/// Everything that changes with the configuration file.
pub(crate) struct Loaded {
    pub config: Config,
    pub context: Context,
    pub clients: Clients,
    /// At most so many deliveries at a time to one integration: a hanging receiver holds up nobody else.
    permits: std::collections::HashMap<(Arc<str>, &'static str, u32), Arc<Permits>>,
}

/// What paces the deliveries of one integration.
struct Permits {
    running: Semaphore,
    beginning: Semaphore,
}

/// How long an accepted alert may be unknown to the disk.
const ALERTS_SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// So much is synced before its time: the journal holds it in memory until then.
const UNSYNCED_BYTES: usize = 2 << 20;

/// How long a stop waits for deliveries in flight.
const SHUTDOWN_GRACE: Duration = Duration::from_millis(500);

const DELIVERIES_PER_INTEGRATION: usize = 64;

/// Of these so many begin at a time, each holding the others up for a moment at most: a receiver that answers at once is
/// then told over a few connections, with a few bodies in memory, however many groups come due together.
const DELIVERIES_BEGINNING: usize = 4;
const BEGINNING: Duration = Duration::from_millis(10);

/// The Alertmanager of a process. All methods may be called from anywhere; the lock is never held while waiting.
pub struct Alertmanager {
    pub(crate) options: Options,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) registry: Registry,
    pub(crate) metrics: Metrics,
    core: Mutex<Core>,
    loaded: ArcSwap<Loaded>,
    pub(crate) store: Store,
    /// Records of alerts and timers that no sync was asked for.
    unsynced: Mutex<Option<Unsynced>>,
    wake: Notify,
    pub(crate) started_at_ms: i64,
    pub(crate) get_permits: Semaphore,
    pub(crate) history: History,
    cluster: OnceLock<Arc<Cluster>>,
    /// What forms of the pages carry.
    pub(crate) page_token: String,
}

impl Alertmanager {
    /// Reads configuration, templates and state. Nothing is sent before [`Alertmanager::run`].
    pub fn new(options: Options, clock: Arc<dyn Clock>, registry: Registry) -> Result<Arc<Alertmanager>, Error> {
        if options.features.iter().any(|f| f == "classic-mode") {
            matcher::Mode::Classic.set();
        } else if options.features.iter().any(|f| f == "utf8-strict-mode") {
            matcher::Mode::Utf8.set();
        }
        let metrics = Metrics::new(&registry);
        let (text, loaded) = load(&options, &clock, &metrics)?;
        let now = Now::read(&*clock);
        let core_options = CoreOptions {
            retention_ms: options.retention_ms,
            alerts_gc_interval_ms: options.alerts_gc_interval_ms,
            maintenance_interval_ms: options.dispatch_maintenance_interval_ms,
            start_delay_ms: options.dispatch_start_delay_ms,
            per_alertname_limit: options.alerts_per_alertname_limit,
            alerts_max: options.alerts_max,
            alert_size_bytes_max: options.alert_size_bytes_max,
            silences: SilenceLimits {
                silences_max: options.silences_max,
                size_bytes_max: options.silence_size_bytes_max,
            },
        };
        let mut core = Core::new(&loaded.config, core_options, metrics.clone(), now);
        let store = Store::open(&options.storage_path, options.retention_ms, &mut core, now.wall_ms)?;
        core.restored(now);
        let get_max = match options.get_concurrency {
            0 => std::thread::available_parallelism().map_or(8, |n| n.get().max(8)),
            n => n,
        };
        let options_history = options.storage_path.join("history");
        let am = Arc::new(Alertmanager {
            options,
            registry: registry.clone(),
            metrics,
            core: Mutex::new(core),
            loaded: ArcSwap::from_pointee(loaded),
            store,
            unsynced: Mutex::new(None),
            wake: Notify::new(),
            started_at_ms: now.wall_ms,
            get_permits: Semaphore::new(get_max),
            history: History::new(Arc::new(ferula_fs::Disk), options_history),
            cluster: OnceLock::new(),
            page_token: crate::api::page::new_token(),
            clock,
        });
        am.reloaded(&text, true);
        am.register_gauges(&registry);
        Ok(am)
    }

    /// Joins the cluster of the options, or does nothing if there is none. To be called once, before
    /// [`Alertmanager::run`], on the runtime that runs it.
    pub async fn join(self: &Arc<Self>) -> Result<(), Error> {
        let options = self.options.cluster.clone();
        if options.listen_address.is_empty() {
            return Ok(());
        }
        let cluster = cluster::start(self, options, &self.options.storage_path, self.clock.now_ms()).await?;
        tracing::info!(name = &*cluster.name, address = %cluster.advertised, "Clustering as");
        let _ = self.cluster.set(cluster);
        Ok(())
    }

    pub(crate) fn cluster(&self) -> Option<&Arc<Cluster>> {
        self.cluster.get()
    }

    /// Where peers reach this member; None without a cluster.
    pub fn cluster_address(&self) -> Option<std::net::SocketAddr> {
        self.cluster().map(|c| c.advertised)
    }

    pub(crate) fn set_place(&self, place: Place) {
        self.core().set_place(place);
        self.wake.notify_one();
    }

    pub(crate) fn receive_intent(&self, intent: Intent) {
        self.core().receive_intent(intent, self.now());
    }

    /// Takes in what a peer knows, records with their lengths. What was news is written down, and not passed on: the peer
    /// has told everybody itself.
    pub(crate) fn receive_entries(self: &Arc<Self>, bytes: &[u8]) {
        let (mut silences, mut log, mut alerts) = (Vec::new(), Vec::new(), Vec::new());
        let (mut unknown, now) = (0usize, self.now());
        let entries: Vec<Option<Entry>> = store::delimited(bytes).map(|record| Entry::read(record?)).collect();
        {
            let mut core = self.core();
            for entry in entries {
                match entry {
                    Some(Entry::Silence(s)) => {
                        let id = s.id.clone();
                        if core.receive_silence(s, now) {
                            silences.extend(core.silences.get(&id).cloned());
                        }
                    }
                    Some(Entry::Log(change)) => {
                        if core.receive_log(change.clone(), now) {
                            log.push(change);
                        }
                    }
                    Some(Entry::Alerts(all)) => {
                        alerts.extend(all.into_iter().filter_map(|a| core.receive_alert(a, now)))
                    }
                    Some(Entry::Group(_)) | None => unknown += 1,
                }
            }
        }
        if unknown > 0 {
            tracing::warn!(unknown, "A peer sent entries that cannot be read");
        }
        self.keep(self.store.write_alerts(&alerts), "Alerts of a peer");
        if !alerts.is_empty() {
            self.wake.notify_one();
        }
        if !silences.is_empty() || !log.is_empty() {
            let am = self.clone();
            tokio::task::spawn_blocking(move || {
                let written = am.store.write_silences(&silences).and_then(|()| am.store.write_log(&log));
                if written.is_err() {
                    am.metrics.journal_errors.inc();
                }
            });
        }
    }

    /// All that a peer should know, as records. The log comes first: it says what need not be told again.
    pub(crate) fn everything(&self) -> Vec<Vec<u8>> {
        let (log, silences, alerts) = {
            let core = self.core();
            let log: Vec<LogChange> = core.nflog.iter().map(|(k, e)| (k.clone(), e.clone())).collect();
            let silences: Vec<Arc<Silence>> = core.silences.iter().cloned().collect();
            (log, silences, core.kept_alerts())
        };
        let retention_ms = self.options.retention_ms;
        let log = log.iter().map(store::log_record);
        let silences = silences.iter().map(|s| store::silence_record(s, retention_ms));
        log.chain(silences).chain(alerts.iter().map(|a| store::alert_record(a))).collect()
    }

    /// Tells peers that this member is at it, for as long as one peer timeout; again while it tries. 0 takes it back.
    fn announce(&self, delivery: &Delivery, is_over: bool) {
        if let Some(cluster) = self.cluster() {
            let lease_ms = if is_over { 0 } else { cluster.options.peer_timeout_ms };
            cluster.announce(&Intent { key: delivery.key.clone(), holder: cluster.name.clone(), lease_ms });
        }
    }

    /// How often an intent is renewed; never without a cluster.
    fn renewal(&self) -> Duration {
        self.cluster().map_or(Duration::from_secs(86_400), |c| {
            Duration::from_millis((c.options.peer_timeout_ms / 3).max(100).unsigned_abs())
        })
    }

    /// The routes of API and pages, under the route prefix.
    pub fn router(self: &Arc<Self>) -> axum::Router {
        crate::api::router(self.clone())
    }

    pub(crate) fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(crate) fn loaded(&self) -> Arc<Loaded> {
        self.loaded.load_full()
    }
    pub(crate) fn now(&self) -> Now {
        Now::read(&*self.clock)
    }

    /// Takes in alerts as the API does: the valid ones are kept, the others reported.
    pub fn post_alerts(&self, alerts: Vec<PostableAlert>) -> Inserted {
        let started = self.clock.monotonic();
        let inserted = self.core().insert(alerts, self.now());
        // In the file when this returns, on the disk within a second: see `run`.
        self.keep(self.store.write_alerts(&inserted.changed), "Alerts");
        if let (Some(cluster), false) = (self.cluster(), inserted.to_share.is_empty()) {
            let records: Vec<Vec<u8>> = inserted.to_share.iter().map(|a| store::alert_record(a)).collect();
            cluster.tell(&records);
        }
        self.remember_alerts(&inserted.changed);
        self.metrics.dispatch.observe_duration(self.clock.monotonic().saturating_sub(started));
        self.wake.notify_one();
        inserted
    }

    /// Begins and ends of alerts, for the history.
    fn remember_alerts(&self, changed: &[Arc<Alert>]) {
        if changed.is_empty() {
            return;
        }
        let now_ms = self.clock.now_ms();
        let receivers: Vec<Vec<Arc<str>>> = {
            let core = self.core();
            changed.iter().map(|a| core.receivers_of(a)).collect()
        };
        let events: Vec<Event<'_>> = changed
            .iter()
            .zip(receivers)
            .map(|(a, receivers)| {
                let (fingerprint, labels) = (history::fingerprint(a.fingerprint), history::Pairs(&a.labels));
                match a.is_resolved_at(now_ms) {
                    true => Event::Ended { fingerprint, labels },
                    false => Event::Began { fingerprint, labels, receivers },
                }
            })
            .collect();
        self.history.write(now_ms, &events);
    }

    /// Notes what was written but not synced yet. What could not be written is lost with the process, no sooner.
    fn keep(&self, written: Result<Option<Unsynced>, StoreError>, what: &'static str) {
        match written {
            Ok(None) => {}
            Ok(more) => {
                let mut unsynced = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
                *unsynced = Unsynced::join(*unsynced, more);
                if unsynced.is_some_and(|u| u.size_bytes >= UNSYNCED_BYTES) {
                    self.wake.notify_one();
                }
            }
            Err(e) => {
                self.metrics.journal_errors.inc();
                tracing::error!(error = %e, what, "Could not be written, and would be lost if the process were killed");
            }
        }
    }

    /// Creates or updates a silence; it is on disk when this answers its id.
    pub async fn set_silence(self: &Arc<Self>, silence: Silence) -> Result<SilenceId, SilenceFailure> {
        let changed = self.core().silences.set(silence, self.clock.now_ms(), || new_uuid().into())?;
        let id = changed.last().map(|s| s.id.clone()).ok_or(SilenceError::NotFound)?;
        if self.options.log_silences {
            tracing::info!(id = &*id, "Silence set");
        }
        self.save_silences(changed).await?;
        Ok(id)
    }

    /// Ends a silence; durable as [`Alertmanager::set_silence`].
    pub async fn expire_silence(self: &Arc<Self>, id: &str) -> Result<(), SilenceFailure> {
        let changed = self.core().silences.expire(id, self.clock.now_ms())?;
        self.save_silences(changed.into_iter().collect()).await
    }

    async fn save_silences(self: &Arc<Self>, changed: Vec<Arc<Silence>>) -> Result<(), SilenceFailure> {
        let am = self.clone();
        let records: Vec<Vec<u8>> =
            changed.iter().map(|s| store::silence_record(s, self.options.retention_ms)).collect();
        let written = tokio::task::spawn_blocking(move || {
            let written = am.store.write_silences(&changed);
            am.remember_silences(&changed);
            written
        })
        .await;
        if let Some(cluster) = self.cluster() {
            cluster.tell(&records);
        }
        match written {
            Ok(Ok(())) => Ok(()),
            _ => {
                self.metrics.journal_errors.inc();
                Err(SilenceFailure::NotDurable)
            }
        }
    }

    fn remember_silences(&self, changed: &[Arc<Silence>]) {
        let now_ms = self.clock.now_ms();
        let sets = |s: &Silence| s.matcher_sets.iter().map(|m| matcher::print_set(m)).collect::<Vec<_>>().join(" or ");
        let events: Vec<Event<'_>> = changed
            .iter()
            .map(|s| Event::Silence {
                id: &s.id,
                state: s.state(now_ms).as_str(),
                matchers: sets(s),
                by: &s.created_by,
                comment: &s.comment,
            })
            .collect();
        self.history.write(now_ms, &events);
    }

    /// Reads configuration and templates again. A file that is refused changes nothing.
    pub fn reload(&self) -> Result<(), Error> {
        match load(&self.options, &self.clock, &self.metrics) {
            Ok((text, loaded)) => {
                self.core().apply(&loaded.config, self.now());
                self.loaded.store(Arc::new(loaded));
                self.reloaded(&text, true);
                self.wake.notify_one();
                Ok(())
            }
            Err(e) => {
                self.reloaded("", false);
                Err(e)
            }
        }
    }

    fn reloaded(&self, text: &str, is_ok: bool) {
        self.metrics.reload_successful.set(if is_ok { 1.0 } else { 0.0 });
        if is_ok {
            self.metrics.reload_success_time.set(self.clock.now_ms() as f64 / 1000.0);
            // Upstream shows six bytes of a digest as a number: any change of the file changes it.
            let digest = <sha2::Sha256 as sha2::Digest>::digest(text.as_bytes());
            let hash = digest.iter().take(6).rev().fold(0u64, |n, b| (n << 8) | u64::from(*b));
            self.metrics.config_hash.set(hash as f64);
        }
    }

    /// Sends what comes due, keeps state tidy on disk, until `shutdown`; then writes the last snapshots.
    pub async fn run(self: &Arc<Self>, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut deliveries = JoinSet::new();
        let mut next_snapshot = self.clock.monotonic() + self.maintenance_interval();
        let mut next_sync = self.clock.monotonic();
        loop {
            let (due, unsaved, timers, quiet, next_ms) = {
                let mut core = self.core();
                let now = self.now();
                let due = core.advance(now);
                let quiet = core.take_suppressions();
                (due, core.take_unsaved(), core.take_unsaved_timers(now), quiet, core.next_due_mono_ms())
            };
            let quiet: Vec<Event<'_>> = quiet.iter().map(Event::of_suppression).collect();
            self.history.write(self.clock.now_ms(), &quiet);
            // Nobody else writes timers, so the last record of a group is the latest.
            self.keep(self.store.write_groups(&timers), "Timers of groups");
            self.save_later(&unsaved);
            for delivery in due {
                self.spawn(&mut deliveries, delivery);
            }
            let mono = self.clock.monotonic();
            if mono >= next_snapshot {
                next_snapshot = mono + self.maintenance_interval();
                let am = self.clone();
                // Its errors are counted and logged inside.
                tokio::task::spawn_blocking(move || am.maintain());
            }
            if let Some(unsynced) = self.take_unsynced(mono >= next_sync) {
                next_sync = mono + ALERTS_SYNC_INTERVAL;
                let am = self.clone();
                tokio::task::spawn_blocking(move || {
                    if am.store.sync(unsynced).is_err() {
                        am.metrics.journal_errors.inc();
                    }
                });
            }
            let mut next = Duration::from_millis(u64::try_from(next_ms).unwrap_or(0)).min(next_snapshot);
            if self.unsynced.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
                next = next.min(next_sync);
            }
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(next.saturating_sub(mono)) => {}
                Some(_) = deliveries.join_next() => {}
            }
        }
        if let Some(cluster) = self.cluster() {
            cluster.leave().await;
        }
        // What is nearly through gets the chance to be remembered; retries go on after the next start.
        let _ = tokio::time::timeout(SHUTDOWN_GRACE, async { while deliveries.join_next().await.is_some() {} }).await;
        deliveries.shutdown().await;
        let am = self.clone();
        let _ = tokio::task::spawn_blocking(move || am.maintain()).await;
    }

    /// What is to be synced now: anything when its time has come, before that only much.
    fn take_unsynced(&self, is_time: bool) -> Option<Unsynced> {
        let mut unsynced = self.unsynced.lock().unwrap_or_else(PoisonError::into_inner);
        unsynced.take_if(|u| is_time || u.size_bytes >= UNSYNCED_BYTES)
    }

    fn maintenance_interval(&self) -> Duration {
        Duration::from_millis(self.options.maintenance_interval_ms.max(1_000).unsigned_abs())
    }

    fn maintain(&self) {
        let now_ms = self.clock.now_ms();
        {
            let mut core = self.core();
            let started = self.clock.monotonic();
            core.silences.collect_garbage(now_ms, self.options.retention_ms);
            let between = self.clock.monotonic();
            core.nflog.collect_garbage(now_ms);
            self.metrics.silences_gc.observe_duration(between.saturating_sub(started));
            self.metrics.nflog_gc.observe_duration(self.clock.monotonic().saturating_sub(between));
        }
        self.store.snapshot(&self.metrics, self.clock.as_ref(), || {
            let core = self.core();
            let log: Vec<LogChange> = core.nflog.iter().map(|(k, e)| (k.clone(), e.clone())).collect();
            let silences = core.silences.iter().cloned().collect();
            State { silences, log, alerts: core.kept_alerts(), groups: core.timers(self.now()) }
        });
    }

    fn spawn(self: &Arc<Self>, deliveries: &mut JoinSet<()>, delivery: Delivery) {
        let am = self.clone();
        deliveries.spawn(async move {
            let mut next = Some(delivery);
            while let Some(delivery) = next.take() {
                let loaded = am.loaded();
                let permits = loaded
                    .permits
                    .get(&(
                        delivery.integration.receiver.clone(),
                        delivery.integration.name(),
                        delivery.integration.index,
                    ))
                    .cloned();
                let is_delivered = {
                    let (_running, mut beginning) = match &permits {
                        Some(p) => (p.running.acquire().await.ok(), p.beginning.acquire().await.ok()),
                        None => (None, None),
                    };
                    let begun = tokio::time::Instant::now() + BEGINNING;
                    am.announce(&delivery, false);
                    let deliver = notify::deliver(&loaded.context, &loaded.clients, &delivery);
                    let mut deliver = std::pin::pin!(deliver);
                    let tried = loop {
                        tokio::select! {
                            tried = &mut deliver => break tried,
                            () = tokio::time::sleep_until(begun), if beginning.is_some() => beginning = None,
                            () = tokio::time::sleep(am.renewal()) => am.announce(&delivery, false),
                        }
                    };
                    drop(beginning);
                    let error = tried.error.as_ref().map(|e| e.message.as_str());
                    am.history.write(am.clock.now_ms(), &[Event::of_delivery(&delivery, tried.attempts, error)]);
                    tried.error.is_none()
                };
                let (change, more) = am.core().finish(delivery.id, is_delivered, am.now());
                if let Some(change) = change {
                    // The log is on disk before the group's next step: a crash then repeats nothing.
                    am.save(vec![change]).await;
                }
                am.announce(&delivery, true);
                // One integration was busy, so at most one delivery follows.
                next = more.into_iter().next();
            }
            am.wake.notify_one();
        });
    }

    /// Writes changes of the notification log and waits until they are durable.
    async fn save(self: &Arc<Self>, changes: Vec<LogChange>) {
        if let Some(cluster) = self.cluster() {
            // Before the disk: a peer that hears of it late would tell it again.
            cluster.tell(&changes.iter().map(store::log_record).collect::<Vec<_>>());
        }
        let am = self.clone();
        let written = tokio::task::spawn_blocking(move || am.store.write_log(&changes)).await;
        if !matches!(written, Ok(Ok(()))) {
            self.metrics.journal_errors.inc();
            tracing::error!("The notification log could not be written: after a crash a notification may be repeated");
        }
    }

    fn save_later(self: &Arc<Self>, changes: &[LogChange]) {
        if !changes.is_empty() {
            let (am, changes) = (self.clone(), changes.to_vec());
            tokio::spawn(async move { am.save(changes).await });
        }
    }

    fn register_gauges(self: &Arc<Self>, registry: &Registry) {
        let am = Arc::downgrade(self);
        let count = move |f: fn(&Core, i64) -> f64| {
            let am = am.clone();
            move || am.upgrade().map_or(0.0, |am| f(&am.core(), am.clock.now_ms()))
        };
        registry.gauge_fn(
            "alertmanager_silences_state_size",
            "The number of silences in the state map.",
            count(|c, _| c.silences.len() as f64),
        );
        // Every silence holds its matchers compiled.
        registry.gauge_fn(
            "alertmanager_silences_matcher_index_size",
            "The number of entries in the matcher cache index.",
            count(|c, _| c.silences.len() as f64),
        );
        registry.info(
            "alertmanager_build_info",
            "A metric with a constant '1' value labeled by version, revision, branch and the rest.",
            &[
                ("version", crate::VERSION),
                ("revision", env!("CARGO_PKG_VERSION")),
                ("branch", "ferula"),
                ("goversion", ""), // dashboards join on it
                ("goos", std::env::consts::OS),
                ("goarch", goarch()),
                ("tags", ""),
            ],
        );
        registry
            .gauge("alertmanager_alerts_per_alert_limit", "Current limit on number of alerts per alert name")
            .set(self.options.alerts_per_alertname_limit as f64);
        let am = Arc::downgrade(self);
        registry.named_collector("alertmanager_states", move |out| {
            if let Some(am) = am.upgrade() {
                crate::metrics::states(&am.core(), am.now(), out);
                crate::metrics::cluster(am.cluster().map(|c| (c.view(), c.counts())), out);
            }
        });
    }
}

/// This machine in Go's spelling.
fn goarch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn load(options: &Options, clock: &Arc<dyn Clock>, metrics: &Metrics) -> Result<(String, Loaded), Error> {
    let file = options.config_file.display().to_string();
    let text = match &options.config_text {
        Some(text) => text.clone(),
        None => std::fs::read_to_string(&options.config_file)
            .map_err(|e| ConfigError::Unreadable { file: file.clone(), reason: e.to_string() })?,
    };
    let mut config = Config::parse(&file, &text)?;
    let directory = options.config_file.parent().unwrap_or(Path::new("."));
    config.receivers.iter_mut().for_each(|r| r.set_directory(directory));
    let templates = TemplateSet::load(&config.templates, directory, clock.clone())?;
    let mut permits = std::collections::HashMap::new();
    for i in config.receivers.iter().flat_map(|r| crate::core::plan(r).integrations) {
        let running = Semaphore::new(DELIVERIES_PER_INTEGRATION);
        let new = Permits { running, beginning: Semaphore::new(DELIVERIES_BEGINNING) };
        permits.insert((i.receiver.clone(), i.name(), i.index), Arc::new(new));
    }
    let context = Context {
        templates,
        external_url: options.external_url.trim_end_matches('/').into(),
        clock: clock.clone(),
        metrics: metrics.clone(),
        seed: if options.seed == 0 { fastrand::u64(..) } else { options.seed },
    };
    Ok((text, Loaded { config, context, clients: Clients::default(), permits }))
}

/// A random UUID, version 4.
fn new_uuid() -> String {
    let bits = (fastrand::u128(..) & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let part = |a: usize, b: usize| hex.get(a..b).unwrap_or("").to_owned();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

#[cfg(test)]
mod tests {
    #[test]
    fn uuids_are_of_version_4() {
        let u = super::new_uuid();
        assert_eq!((u.len(), u.as_bytes()[14], u.matches('-').count()), (36, b'4', 4));
        assert!(matches!(u.as_bytes()[19], b'8' | b'9' | b'a' | b'b'), "{u}");
    }
}
