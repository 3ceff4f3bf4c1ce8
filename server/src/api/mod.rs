//! The HTTP API `/api/v1` and the routes beside it.
//!
//! One file per group of endpoints. A handler reads its parameters, lets a thread of the query pool do what may block
//! or take long, and returns an [`answer::Answer`] or an [`answer::ApiError`].
mod admin;
pub mod answer;
mod exemplars;
mod features;
pub mod federate;
pub mod json;
mod query;
mod relabel_steps;
pub(crate) mod result;
mod rules;
mod series;
mod series_budgets;
mod status;
mod targets;
pub mod time;

use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequest, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use ferula_model::Matcher;
use ferula_net::listen::Params;
use ferula_regex::Regex;
use ferula_storage::{QueryContext, Queryable};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::app::{App, Components, NotReady};
use crate::query_pool::PoolError;
use answer::{Answer, ApiError, ApiResult, ErrorKind};

pub fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/query", get(query::instant).post(query::instant))
        .route("/query_range", get(query::range).post(query::range))
        .route("/query_exemplars", get(exemplars::query_exemplars).post(exemplars::query_exemplars))
        .route("/format_query", get(query::format).post(query::format))
        .route("/parse_query", get(query::parse).post(query::parse))
        .route("/labels", get(series::label_names).post(series::label_names))
        .route("/label/{name}/values", get(series::label_values))
        .route("/series", get(series::series).post(series::series).delete(not_implemented))
        .route("/targets", get(targets::targets))
        .route("/targets/metadata", get(targets::targets_metadata))
        .route("/targets/relabel_steps", get(relabel_steps::relabel_steps))
        .route("/scrape_pools", get(targets::scrape_pools))
        .route("/scrape_pools/config", get(relabel_steps::pool_config))
        .route("/status/series_budgets", get(series_budgets::series_budgets))
        .route("/metadata", get(targets::metadata))
        .route("/rules", get(rules::rules))
        .route("/alerts", get(rules::alerts))
        .route("/features", get(features::features))
        .route("/alertmanagers", get(status::alertmanagers))
        .route("/status/flags", get(status::flags))
        .route("/status/buildinfo", get(status::build_info))
        .route("/status/config", get(status::config))
        .route("/status/runtimeinfo", get(status::runtime_info))
        .route("/status/tsdb", get(status::tsdb))
        .route("/status/tsdb/blocks", get(admin::blocks))
        .route("/status/walreplay", get(status::wal_replay))
        .route("/notifications", get(status::notifications))
        .route("/write", post(remote_write))
        .route("/read", post(remote_read))
        .route("/admin/tsdb/{action}", post(admin::admin).put(admin::admin))
}

/// Parameters of an API request; a form that cannot be read is `bad_data`.
pub(crate) struct Form(pub Params);

impl<S: Send + Sync> FromRequest<S> for Form {
    type Rejection = ApiError;
    async fn from_request(request: Request, state: &S) -> Result<Form, ApiError> {
        let read = Params::from_request(request, state).await;
        read.map(Form).map_err(|e| ApiError::bad_data(format_args!("error parsing form values: {e}")))
    }
}

/// What goes wrong around a handler.
pub(crate) enum Failure {
    Api(ApiError),
    NotReady(NotReady),
}

impl From<ApiError> for Failure {
    fn from(e: ApiError) -> Self {
        Failure::Api(e)
    }
}
impl From<NotReady> for Failure {
    fn from(e: NotReady) -> Self {
        Failure::NotReady(e)
    }
}
impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Failure::Api(e) => e.into_response(),
            Failure::NotReady(e) => e.into_response(),
        }
    }
}

pub(crate) type HandlerResult = Result<Answer, Failure>;

impl From<PoolError> for ApiError {
    fn from(e: PoolError) -> ApiError {
        let kind = match e {
            PoolError::QueueTimeout | PoolError::QueueFull => ErrorKind::Timeout,
            PoolError::Stopped => ErrorKind::Canceled,
            PoolError::Panicked => ErrorKind::Internal,
        };
        ApiError::new(kind, e)
    }
}

/// Runs `read` on the query pool with a context of its own, which is cancelled when the client goes away.
pub(crate) async fn on_pool(
    app: &App,
    components: &Components,
    read: impl FnOnce(&QueryContext, &dyn Queryable) -> ApiResult + Send + 'static,
) -> HandlerResult {
    let context = app.query_context(None);
    let storage = Arc::clone(&components.storage);
    let inner = context.clone();
    let result = app.pool.run(&context, move |_| read(&inner, storage.as_ref())).await;
    Ok(result.map_err(ApiError::from)??)
}

/// The matcher sets of all `match[]` parameters. Each set must be able to exclude series that have no labels at all.
pub(crate) fn matcher_sets(params: &Params) -> Result<Vec<Vec<Matcher>>, String> {
    let mut sets = Vec::new();
    for text in params.all("match[]") {
        sets.push(ferula_promql_parser::parse_metric_selector(text).map_err(|e| e.to_string())?);
    }
    if sets.iter().any(|set| set.iter().all(Matcher::matches_empty)) {
        return Err("match[] must contain at least one non-empty matcher".to_owned());
    }
    Ok(sets)
}

async fn not_implemented() -> ApiError {
    ApiError::internal("not implemented")
}

async fn remote_read() -> Response {
    (StatusCode::NOT_IMPLEMENTED, "remote read is known, but not built in yet\n").into_response()
}

async fn remote_write(State(app): State<Arc<App>>, request: Request) -> Response {
    let components = match app.components() {
        Ok(c) => c,
        Err(e) => return e.into_response(),
    };
    let Some(receiver) = &components.remote_write else {
        let text = "remote write receiver needs to be enabled with --web.enable-remote-write-receiver\n";
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    let (parts, body) = request.into_parts();
    Arc::clone(receiver).handle(&parts.headers, body).await
}

/// Says to browsers which origins may read answers; answers their preflight requests itself.
pub(crate) async fn cors(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if !path.strip_prefix(app.options.route_prefix.as_str()).is_some_and(|p| p.starts_with("/api/")) {
        return next.run(request).await;
    }
    let origin = request.headers().get(header::ORIGIN).cloned();
    let is_preflight = request.method() == Method::OPTIONS;
    let mut response = if is_preflight { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    allow_origin(&app, origin.as_ref(), response.headers_mut());
    response
}

fn allow_origin(app: &App, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = origin else { return };
    let allowed = |regex: &Regex| origin.to_str().is_ok_and(|o| regex.is_match(o));
    if !app.options.cors_origin.as_ref().is_none_or(allowed) {
        return;
    }
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    for (name, value) in [
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "Accept, Authorization, Content-Type, Origin"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST, OPTIONS"),
        (header::ACCESS_CONTROL_EXPOSE_HEADERS, "Date"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}
