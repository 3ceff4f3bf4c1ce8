//! One Alertmanager: the core behind a lock, and what outside code calls.
//!
//! ```text
//! app.rs         starting, alerts and silences, gauges
//! app/load.rs    what changes with the configuration file
//! app/run.rs     the loop that sends what comes due and keeps the disk tidy
//! app/peers.rs   being a member of a cluster
//! ```
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use ferula_instrument::Registry;
use ferula_model::Clock;
use ferula_otlp::{Kind, Tracer};
use tokio::sync::{Notify, Semaphore};

use crate::alert::{Alert, PostableAlert};
use crate::cluster::{Cluster, ClusterError};
use crate::config::ConfigError;
use crate::core::{Core, CoreOptions, Inserted, Now};
use crate::history::{self, Event, History};
use crate::matcher;
use crate::metrics::{ClusterMetrics, Metrics};
use crate::notify::template::TemplateError;
use crate::options::Options;
use crate::recorder::{Event as Recorded, Recorder};
use crate::silence::{Silence, SilenceError, SilenceId, SilenceLimits};
use crate::store::{self, Store, StoreError, Unsynced};

mod load;
mod peers;
mod run;

pub(crate) use load::Loaded;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("error loading configuration file: {0}")]
    Config(#[from] ConfigError),
    #[error("failed to parse templates: {0}")]
    Template(#[from] TemplateError),
    #[error(transparent)]
    Tracing(#[from] ferula_otlp::Error),
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

/// So much is synced before its time: the journal holds it in memory until then.
const UNSYNCED_BYTES: usize = 2 << 20;

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
    log_queue: Mutex<run::LogQueue>,
    wake: Notify,
    pub(crate) started_at_ms: i64,
    pub(crate) get_permits: Semaphore,
    pub(crate) history: History,
    pub(crate) recorder: Recorder,
    pub(crate) tracer: Tracer,
    cluster: OnceLock<Arc<Cluster>>,
    cluster_metrics: OnceLock<ClusterMetrics>,
    /// What forms of the pages carry.
    pub(crate) page_token: String,
}

impl Alertmanager {
    /// Reads configuration, templates and state. Nothing is sent before [`Alertmanager::run`].
    pub fn new(options: Options, clock: Arc<dyn Clock>, registry: Registry) -> Result<Arc<Alertmanager>, Error> {
        if options.has_feature("classic-mode") {
            matcher::Mode::Classic.set();
        } else if options.has_feature("utf8-strict-mode") {
            matcher::Mode::Utf8.set();
        }
        let metrics = Metrics::new(&registry);
        let tracer = Tracer::new("alertmanager", crate::VERSION, clock.clone());
        let (text, loaded) = load::load(&options, &clock, &metrics, &tracer)?;
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
        let recorder = match options.has_feature(load::EVENT_RECORDER) {
            true => {
                let events = loaded.config.event_recorder.clone().unwrap_or_default();
                Recorder::new(&registry, &options.instance, &events, clock.clone())
            }
            false => Recorder::default(),
        };
        core.set_recorder(recorder.clone());
        core.set_tracer(tracer.clone());
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
            log_queue: Mutex::default(),
            wake: Notify::new(),
            started_at_ms: now.wall_ms,
            get_permits: Semaphore::new(get_max),
            history: History::new(Arc::new(ferula_fs::Disk), options_history),
            recorder,
            tracer,
            cluster: OnceLock::new(),
            cluster_metrics: OnceLock::new(),
            page_token: crate::api::page::new_token(),
            clock,
        });
        am.reloaded(&text, true);
        am.register_gauges(&registry);
        Ok(am)
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
        let mut span = self.tracer.start("provider.mem.Put", Kind::Internal, ferula_otlp::current());
        span.set("alerting.alerts.count", alerts.len());
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
        let given = silence.id.clone();
        let changed = self.core().silences.set(silence, self.clock.now_ms(), || new_uuid().into())?;
        let effective = changed.last().ok_or(SilenceError::NotFound)?;
        let id = effective.id.clone();
        self.recorder.record(|| match id == given {
            true => Recorded::SilenceUpdated(effective.clone()),
            false => Recorded::SilenceCreated(effective.clone()),
        });
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

/// A random UUID, version 4.
pub(crate) fn new_uuid() -> String {
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
