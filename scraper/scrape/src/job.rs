//! A job's configuration, compiled once and shared by all its loops.
use std::sync::Arc;

use ferula_exposition::parse::Syntax;
use ferula_model::relabel;
use ferula_net::client::Client;
use http::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderName, HeaderValue, USER_AGENT};

use crate::config::{ConfigError, ScrapeConfig, accept_header};
use crate::failure_log::FailureLog;
use crate::target::Target;

pub(crate) struct Job {
    pub config: ScrapeConfig,
    pub rules: Vec<relabel::Config>,
    pub metric_rules: Vec<relabel::Config>,
    pub client: Arc<Client>,
    pub fallback: Option<Syntax>,
    failure_log: Option<FailureLog>,
    headers: HeaderMap,
}

impl Job {
    /// `before` is the job of the same name that runs now: its connections are kept where its `http_config` is equal.
    pub(crate) fn new(config: ScrapeConfig, before: Option<&Job>, user_agent: &str) -> Result<Job, ConfigError> {
        let refuse = |e: String| ConfigError { field: String::new(), message: e };
        let http = config.http_config();
        let client = match before {
            Some(b) if b.config.http_config() == http => Arc::clone(&b.client),
            _ => Arc::new(Client::new(&http).map_err(|e| refuse(e.to_string()))?),
        };
        let value = |text: &str| HeaderValue::from_str(text).map_err(|e| refuse(e.to_string()));
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, value(&accept_header(&config.scrape_protocols, &config.metric_name_escaping_scheme))?);
        headers.insert(
            ACCEPT_ENCODING,
            HeaderValue::from_static(if config.enable_compression { "gzip" } else { "identity" }),
        );
        headers.insert(USER_AGENT, value(user_agent)?);
        let path = config.scrape_failure_log_file.as_str();
        let failure_log = match path {
            "" => None,
            _ => Some(
                FailureLog::open(path).map_err(|e| refuse(format!("unable to open scrape failure log {path}: {e}")))?,
            ),
        };
        Ok(Job {
            rules: config.relabel_rules()?,
            metric_rules: config.metric_relabel_rules()?,
            failure_log,
            fallback: config.fallback_scrape_protocol.as_ref().and_then(|p| p.syntax()),
            config,
            client,
            headers,
        })
    }

    pub(crate) fn headers_for(&self, target: &Target) -> HeaderMap {
        let mut headers = self.headers.clone();
        let seconds = ferula_model::number::format_f(target.timeout.ms() as f64 / 1000.0);
        if let Ok(value) = HeaderValue::from_str(&seconds) {
            headers.insert(HeaderName::from_static("x-prometheus-scrape-timeout-seconds"), value);
        }
        headers
    }

    /// Writes a failed scrape to the job's log, if it has one. Blocks.
    pub(crate) fn log_failure(&self, target: &Target, t_ms: i64, error: &str) {
        if let Some(log) = &self.failure_log {
            log.write(t_ms, &self.config.job_name, &target.url_text, error);
        }
    }

    /// Whether lines known under `self` mean the same series under `other`.
    pub(crate) fn same_series(&self, other: &Job) -> bool {
        let (a, b) = (&self.config, &other.config);
        self.metric_rules == other.metric_rules
            && a.honor_labels == b.honor_labels
            && a.metric_name_validation_scheme == b.metric_name_validation_scheme
            && a.label_limit == b.label_limit
            && a.label_name_length_limit == b.label_name_length_limit
            && a.label_value_length_limit == b.label_value_length_limit
    }
}
