//! The settings of one Alertmanager: upstream's flags as plain values.
use std::path::PathBuf;

use crate::cluster::ClusterOptions;

/// Field by field the flag of the same name; durations in milliseconds, 0 meaning "no bound" for limits.
#[derive(Clone, Debug)]
pub struct Options {
    /// `--config.file`
    pub config_file: PathBuf,
    /// A built-in configuration, read instead of the file: all-in-one mode.
    pub config_text: Option<String>,
    /// `--storage.path`
    pub storage_path: PathBuf,
    /// `--data.retention`
    pub retention_ms: i64,
    /// `--data.maintenance-interval`
    pub maintenance_interval_ms: i64,
    /// `--silences.max-silences`
    pub silences_max: usize,
    /// `--silences.max-silence-size-bytes`, in the operator's spelling `--silences.max-per-silence-bytes`
    pub silence_size_bytes_max: usize,
    /// `--log.silences`
    pub log_silences: bool,
    /// `--alerts.gc-interval`
    pub alerts_gc_interval_ms: i64,
    /// `--alerts.per-alertname-limit`
    pub alerts_per_alertname_limit: usize,
    /// Alerts held at most; new ones beyond are dropped and counted. Ours.
    pub alerts_max: usize,
    /// Labels, annotations and URL of one alert together. Ours.
    pub alert_size_bytes_max: usize,
    /// Bytes of one request body. Ours.
    pub body_size_bytes_max: usize,
    /// `--dispatch.maintenance-interval`
    pub dispatch_maintenance_interval_ms: i64,
    /// `--dispatch.start-delay`
    pub dispatch_start_delay_ms: i64,
    /// `--web.listen-address`; the caller listens.
    pub listen_addresses: Vec<String>,
    /// `--web.config.file`; the caller's.
    pub web_config_file: String,
    /// `--web.external-url`, complete
    pub external_url: String,
    /// `--web.route-prefix`; empty means the path of the external URL
    pub route_prefix: String,
    /// `--web.get-concurrency`; 0 means twice the cores, at least 8
    pub get_concurrency: usize,
    /// `--web.timeout`
    pub timeout_ms: i64,
    /// `--cluster.*`
    pub cluster: ClusterOptions,
    /// `--enable-feature`, split at commas
    pub features: Vec<String>,
    /// What this process is called in recorded events: the machine's name.
    pub instance: String,
    /// Seed of back-off jitter and of silence ids' randomness; 0 takes the system's.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            config_file: PathBuf::from("alertmanager.yml"),
            config_text: None,
            storage_path: PathBuf::from("data/"),
            retention_ms: 120 * 3_600_000,
            maintenance_interval_ms: 15 * 60_000,
            silences_max: 0,
            silence_size_bytes_max: 0,
            log_silences: false,
            alerts_gc_interval_ms: 30 * 60_000,
            alerts_per_alertname_limit: 0,
            alerts_max: 1_000_000,
            alert_size_bytes_max: 1 << 20,
            body_size_bytes_max: 64 << 20,
            dispatch_maintenance_interval_ms: 30_000,
            dispatch_start_delay_ms: 0,
            listen_addresses: vec![":9093".to_owned()],
            web_config_file: String::new(),
            external_url: "http://localhost:9093".to_owned(),
            route_prefix: String::new(),
            get_concurrency: 0,
            timeout_ms: 0,
            cluster: ClusterOptions::default(),
            features: Vec::new(),
            instance: "localhost".to_owned(),
            seed: 0,
        }
    }
}

impl Options {
    pub fn has_feature(&self, name: &str) -> bool {
        self.features.iter().any(|f| f == name)
    }

    /// `/` or `/prefix` without a slash at its end, as routes are nested under it.
    pub fn effective_prefix(&self) -> String {
        let path = match self.route_prefix.is_empty() {
            true => url::Url::parse(&self.external_url).map(|u| u.path().to_owned()).unwrap_or_default(),
            false => self.route_prefix.clone(),
        };
        let trimmed = path.trim_matches('/');
        if trimmed.is_empty() { "/".to_owned() } else { format!("/{trimmed}") }
    }
}
