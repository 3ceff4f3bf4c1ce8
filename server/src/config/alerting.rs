//! `alerting`: the Alertmanagers, how to reach them, and what is done to alerts on the way.
use std::path::Path;

use ferula_scraper_discovery::discovery_struct;
use ferula_scraper_scrape::config::RelabelConfig;
use ferula_yaml::Duration;
use serde::{Deserialize, Serialize};

use super::{Problem, built, required};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertingConfig {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alert_relabel_configs: Vec<Option<RelabelConfig>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alertmanagers: Vec<Option<AlertmanagerConfig>>,
}

discovery_struct! {
    /// One entry of `alertmanagers`: a set of Alertmanagers that discovery finds.
    pub struct AlertmanagerConfig {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub relabel_configs: Vec<Option<RelabelConfig>> = Vec::new(),
        #[serde(skip_serializing_if = "Vec::is_empty")]
        pub alert_relabel_configs: Vec<Option<RelabelConfig>> = Vec::new(),
        pub scheme: String = "http".to_owned(),
        #[serde(skip_serializing_if = "String::is_empty")]
        pub path_prefix: String = String::new(),
        pub timeout: Duration = Duration::from_secs(10),
        pub api_version: String = "v2".to_owned(),
        #[serde(skip_serializing_if = "Option::is_none")]
        pub sigv4: Option<Sigv4> = None,
        @http_config
    }
}

/// AWS signatures: read, but not built in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sigv4 {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub region: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub access_key: String,
    #[serde(skip_serializing_if = "ferula_yaml::Secret::is_empty")]
    pub secret_key: ferula_yaml::Secret,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub profile: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub role_arn: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub external_id: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub use_fips_sts_endpoint: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub service_name: String,
}

impl AlertingConfig {
    pub(super) fn validate(&self) -> Result<(), Problem> {
        let at = "alerting.alert_relabel_configs";
        built(&self.alert_relabel_configs, at, "empty or null alert relabeling rule")?;
        for (i, am) in self.alertmanagers.iter().enumerate() {
            let at = format!("alerting.alertmanagers[{i}]");
            let am = required(am, &at, "empty or null Alertmanager config")?;
            let why = "empty or null Alertmanager target relabeling rule";
            built(&am.relabel_configs, &format!("{at}.relabel_configs"), why)?;
            let why = "empty or null Alertmanager alert relabeling rule";
            built(&am.alert_relabel_configs, &format!("{at}.alert_relabel_configs"), why)?;
            if am.api_version != "v2" {
                let known = if am.api_version == "v1" { "no longer supported" } else { "unknown" };
                return Err(Problem::new(
                    format!("{at}.api_version"),
                    format!("expected Alertmanager api version to be one of [v2] but got {} ({known})", am.api_version),
                ));
            }
            if !matches!(am.scheme.as_str(), "http" | "https") {
                return Err(Problem::new(format!("{at}.scheme"), "scheme must be 'http' or 'https'"));
            }
            am.http_config().validate().map_err(|e| Problem::new(&at, e))?;
            am.discovery().validate().map_err(|e| Problem::new(&at, e.to_string()))?;
        }
        Ok(())
    }

    pub(super) fn set_directory(&mut self, dir: &Path) {
        for am in self.alertmanagers.iter_mut().flatten() {
            am.set_http_directory(dir);
            am.set_discovery_directory(dir);
        }
    }
}
