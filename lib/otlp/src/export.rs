//! The way to the collector: batches over HTTP or gRPC.
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use ferula_net::client::config::{HeaderValues, TlsConfig};
use ferula_net::client::{Client, ClientConfig, Request};
use ferula_proto::Message;
use ferula_proto::trace::{
    ExportTraceServiceRequest, ExportTraceServiceResponse, Resource, ResourceSpans, Scope, ScopeSpans, Span,
};
use http::header::{CONTENT_ENCODING, TE};
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt, Limited};
use tokio::sync::mpsc;
use url::Url;

use crate::span::{Value, pair};

const BATCH_MAX: usize = 512;
/// How long a span waits for others.
const BATCH_WAIT: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(10);
const ATTEMPTS: u32 = 3;
const BACKOFF: Duration = Duration::from_secs(1);
/// What is read of an answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientType {
    #[default]
    Grpc,
    Http,
}

/// Where spans go, and which.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExportOptions {
    pub client_type: ClientType,
    /// `host:port`
    pub endpoint: String,
    /// Of traces that begin here, how many are recorded: 0 to 1.
    pub sampling_fraction: f64,
    /// No TLS.
    pub insecure: bool,
    pub headers: BTreeMap<String, HeaderValues>,
    pub gzip: bool,
    /// Of one request; zero is 10 s.
    pub timeout: Duration,
    pub tls_config: TlsConfig,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("tracing endpoint {endpoint:?} is no host and port: {reason}")]
    Endpoint { endpoint: String, reason: String },
    #[error("tracing: {0}")]
    Client(#[from] ferula_net::client::Error),
}

pub(crate) struct Exporter {
    client: Client,
    client_type: ClientType,
    url: Url,
    gzip: bool,
    timeout: Duration,
    resource: Resource,
    scope: Scope,
}

/// Why a batch did not arrive.
struct Refused {
    reason: String,
    is_transient: bool,
}
impl Refused {
    fn transient(reason: impl ToString) -> Refused {
        Refused { reason: reason.to_string(), is_transient: true }
    }
}

impl Exporter {
    pub(crate) fn new(options: &ExportOptions, service: &str, version: &str) -> Result<Exporter, Error> {
        let scheme = if options.insecure { "http" } else { "https" };
        let path = match options.client_type {
            ClientType::Http => "/v1/traces",
            ClientType::Grpc => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
        };
        let endpoint = |reason: String| Error::Endpoint { endpoint: options.endpoint.clone(), reason };
        // The name-resolution prefixes of gRPC mean what is done anyway.
        let host = options.endpoint.trim_start_matches("dns:").trim_start_matches('/');
        let url = Url::parse(&format!("{scheme}://{host}{path}")).map_err(|e| endpoint(e.to_string()))?;
        if url.path() != path || url.host_str().unwrap_or("").is_empty() {
            return Err(endpoint("it must not have a path".to_owned()));
        }
        let config = ClientConfig {
            tls_config: options.tls_config.clone(),
            http_headers: options.headers.clone(),
            follow_redirects: false,
            ..ClientConfig::default()
        };
        let client = match options.client_type {
            ClientType::Http => Client::new(&config)?,
            ClientType::Grpc => Client::http2(&config)?,
        };
        let attributes = [
            ("service.name", service),
            ("service.version", version),
            ("telemetry.sdk.language", "rust"),
            ("telemetry.sdk.name", "ferula"),
            ("telemetry.sdk.version", env!("CARGO_PKG_VERSION")),
        ];
        Ok(Exporter {
            client,
            client_type: options.client_type,
            url,
            gzip: options.gzip,
            timeout: if options.timeout.is_zero() { TIMEOUT } else { options.timeout },
            resource: Resource { attributes: attributes.map(|(k, v)| pair(k, Value::from(v))).to_vec() },
            scope: Scope { name: "ferula".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() },
        })
    }

    /// Until the queue is closed and empty.
    pub(crate) async fn run(self, mut spans: mpsc::Receiver<Span>, dropped: Arc<AtomicU64>) {
        while let Some(first) = spans.recv().await {
            let until = tokio::time::Instant::now() + BATCH_WAIT;
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX {
                let Ok(Some(span)) = tokio::time::timeout_at(until, spans.recv()).await else { break };
                batch.push(span);
            }
            let count = batch.len();
            if let Err(reason) = self.export(batch).await {
                tracing::warn!(spans = count, reason, "Spans could not be sent");
            }
            match dropped.swap(0, Relaxed) {
                0 => {}
                lost => tracing::warn!(spans = lost, "Spans were lost, as too many were waiting for the collector"),
            }
        }
    }

    async fn export(&self, spans: Vec<Span>) -> Result<(), String> {
        let scope_spans = vec![ScopeSpans { scope: Some(self.scope.clone()), spans }];
        let resource_spans = vec![ResourceSpans { resource: Some(self.resource.clone()), scope_spans }];
        let message = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let body = if self.gzip { gzip(&message).map_err(|e| e.to_string())? } else { message };
        let body = match self.client_type {
            ClientType::Http => Bytes::from(body),
            ClientType::Grpc => framed(&body, self.gzip),
        };
        let mut attempt = 0;
        loop {
            attempt += 1;
            let sent = tokio::time::timeout(self.timeout, self.send(body.clone())).await;
            match sent.unwrap_or_else(|_| Err(Refused::transient("no answer in time"))) {
                Ok(()) => return Ok(()),
                Err(e) if !e.is_transient || attempt >= ATTEMPTS => return Err(e.reason),
                Err(_) => tokio::time::sleep(BACKOFF * attempt).await,
            }
        }
    }

    async fn send(&self, body: Bytes) -> Result<(), Refused> {
        match self.client_type {
            ClientType::Http => self.send_http(body).await,
            ClientType::Grpc => self.send_grpc(body).await,
        }
    }

    async fn send_http(&self, body: Bytes) -> Result<(), Refused> {
        let mut request = Request::post(self.url.clone(), "application/x-protobuf", body);
        if self.gzip {
            request.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let (status, _, answer) = self.client.send(request).await.map_err(Refused::transient)?.into_parts();
        if !status.is_success() {
            let is_transient = matches!(status.as_u16(), 429 | 502..=504);
            return Err(Refused { reason: format!("the collector answered {status}"), is_transient });
        }
        let answer = Limited::new(answer, ANSWER_BYTES_MAX).collect().await.map_err(Refused::transient)?;
        accepted(&answer.to_bytes())
    }

    /// One unary call: a length-prefixed message each way, and the status in what follows the answer's body.
    ///
    /// Source followed: gRPC over HTTP/2.
    async fn send_grpc(&self, body: Bytes) -> Result<(), Refused> {
        let mut request = Request::post(self.url.clone(), "application/grpc", body);
        request.headers.insert(TE, HeaderValue::from_static("trailers"));
        if self.gzip {
            request.headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
        }
        let (status, headers, answer) = self.client.send(request).await.map_err(Refused::transient)?.into_parts();
        if status != StatusCode::OK {
            return Err(Refused { reason: format!("the collector answered {status}"), is_transient: true });
        }
        let answer = Limited::new(answer, ANSWER_BYTES_MAX).collect().await.map_err(Refused::transient)?;
        let trailers = answer.trailers().cloned().unwrap_or_default();
        let field = |name| trailers.get(name).or(headers.get(name)).and_then(|v| v.to_str().ok()).unwrap_or("");
        match field("grpc-status") {
            "0" => {}
            "" => return Err(Refused::transient("the collector answered without a grpc-status")),
            code => {
                // Cancelled, deadline exceeded, resource exhausted, aborted, out of range, unavailable, data loss.
                let is_transient = matches!(code, "1" | "4" | "8" | "10" | "11" | "14" | "15");
                return Err(Refused { reason: format!("grpc-status {code}: {}", field("grpc-message")), is_transient });
            }
        }
        match *answer.to_bytes() {
            [0, _, _, _, _, ref message @ ..] => accepted(message),
            _ => Ok(()), // compressed, or nothing: the status was what counts
        }
    }
}

/// What the collector took only a part of is not sent again: it would not take the rest then either.
fn accepted(answer: &[u8]) -> Result<(), Refused> {
    let partial = ExportTraceServiceResponse::decode(answer).unwrap_or_default().partial_success.unwrap_or_default();
    if partial.rejected_spans > 0 {
        let reason = format!("the collector refused {} spans: {}", partial.rejected_spans, partial.error_message);
        return Err(Refused { reason, is_transient: false });
    }
    Ok(())
}

fn framed(message: &[u8], is_compressed: bool) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[u8::from(is_compressed)], &length[..], message].concat().into()
}

fn gzip(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}
