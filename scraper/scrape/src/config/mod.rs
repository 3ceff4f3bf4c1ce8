//! `scrape_configs` and the part of `global` they inherit from: read strictly, checked with upstream's words.
mod protocol;
mod relabel;
mod size;

use std::collections::BTreeMap;
use std::path::Path;

use ferula_model::Labels;
use ferula_model::relabel::NameScheme;
use ferula_scraper_discovery::discovery_struct;
use ferula_yaml::Duration;
use serde::{Deserialize, Serialize};

pub use protocol::{DEFAULT_PROTOCOLS, NATIVE_PROTOCOLS, ScrapeProtocol, accept_header};
pub use relabel::RelabelConfig;
pub use size::Bytes;

fn unset<T: Default + PartialEq>(v: &T) -> bool {
    *v == T::default()
}

/// Why a configuration is refused; `field` is the path below the scrape configuration, for the file's error message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    pub field: String,
    pub message: String,
}

fn refuse<T>(field: &str, message: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError { field: field.to_owned(), message: message.into() })
}

/// All of `global`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GlobalConfig {
    pub scrape_interval: Duration,
    /// Zero means: 10 s, or the interval if that is shorter.
    pub scrape_timeout: Duration,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scrape_protocols: Vec<ScrapeProtocol>,
    pub evaluation_interval: Duration,
    #[serde(skip_serializing_if = "unset")]
    pub rule_query_offset: Duration,
    #[serde(skip_serializing_if = "unset")]
    pub query_log_file: String,
    #[serde(skip_serializing_if = "unset")]
    pub scrape_failure_log_file: String,
    #[serde(skip_serializing_if = "unset")]
    pub external_labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "unset")]
    pub body_size_limit: Bytes,
    #[serde(skip_serializing_if = "unset")]
    pub sample_limit: u64,
    #[serde(skip_serializing_if = "unset")]
    pub target_limit: u64,
    /// Series that all scraping together may hold; like the two below not known upstream. 0 is no budget.
    #[serde(skip_serializing_if = "unset")]
    pub series_budget: u64,
    #[serde(skip_serializing_if = "unset")]
    pub job_series_budget: u64,
    #[serde(skip_serializing_if = "unset")]
    pub target_series_budget: u64,
    #[serde(skip_serializing_if = "unset")]
    pub label_limit: u64,
    #[serde(skip_serializing_if = "unset")]
    pub label_name_length_limit: u64,
    #[serde(skip_serializing_if = "unset")]
    pub label_value_length_limit: u64,
    #[serde(skip_serializing_if = "unset")]
    pub keep_dropped_targets: u64,
    #[serde(skip_serializing_if = "unset")]
    pub metric_name_validation_scheme: String,
    #[serde(skip_serializing_if = "unset")]
    pub metric_name_escaping_scheme: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrape_native_histograms: Option<bool>,
    #[serde(skip_serializing_if = "unset")]
    pub convert_classic_histograms_to_nhcb: bool,
    #[serde(skip_serializing_if = "unset")]
    pub always_scrape_classic_histograms: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra_scrape_metrics: Option<bool>,
    /// Not of the file: start times are wanted, which protobuf tells best.
    #[serde(skip)]
    pub prefers_protobuf: bool,
}

impl Default for GlobalConfig {
    fn default() -> Self {
        GlobalConfig {
            scrape_interval: Duration::from_secs(60),
            scrape_timeout: Duration::default(),
            scrape_protocols: Vec::new(),
            evaluation_interval: Duration::from_secs(60),
            rule_query_offset: Duration::default(),
            query_log_file: String::new(),
            scrape_failure_log_file: String::new(),
            external_labels: BTreeMap::new(),
            body_size_limit: Bytes(0),
            sample_limit: 0,
            target_limit: 0,
            series_budget: 0,
            job_series_budget: 0,
            target_series_budget: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            keep_dropped_targets: 0,
            metric_name_validation_scheme: String::new(),
            metric_name_escaping_scheme: String::new(),
            scrape_native_histograms: None,
            convert_classic_histograms_to_nhcb: false,
            always_scrape_classic_histograms: false,
            extra_scrape_metrics: None,
            prefers_protobuf: false,
        }
    }
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

impl GlobalConfig {
    /// Fills in what was left out and checks the rest.
    pub fn resolve(mut self) -> Result<GlobalConfig, ConfigError> {
        if self.scrape_interval.is_zero() {
            self.scrape_interval = Duration::from_secs(60);
        }
        if self.evaluation_interval.is_zero() {
            self.evaluation_interval = Duration::from_secs(60);
        }
        if self.scrape_timeout > self.scrape_interval {
            return refuse("scrape_timeout", "global scrape timeout greater than scrape interval");
        }
        if self.scrape_timeout.is_zero() {
            self.scrape_timeout = DEFAULT_TIMEOUT.min(self.scrape_interval);
        }
        if self.scrape_protocols.is_empty() {
            let native = self.scrape_native_histograms == Some(true) || self.prefers_protobuf;
            self.scrape_protocols = if native { NATIVE_PROTOCOLS.to_vec() } else { DEFAULT_PROTOCOLS.to_vec() };
        }
        if let Err(e) = protocol::check(&self.scrape_protocols) {
            return refuse("scrape_protocols", format!("{e} for global config"));
        }
        for name in self.external_labels.keys() {
            if name.is_empty() {
                return refuse("external_labels", format!("{name:?} is not a valid label name"));
            }
        }
        let scheme = &self.metric_name_validation_scheme;
        if !matches!(scheme.as_str(), "" | "utf8" | "legacy") {
            return refuse(
                "metric_name_validation_scheme",
                format!(
                    "unknown global name validation method specified, must be either 'legacy' or 'utf8', got {scheme}"
                ),
            );
        }
        if scheme.is_empty() {
            self.metric_name_validation_scheme = "utf8".to_owned();
        }
        check_escaping("", &self.metric_name_validation_scheme, &mut self.metric_name_escaping_scheme)?;
        Ok(self)
    }

    pub fn external_labels(&self) -> Labels {
        Labels::from_pairs(self.external_labels.iter())
    }
}

/// Infers or checks `metric_name_escaping_scheme`.
fn check_escaping(job: &str, validation: &str, escaping: &mut String) -> Result<(), ConfigError> {
    if escaping.is_empty() {
        *escaping = if validation == "legacy" { "underscores" } else { "allow-utf-8" }.to_owned();
        return Ok(());
    }
    let of_job = if job.is_empty() { String::new() } else { format!(" for scrape config with job name {job:?}") };
    if !matches!(escaping.as_str(), "allow-utf-8" | "underscores" | "dots" | "values") {
        return refuse(
            "metric_name_escaping_scheme",
            format!("unknown metric name escaping scheme {escaping:?}{of_job}"),
        );
    }
    if validation == "legacy" && escaping == "allow-utf-8" {
        return refuse(
            "metric_name_escaping_scheme",
            "metric_name_escaping_scheme: utf8 metric names requested but validation scheme is not set to UTF8",
        );
    }
    Ok(())
}

discovery_struct! {
    /// One entry of `scrape_configs`, with all of upstream's fields.
    pub struct ScrapeConfig {
        pub job_name: String = String::new(),
        #[serde(skip_serializing_if = "unset")]
        pub honor_labels: bool = false,
        pub honor_timestamps: bool = true,
        pub track_timestamps_staleness: bool = false,
        #[serde(skip_serializing_if = "unset")]
        pub params: BTreeMap<String, Vec<String>> = BTreeMap::new(),
        #[serde(skip_serializing_if = "unset")]
        pub scrape_interval: Duration = Duration::default(),
        #[serde(skip_serializing_if = "unset")]
        pub scrape_timeout: Duration = Duration::default(),
        #[serde(skip_serializing_if = "unset")]
        pub scrape_protocols: Vec<ScrapeProtocol> = Vec::new(),
        #[serde(skip_serializing_if = "Option::is_none")]
        pub fallback_scrape_protocol: Option<ScrapeProtocol> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub scrape_native_histograms: Option<bool> = None,
        /// Also read under its name of Prometheus 2.
        #[serde(skip_serializing_if = "Option::is_none", alias = "scrape_classic_histograms")]
        pub always_scrape_classic_histograms: Option<bool> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub convert_classic_histograms_to_nhcb: Option<bool> = None,
        #[serde(skip_serializing_if = "Option::is_none")]
        pub extra_scrape_metrics: Option<bool> = None,
        #[serde(skip_serializing_if = "unset")]
        pub scrape_failure_log_file: String = String::new(),
        pub metrics_path: String = "/metrics".to_owned(),
        pub scheme: String = "http".to_owned(),
        pub enable_compression: bool = true,
        #[serde(skip_serializing_if = "unset")]
        pub body_size_limit: Bytes = Bytes(0),
        #[serde(skip_serializing_if = "unset")]
        pub sample_limit: u64 = 0,
        #[serde(skip_serializing_if = "unset")]
        pub target_limit: u64 = 0,
        /// Series that all targets of the job together may hold: over it, new ones are refused, known ones go on. Not known
        /// upstream.
        #[serde(skip_serializing_if = "unset")]
        pub job_series_budget: u64 = 0,
        /// The same for each of its targets.
        #[serde(skip_serializing_if = "unset")]
        pub target_series_budget: u64 = 0,
        #[serde(skip_serializing_if = "unset")]
        pub label_limit: u64 = 0,
        #[serde(skip_serializing_if = "unset")]
        pub label_name_length_limit: u64 = 0,
        #[serde(skip_serializing_if = "unset")]
        pub label_value_length_limit: u64 = 0,
        #[serde(skip_serializing_if = "unset")]
        pub native_histogram_bucket_limit: u64 = 0,
        #[serde(skip_serializing_if = "unset")]
        pub native_histogram_min_bucket_factor: f64 = 0.0,
        #[serde(skip_serializing_if = "unset")]
        pub keep_dropped_targets: u64 = 0,
        #[serde(skip_serializing_if = "unset")]
        pub metric_name_validation_scheme: String = String::new(),
        #[serde(skip_serializing_if = "unset")]
        pub metric_name_escaping_scheme: String = String::new(),
        @http_config
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub relabel_configs: Vec<Option<RelabelConfig>> = Vec::new(),
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub metric_relabel_configs: Vec<Option<RelabelConfig>> = Vec::new(),
    }
}

fn inherit<T: Default + PartialEq + Clone>(own: &mut T, global: &T) {
    if unset(own) {
        own.clone_from(global);
    }
}

impl ScrapeConfig {
    /// The configuration with everything inherited from `global` (itself resolved) filled in, or what is wrong with it.
    pub fn resolve(mut self, global: &GlobalConfig) -> Result<ScrapeConfig, ConfigError> {
        if let Err(e) = self.discovery().validate() {
            return refuse("", e.to_string());
        }
        if self.job_name.is_empty() {
            return refuse("job_name", "job_name is empty");
        }
        let job = self.job_name.clone();
        inherit(&mut self.scrape_interval, &global.scrape_interval);
        if self.scrape_timeout > self.scrape_interval {
            return refuse(
                "scrape_timeout",
                format!("scrape timeout greater than scrape interval for scrape config with job name {job:?}"),
            );
        }
        if self.scrape_timeout.is_zero() {
            self.scrape_timeout = global.scrape_timeout.min(self.scrape_interval);
        }
        inherit(&mut self.body_size_limit, &global.body_size_limit);
        inherit(&mut self.sample_limit, &global.sample_limit);
        inherit(&mut self.target_limit, &global.target_limit);
        inherit(&mut self.job_series_budget, &global.job_series_budget);
        inherit(&mut self.target_series_budget, &global.target_series_budget);
        inherit(&mut self.label_limit, &global.label_limit);
        inherit(&mut self.label_name_length_limit, &global.label_name_length_limit);
        inherit(&mut self.label_value_length_limit, &global.label_value_length_limit);
        inherit(&mut self.keep_dropped_targets, &global.keep_dropped_targets);
        inherit(&mut self.scrape_failure_log_file, &global.scrape_failure_log_file);
        self.scrape_native_histograms =
            self.scrape_native_histograms.or(global.scrape_native_histograms).or(Some(false));
        self.extra_scrape_metrics = self.extra_scrape_metrics.or(global.extra_scrape_metrics).or(Some(false));
        self.always_scrape_classic_histograms =
            self.always_scrape_classic_histograms.or(Some(global.always_scrape_classic_histograms));
        self.convert_classic_histograms_to_nhcb =
            self.convert_classic_histograms_to_nhcb.or(Some(global.convert_classic_histograms_to_nhcb));
        self.resolve_protocols(global)?;
        self.resolve_names(global)?;
        if let Err(message) = self.http_config().validate() {
            return refuse("", message);
        }
        self.relabel_rules()?;
        self.metric_relabel_rules()?;
        Ok(self)
    }

    fn resolve_protocols(&mut self, global: &GlobalConfig) -> Result<(), ConfigError> {
        let job = &self.job_name;
        if self.scrape_protocols.is_empty() {
            let native = self.scrape_native_histograms == Some(true) || global.prefers_protobuf;
            let of_global = &global.scrape_protocols;
            // A job's own switch decides, unless the global list was written by hand.
            self.scrape_protocols = match (native, of_global.as_slice()) {
                (true, list) if list == DEFAULT_PROTOCOLS => NATIVE_PROTOCOLS.to_vec(),
                (false, list) if list == NATIVE_PROTOCOLS => DEFAULT_PROTOCOLS.to_vec(),
                (_, list) => list.to_vec(),
            };
        }
        let lists = [&self.scrape_protocols];
        for list in lists {
            if let Err(e) = protocol::check(list) {
                return refuse("scrape_protocols", format!("{e} for scrape config with job name {job:?}"));
            }
        }
        if let Some(ScrapeProtocol::Unknown(name)) = &self.fallback_scrape_protocol {
            return refuse(
                "fallback_scrape_protocol",
                format!(
                    "invalid fallback_scrape_protocol for scrape config with job name {job:?}: {}",
                    protocol::unknown(name)
                ),
            );
        }
        Ok(())
    }

    fn resolve_names(&mut self, global: &GlobalConfig) -> Result<(), ConfigError> {
        let job = self.job_name.clone();
        inherit(&mut self.metric_name_validation_scheme, &global.metric_name_validation_scheme);
        let scheme = &self.metric_name_validation_scheme;
        if !matches!(scheme.as_str(), "utf8" | "legacy") {
            return refuse(
                "metric_name_validation_scheme",
                format!(
                    "unknown name validation method specified, must be either 'legacy' or 'utf8', got {scheme} for scrape config with job name {job:?}"
                ),
            );
        }
        // The global escaping fits the global validation; where the job has another, it is inferred.
        if self.metric_name_escaping_scheme.is_empty() && *scheme == global.metric_name_validation_scheme {
            self.metric_name_escaping_scheme.clone_from(&global.metric_name_escaping_scheme);
        }
        check_escaping(&job, &self.metric_name_validation_scheme, &mut self.metric_name_escaping_scheme)
    }

    pub fn name_scheme(&self) -> NameScheme {
        if self.metric_name_validation_scheme == "legacy" { NameScheme::Legacy } else { NameScheme::Utf8 }
    }

    /// `relabel_configs`, compiled.
    pub fn relabel_rules(&self) -> Result<Vec<ferula_model::relabel::Config>, ConfigError> {
        compile(&self.relabel_configs, "relabel_configs", "target", self.name_scheme())
    }

    /// `metric_relabel_configs`, compiled.
    pub fn metric_relabel_rules(&self) -> Result<Vec<ferula_model::relabel::Config>, ConfigError> {
        compile(&self.metric_relabel_configs, "metric_relabel_configs", "metric", self.name_scheme())
    }

    /// Joins relative file names to the configuration file's directory.
    pub fn set_directory(&mut self, dir: &Path) {
        self.set_http_directory(dir);
        self.set_discovery_directory(dir);
        if !self.scrape_failure_log_file.is_empty() && !Path::new(&self.scrape_failure_log_file).is_absolute() {
            self.scrape_failure_log_file = dir.join(&self.scrape_failure_log_file).to_string_lossy().into_owned();
        }
    }

    /// Refuses what this build knows but lacks, by name: to be asked before the configuration is put to use.
    pub fn require_built(&self) -> Result<(), ConfigError> {
        if let Err(e) = self.discovery().require_built() {
            return refuse("", format!("{e} (job {:?})", self.job_name));
        }
        if let Err(e) = ferula_net::client::Client::new(&self.http_config()) {
            return refuse("", format!("{e} (job {:?})", self.job_name));
        }
        Ok(())
    }
}

fn compile(
    rules: &[Option<RelabelConfig>],
    field: &str,
    what: &str,
    scheme: NameScheme,
) -> Result<Vec<ferula_model::relabel::Config>, ConfigError> {
    let mut out = Vec::with_capacity(rules.len());
    for (i, rule) in rules.iter().enumerate() {
        let field = format!("{field}[{i}]");
        let Some(rule) = rule else {
            return refuse(&field, format!("empty or null {what} relabeling rule in scrape config"));
        };
        match rule.build(scheme) {
            Ok(config) => out.push(config),
            Err(e) => return refuse(&field, e.to_string()),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests;
