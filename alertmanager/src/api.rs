//! The HTTP side: API v2, health, metrics, a plain page.
//!
//! Source followed: the OpenAPI file of API v2, and the status codes and bodies Alertmanager 0.33 answers.
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use ferula_otlp::{Kind, Span, SpanContext};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde::Serialize;

use crate::app::Alertmanager;
use crate::matcher::{self, MatchOp, Matcher};

mod alerts;
mod explain;
mod history;
pub(crate) mod page;
mod silences;
mod status;

pub(crate) type App = Arc<Alertmanager>;
/// The answer to a request that goes no further; boxed, as it is large and rare.
type Refusal = Box<Response>;

pub fn router(am: App) -> Router {
    let v2 = Router::new()
        .route("/status", get(status::status))
        .route("/receivers", get(status::receivers))
        .route("/alerts", get(alerts::list).post(alerts::post))
        .route("/alerts/groups", get(alerts::groups))
        .route("/alerts/{fingerprint}/explain", get(explain::explain))
        .route("/receivers/{name}/test", post(explain::test_receiver))
        .route("/templates/render", post(explain::render))
        .route("/history", get(history::history))
        .route("/silences", get(silences::list).post(silences::post))
        .route("/silence/{id}", get(silences::one).delete(silences::expire))
        .fallback(|request: Request| async move {
            failure(StatusCode::NOT_FOUND, 404, format!("path {} was not found", original_path(&request)))
        })
        .method_not_allowed_fallback(|request: Request| async move {
            failure(StatusCode::METHOD_NOT_ALLOWED, 405, format!("method {} is not allowed", request.method()))
        });
    let v1 = ["/status", "/receivers", "/alerts", "/alerts/groups", "/silences", "/silence/{id}"]
        .into_iter()
        .fold(Router::new(), |r, path| r.route(path, any(gone)));
    let prefix = am.options.effective_prefix();
    let routes = Router::new()
        .nest("/api/v2", v2)
        .nest("/api/v1", v1)
        .route("/-/healthy", get(|| async { "OK" }))
        .route("/-/ready", get(|| async { "OK" }))
        .route("/-/reload", post(status::reload))
        .route("/metrics", get(status::metrics))
        .route("/", get(page::index))
        .route("/page.css", get(page::css))
        .route("/history", get(page::history))
        .route("/new-silence", get(page::new).post(page::make))
        .route("/expire-silence", post(page::expire))
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found\n") })
        .layer(middleware::from_fn_with_state(am.clone(), around))
        .with_state(am);
    match prefix.as_str() {
        "/" => routes,
        prefix => Router::new().nest(prefix, routes),
    }
}

/// Counts, bounds and stamps every request.
async fn around(State(am): State<App>, request: Request, next: Next) -> Response {
    let started = am.clock.monotonic();
    let method = request.method().clone();
    let handler = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str).to_owned();
    let handler = handler.replace("/silence/{id}", "/silence/{silenceID}");
    let _permit = if method == Method::GET {
        match am.get_permits.try_acquire() {
            Ok(permit) => Some(permit),
            Err(_) => {
                am.metrics.http_limited.inc();
                let n = am.get_permits.available_permits();
                tracing::debug!(n, "GET concurrency limit reached");
                return (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "Limit of concurrent GET requests reached, try again later.\n",
                )
                    .into_response();
            }
        }
    } else {
        None
    };
    if method == Method::GET {
        am.metrics.http_in_flight.inc();
    }
    let span = request_span(&am, &request, &handler);
    let context = span.context();
    let limit = Duration::from_millis(am.options.timeout_ms.max(0).unsigned_abs());
    let answer = ferula_otlp::with(context, next.run(request));
    let mut response = if limit.is_zero() {
        answer.await
    } else {
        tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| {
            (StatusCode::SERVICE_UNAVAILABLE, format!("Exceeded configured timeout of {limit:?}.\n")).into_response()
        })
    };
    if method == Method::GET {
        am.metrics.http_in_flight.dec();
    }
    response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    end_span(span, response.status());
    let elapsed = am.clock.monotonic().saturating_sub(started);
    let (method, code) = (method.as_str().to_lowercase(), response.status().as_u16().to_string());
    am.metrics.http_requests.with(&[&handler, &method, &code]).observe_duration(elapsed);
    if let Some(bytes) = axum::body::HttpBody::size_hint(response.body()).exact() {
        am.metrics.http_response_bytes.with(&[&handler, &method]).observe(bytes as f64);
    }
    response
}

/// The span of a request, a part of the caller's trace.
fn request_span(am: &Alertmanager, request: &Request, handler: &str) -> Span {
    let name = format!("{} {handler}", request.method());
    let mut span = am.tracer.start(&name, Kind::Server, SpanContext::of_headers(request.headers()));
    if span.is_recorded() {
        span.set("http.request.method", request.method().as_str());
        span.set("http.route", handler);
        span.set("url.path", original_path(request).as_str());
        let agent = request.headers().get(header::USER_AGENT).and_then(|v| v.to_str().ok());
        span.set("user_agent.original", agent.unwrap_or(""));
    }
    span
}

fn end_span(mut span: Span, status: StatusCode) {
    span.set("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.fail("");
    }
}

async fn gone() -> Response {
    let body = r#"{"status":"deprecated","error":"The Alertmanager v1 API was deprecated in version 0.16.0 and is removed as of version 0.27.0 - please use the equivalent route in the v2 API"}"#;
    (StatusCode::GONE, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n")).into_response()
}

fn original_path(request: &Request) -> String {
    let original = request.extensions().get::<axum::extract::OriginalUri>();
    original.map_or_else(|| request.uri().path().to_owned(), |o| o.0.path().to_owned())
}

/// 200 with a JSON body.
fn json(value: &impl Serialize) -> Response {
    with_status(StatusCode::OK, value)
}
fn with_status(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(mut body) => {
            body.push(b'\n');
            (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}
/// What a handler itself refuses: the reason as a JSON string.
fn refused(status: StatusCode, reason: impl std::fmt::Display) -> Response {
    with_status(status, &reason.to_string())
}
/// What the API's schema refuses, with upstream's code numbers.
fn failure(status: StatusCode, code: u16, message: String) -> Response {
    #[derive(Serialize)]
    struct Failure {
        code: u16,
        message: String,
    }
    match serde_json::to_vec(&Failure { code, message }) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}
fn unprocessable(code: u16, message: String) -> Response {
    failure(StatusCode::UNPROCESSABLE_ENTITY, code, message)
}

/// A JSON request body: media type, size and time are checked before anything is parsed.
async fn body(am: &Alertmanager, headers: &HeaderMap, body: Body) -> Result<bytes::Bytes, Refusal> {
    let media = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("application/json");
    if media.split(';').next().unwrap_or("").trim() != "application/json" {
        let message = format!("unsupported media type {media:?}, only [application/json] are allowed");
        return Err(failure(StatusCode::UNSUPPORTED_MEDIA_TYPE, 415, message).into());
    }
    const PATIENCE: Duration = Duration::from_secs(30);
    ferula_net::listen::body::read(body, am.options.body_size_bytes_max, PATIENCE)
        .await
        .map_err(|e| failure(e.status(), e.status().as_u16(), e.to_string()).into())
}

/// The words Go's API runtime takes for true; anything else is false, absence is the default.
fn flag(params: &ferula_net::listen::Params, name: &str, default: bool) -> bool {
    if !params.has(name) {
        return default;
    }
    let word = params.get(name).to_lowercase();
    ["true", "1", "yes", "ok", "y", "on", "selected", "checked", "t", "enabled"].contains(&word.as_str())
}

fn filters(params: &ferula_net::listen::Params, name: &str) -> Result<Vec<Matcher>, Refusal> {
    params
        .all(name)
        .map(|text| matcher::parse_matcher(text, "api"))
        .collect::<Result<_, _>>()
        .map_err(|e| refused(StatusCode::BAD_REQUEST, e).into())
}

/// Whether pairs of name and value pass a filter: a positive condition needs the name to be there.
fn passes<'a>(filters: &[Matcher], get: impl Fn(&str) -> Option<&'a str>) -> bool {
    filters.iter().all(|m| match (m.op, get(&m.name)) {
        (MatchOp::Equal, None) if m.value.is_empty() => true,
        (MatchOp::Equal | MatchOp::RegexMatch, None) => false,
        (MatchOp::NotEqual | MatchOp::RegexNoMatch, None) => m.matches(""),
        (_, Some(value)) => m.matches(value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::ServiceExt;

    #[tokio::test]
    async fn more_gets_than_allowed_are_told_to_come_again() {
        let dir = tempfile::tempdir().unwrap();
        let options = crate::Options {
            config_text: Some("route: {receiver: r}\nreceivers: [{name: r}]\n".to_owned()),
            storage_path: dir.path().to_owned(),
            get_concurrency: 1,
            ..crate::Options::default()
        };
        let clock = Arc::new(ferula_model::SystemClock);
        let am = Alertmanager::new(options, clock, ferula_instrument::Registry::new()).unwrap();
        let ask = |method: Method, path: &'static str| {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            am.router().oneshot(request)
        };
        let busy = am.get_permits.acquire().await.unwrap();
        assert_eq!(ask(Method::GET, "/-/ready").await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(am.metrics.http_limited.get(), 1.0);
        assert_eq!(ask(Method::POST, "/api/v1/alerts").await.unwrap().status(), StatusCode::GONE);
        drop(busy);
        assert_eq!(ask(Method::GET, "/-/ready").await.unwrap().status(), StatusCode::OK);
    }
}
