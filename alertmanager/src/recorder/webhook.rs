//! Events to an HTTP endpoint: one request each, or several as a JSON array.
use std::time::Duration;

use bytes::Bytes;
use ferula_instrument::{Counter, CounterVec};
use ferula_net::client::{Client, Request};
use http::header::USER_AGENT;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use url::Url;

use super::output::Output;
use crate::config::event_recorder::WebhookOutput;
use crate::config::value::parse_url;
use crate::receiver::http::without_url;

/// Events waiting for one webhook.
const QUEUE_MAX: usize = 1_024;
/// When a batch is full, and how long it waits for more.
const BATCH_EVENTS: usize = 100;
const BATCH_BYTES: usize = 1 << 20;
const BATCH_WAIT: Duration = Duration::from_secs(1);

const TIMEOUT: Duration = Duration::from_secs(10);
const WORKERS: usize = 4;
const ATTEMPTS: u32 = 3;
const BACKOFF_FIRST: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// The queue of one webhook.
pub(super) struct Sender {
    queue: mpsc::Sender<Bytes>,
    dropped: Counter,
    task: JoinHandle<()>,
}

impl Sender {
    pub(super) fn send(&self, event: Bytes) {
        if self.queue.try_send(event).is_err() {
            self.dropped.inc();
        }
    }
    pub(super) fn close(self) -> JoinHandle<()> {
        self.task // the queue's end is dropped here, which ends the task behind what is in it
    }
}

struct Webhook {
    name: String,
    url: Url,
    client: Client,
    timeout: Duration,
    workers: usize,
    attempts: u32,
    backoff: Duration,
    is_batched: bool,
}

pub(super) fn open(
    config: &WebhookOutput,
    drops: &CounterVec,
    runtime: &tokio::runtime::Handle,
) -> Result<Output, String> {
    let url = parse_url(config.url.expose())?;
    let positive = |n: i64| u32::try_from(n).ok().filter(|n| *n > 0);
    let or = |d: ferula_yaml::Duration, default| if d.is_zero() { default } else { d.std() };
    let webhook = Webhook {
        name: format!("webhook:{}", shown(&url)),
        client: Client::new(&config.http_config.clone().unwrap_or_default()).map_err(|e| e.to_string())?,
        url,
        timeout: or(config.timeout, TIMEOUT),
        workers: positive(config.workers).map_or(WORKERS, |n| n.min(1_024) as usize),
        attempts: positive(config.max_retries).unwrap_or(ATTEMPTS),
        backoff: or(config.retry_backoff, BACKOFF_FIRST),
        is_batched: config.batch,
    };
    let (queue, events) = mpsc::channel(QUEUE_MAX);
    let (name, dropped) = (webhook.name.clone(), drops.with(&[&webhook.name]));
    let task = runtime.spawn(async move { std::sync::Arc::new(webhook).run(events).await });
    Ok(Output::webhook(name, Sender { queue, dropped, task }))
}

/// The URL without what may be secret in it.
fn shown(url: &Url) -> String {
    let mut shown = url.clone();
    let _ = shown.set_username(""); // fails only where there is no host
    let _ = shown.set_password(None);
    shown.set_query(None);
    shown.set_fragment(None);
    shown.into()
}

impl Webhook {
    /// Until the queue is closed and empty.
    async fn run(self: std::sync::Arc<Self>, mut events: mpsc::Receiver<Bytes>) {
        let mut under_way = JoinSet::new();
        while let Some(body) = self.next(&mut events).await {
            while under_way.len() >= self.workers {
                under_way.join_next().await;
            }
            let webhook = self.clone();
            under_way.spawn(async move { webhook.deliver(body).await });
        }
        while under_way.join_next().await.is_some() {}
    }

    /// The body of the next request.
    async fn next(&self, events: &mut mpsc::Receiver<Bytes>) -> Option<Bytes> {
        let first = events.recv().await?;
        if !self.is_batched {
            return Some(first);
        }
        let mut body = vec![b'['];
        body.extend_from_slice(&first);
        let until = tokio::time::Instant::now() + BATCH_WAIT;
        for _ in 1..BATCH_EVENTS {
            if body.len() >= BATCH_BYTES {
                break;
            }
            let Ok(Some(event)) = tokio::time::timeout_at(until, events.recv()).await else { break };
            body.push(b',');
            body.extend_from_slice(&event);
        }
        body.push(b']');
        Some(body.into())
    }

    async fn deliver(&self, body: Bytes) {
        for attempt in 1..=self.attempts {
            let Err(error) = self.post(body.clone()).await else { return };
            let output = self.name.as_str();
            tracing::warn!(output, attempt, error, "Event recorder webhook POST failed");
            if attempt < self.attempts {
                let wait = self.backoff.saturating_mul(1 << (attempt - 1).min(16));
                tokio::time::sleep(wait.min(BACKOFF_MAX)).await;
            }
        }
        let (output, retries) = (self.name.as_str(), self.attempts);
        tracing::error!(output, retries, "Event recorder webhook POST failed after retries, dropping event");
    }

    async fn post(&self, body: Bytes) -> Result<(), String> {
        let mut request = Request::post(self.url.clone(), "application/json", body);
        request.headers.insert(USER_AGENT, http::HeaderValue::from_static(crate::USER_AGENT));
        match tokio::time::timeout(self.timeout, self.client.send(request)).await {
            Err(_) => Err("no answer in time".to_owned()),
            Ok(Err(e)) => Err(without_url(&e)),
            Ok(Ok(answer)) if answer.status.is_success() => Ok(()),
            Ok(Ok(answer)) => Err(format!("unexpected status code {}", answer.status.as_u16())),
        }
    }
}
