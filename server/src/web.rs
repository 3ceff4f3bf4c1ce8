//! All routes beside `/api/v1`: probes, lifecycle, metrics, the front page; and what wraps every response.
use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use ferula_exposition::write::Format;
use tokio::sync::oneshot;

use crate::api;
use crate::app::{App, Command};
use crate::http_metrics::{HttpMetrics, measure};

/// The whole HTTP surface of the server, under the route prefix.
pub fn router(app: &Arc<App>) -> Router {
    let metrics = Arc::new(HttpMetrics::new(&app.options.route_prefix, &app.registry, app.tracer.clone()));
    let lifecycle = |handler: axum::routing::MethodRouter<Arc<App>>| handler.fallback(only_post);
    let routes = Router::new()
        .route("/", get(front_page))
        .route("/graph", get(graph))
        .route("/query", get(front_page))
        .route("/-/healthy", get(healthy))
        .route("/-/ready", get(ready))
        .route("/-/reload", lifecycle(post(reload).put(reload)))
        .route("/-/quit", lifecycle(post(quit).put(quit)))
        .route("/version", get(version))
        .route("/metrics", get(self_metrics))
        .route("/federate", get(api::federate::federate))
        .nest("/api/v1", api::router())
        .with_state(Arc::clone(app));
    let prefix = app.options.route_prefix.as_str();
    let routes = if prefix.is_empty() {
        routes
    } else {
        let to_prefix = format!("{prefix}/");
        Router::new()
            .nest(prefix, routes)
            .route(&to_prefix, get(front_page).with_state(Arc::clone(app)))
            .route("/", get(move || async move { (StatusCode::FOUND, [(header::LOCATION, to_prefix)]) }))
    };
    routes
        .fallback(|| async { (StatusCode::NOT_FOUND, "404 page not found\n") })
        .method_not_allowed_fallback(|| async { (StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n") })
        .layer(axum::middleware::from_fn(ferula_net::listen::compress::gzip))
        .route_layer(axum::middleware::from_fn_with_state(metrics, measure))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(app), api::cors))
        .layer(axum::middleware::from_fn(no_sniffing))
}

/// A browser must not guess that a label value is a script.
async fn no_sniffing(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

async fn healthy() -> &'static str {
    "Prometheus Server is Healthy.\n"
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.components() {
        Ok(_) => "Prometheus Server is Ready.\n".into_response(),
        Err(not_ready) => not_ready.into_response(),
    }
}

async fn only_post(State(app): State<Arc<App>>) -> Response {
    if !app.options.enable_lifecycle {
        return forbidden();
    }
    (StatusCode::METHOD_NOT_ALLOWED, "Only POST or PUT requests allowed").into_response()
}

fn forbidden() -> Response {
    (StatusCode::FORBIDDEN, "Lifecycle API is not enabled.").into_response()
}

async fn reload(State(app): State<Arc<App>>) -> Response {
    if !app.options.enable_lifecycle {
        return forbidden();
    }
    let (done, result) = oneshot::channel();
    let asked = app.commands.send(Command::Reload(done)).is_ok();
    match result.await {
        Ok(Ok(())) if asked => StatusCode::OK.into_response(),
        Ok(Err(e)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("failed to reload config: {e}\n")).into_response(),
        _ => (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response(),
    }
}

async fn quit(State(app): State<Arc<App>>) -> Response {
    if !app.options.enable_lifecycle {
        return forbidden();
    }
    let _ = app.commands.send(Command::Quit); // a closed channel means it is stopping already
    "Requesting termination... Goodbye!".into_response()
}

async fn version(State(app): State<Arc<App>>) -> Response {
    axum::Json(&app.options.build).into_response()
}

async fn self_metrics(State(app): State<Arc<App>>, method: Method, request: axum::http::HeaderMap) -> Response {
    let accept = request.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let format = Format::negotiate(accept);
    let mut body = Vec::with_capacity(64 << 10);
    if method != Method::HEAD {
        format.write(&app.registry.gather(), &mut body);
    }
    ([(header::CONTENT_TYPE, format.content_type())], body).into_response()
}

/// Links in alerts still point at `/graph`.
async fn graph(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Response {
    let to = format!("{}/query?{}", app.options.route_prefix, query.unwrap_or_default());
    // A query string is the client's; what could end the header line is not let into it.
    match HeaderValue::try_from(to) {
        Ok(location) => (StatusCode::FOUND, [(header::LOCATION, location)]).into_response(),
        Err(_) => StatusCode::BAD_REQUEST.into_response(),
    }
}

/// The endpoints a person may want to look at.
const LINKS: &[(&str, &str)] = &[
    ("/api/v1/targets", "Targets"),
    ("/api/v1/rules", "Rules"),
    ("/api/v1/alerts", "Alerts"),
    ("/api/v1/alertmanagers", "Alertmanagers"),
    ("/api/v1/status/config", "Effective configuration"),
    ("/api/v1/status/flags", "Flags"),
    ("/api/v1/status/runtimeinfo", "Runtime"),
    ("/api/v1/status/buildinfo", "Build"),
    ("/api/v1/status/tsdb", "Storage: head and cardinality"),
    ("/api/v1/labels", "Label names"),
    ("/api/v1/metadata", "Metric metadata"),
    ("/metrics", "Metrics of this server"),
    ("/-/healthy", "Health"),
    ("/-/ready", "Readiness"),
];

async fn front_page(State(app): State<Arc<App>>) -> Response {
    let prefix = escape(&app.options.route_prefix);
    let links: String =
        LINKS.iter().map(|(path, title)| format!("<li><a href=\"{prefix}{path}\">{title}</a></li>\n")).collect();
    let title = escape(&app.options.page_title);
    let page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title></head>\n<body>\n\
         <h1>{title}</h1>\n<form action=\"{prefix}/api/v1/query\"><label>PromQL <input name=\"query\" size=\"80\" \
         value=\"up\"></label> <button>Query</button></form>\n<ul>\n{links}</ul>\n</body></html>\n"
    );
    let policy = "default-src 'none'; form-action 'self'; frame-ancestors 'none'";
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, policy)], page)
        .into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
