//! The server as a whole: starting its parts in order, reloading them together, stopping them within a second.
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use ferula_fs::Fs;
use ferula_instrument::Registry;
use ferula_model::{Budget, Clock};
use ferula_net::listen::{BindError, ListenOptions, Listener};
use ferula_otlp::Tracer;
use ferula_promql_engine::{Engine, EngineOptions};
use ferula_promql_parser::ParseOptions;
use ferula_promql_rules::{EngineQuery, Environment, GroupConfig, RuleManager, Settings};
use ferula_scraper_scrape::{ScrapeManager, ScrapeOptions};
use ferula_storage::{Appendable, CancelFlag, Queryable};
use ferula_tsdb::Db;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::active_queries::ActiveQueries;
use crate::api::federate::FederationMetrics;
use crate::app::{App, Command, Components, CurrentConfig, QueryLimits, WebOptions};
use crate::config::{self, LoadOptions, Loaded, Source, TracingConfig};
use crate::ingest::remote_write::{self, RemoteWrite};
use crate::notifier::discover::{Discovered, Prepared};
use crate::notifier::{Alert, LocalTransports, Notifier, NotifierOptions, Spool};
use crate::query_log::QueryLog;
use crate::query_metrics::QueryMetrics;
use crate::query_pool::QueryPool;
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

/// Everything `run` needs to know. Nothing in here is read from flags, files or the environment.
pub struct ServerOptions {
    pub config: Source,
    pub load: LoadOptions,
    /// How often to look for changed files; `None` never does.
    pub auto_reload: Option<Duration>,
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
    /// The root of all budgets: what queries, rules, scrapes and remote writes hold together.
    pub memory: Budget,
    /// Bytes all queries together may hold.
    pub query_memory_bytes_max: u64,
    pub remote_write: remote_write::Limits,
    pub notifier: NotifierOptions,
    /// `--alertmanager.drain-notification-queue-on-shutdown`
    pub notifier_drain: bool,
    pub scrape: ScrapeOptions,
    pub rules: RuleOptions,
    /// Ways to Alertmanagers in this process.
    pub local_alertmanagers: Option<LocalTransports>,
}

impl ServerOptions {
    /// Prometheus's defaults, on the disk and the system's clock.
    pub fn new(config: Source, storage_path: PathBuf) -> ServerOptions {
        ServerOptions {
            config,
            load: LoadOptions::default(),
            auto_reload: None,
            storage_path,
            storage: ferula_tsdb::Options::default(),
            fs: Arc::new(ferula_fs::Disk),
            clock: Arc::new(ferula_model::SystemClock),
            listen_addresses: vec!["0.0.0.0:9090".to_owned()],
            listen: ListenOptions::default(),
            web: WebOptions::default(),
            engine: EngineOptions::default(),
            parse: ParseOptions::default(),
            query_concurrency: 20,
            per_step_stats: false,
            memory: Budget::root("process", u64::MAX),
            query_memory_bytes_max: 2 << 30,
            remote_write: remote_write::Limits::default(),
            notifier: NotifierOptions::default(),
            notifier_drain: true,
            scrape: ScrapeOptions { host: crate::info::hostname(), ..ScrapeOptions::default() },
            rules: RuleOptions::default(),
            local_alertmanagers: None,
        }
    }
}

/// Prometheus's flags that concern rules.
#[derive(Clone, Debug)]
pub struct RuleOptions {
    /// `--rules.alert.resend-delay`
    pub resend_delay_ms: i64,
    /// `--rules.alert.for-outage-tolerance`
    pub outage_tolerance_ms: i64,
    /// `--rules.alert.for-grace-period`
    pub for_grace_ms: i64,
    /// `--rules.max-concurrent-evals`: independent rules of one group side by side; 1 unless
    /// `--enable-feature=concurrent-rule-eval`.
    pub concurrent_rules: usize,
    /// Groups evaluated at the same time.
    pub groups_max: usize,
    /// Bytes the queries of all rules may hold. Apart from those of users: no query can take them away.
    pub memory_bytes_max: u64,
}

impl Default for RuleOptions {
    fn default() -> Self {
        RuleOptions {
            resend_delay_ms: 60_000,
            outage_tolerance_ms: 3_600_000,
            for_grace_ms: 600_000,
            concurrent_rules: 1,
            groups_max: 20,
            memory_bytes_max: 512 << 20,
        }
    }
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
    engine: Arc<Engine>,
    scrape: Arc<ScrapeManager>,
    rules: Arc<RuleManager>,
    alertmanagers: Discovered,
    status: Arc<ReloadStatus>,
    source: Source,
    load: LoadOptions,
    auto_reload: Option<Duration>,
    drain: bool,
    parse: ParseOptions,
    /// As the flags have it.
    storage: ferula_tsdb::Options,
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

/// Reads all rule files; the problems of all of them are one error.
fn rule_groups(loaded: &Loaded, options: &ParseOptions) -> Result<Vec<GroupConfig>, String> {
    let (mut groups, mut problems) = (Vec::new(), Vec::new());
    for path in &loaded.rule_files {
        let name = path.display().to_string();
        match config::read(path) {
            Ok(text) => match ferula_promql_rules::file::parse_with(&name, &text, options) {
                Ok(mut more) => groups.append(&mut more),
                Err(errors) => problems.extend(errors.iter().map(ToString::to_string)),
            },
            Err(e) => problems.push(e.to_string()),
        }
    }
    if problems.is_empty() { Ok(groups) } else { Err(problems.join("; ")) }
}

/// Takes a configuration over, all of it or nothing: what can fail is prepared before anything changes.
async fn apply(parts: &mut Parts, loaded: Loaded) -> Result<(), String> {
    if let Some(e) = &loaded.unbuilt {
        return Err(e.to_string());
    }
    let prepared = Prepared::new(&loaded.config)?;
    let groups = rule_groups(&loaded, &parts.parse)?;
    let traces = loaded.config.tracing.as_ref().map(TracingConfig::export_options);
    traces.as_ref().map_or(Ok(()), Tracer::check).map_err(|e| e.to_string())?;
    let global = &loaded.config.global;
    let external_labels = global.external_labels();
    parts.app.query_log.set(&global.query_log_file)?;
    // The last thing that can fail, and it changes nothing when it does.
    parts.scrape.apply(loaded.scrape_configs, &external_labels).map_err(|e| e.to_string())?;
    parts.scrape.set_series_budget(global.series_budget);
    parts.alertmanagers.apply(prepared)?;
    if let Err(e) = parts.db.apply_options(&loaded.config.storage.applied_to(&parts.storage)) {
        tracing::error!(error = %e, "the late window cannot be opened");
    }
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    parts.app.tracer.configure(traces.as_ref()).map_err(|e| e.to_string())?; // was checked above
    parts.engine.set_subquery_step_ms(global.evaluation_interval.ms());
    let settings = Settings {
        interval_ms: global.evaluation_interval.ms(),
        query_offset_ms: global.rule_query_offset.ms(),
        external_labels: external_labels.clone(),
        external_url: parts.app.options.external_url.clone(),
    };
    // A changed group waits for its evaluation to end: not on a thread that serves connections.
    let rules = Arc::clone(&parts.rules);
    let applied = tokio::task::spawn_blocking(move || rules.apply(groups, settings)).await;
    applied.map_err(|e| format!("applying rules: {e}"))?;
    let loaded_ms = parts.app.clock.now_ms();
    parts.app.config.store(Arc::new(CurrentConfig { external_labels, yaml: loaded.yaml, loaded_ms }));
    Ok(())
}

async fn reload(parts: &mut Parts) -> Result<(), String> {
    tracing::info!("Loading configuration file");
    let result = match config::load(&parts.source, &parts.load) {
        Ok(loaded) => apply(parts, loaded).await,
        Err(e) => Err(e.to_string()),
    };
    parts.status.set(result.is_ok(), parts.app.clock.now_ms());
    match &result {
        Ok(()) => tracing::info!("Completed loading of configuration file"),
        Err(e) => tracing::error!(error = e, "Error reloading config"),
    }
    result
}

/// Of the files as they are now; read only where somebody compares it.
async fn checksum(parts: &Parts) -> Result<u64, String> {
    if parts.auto_reload.is_none() {
        return Ok(0);
    }
    let source = parts.source.clone();
    let summed = tokio::task::spawn_blocking(move || config::checksum(&source)).await;
    summed.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
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
