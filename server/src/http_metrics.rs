//! `prometheus_http_*`: requests by handler and code, how long they took and how much they sent. Each is a span, too.
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use ferula_instrument::{CounterVec, Histogram, HistogramVec, Registry};
use ferula_otlp::{Kind, Span, SpanContext, Tracer};
use hyper::body::{Frame, SizeHint};

pub(crate) struct HttpMetrics {
    requests: CounterVec,
    duration: HistogramVec,
    size: HistogramVec,
    /// Left out of the handler label.
    prefix: String,
    tracer: Tracer,
}

impl HttpMetrics {
    pub(crate) fn new(prefix: &str, registry: &Registry, tracer: Tracer) -> HttpMetrics {
        HttpMetrics {
            requests: registry.counter_vec(
                "prometheus_http_requests_total",
                "Counter of HTTP requests.",
                &["handler", "code"],
            ),
            duration: registry.histogram_vec(
                "prometheus_http_request_duration_seconds",
                "Histogram of latencies for HTTP requests.",
                &["handler"],
                &[0.1, 0.2, 0.4, 1.0, 3.0, 8.0, 20.0, 60.0, 120.0],
            ),
            size: registry.histogram_vec(
                "prometheus_http_response_size_bytes",
                "Histogram of response size for HTTP requests.",
                &["handler"],
                &[100.0, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9],
            ),
            prefix: prefix.to_owned(),
            tracer,
        }
    }

    /// `/api/v1/label/{name}/values` as upstream's router writes it: `/api/v1/label/:name/values`.
    fn handler(&self, matched: &str) -> String {
        let path = matched.strip_prefix(self.prefix.as_str()).unwrap_or(matched);
        let path = if path.is_empty() { "/" } else { path };
        path.replace("{*", "*").replace('{', ":").replace('}', "")
    }
}

/// To be layered over routes, so that the matched path is known.
pub(crate) async fn measure(State(metrics): State<Arc<HttpMetrics>>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let matched = request.extensions().get::<MatchedPath>().map_or("unknown", MatchedPath::as_str);
    let handler = metrics.handler(matched);
    let mut span = request_span(&metrics.tracer, &request, &handler);
    let response = ferula_otlp::with(span.context(), next.run(request)).await;
    span.set("http.response.status_code", response.status().as_u16());
    if response.status().is_server_error() {
        span.fail("");
    }
    drop(span);
    metrics.requests.with(&[&handler, response.status().as_str()]).inc();
    let observed = Observed {
        began,
        bytes: 0,
        duration: metrics.duration.with(&[&handler]),
        size: metrics.size.with(&[&handler]),
    };
    response.map(|body| Body::new(Measured { body, observed }))
}

/// A part of the caller's trace, if the caller has one. The query is not in it: it may be long, and has a span of its own.
fn request_span(tracer: &Tracer, request: &Request, handler: &str) -> Span {
    let path = request.uri().path();
    let name = format!("{} {handler}", request.method());
    let mut span = tracer.start(&name, Kind::Server, SpanContext::of_headers(request.headers()));
    if span.is_recorded() {
        span.set("http.request.method", request.method().as_str());
        span.set("http.route", handler);
        span.set("url.path", path);
        let agent = request.headers().get(http::header::USER_AGENT).and_then(|v| v.to_str().ok());
        span.set("user_agent.original", agent.unwrap_or(""));
    }
    span
}

/// Reports when the body is sent, or given up.
struct Observed {
    began: Instant,
    bytes: u64,
    duration: Histogram,
    size: Histogram,
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.duration.observe(self.began.elapsed().as_secs_f64());
        self.size.observe(self.bytes as f64);
    }
}

struct Measured {
    body: Body,
    observed: Observed,
}

impl hyper::body::Body for Measured {
    type Data = Bytes;
    type Error = axum::Error;
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.observed.bytes += frame.data_ref().map_or(0, |d| d.len() as u64);
        }
        polled
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
