//! The sections `runtime`, `storage`, `tracing` and `otlp`.
use std::collections::BTreeMap;
use std::path::Path;

use ferula_net::client::config::{HeaderValues, TlsConfig};
use ferula_otlp::{ClientType, ExportOptions};
use ferula_scraper_scrape::config::Bytes;
use ferula_yaml::Duration;
use serde::{Deserialize, Serialize};

use super::remote::check_headers;
use super::{Problem, zero_duration};

/// Go's garbage collector: accepted, shown, without effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuntimeConfig {
    pub gogc: i64,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        RuntimeConfig { gogc: 75 }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StorageConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tsdb: Option<TsdbConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exemplars: Option<ExemplarsConfig>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TsdbConfig {
    #[serde(skip_serializing_if = "zero_duration")]
    pub out_of_order_time_window: Duration,
    #[serde(skip_serializing_if = "zero_float")]
    pub stale_series_compaction_threshold: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk_encoding: Option<ChunkEncoding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionConfig>,
}

fn zero_bytes(v: &Bytes) -> bool {
    *v == Bytes::default()
}

fn zero_float(v: &f64) -> bool {
    *v == 0.0
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChunkEncoding {
    pub floats: String,
}

impl Default for ChunkEncoding {
    fn default() -> Self {
        ChunkEncoding { floats: "xor".to_owned() }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    #[serde(skip_serializing_if = "zero_duration")]
    pub time: Duration,
    #[serde(skip_serializing_if = "zero_bytes")]
    pub size: Bytes,
    #[serde(skip_serializing_if = "zero_float")]
    pub percentage: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExemplarsConfig {
    pub max_exemplars: i64,
}

impl Default for ExemplarsConfig {
    fn default() -> Self {
        ExemplarsConfig { max_exemplars: 100_000 }
    }
}

impl StorageConfig {
    /// The store's options: the file's settings stand above those of the flags. Exemplars stay off unless a flag has
    /// switched them on.
    pub(crate) fn applied_to(&self, flags: &ferula_tsdb::Options) -> ferula_tsdb::Options {
        let mut options = flags.clone();
        if let Some(exemplars) = &self.exemplars
            && options.max_exemplars > 0
        {
            options.max_exemplars = usize::try_from(exemplars.max_exemplars).unwrap_or(0);
        }
        let Some(tsdb) = &self.tsdb else { return options };
        options.out_of_order_window_ms = tsdb.out_of_order_time_window.ms();
        if tsdb.stale_series_compaction_threshold > 0.0 {
            options.stale_series_ratio = tsdb.stale_series_compaction_threshold;
        }
        if let Some(encoding) = &tsdb.chunk_encoding {
            options.xor2 = encoding.floats == "xor2";
        }
        if let Some(retention) = &tsdb.retention {
            if !retention.time.is_zero() {
                options.retention_ms = retention.time.ms();
            }
            if retention.size != Bytes::default() {
                options.retention_size_bytes = retention.size.0;
            }
            if retention.percentage > 0.0 {
                options.retention_percent = retention.percentage;
            }
        }
        options
    }

    pub(super) fn is_default(&self) -> bool {
        *self == StorageConfig::default()
    }
    pub(super) fn validate(&self) -> Result<(), Problem> {
        let Some(tsdb) = &self.tsdb else { return Ok(()) };
        if !(0.0..=1.0).contains(&tsdb.stale_series_compaction_threshold) {
            let why = "stale_series_compaction_threshold must be between 0 and 1";
            return Err(Problem::new("storage.tsdb.stale_series_compaction_threshold", why));
        }
        if let Some(encoding) = &tsdb.chunk_encoding
            && !matches!(encoding.floats.as_str(), "xor" | "xor2")
        {
            let why = format!("unsupported chunk encoding {:?}, supported: xor, xor2", encoding.floats);
            return Err(Problem::new("storage.tsdb.chunk_encoding.floats", why));
        }
        if let Some(retention) = &tsdb.retention
            && !(0.0..=100.0).contains(&retention.percentage)
        {
            let why = format!("percentage must be between 0 and 100, got {}", retention.percentage);
            return Err(Problem::new("storage.tsdb.retention.percentage", why));
        }
        Ok(())
    }
}

/// Where spans of requests, queries and rules go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TracingConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub endpoint: String,
    #[serde(skip_serializing_if = "zero_float")]
    pub sampling_fraction: f64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
    pub tls_config: TlsConfig,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub compression: String,
    #[serde(skip_serializing_if = "zero_duration")]
    pub timeout: Duration,
}

impl TracingConfig {
    pub(super) fn validate(&self) -> Result<(), Problem> {
        if self.endpoint.is_empty() {
            return Err(Problem::new("tracing.endpoint", "tracing endpoint must be set"));
        }
        if self.headers.keys().any(|name| name.eq_ignore_ascii_case("authorization")) {
            let why = "custom authorization header configuration is not yet supported";
            return Err(Problem::new("tracing.headers", why));
        }
        check_headers(&self.headers, "tracing.headers")?;
        if !matches!(self.compression.as_str(), "" | "gzip") {
            let why = format!("invalid compression type {} provided, valid options: gzip", self.compression);
            return Err(Problem::new("tracing.compression", why));
        }
        if !matches!(self.client_type.as_str(), "" | "grpc" | "http") {
            let why = format!("expected tracing client type to be one of [grpc http] but got {}", self.client_type);
            return Err(Problem::new("tracing.client_type", why));
        }
        self.tls_config.validate().map_err(|e| Problem::new("tracing.tls_config", e))
    }
    pub(crate) fn export_options(&self) -> ExportOptions {
        let header = |v: &String| HeaderValues { values: vec![v.clone()], ..HeaderValues::default() };
        ExportOptions {
            client_type: if self.client_type == "http" { ClientType::Http } else { ClientType::Grpc },
            endpoint: self.endpoint.clone(),
            sampling_fraction: self.sampling_fraction,
            insecure: self.insecure,
            headers: self.headers.iter().map(|(name, v)| (name.clone(), header(v))).collect(),
            gzip: self.compression == "gzip",
            timeout: self.timeout.std(),
            tls_config: self.tls_config.clone(),
        }
    }
    pub(super) fn set_directory(&mut self, dir: &Path) {
        let mut client = ferula_net::client::ClientConfig { tls_config: self.tls_config.clone(), ..Default::default() };
        client.set_directory(dir);
        self.tls_config = client.tls_config;
    }
}

/// What the OTLP receiver does with attributes: read and checked, the receiver is not built in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpConfig {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub promote_all_resource_attributes: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub promote_resource_attributes: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignore_resource_attributes: Vec<String>,
    pub translation_strategy: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub keep_identifying_resource_attributes: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub convert_histograms_to_nhcb: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub promote_scope_metadata: bool,
    #[serde(skip_serializing_if = "is_true")]
    pub label_name_underscore_sanitization: bool,
    #[serde(skip_serializing_if = "is_true")]
    pub label_name_preserve_multiple_underscores: bool,
}

fn is_true(b: &bool) -> bool {
    *b
}

impl Default for OtlpConfig {
    fn default() -> Self {
        OtlpConfig {
            promote_all_resource_attributes: false,
            promote_resource_attributes: Vec::new(),
            ignore_resource_attributes: Vec::new(),
            translation_strategy: "UnderscoreEscapingWithSuffixes".to_owned(),
            keep_identifying_resource_attributes: false,
            convert_histograms_to_nhcb: false,
            promote_scope_metadata: false,
            label_name_underscore_sanitization: true,
            label_name_preserve_multiple_underscores: true,
        }
    }
}

const STRATEGIES: [&str; 4] = [
    "UnderscoreEscapingWithSuffixes",
    "UnderscoreEscapingWithoutSuffixes",
    "NoUTF8EscapingWithSuffixes",
    "NoTranslation",
];

impl OtlpConfig {
    /// `legacy_names`: whether the global validation scheme forbids UTF-8 names.
    pub(super) fn validate(&self, legacy_names: bool) -> Result<(), Problem> {
        let strategy = self.translation_strategy.as_str();
        if !STRATEGIES.contains(&strategy) {
            let why = format!("unsupported OTLP translation strategy {strategy:?}");
            return Err(Problem::new("otlp.translation_strategy", why));
        }
        if legacy_names && matches!(strategy, "NoUTF8EscapingWithSuffixes" | "NoTranslation") {
            let why = format!("OTLP translation strategy {strategy:?} is not allowed when UTF8 is disabled");
            return Err(Problem::new("otlp.translation_strategy", why));
        }
        if !self.ignore_resource_attributes.is_empty() && !self.promote_all_resource_attributes {
            let why =
                "'ignore_resource_attributes' cannot be configured unless 'promote_all_resource_attributes' is true";
            return Err(Problem::new("otlp.ignore_resource_attributes", why));
        }
        if self.promote_all_resource_attributes && !self.promote_resource_attributes.is_empty() {
            let why = "'promote_all_resource_attributes' and 'promote_resource_attributes' cannot be configured \
                       simultaneously";
            return Err(Problem::new("otlp.promote_resource_attributes", why));
        }
        attributes("ignore_resource_attributes", "ignored", &self.ignore_resource_attributes)?;
        attributes("promote_resource_attributes", "promoted", &self.promote_resource_attributes)
    }
}

fn attributes(field: &str, what: &str, list: &[String]) -> Result<(), Problem> {
    let mut seen = std::collections::BTreeSet::new();
    for name in list {
        let name = name.trim();
        let why = if name.is_empty() {
            format!("empty {what} OTel resource attribute")
        } else if !seen.insert(name) {
            format!("duplicated {what} OTel resource attribute {}", ferula_model::labels::quoted(name))
        } else {
            continue;
        };
        return Err(Problem::new(format!("otlp.{field}"), format!("invalid '{field}': {why}")));
    }
    Ok(())
}
