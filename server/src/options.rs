//! What the server is told before it starts.
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ferula_fs::Fs;
use ferula_model::{Budget, Clock};
use ferula_net::listen::ListenOptions;
use ferula_promql_engine::EngineOptions;
use ferula_promql_parser::ParseOptions;
use ferula_scraper_scrape::ScrapeOptions;

use crate::app::WebOptions;
use crate::config::{LoadOptions, Source};
use crate::ingest::remote_write;
use crate::notifier::{LocalTransports, NotifierOptions};

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
