//! What all handlers share: options fixed at the start, and the components, which exist once the storage is open.
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::response::{IntoResponse, Response};
use ferula_instrument::Registry;
use ferula_model::{Budget, Clock, Labels};
use ferula_otlp::Tracer;
use ferula_promql_engine::Engine;
use ferula_promql_parser::ParseOptions;
use ferula_promql_rules::RuleManager;
use ferula_regex::Regex;
use ferula_scraper_scrape::ScrapeManager;
use ferula_storage::{QueryContext, Queryable};
use ferula_tsdb::Db;
use http::{HeaderName, HeaderValue, StatusCode};
use tokio::sync::{mpsc, oneshot};

use crate::active_queries::ActiveQueries;
use crate::api::federate::FederationMetrics;
use crate::info::{BuildInfo, Flags};
use crate::ingest::remote_write::RemoteWrite;
use crate::notifier::Notifier;
use crate::query_log::QueryLog;
use crate::query_metrics::QueryMetrics;
use crate::query_pool::QueryPool;
use crate::reload::ReloadStatus;

/// What the HTTP surface is told at the start and keeps until the end.
#[derive(Clone, Debug)]
pub struct WebOptions {
    /// "" or `/prefix`, without a slash at the end.
    pub route_prefix: String,
    /// As the flag gives it, without a slash at the end.
    pub external_url: String,
    pub page_title: String,
    pub enable_lifecycle: bool,
    pub enable_admin_api: bool,
    pub enable_remote_write: bool,
    /// Anchored; `None` allows every origin.
    pub cors_origin: Option<Regex>,
    pub flags: Flags,
    pub build: BuildInfo,
}

impl Default for WebOptions {
    /// Prometheus's defaults: nothing that changes the server from outside is enabled.
    fn default() -> Self {
        WebOptions {
            route_prefix: String::new(),
            external_url: String::new(),
            page_title: "Prometheus Time Series Collection and Processing Server".to_owned(),
            enable_lifecycle: false,
            enable_admin_api: false,
            enable_remote_write: false,
            cors_origin: None,
            flags: Flags::new(),
            build: BuildInfo::default(),
        }
    }
}

/// Bounds of queries.
#[derive(Clone, Debug)]
pub struct QueryLimits {
    pub timeout: Duration,
    /// How far back an instant selector looks.
    pub lookback_ms: i64,
    /// Bytes one query may hold; it also counts against the process.
    pub bytes_max: u64,
}

/// What a handler may ask the main loop to do.
#[derive(Debug)]
pub enum Command {
    Reload(oneshot::Sender<Result<(), String>>),
    Quit,
}

/// What handlers need of the configuration in force.
#[derive(Debug, Default)]
pub struct CurrentConfig {
    pub external_labels: Labels,
    /// Effective, secrets hidden.
    pub yaml: String,
    pub loaded_ms: i64,
}

/// What there is once the storage is open.
pub struct Components {
    pub storage: Arc<dyn Queryable>,
    pub engine: Arc<Engine>,
    /// `--enable-feature=promql-per-step-stats`
    pub per_step_stats: bool,
    pub remote_write: Option<Arc<RemoteWrite>>,
    pub notifier: Arc<Notifier>,
    pub scrape: Arc<ScrapeManager>,
    pub rules: Arc<RuleManager>,
    pub parse_options: ParseOptions,
    pub db: Arc<Db>,
    pub(crate) reload: Arc<ReloadStatus>,
}

pub struct App {
    pub options: WebOptions,
    pub limits: QueryLimits,
    pub clock: Arc<dyn Clock>,
    pub registry: Registry,
    pub started_ms: i64,
    /// The process's memory for queries.
    pub budget: Budget,
    pub pool: QueryPool,
    pub commands: mpsc::UnboundedSender<Command>,
    pub(crate) config: ArcSwap<CurrentConfig>,
    pub(crate) query_metrics: QueryMetrics,
    pub(crate) query_log: Arc<QueryLog>,
    pub(crate) tracer: Tracer,
    /// Set once the data folder is ours.
    pub(crate) active_queries: OnceLock<ActiveQueries>,
    pub(crate) federation: FederationMetrics,
    pub(crate) components: OnceLock<Components>,
    pub(crate) is_stopping: AtomicBool,
    /// Ports we listen on, once bound.
    pub(crate) own_ports: OnceLock<Vec<u16>>,
    /// How far the write-ahead log is replayed.
    pub(crate) replay: Arc<ferula_tsdb::replay::Progress>,
}

/// 503, as every route that needs the storage answers before it is open.
#[derive(Clone, Copy, Debug)]
pub struct NotReady {
    is_stopping: bool,
}

impl IntoResponse for NotReady {
    fn into_response(self) -> Response {
        let stopping = HeaderValue::from_static(if self.is_stopping { "true" } else { "false" });
        let header = [(HeaderName::from_static("x-prometheus-stopping"), stopping)];
        (StatusCode::SERVICE_UNAVAILABLE, header, "Service Unavailable").into_response()
    }
}

impl App {
    pub fn components(&self) -> Result<&Components, NotReady> {
        let is_stopping = self.is_stopping.load(Ordering::Relaxed);
        match self.components.get() {
            Some(c) if !is_stopping => Ok(c),
            _ => Err(NotReady { is_stopping }),
        }
    }

    pub fn config(&self) -> Arc<CurrentConfig> {
        self.config.load_full()
    }

    /// A context for one query: a deadline no later than the server's own, and a budget of its own.
    pub fn query_context(&self, timeout: Option<Duration>) -> QueryContext {
        let timeout = timeout.map_or(self.limits.timeout, |t| t.min(self.limits.timeout));
        QueryContext::new(Some(timeout), self.budget.child("query", self.limits.bytes_max))
    }
}
