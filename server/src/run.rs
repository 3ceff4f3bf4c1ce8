//! The server as a whole: starting its parts in order, reloading them together, stopping them within a second.
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use ferula_fs::Fs;
use ferula_instrument::Registry;
use ferula_model::{Budget, Clock};
use ferula_net::listen::{BindError, ListenOptions, Listener};
use ferula_promql_engine::{Engine, EngineOptions};
use ferula_promql_parser::ParseOptions;
use ferula_storage::{Appendable, Queryable};
use ferula_tsdb::Db;
use tokio::sync::mpsc;

use crate::api::federate::FederationMetrics;
use crate::app::{App, Command, Components, CurrentConfig, QueryLimits, WebOptions};
use crate::config::{self, LoadOptions, Loaded, Source};
use crate::ingest::remote_write::{self, RemoteWrite};
use crate::notifier::discover::{Discovered, Prepared};
use crate::notifier::{LocalTransports, Notifier, NotifierOptions};
use crate::query_metrics::QueryMetrics;
use crate::query_pool::QueryPool;

/// Why the server cannot start, or had to stop. One line each.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Config(#[from] ferula_yaml::Error),
    #[error("{0}")]
    Apply(String),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("opening storage failed: {0}")]
    Storage(#[from] ferula_tsdb::Error),
    #[error("starting a thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Everything `run` needs to know. Nothing in here is read from flags, files or the environment.
pub struct ServerOptions {
    pub config: Source,
    pub load: LoadOptions,
    pub storage_path: PathBuf,
    pub storage: ferula_tsdb::Options,
    pub fs: Arc<dyn Fs>,
    pub clock: Arc<dyn Clock>,
    pub listen_addresses: Vec<String>,
    pub listen: ListenOptions,
    pub web: WebOptions,
    pub engine: EngineOptions,
    pub parse: ParseOptions,
    /// `--query.max-concurrency`
    pub query_concurrency: usize,
    /// `--enable-feature=promql-per-step-stats`
    pub per_step_stats: bool,
    /// Bytes all queries together may hold.
    pub query_memory_bytes_max: u64,
    pub remote_write: remote_write::Limits,
    pub notifier: NotifierOptions,
    /// `--alertmanager.drain-notification-queue-on-shutdown`
    pub notifier_drain: bool,
    /// Ways to Alertmanagers in this process.
    pub local_alertmanagers: Option<LocalTransports>,
}

/// How long the notifier may go on sending after the signal to stop.
const NOTIFIER_DRAIN: Duration = Duration::from_millis(400);

/// Whether and when the configuration was last taken over.
pub(crate) struct ReloadStatus {
    pub successful: AtomicBool,
    pub success_ms: AtomicU64,
}

impl ReloadStatus {
    fn register(registry: &Registry) -> Arc<ReloadStatus> {
        let status = Arc::new(ReloadStatus { successful: AtomicBool::new(false), success_ms: AtomicU64::new(0) });
        let (a, b) = (Arc::clone(&status), Arc::clone(&status));
        registry.gauge_fn(
            "prometheus_config_last_reload_successful",
            "Whether the last configuration reload attempt was successful.",
            move || f64::from(u8::from(a.successful.load(Ordering::Relaxed))),
        );
        registry.gauge_fn(
            "prometheus_config_last_reload_success_timestamp_seconds",
            "Timestamp of the last successful configuration reload.",
            move || b.success_ms.load(Ordering::Relaxed) as f64 / 1000.0,
        );
        status
    }
    fn set(&self, successful: bool, now_ms: i64) {
        self.successful.store(successful, Ordering::Relaxed);
        if successful {
            self.success_ms.store(now_ms.unsigned_abs(), Ordering::Relaxed);
        }
    }
}

/// The parts that live as long as the server.
struct Parts {
    app: Arc<App>,
    db: Arc<Db>,
    notifier: Arc<Notifier>,
    alertmanagers: Discovered,
    status: Arc<ReloadStatus>,
    source: Source,
    load: LoadOptions,
    drain: bool,
}

/// Runs until `shutdown` resolves or `/-/quit` is called. `listening` is told the addresses once they are bound; the
/// server answers probes from then on and everything else once the storage is open.
pub async fn run(
    options: ServerOptions,
    registry: Registry,
    listening: impl FnOnce(&[std::net::SocketAddr]),
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let loaded = config::load(&options.config, &options.load)?;
    if let Some(e) = loaded.unbuilt {
        return Err(e.into());
    }
    let listener = Listener::bind(&options.listen_addresses, options.listen.clone()).await?;
    listening(&listener.local_addrs());
    let (commands, mut asked) = mpsc::unbounded_channel();
    let app = app(&options, &registry, commands)?;
    let (stop_http, http_stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(listener.serve(crate::web::router(&app), async {
        let _ = http_stopped.await; // a dropped sender means the same
    }));
    let result = async {
        let mut parts = start(options, &registry, Arc::clone(&app), loaded).await?;
        tracing::info!("Server is ready to receive web requests.");
        main_loop(&mut parts, &mut asked, shutdown).await;
        Ok(parts)
    }
    .await;
    app.is_stopping.store(true, Ordering::Relaxed);
    let _ = stop_http.send(()); // the listener may have ended already
    let result = match result {
        Ok(parts) => stop(parts).await,
        Err(e) => Err(e),
    };
    let _ = served.await; // bounded by the drain timeout
    result
}

fn app(
    options: &ServerOptions,
    registry: &Registry,
    commands: mpsc::UnboundedSender<Command>,
) -> Result<Arc<App>, Error> {
    options.web.build.register(registry);
    ferula_instrument::register_process(registry);
    let app = Arc::new(App {
        options: options.web.clone(),
        limits: QueryLimits {
            timeout: options.engine.timeout,
            lookback_ms: options.engine.lookback_ms,
            bytes_max: options.query_memory_bytes_max,
        },
        clock: Arc::clone(&options.clock),
        registry: registry.clone(),
        started_ms: options.clock.now_ms(),
        budget: Budget::root("queries", options.query_memory_bytes_max),
        pool: QueryPool::new(options.query_concurrency)?,
        commands,
        config: ArcSwap::default(),
        query_metrics: QueryMetrics::new(options.query_concurrency, registry),
        federation: FederationMetrics::new(registry),
        components: OnceLock::new(),
        is_stopping: AtomicBool::new(false),
    });
    let weak = Arc::downgrade(&app);
    registry.gauge_fn(
        "prometheus_ready",
        "Whether Prometheus startup was fully completed and the server is ready for normal operation.",
        move || f64::from(u8::from(weak.upgrade().is_some_and(|app| app.components().is_ok()))),
    );
    Ok(app)
}

/// Opens the storage and starts everything that needs it.
async fn start(options: ServerOptions, registry: &Registry, app: Arc<App>, loaded: Loaded) -> Result<Parts, Error> {
    let status = ReloadStatus::register(registry);
    let db = {
        let (dir, storage) = (options.storage_path.clone(), options.storage.clone());
        let (fs, clock, registry) = (Arc::clone(&options.fs), Arc::clone(&options.clock), registry.clone());
        let opened = tokio::task::spawn_blocking(move || Db::open(&dir, storage, fs, clock, &registry));
        opened.await.map_err(|e| Error::Apply(format!("opening storage failed: {e}")))??
    };
    let runtime = tokio::runtime::Handle::current();
    let engine = Arc::new(Engine::new(options.engine.clone()));
    let notifier = Notifier::new(options.notifier.clone(), Arc::clone(&options.clock), runtime.clone(), registry);
    let discovery =
        ferula_scraper_discovery::Discovery::new("notify", runtime.clone(), Arc::clone(&options.clock), registry);
    let alertmanagers = Discovered::new(discovery, Arc::clone(&notifier), options.local_alertmanagers.clone(), runtime);
    let remote_write = options.web.enable_remote_write.then(|| {
        let storage = Arc::clone(&db) as Arc<dyn Appendable>;
        let limits = options.remote_write.clone();
        Arc::new(RemoteWrite::new(storage, Arc::clone(&options.clock), limits, registry))
    });
    let mut parts = Parts {
        app: Arc::clone(&app),
        db: Arc::clone(&db),
        notifier: Arc::clone(&notifier),
        alertmanagers,
        status,
        source: options.config,
        load: options.load,
        drain: options.notifier_drain,
    };
    let applied = apply(&mut parts, loaded);
    parts.status.set(applied.is_ok(), app.clock.now_ms());
    applied.map_err(Error::Apply)?;
    let components = Components {
        storage: Arc::clone(&db) as Arc<dyn Queryable>,
        db,
        engine,
        per_step_stats: options.per_step_stats,
        remote_write,
        notifier,
        parse_options: options.parse,
        reload: Arc::clone(&parts.status),
    };
    let _ = app.components.set(components); // set once, here
    Ok(parts)
}

/// Takes a configuration over, all of it or nothing: what can fail is prepared before anything changes.
fn apply(parts: &mut Parts, loaded: Loaded) -> Result<(), String> {
    if let Some(e) = &loaded.unbuilt {
        return Err(e.to_string());
    }
    let prepared = Prepared::new(&loaded.config)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    parts.alertmanagers.apply(prepared)?;
    parts.app.config.store(Arc::new(CurrentConfig {
        external_labels: loaded.config.global.external_labels(),
        yaml: loaded.yaml,
        loaded_ms: parts.app.clock.now_ms(),
    }));
    Ok(())
}

fn reload(parts: &mut Parts) -> Result<(), String> {
    tracing::info!("Loading configuration file");
    let result =
        config::load(&parts.source, &parts.load).map_err(|e| e.to_string()).and_then(|loaded| apply(parts, loaded));
    parts.status.set(result.is_ok(), parts.app.clock.now_ms());
    match &result {
        Ok(()) => tracing::info!("Completed loading of configuration file"),
        Err(e) => tracing::error!(error = e, "Error reloading config"),
    }
    result
}

async fn main_loop(
    parts: &mut Parts,
    asked: &mut mpsc::UnboundedReceiver<Command>,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = std::pin::pin!(shutdown);
    let mut hangup = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) {
        Ok(signal) => Some(signal),
        Err(e) => {
            tracing::warn!(error = %e, "SIGHUP will not reload the configuration");
            None
        }
    };
    loop {
        let hung_up = async {
            match &mut hangup {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.as_mut() => return,
            _ = hung_up => drop(reload(parts)),
            command = asked.recv() => match command {
                Some(Command::Reload(done)) => drop(done.send(reload(parts))),
                Some(Command::Quit) | None => return,
            },
        }
    }
}

/// Stops writers before the store, and tells the Alertmanagers what is left to tell.
async fn stop(parts: Parts) -> Result<(), Error> {
    let Parts { db, notifier, alertmanagers, drain, .. } = parts;
    drop(alertmanagers);
    notifier.stop(drain.then_some(NOTIFIER_DRAIN)).await;
    let closed = tokio::task::spawn_blocking(move || db.close()).await;
    closed.map_err(|e| Error::Apply(format!("closing storage failed: {e}")))??;
    tracing::info!("See you next time!");
    Ok(())
}
