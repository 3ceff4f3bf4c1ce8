//! `remote_write` and `remote_read`: read and checked, not built in yet.
use std::collections::BTreeMap;
use std::path::Path;

use ferula_net::http_config_struct;
use ferula_scraper_scrape::config::RelabelConfig;
use ferula_yaml::Duration;
use serde::{Deserialize, Serialize};

use super::alerting::Sigv4;
use super::{Problem, built, required, zero_duration};

http_config_struct! {
    pub struct RemoteWriteConfig {
        pub url: String = String::new(),
        pub remote_timeout: Duration = Duration::from_secs(30),
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub headers: BTreeMap<String, String> = BTreeMap::new(),
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub write_relabel_configs: Vec<Option<RelabelConfig>> = Vec::new(),
        #[serde(skip_serializing_if = "String::is_empty")]
        pub name: String = String::new(),
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub send_exemplars: bool = false,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub send_native_histograms: bool = false,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub round_robin_dns: bool = false,
        pub protobuf_message: String = "prometheus.WriteRequest".to_owned(),
        pub queue_config: QueueConfig = QueueConfig::default(),
        pub metadata_config: MetadataConfig = MetadataConfig::default(),
        #[serde(skip_serializing_if = "Option::is_none")]
        pub sigv4: Option<Sigv4> = None,
        #[serde(skip_serializing)]
        pub azuread: Option<BTreeMap<String, serde::de::IgnoredAny>> = None,
        #[serde(skip_serializing)]
        pub google_iam: Option<BTreeMap<String, serde::de::IgnoredAny>> = None,
        @http_config
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    pub capacity: i64,
    pub max_shards: i64,
    pub min_shards: i64,
    pub max_samples_per_send: i64,
    pub batch_send_deadline: Duration,
    pub min_backoff: Duration,
    pub max_backoff: Duration,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub retry_on_http_429: bool,
    #[serde(skip_serializing_if = "zero_duration")]
    pub sample_age_limit: Duration,
}

impl Default for QueueConfig {
    fn default() -> Self {
        QueueConfig {
            capacity: 10_000,
            max_shards: 50,
            min_shards: 1,
            max_samples_per_send: 2_000,
            batch_send_deadline: Duration::from_secs(5),
            min_backoff: Duration::from_ms(30),
            max_backoff: Duration::from_secs(5),
            retry_on_http_429: false,
            sample_age_limit: Duration::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetadataConfig {
    pub send: bool,
    pub send_interval: Duration,
    pub max_samples_per_send: i64,
}

impl Default for MetadataConfig {
    fn default() -> Self {
        MetadataConfig { send: true, send_interval: Duration::from_secs(60), max_samples_per_send: 2_000 }
    }
}

http_config_struct! {
    pub struct RemoteReadConfig {
        pub url: String = String::new(),
        pub remote_timeout: Duration = Duration::from_secs(60),
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub headers: BTreeMap<String, String> = BTreeMap::new(),
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub read_recent: bool = false,
        #[serde(skip_serializing_if = "String::is_empty")]
        pub name: String = String::new(),
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        pub required_matchers: BTreeMap<String, String> = BTreeMap::new(),
        pub filter_external_labels: bool = true,
        pub chunked_read_limit: u64 = 50 << 20,
        @http_config
    }
}

/// Headers a configuration must leave alone, in lower case.
const RESERVED: [&str; 10] = [
    "host",
    "content-encoding",
    "content-length",
    "content-type",
    "user-agent",
    "connection",
    "keep-alive",
    "x-prometheus-remote-write-version",
    "x-prometheus-remote-read-version",
    "proxy-authenticate",
];

pub(super) fn check_headers(headers: &BTreeMap<String, String>, at: &str) -> Result<(), Problem> {
    for name in headers.keys() {
        let lower = name.to_ascii_lowercase();
        if lower == "authorization" {
            let why = "authorization header must be changed via the basic_auth, authorization, oauth2, sigv4, azuread \
                       or google_iam parameter";
            return Err(Problem::new(at, why));
        }
        if RESERVED.contains(&lower.as_str()) {
            return Err(Problem::new(at, format!("{lower} is a reserved header. It must not be changed")));
        }
    }
    Ok(())
}

fn check_url(url: &str, at: &str, what: &str) -> Result<(), Problem> {
    if url.is_empty() {
        return Err(Problem::new(at, format!("url for {what} is empty")));
    }
    url::Url::parse(url).map(drop).map_err(|e| Problem::new(at, format!("invalid url: {e}")))
}

pub(super) fn validate_writes(list: &[Option<RemoteWriteConfig>]) -> Result<(), Problem> {
    let mut names = std::collections::BTreeSet::new();
    for (i, config) in list.iter().enumerate() {
        let at = format!("remote_write[{i}]");
        let c = required(config, &at, "empty or null remote write config section")?;
        if !c.name.is_empty() && !names.insert(&c.name) {
            let name = ferula_model::labels::quoted(&c.name);
            let why = format!("found multiple remote write configs with job name {name}");
            return Err(Problem::new(format!("{at}.name"), why));
        }
        check_url(&c.url, &format!("{at}.url"), "remote_write")?;
        let why = "empty or null relabeling rule in remote write config";
        built(&c.write_relabel_configs, &format!("{at}.write_relabel_configs"), why)?;
        check_headers(&c.headers, &format!("{at}.headers"))?;
        if !matches!(c.protobuf_message.as_str(), "prometheus.WriteRequest" | "io.prometheus.write.v2.Request") {
            let name = &c.protobuf_message;
            let why = format!("invalid protobuf_message value: unknown type for remote write protobuf message {name}");
            return Err(Problem::new(format!("{at}.protobuf_message"), why));
        }
        c.queue_config.validate(&format!("{at}.queue_config"))?;
        c.http_config().validate().map_err(|e| Problem::new(&at, e))?;
    }
    Ok(())
}

impl QueueConfig {
    fn validate(&self, at: &str) -> Result<(), Problem> {
        let problem = |field: &str, why: &str| Err(Problem::new(format!("{at}.{field}"), why));
        if self.capacity <= 0 {
            return problem("capacity", "capacity must be greater than 0");
        }
        if self.max_shards <= 0 {
            return problem("max_shards", "max_shards must be greater than 0");
        }
        if self.min_shards <= 0 {
            return problem("min_shards", "min_shards must be greater than 0");
        }
        if self.min_shards > self.max_shards {
            return problem("min_shards", "min_shards must not be greater than max_shards");
        }
        if self.max_samples_per_send <= 0 {
            return problem("max_samples_per_send", "max_samples_per_send must be greater than 0");
        }
        if self.max_backoff < self.min_backoff {
            return problem("max_backoff", "max_backoff must not be less than min_backoff");
        }
        Ok(())
    }
}

pub(super) fn validate_reads(list: &[Option<RemoteReadConfig>]) -> Result<(), Problem> {
    let mut names = std::collections::BTreeSet::new();
    for (i, config) in list.iter().enumerate() {
        let at = format!("remote_read[{i}]");
        let c = required(config, &at, "empty or null remote read config section")?;
        if !c.name.is_empty() && !names.insert(&c.name) {
            let name = ferula_model::labels::quoted(&c.name);
            let why = format!("found multiple remote read configs with job name {name}");
            return Err(Problem::new(format!("{at}.name"), why));
        }
        check_url(&c.url, &format!("{at}.url"), "remote_read")?;
        check_headers(&c.headers, &format!("{at}.headers"))?;
        c.http_config().validate().map_err(|e| Problem::new(&at, e))?;
    }
    Ok(())
}

pub(super) fn set_directory(
    writes: &mut [Option<RemoteWriteConfig>],
    reads: &mut [Option<RemoteReadConfig>],
    dir: &Path,
) {
    writes.iter_mut().flatten().for_each(|c| c.set_http_directory(dir));
    reads.iter_mut().flatten().for_each(|c| c.set_http_directory(dir));
}
