//! What all integrations over HTTP share: one client per integration, and how answers are judged.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ferula_net::client::{BodyLimits, Client, Request, Response};
use ferula_otlp::Kind;
use http::header::RETRY_AFTER;

use crate::config::http::HttpConfig;
use crate::core::Delivery;
use crate::notify::{Context, FailureReason, SendError};

/// Clients by receiver, integration and index; made anew with every configuration.
#[derive(Debug, Default)]
pub struct Clients {
    held: Mutex<HashMap<Key, Arc<Client>>>,
    /// Tokens that services gave for a while, and until when on the monotonic clock.
    tokens: Mutex<HashMap<Key, (String, Duration)>>,
}
type Key = (Arc<str>, &'static str, u32);

impl Clients {
    pub(super) fn get(&self, delivery: &Delivery, config: Option<&HttpConfig>) -> Result<Arc<Client>, SendError> {
        let i = &delivery.integration;
        let key = (i.receiver.clone(), i.name(), i.index);
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = held.get(&key) {
            return Ok(client.clone());
        }
        let client = Client::new(&config.cloned().unwrap_or_default())
            .map_err(|e| SendError::permanent(FailureReason::Other, e.to_string()))?;
        let client = Arc::new(client);
        held.insert(key, client.clone());
        Ok(client)
    }

    fn tokens(&self) -> std::sync::MutexGuard<'_, HashMap<Key, (String, Duration)>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
    pub(super) fn token(&self, delivery: &Delivery, now: Duration) -> Option<String> {
        let i = &delivery.integration;
        let held = self.tokens();
        held.get(&(i.receiver.clone(), i.name(), i.index)).filter(|(_, until)| *until > now).map(|(t, _)| t.clone())
    }
    pub(super) fn keep_token(&self, delivery: &Delivery, token: String, until: Duration) {
        let i = &delivery.integration;
        self.tokens().insert((i.receiver.clone(), i.name(), i.index), (token, until));
    }
}

/// An answer is only looked at for an error text.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// How much of an error text is logged.
const DETAIL_CHARS_MAX: usize = 1_024;

/// Sends, as a span of its own that the receiver is told of. A receiver's URL is a secret: the span has its host only.
pub(in crate::receiver) async fn send(
    context: &Context,
    client: &Client,
    mut request: Request,
) -> Result<Response, SendError> {
    let name = format!("HTTP {}", request.method);
    let mut span = context.tracer.start(&name, Kind::Client, ferula_otlp::current());
    if let Some(of) = span.context().filter(|c| c.is_sampled) {
        of.add_to(&mut request.headers);
        span.set("http.request.method", request.method.as_str());
        span.set("server.address", request.url.host_str().unwrap_or(""));
        span.set("server.port", request.url.port_or_known_default().unwrap_or(0));
        span.set("http.request.body.size", request.body.len());
    }
    let sent = client.send(request).await.map_err(|e| SendError::transient(without_url(&e)));
    match &sent {
        Ok(answer) => {
            span.set("http.response.status_code", answer.status.as_u16());
            if answer.status.as_u16() >= 400 {
                span.fail("");
            }
        }
        Err(e) => span.fail(&e.message),
    }
    sent
}

/// What an answer means: 2xx is delivered, 429 and 5xx may be tried again. `is_done_if_refused` is for those who take
/// "not there any more" for success.
pub(super) async fn answer(response: Response, context: &Context, is_done_if_refused: bool) -> Result<(), SendError> {
    let code = response.status.as_u16();
    if response.status.is_success() || is_done_if_refused {
        return Ok(());
    }
    let retry_after = response.headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(|v| wait(v, context));
    let limits = BodyLimits { bytes_max: ANSWER_BYTES_MAX, ..BodyLimits::unlimited() };
    let detail: String = match response.uncompressed(&limits).await {
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
}

/// The reason alone: the URL is a secret.
pub(crate) fn without_url(e: &ferula_net::client::Error) -> String {
    use ferula_net::client::Error;
    match e {
        Error::Transport { reason, .. } | Error::Redirect { reason, .. } => reason.clone(),
        Error::Url(_) => "invalid URL".to_owned(),
        other => other.to_string(),
    }
}

/// `Retry-After`: seconds, or an HTTP date.
fn wait(value: &str, context: &Context) -> Option<Duration> {
    if let Ok(s) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(s));
    }
    let at = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp().as_millisecond();
    u64::try_from(at - context.clock.now_ms()).ok().map(Duration::from_millis)
}
