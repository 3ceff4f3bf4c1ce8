//! The whole `prometheus.yml`: read strictly, checked with upstream's words, shown without secrets.
//!
//! `load` reads a source and everything it names; a [`Config`] that exists is valid.
mod alerting;
mod environment;
mod glob;
mod load;
mod locate;
mod other;
mod remote;

use ferula_model::relabel::NameScheme;
use ferula_yaml::Duration;
use serde::{Deserialize, Serialize};

pub use ferula_scraper_scrape::config::{GlobalConfig, RelabelConfig, ScrapeConfig};

pub use alerting::{AlertingConfig, AlertmanagerConfig, Sigv4};
pub use glob::files as files_of;
pub use load::{Environment, LoadOptions, Loaded, Source, load};
pub(crate) use load::{checksum, read};
pub use other::{
    ChunkEncoding, ExemplarsConfig, OtlpConfig, RetentionConfig, RuntimeConfig, StorageConfig, TracingConfig,
    TsdbConfig,
};
pub use remote::{MetadataConfig, QueueConfig, RemoteReadConfig, RemoteWriteConfig};

/// The configuration file. Entries of lists are optional because a null entry is a mistake worth naming.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub global: GlobalConfig,
    pub runtime: RuntimeConfig,
    pub alerting: AlertingConfig,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rule_files: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scrape_config_files: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scrape_configs: Vec<Option<ScrapeConfig>>,
    #[serde(skip_serializing_if = "StorageConfig::is_default")]
    pub storage: StorageConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracing: Option<TracingConfig>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remote_write: Vec<Option<RemoteWriteConfig>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remote_read: Vec<Option<RemoteReadConfig>>,
    pub otlp: OtlpConfig,
}

/// Something wrong with the field at `path`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Problem {
    path: String,
    message: String,
}

impl Problem {
    fn new(path: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem { path: path.into(), message: message.into() }
    }
    /// An error of a part, whose field names start at `path`.
    fn below(path: &str, e: &ferula_scraper_scrape::config::ConfigError) -> Problem {
        let dot = if e.field.is_empty() { "" } else { "." };
        Problem::new(format!("{path}{dot}{}", e.field), &e.message)
    }
}

/// The entry, or the problem that there is none.
fn required<'a, T>(entry: &'a Option<T>, path: &str, why: &str) -> Result<&'a T, Problem> {
    entry.as_ref().ok_or_else(|| Problem::new(path, why))
}

/// Compiles relabelling rules.
fn built(
    rules: &[Option<RelabelConfig>],
    path: &str,
    why_null: &str,
) -> Result<Vec<ferula_model::relabel::Config>, Problem> {
    let mut out = Vec::with_capacity(rules.len());
    for (i, rule) in rules.iter().enumerate() {
        let at = format!("{path}[{i}]");
        let rule = required(rule, &at, why_null)?;
        out.push(rule.build(NameScheme::Utf8).map_err(|e| Problem::new(&at, e.to_string()))?);
    }
    Ok(out)
}

/// Compiles rules of a checked configuration.
pub(crate) fn relabel_rules(rules: &[Option<RelabelConfig>]) -> Result<Vec<ferula_model::relabel::Config>, String> {
    built(rules, "", "empty or null relabeling rule").map_err(|p| p.message)
}

fn zero_duration(d: &Duration) -> bool {
    d.is_zero()
}
