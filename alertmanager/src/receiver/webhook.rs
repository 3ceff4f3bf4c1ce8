//! The webhook: a JSON document of version 4, or one of the user's own making.
//!
//! Source followed: payloads recorded from Alertmanager 0.33.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ferula_net::client::{BodyLimits, Client, Request};
use http::header::{RETRY_AFTER, USER_AGENT};
use serde::Serialize;

use super::secret_or_file;
use crate::config;
use crate::core::Delivery;
use crate::notify::data::Data;
use crate::notify::template::Bound;
use crate::notify::{Context, FailureReason, SendError};

/// The document that is posted.
#[derive(Serialize)]
struct Message<'a> {
    #[serde(flatten)]
    data: &'a Data,
    version: &'static str,
    #[serde(rename = "groupKey")]
    group_key: &'a str,
    #[serde(rename = "truncatedAlerts")]
    truncated_alerts: usize,
}

/// One HTTP client per webhook section, kept while its configuration is.
#[derive(Debug, Default)]
pub struct Clients(Mutex<HashMap<usize, Held>>);
type Held = (Arc<config::Webhook>, Arc<Client>);

impl Clients {
    /// Sections are told apart by the address of their configuration, which is kept alive beside the client.
    fn get(&self, config: &Arc<config::Webhook>) -> Result<Arc<Client>, SendError> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Arc::as_ptr(config) as usize;
        if let Some((_, client)) = held.get(&key) {
            return Ok(client.clone());
        }
        let http = config.http_config.clone().unwrap_or_default();
        let client = Client::new(&http).map_err(|e| SendError::permanent(FailureReason::Other, e.to_string()))?;
        let client = Arc::new(client);
        held.insert(key, (config.clone(), client.clone()));
        Ok(client)
    }
}

/// An answer is only looked at for an error text.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// How much of an error text is logged.
const DETAIL_CHARS_MAX: usize = 1_024;

pub async fn send(
    context: &Context,
    clients: &Clients,
    config: &Arc<config::Webhook>,
    delivery: &Delivery,
) -> Result<(), SendError> {
    let (data, truncated_alerts, bound) = context.bind(delivery, config.max_alerts);
    let template_failed = |e: ferula_template::Error| SendError::permanent(FailureReason::Other, e.to_string());
    let message = Message { data: &data, version: "4", group_key: &delivery.notification.group_key, truncated_alerts };
    let body = match &config.payload {
        // Whatever the payload's templates do, the page goes out.
        Some(payload) => match bound.as_ref().map_err(Clone::clone).and_then(|b| render(payload, b)) {
            Ok(custom) => serde_json::to_vec(&custom),
            Err(e) => {
                tracing::error!(receiver = &*data.receiver, error = %e, "Custom webhook payload failed, sending the standard one");
                serde_json::to_vec(&message)
            }
        },
        None => serde_json::to_vec(&message),
    };
    let mut body = body.map_err(|e| SendError::permanent(FailureReason::Other, e.to_string()))?;
    body.push(b'\n');

    let mut url = secret_or_file(config.url.expose(), &config.url_file)?;
    if config.url.is_template() {
        url = bound.map_err(template_failed)?.text(&url).map_err(template_failed)?;
    }
    let url = config::value::parse_url(&url)
        .map_err(|_| SendError::permanent(FailureReason::Other, "the webhook's URL is not valid once rendered"))?;
    let mut request = Request::post(url, "application/json", body);
    request.headers.insert(USER_AGENT, http::HeaderValue::from_static(crate::USER_AGENT));

    let client = clients.get(config)?;
    let exchange = async {
        let response = client.send(request).await.map_err(|e| SendError::transient(without_url(&e)))?;
        let code = response.status.as_u16();
        if response.status.is_success() {
            return Ok(());
        }
        let retry_after =
            response.headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(|v| seconds(v, context));
        let limits = BodyLimits { bytes_max: ANSWER_BYTES_MAX, ..BodyLimits::unlimited() };
        let detail = match response.uncompressed(&limits).await {
            Ok(body) => String::from_utf8_lossy(&body.bytes).trim().chars().take(DETAIL_CHARS_MAX).collect(),
            Err(_) => String::new(),
        };
        let sep = if detail.is_empty() { "" } else { ": " };
        Err(SendError {
            reason: FailureReason::of_status(code),
            message: format!("unexpected status code {code}{sep}{detail}"),
            is_transient: code >= 500 || code == 429,
            retry_after,
        })
    };
    if config.timeout.is_zero() {
        return exchange.await;
    }
    tokio::time::timeout(config.timeout.std(), exchange).await.unwrap_or_else(|_| {
        Err(SendError {
            reason: FailureReason::DeadlineExceeded,
            message: format!("configured webhook timeout reached ({})", config.timeout),
            is_transient: true,
            retry_after: None,
        })
    })
}

/// The reason alone: the URL is a secret.
fn without_url(e: &ferula_net::client::Error) -> String {
    use ferula_net::client::Error;
    match e {
        Error::Transport { reason, .. } | Error::Redirect { reason, .. } => reason.clone(),
        Error::Url(_) => "invalid URL".to_owned(),
        other => other.to_string(),
    }
}

/// `Retry-After` as a wait: seconds, or an HTTP date.
fn seconds(value: &str, context: &Context) -> Option<Duration> {
    if let Ok(s) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(s));
    }
    let at = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp().as_millisecond();
    u64::try_from(at - context.clock.now_ms()).ok().map(Duration::from_millis)
}

/// Every string of the user's document rendered; one that then reads as JSON other than a string stands for that.
fn render(payload: &serde_json::Value, bound: &Bound) -> Result<serde_json::Value, ferula_template::Error> {
    use serde_json::Value;
    Ok(match payload {
        Value::String(s) => {
            let text = bound.text(s)?;
            match s.contains("{{").then(|| serde_json::from_str(&text)) {
                Some(Ok(v @ (Value::Array(_) | Value::Object(_)))) => v,
                _ => Value::String(text),
            }
        }
        Value::Array(items) => Value::Array(items.iter().map(|v| render(v, bound)).collect::<Result<_, _>>()?),
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(k, v)| Ok((k.clone(), render(v, bound)?)))
                .collect::<Result<_, ferula_template::Error>>()?,
        ),
        other => other.clone(),
    })
}
