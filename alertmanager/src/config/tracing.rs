//! The `tracing` section: which spans are recorded and where they go.
//!
//! Source followed: Alertmanager's documentation, and the fields and messages of 0.33's `amtool check-config`.
use std::collections::BTreeMap;

use ferula_net::client::config::HeaderValues;
use ferula_otlp::{ClientType, ExportOptions};
use ferula_yaml::Duration;
use serde::{Deserialize, Serialize};

use super::http::{HttpConfig, TlsConfig};

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tracing {
    /// `grpc`, the default, or `http`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_type: String,
    /// `host:port`
    pub endpoint: String,
    /// 0 to 1; beyond is what is nearest.
    pub sampling_fraction: f64,
    pub insecure: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_config: Option<TlsConfig>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, HeaderValues>,
    /// `gzip`, which is the default too.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub compression: String,
    /// 0 is 10 s.
    pub timeout: Duration,
}

impl Tracing {
    pub(super) fn validate(&self) -> Result<(), String> {
        if !matches!(self.client_type.as_str(), "" | "grpc" | "http") {
            return Err(format!("expected tracing client type to be to be http or grpc, but got {}", self.client_type));
        }
        if self.endpoint.is_empty() {
            return Err("tracing endpoint must be set".to_owned());
        }
        if !matches!(self.compression.as_str(), "" | "gzip") {
            return Err(format!("invalid compression type {} provided, valid options: gzip", self.compression));
        }
        self.tls_config.as_ref().map_or(Ok(()), TlsConfig::validate)
    }

    /// Joins the relative names of files to the configuration file's directory.
    pub fn set_directory(&mut self, directory: &std::path::Path) {
        let tls_config = self.tls_config.clone().unwrap_or_default();
        let mut http = HttpConfig { tls_config, http_headers: self.headers.clone(), ..HttpConfig::default() };
        http.set_directory(directory);
        self.headers = http.http_headers;
        if self.tls_config.is_some() {
            self.tls_config = Some(http.tls_config);
        }
    }

    pub fn options(&self) -> ExportOptions {
        ExportOptions {
            client_type: if self.client_type == "http" { ClientType::Http } else { ClientType::Grpc },
            endpoint: self.endpoint.clone(),
            sampling_fraction: self.sampling_fraction,
            insecure: self.insecure,
            headers: self.headers.clone(),
            gzip: true,
            timeout: self.timeout.std(),
            tls_config: self.tls_config.clone().unwrap_or_default(),
        }
    }
}
