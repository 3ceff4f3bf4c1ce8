//! The way to an Alertmanager over HTTP: `POST` of a JSON list to its API v2.
use std::sync::Arc;
use std::time::Duration;

use ferula_net::client::{BodyLimits, Client, Request};
use futures::future::BoxFuture;
use http::{HeaderValue, header};
use url::Url;

use super::{Alert, SendError, Transport, to_json};

/// What is read of an error's text.
const ERROR_BYTES_MAX: u64 = 4 << 10;

pub struct HttpTransport {
    url: Url,
    text: String,
    client: Arc<Client>,
    timeout: Duration,
}

impl HttpTransport {
    pub fn new(url: Url, client: Arc<Client>, timeout: Duration) -> HttpTransport {
        HttpTransport { text: url.to_string(), url, client, timeout }
    }

    async fn post(&self, alerts: Vec<Alert>) -> Result<(), SendError> {
        let mut request = Request::post(self.url.clone(), "application/json", to_json(&alerts));
        let agent = HeaderValue::from_static(concat!("Ferula/", env!("CARGO_PKG_VERSION")));
        request.headers.insert(header::USER_AGENT, agent);
        let failed = |e: ferula_net::client::Error| SendError::Failed(e.to_string());
        let response = self.client.send(request).await.map_err(failed)?;
        let status = response.status;
        if status.is_success() {
            return Ok(());
        }
        let limits = BodyLimits { bytes_max: ERROR_BYTES_MAX, budget: ferula_model::Budget::unlimited() };
        let body = response.uncompressed(&limits).await.map(|b| b.bytes).unwrap_or_default();
        let text = format!("bad response status {status}: {}", String::from_utf8_lossy(&body).trim());
        // These say that the alerts themselves are unacceptable: they will be so the next time.
        match status.as_u16() {
            400 | 413 | 422 => Err(SendError::Rejected(text)),
            _ => Err(SendError::Failed(text)),
        }
    }
}

impl Transport for HttpTransport {
    fn url(&self) -> &str {
        &self.text
    }
    fn send(&self, batch: Vec<Alert>) -> BoxFuture<'_, Result<(), SendError>> {
        Box::pin(async move {
            match tokio::time::timeout(self.timeout, self.post(batch)).await {
                Ok(result) => result,
                Err(_) => Err(SendError::Failed(format!("no answer within {:?}", self.timeout))),
            }
        })
    }
}
