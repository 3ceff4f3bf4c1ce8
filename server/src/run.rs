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
