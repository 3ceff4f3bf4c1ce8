//! The `event_recorder` section: where events go.
//!
//! Source followed: Alertmanager's documentation of 0.33 and 0.34, and the messages of 0.33's `amtool check-config`. Of the
//! batching of 0.34 only `batch` is known here; its bounds are fixed.
use ferula_yaml::Duration;
use serde::{Deserialize, Serialize};

use super::http::{HttpConfig, TlsConfig};
use super::value::SecretUrl;

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventRecorder {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub file_outputs: Vec<FileOutput>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub webhook_outputs: Vec<WebhookOutput>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kafka_outputs: Vec<KafkaOutput>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stdout_outputs: Vec<StdoutOutput>,
}

impl EventRecorder {
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.file_outputs.iter().any(|f| f.path.is_empty()) {
            return Err("event_recorder file output requires a path".to_owned());
        }
        if self.webhook_outputs.iter().any(|w| w.url.is_empty()) {
            return Err("event_recorder webhook output requires a url".to_owned());
        }
        let https = self.webhook_outputs.iter().filter_map(|w| w.http_config.as_ref());
        https.into_iter().try_for_each(|h| h.validate())
    }

    /// Joins the relative file names of HTTP and TLS sections to the configuration file's directory.
    pub fn set_directory(&mut self, directory: &std::path::Path) {
        self.webhook_outputs.iter_mut().filter_map(|w| w.http_config.as_mut()).for_each(|h| h.set_directory(directory));
    }
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileOutput {
    /// Relative to where the process was started, as upstream.
    pub path: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookOutput {
    pub url: SecretUrl,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_config: Option<HttpConfig>,
    /// 0 is 10 s.
    #[serde(skip_serializing_if = "no_duration")]
    pub timeout: Duration,
    /// Requests under way at a time; 0 and less is 4.
    #[serde(skip_serializing_if = "is_zero")]
    pub workers: i64,
    /// Attempts per event; 0 and less is 3.
    #[serde(skip_serializing_if = "is_zero")]
    pub max_retries: i64,
    /// The first wait, doubled each time; 0 is half a second.
    #[serde(skip_serializing_if = "no_duration")]
    pub retry_backoff: Duration,
    /// Several events in one request, as a JSON array.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub batch: bool,
}

fn no_duration(d: &Duration) -> bool {
    d.is_zero()
}

fn is_zero(n: &i64) -> bool {
    *n == 0
}

/// Read, so that a file for upstream is judged as upstream judges it; refused by name when events are to be recorded.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaOutput {
    pub brokers: Vec<String>,
    pub topic: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub format: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub acks: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub compression: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub buffer_size: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_config: Option<TlsConfig>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct StdoutOutput {}
