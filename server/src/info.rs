//! What this program says about itself: build, runtime, flags.
use std::collections::BTreeMap;

use serde::Serialize;

/// Build facts, as `/api/v1/status/buildinfo`, `/version` and `prometheus_build_info` show them.
///
/// There is no `features` key and must not be: Grafana takes any server that has one for Mimir.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildInfo {
    pub version: String,
    pub revision: String,
    pub branch: String,
    pub build_user: String,
    pub build_date: String,
    pub go_version: String,
}

impl Default for BuildInfo {
    /// Clients switch features on by this version, so it names the Prometheus whose API this is, and then ours.
    fn default() -> Self {
        BuildInfo {
            version: concat!("3.5.0+ferula.", env!("CARGO_PKG_VERSION")).to_owned(),
            revision: String::new(),
            branch: String::new(),
            build_user: String::new(),
            build_date: String::new(),
            go_version: "none".to_owned(),
        }
    }
}

impl BuildInfo {
    /// The labels of `prometheus_build_info`.
    pub fn register(&self, registry: &ferula_instrument::Registry) {
        registry.info(
            "prometheus_build_info",
            "A metric with a constant '1' value labeled by version, revision, branch, goversion from which prometheus \
             was built, and the goos and goarch for the build.",
            &[
                ("version", &self.version),
                ("revision", &self.revision),
                ("branch", &self.branch),
                ("goversion", &self.go_version),
                ("goos", std::env::consts::OS),
                ("goarch", goarch()),
                ("tags", ""),
            ],
        );
    }
}

fn goarch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Every flag with its value, for `/api/v1/status/flags`.
pub type Flags = BTreeMap<String, String>;

#[derive(Clone, Debug, Serialize)]
pub(crate) struct RuntimeInfo {
    #[serde(rename = "startTime")]
    pub start_time: String,
    #[serde(rename = "CWD")]
    pub cwd: String,
    pub hostname: String,
    #[serde(rename = "serverTime")]
    pub server_time: String,
    #[serde(rename = "reloadConfigSuccess")]
    pub reload_config_success: bool,
    #[serde(rename = "lastConfigTime")]
    pub last_config_time: String,
    #[serde(rename = "corruptionCount")]
    pub corruption_count: usize,
    /// Threads: what comes nearest.
    #[serde(rename = "goroutineCount")]
    pub goroutine_count: usize,
    #[serde(rename = "GOMAXPROCS")]
    pub gomaxprocs: usize,
    #[serde(rename = "GOMEMLIMIT")]
    pub gomemlimit: u64,
    #[serde(rename = "GOGC")]
    pub gogc: String,
    #[serde(rename = "GODEBUG")]
    pub godebug: String,
    #[serde(rename = "storageRetention")]
    pub storage_retention: String,
}

pub(crate) fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

pub(crate) fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, |tasks| tasks.count())
}
