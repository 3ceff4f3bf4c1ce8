//! The server as a whole: starting its parts in order, reloading them together, stopping them within a second.
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use ferula_instrument::Registry;
use ferula_net::listen::{BindError, Listener};
use ferula_otlp::Tracer;
use ferula_promql_engine::Engine;
use ferula_promql_parser::ParseOptions;
use ferula_promql_rules::{EngineQuery, Environment, RuleManager};
use ferula_scraper_scrape::ScrapeManager;
use ferula_storage::{Appendable, CancelFlag, Queryable};
use ferula_tsdb::Db;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::active_queries::ActiveQueries;
use crate::api::federate::FederationMetrics;
use crate::app::{App, Command, Components, QueryLimits};
use crate::config::{self, LoadOptions, Loaded, Source};
use crate::ingest::remote_write::RemoteWrite;
use crate::notifier::discover::Discovered;
use crate::notifier::{Alert, Notifier, Spool};
use crate::options::ServerOptions;
use crate::query_log::QueryLog;
use crate::query_metrics::QueryMetrics;
use crate::query_pool::QueryPool;
use crate::reload::{ReloadStatus, apply, checksum, reload};
use crate::rule_queries::RuleQueries;

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

/// Hands alerts of rules to the notifier.
pub(crate) struct ToNotifier(pub Arc<Notifier>);

impl ferula_promql_rules::Notify for ToNotifier {
    fn notify(&self, alerts: Vec<ferula_promql_rules::Alert>) {
        let alerts = alerts.into_iter().map(|a| Alert {
            labels: a.labels,
            annotations: a.annotations,
            starts_at_ms: a.starts_at_ms,
            ends_at_ms: a.ends_at_ms,
            generator_url: a.generator_url,
        });
        self.0.send(alerts.collect());
    }
}

/// How long the notifier may go on sending after the signal to stop.
const NOTIFIER_DRAIN: Duration = Duration::from_millis(400);

/// The parts that live as long as the server.
pub(crate) struct Parts {
    pub app: Arc<App>,
    pub db: Arc<Db>,
    pub notifier: Arc<Notifier>,
    pub engine: Arc<Engine>,
    pub scrape: Arc<ScrapeManager>,
    pub rules: Arc<RuleManager>,
    pub alertmanagers: Discovered,
    pub status: Arc<ReloadStatus>,
    pub source: Source,
    pub load: LoadOptions,
    pub auto_reload: Option<Duration>,
    pub drain: bool,
    pub parse: ParseOptions,
    /// As the flags have it.
    pub storage: ferula_tsdb::Options,
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
    let _ = app.own_ports.set(listener.local_addrs().iter().map(std::net::SocketAddr::port).collect()); // first time
    let (stop_http, http_stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(listener.serve(crate::web::router(&app), async {
        let _ = http_stopped.await; // a dropped sender means the same
    }));
    let mut shutdown = std::pin::pin!(shutdown);
    // Before the storage is open: a SIGHUP while the log is replayed must not end the process.
    let mut hangup = hangup();
    // Of the files as they were loaded, and before anybody can ask: a change while the server starts is found at the first look.
    let sum = options.auto_reload.and_then(|_| config::checksum(&options.config).ok());
    let result = async {
        let started = tokio::select! {
            started = start(options, &registry, Arc::clone(&app), loaded) => started?,
            () = shutdown.as_mut() => return Ok(None),
        };
        let mut parts = started;
        tracing::info!("Server is ready to receive web requests.");
        main_loop(&mut parts, sum, &mut asked, &mut hangup, shutdown.as_mut()).await;
        Ok(Some(parts))
    }
    .await;
    app.is_stopping.store(true, Ordering::Relaxed);
    let _ = stop_http.send(()); // the listener may have ended already
    let result = match result {
        Ok(Some(parts)) => stop(parts).await,
        Ok(None) => Ok(()),
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
        budget: options.memory.child("queries", options.query_memory_bytes_max),
        pool: QueryPool::new(options.query_concurrency)?,
        commands,
        config: ArcSwap::default(),
        query_metrics: QueryMetrics::new(options.query_concurrency, registry),
        query_log: Arc::new(QueryLog::new(registry)),
        tracer: Tracer::new("prometheus", env!("CARGO_PKG_VERSION"), Arc::clone(&options.clock)),
        active_queries: OnceLock::new(),
        federation: FederationMetrics::new(registry),
        components: OnceLock::new(),
        is_stopping: AtomicBool::new(false),
        own_ports: OnceLock::new(),
        replay: Arc::default(),
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
        let (dir, storage) = (options.storage_path.clone(), loaded.config.storage.applied_to(&options.storage));
        let storage = ferula_tsdb::Options { progress: Some(Arc::clone(&app.replay)), ..storage };
        let (fs, clock, registry) = (Arc::clone(&options.fs), Arc::clone(&options.clock), registry.clone());
        let opened = tokio::task::spawn_blocking(move || Db::open(&dir, storage, fs, clock, &registry));
        opened.await.map_err(|e| Error::Apply(format!("opening storage failed: {e}")))??
    };
    {
        let (dir, slots) = (options.storage_path.clone(), options.query_concurrency.max(1));
        let opened = tokio::task::spawn_blocking(move || ActiveQueries::open(&dir, slots)).await;
        let _ = app.active_queries.set(opened.unwrap_or_else(|_| ActiveQueries::none())); // set here only
    }
    let runtime = tokio::runtime::Handle::current();
    let engine = Arc::new(Engine::new(options.engine.clone()));
    {
        let engine = Arc::clone(&engine);
        registry.gauge_fn("ferula_query_turns_waiting", "Queries that wait for their turn to compute.", move || {
            engine.waiting() as f64
        });
    }
    let spool = {
        let (fs, dir) = (Arc::clone(&options.fs), options.storage_path.join("notifications"));
        let opened = tokio::task::spawn_blocking(move || Spool::open(fs, &dir)).await;
        let opened = opened.map_err(|e| Error::Apply(format!("opening the notifier's journal failed: {e}")))?;
        opened.inspect_err(|error| tracing::error!(%error, "Notifications are kept in memory only")).ok()
    };
    let notifier =
        Notifier::new(options.notifier.clone(), Arc::clone(&options.clock), runtime.clone(), registry, spool);
    let discovery =
        ferula_scraper_discovery::Discovery::new("notify", runtime.clone(), Arc::clone(&options.clock), registry);
    let alertmanagers = Discovered::new(discovery, Arc::clone(&notifier), options.local_alertmanagers.clone(), runtime);
    let remote_write = options.web.enable_remote_write.then(|| {
        let storage = Arc::new(ferula_tsdb::AfterReplay(Arc::clone(&db))) as Arc<dyn Appendable>;
        let mut limits = options.remote_write.clone();
        limits.budget = options.memory.child("remote write", limits.budget.limit_bytes());
        Arc::new(RemoteWrite::new(storage, Arc::clone(&options.clock), limits, registry))
    });
    let storage = Arc::clone(&db) as Arc<dyn Appendable>;
    let mut scrape = options.scrape.clone();
    scrape.body_budget = options.memory.child("scrape bodies", scrape.body_budget.limit_bytes());
    let scrape = ScrapeManager::new(scrape, storage, Arc::clone(&options.clock), registry)
        .map_err(|e| Error::Apply(format!("starting the threads that scrape failed: {e}")))?;
    let rules = Arc::new(rule_manager(&options, &app, &db, &engine, &notifier, registry));
    let mut parts = Parts {
        app: Arc::clone(&app),
        engine: Arc::clone(&engine),
        scrape: Arc::clone(&scrape),
        rules: Arc::clone(&rules),
        db: Arc::clone(&db),
        notifier: Arc::clone(&notifier),
        alertmanagers,
        status,
        source: options.config,
        load: options.load,
        auto_reload: options.auto_reload,
        drain: options.notifier_drain,
        parse: options.parse.clone(),
        storage: options.storage.clone(),
    };
    let applied = apply(&mut parts, loaded).await;
    parts.status.set(applied.is_ok(), app.clock.now_ms());
    applied.map_err(Error::Apply)?;
    let components = Components {
        storage: Arc::clone(&db) as Arc<dyn Queryable>,
        db,
        engine,
        per_step_stats: options.per_step_stats,
        remote_write,
        notifier,
        scrape,
        rules,
        parse_options: options.parse,
        reload: Arc::clone(&parts.status),
    };
    let _ = app.components.set(components); // set once, here
    Ok(parts)
}

fn rule_manager(
    options: &ServerOptions,
    app: &App,
    db: &Arc<Db>,
    engine: &Arc<Engine>,
    notifier: &Arc<Notifier>,
    registry: &Registry,
) -> RuleManager {
    let cancel = CancelFlag::new();
    let query = EngineQuery {
        engine: Arc::clone(engine),
        queryable: Arc::clone(db) as Arc<dyn Queryable>,
        timeout: options.engine.timeout,
        budget: options.memory.child("rules", options.rules.memory_bytes_max),
        cancel: cancel.clone(),
    };
    let environment = Environment {
        query: Arc::new(RuleQueries::new(
            query,
            Arc::clone(&app.query_log),
            Arc::clone(&options.clock),
            app.tracer.clone(),
        )),
        queryable: Arc::clone(db) as Arc<dyn Queryable>,
        appendable: Arc::clone(db) as Arc<dyn Appendable>,
        notify: Arc::new(ToNotifier(Arc::clone(notifier))),
        clock: Arc::clone(&options.clock),
        resend_delay_ms: options.rules.resend_delay_ms,
        outage_tolerance_ms: options.rules.outage_tolerance_ms,
        for_grace_ms: options.rules.for_grace_ms,
        concurrent_rules: options.rules.concurrent_rules,
        parse_options: options.parse.clone(),
    };
    RuleManager::new(environment, options.rules.groups_max, cancel, registry)
}

fn hangup() -> Option<Signal> {
    match signal(SignalKind::hangup()) {
        Ok(signal) => Some(signal),
        Err(e) => {
            tracing::warn!(error = %e, "SIGHUP will not reload the configuration");
            None
        }
    }
}

async fn main_loop(
    parts: &mut Parts,
    mut sum: Option<u64>,
    asked: &mut mpsc::UnboundedReceiver<Command>,
    hangup: &mut Option<Signal>,
    mut shutdown: Pin<&mut impl Future<Output = ()>>,
) {
    let mut looks = parts.auto_reload.map(|interval| {
        let mut looks = tokio::time::interval(interval.max(Duration::from_millis(10)));
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        looks
    });
    loop {
        let look = async {
            match &mut looks {
                Some(looks) => looks.tick().await,
                None => std::future::pending().await,
            }
        };
        let hung_up = async {
            match hangup {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.as_mut() => return,
            _ = hung_up => {
                let now = checksum(parts).await;
                if reload(parts).await.is_ok() {
                    sum = now.ok();
                }
            }
            _ = look => match checksum(parts).await {
                Err(error) => tracing::error!(%error, "Failed to generate checksum during configuration reload"),
                Ok(now) if sum == Some(now) => {}
                Ok(now) => {
                    tracing::info!("Configuration file change detected, reloading the configuration.");
                    // One that is refused is tried again at every look, as upstream does: it may name files to come.
                    if reload(parts).await.is_ok() {
                        sum = Some(now);
                    }
                }
            },
            command = asked.recv() => match command {
                Some(Command::Reload(done)) => {
                    let now = checksum(parts).await;
                    let result = reload(parts).await;
                    if result.is_ok() {
                        sum = now.ok();
                    }
                    drop(done.send(result));
                }
                Some(Command::Quit) | None => return,
            },
        }
    }
}

/// Stops writers before the store, and tells the Alertmanagers what is left to tell.
async fn stop(parts: Parts) -> Result<(), Error> {
    let Parts { app, db, notifier, scrape, rules, alertmanagers, drain, .. } = parts;
    // Running evaluations are told to give up, so neither waits long.
    let rules_stopped = tokio::task::spawn_blocking(move || rules.stop());
    scrape.stop().await;
    let _ = rules_stopped.await; // a panic while stopping is logged by the runtime, and there is nothing left to do
    drop(alertmanagers);
    notifier.stop(drain.then_some(NOTIFIER_DRAIN)).await;
    app.tracer.stop().await;
    let closed = tokio::task::spawn_blocking(move || db.close()).await;
    closed.map_err(|e| Error::Apply(format!("closing storage failed: {e}")))??;
    tracing::info!("See you next time!");
    Ok(())
}
