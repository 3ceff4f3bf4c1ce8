//! Queries: instant, range, and what can be said about a query's text.
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{ConnectInfo, FromRequestParts, OriginalUri, State};
use ferula_net::listen::Params;
use ferula_otlp::SpanContext;
use ferula_promql_engine::{Evaluation, QueryError, QueryOptions, Value};
use ferula_promql_parser::{self as parser, Expr, ValueType};
use ferula_storage::QueryContext;
use http::request::Parts;

use super::answer::{Answer, ApiError, ErrorKind};
use super::json::Json;
use super::result;
use super::{Form, HandlerResult, on_pool, time};
use crate::app::App;
use crate::query_log::{self, Line};
use crate::query_metrics::Timings;

/// Points per series in one range query, as upstream has it.
const POINTS_MAX: i64 = 11_000;

pub(super) async fn instant(State(app): State<Arc<App>>, origin: Origin, Form(params): Form) -> HandlerResult {
    let limit = time::limit(&params, "limit")?;
    let t_ms = time::time_or(&params, "time", app.clock.now_ms())?;
    let ask = Ask::read(&app, &params, limit, Kind::Instant { t_ms }, origin)?;
    ask.answer(&app).await
}

pub(super) async fn range(State(app): State<Arc<App>>, origin: Origin, Form(params): Form) -> HandlerResult {
    let limit = time::limit(&params, "limit")?;
    let of = |name: &str| time::parse_time_ms(params.get(name)).map_err(|e| ApiError::parameter(name, e));
    let (start_ms, end_ms) = (of("start")?, of("end")?);
    if end_ms < start_ms {
        return Err(ApiError::parameter("end", "end timestamp must not be before start time").into());
    }
    let step_ms = time::parse_duration_ms(params.get("step")).map_err(|e| ApiError::parameter("step", e))?;
    if step_ms <= 0 {
        let why = "zero or negative query resolution step widths are not accepted. Try a positive integer";
        return Err(ApiError::parameter("step", why).into());
    }
    if end_ms.saturating_sub(start_ms) / step_ms > POINTS_MAX {
        let why = "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution \
                   (?step=XX)";
        return Err(ApiError::bad_data(why).into());
    }
    let ask = Ask::read(&app, &params, limit, Kind::Range { start_ms, end_ms, step_ms }, origin)?;
    ask.answer(&app).await
}

#[derive(Clone, Copy)]
enum Kind {
    Instant { t_ms: i64 },
    Range { start_ms: i64, end_ms: i64, step_ms: i64 },
}

/// One query as asked.
struct Ask {
    text: String,
    kind: Kind,
    context: QueryContext,
    lookback_ms: Option<i64>,
    limit: usize,
    wants_stats: bool,
    wants_steps: bool,
    explain: Explain,
    origin: Origin,
}

/// `explain=plan` shows how a query would be evaluated, `explain=analyze` what its parts cost. Clients of Prometheus never
/// ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Explain {
    No,
    Plan,
    Analyze,
}

/// Who asks, for the query log.
#[derive(Clone, Debug, Default)]
pub(super) struct Origin {
    client: String,
    method: String,
    path: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Origin {
    type Rejection = Infallible;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Origin, Infallible> {
        let client = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|c| c.0.ip().to_string());
        let path = parts.extensions.get::<OriginalUri>().map_or_else(|| parts.uri.path(), |u| u.0.path()).to_owned();
        Ok(Origin { client: client.unwrap_or_default(), method: parts.method.to_string(), path })
    }
}

impl Ask {
    fn read(app: &App, params: &Params, limit: usize, kind: Kind, origin: Origin) -> Result<Ask, ApiError> {
        let timeout = match params.get("timeout") {
            "" => None,
            text => {
                let ms = time::parse_duration_ms(text).map_err(|e| ApiError::parameter("timeout", e))?;
                Some(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
            }
        };
        let lookback_ms = match params.get("lookback_delta") {
            "" => None,
            text => Some(
                time::parse_duration_ms(text)
                    .map_err(|e| ApiError::bad_data(format_args!("error parsing lookback delta duration: {e}")))?,
            ),
        };
        Ok(Ask {
            text: params.get("query").to_owned(),
            kind,
            context: app.query_context(timeout),
            lookback_ms: lookback_ms.filter(|ms| *ms > 0),
            limit,
            wants_stats: !params.get("stats").is_empty(),
            wants_steps: params.get("stats") == "all",
            explain: match params.get("explain") {
                "plan" => Explain::Plan,
                "analyze" => Explain::Analyze,
                _ => Explain::No,
            },
            origin,
        })
    }

    async fn answer(self, app: &Arc<App>) -> HandlerResult {
        let components = app.components()?;
        let per_step = components.per_step_stats && self.wants_steps;
        let (limit, wants_stats) = (self.limit, self.wants_stats);
        let context = self.context.clone();
        let inner = Arc::clone(app);
        let _running = app.query_metrics.running();
        let request = ferula_otlp::current();
        let done = app.pool.run(&context, move |queued| self.evaluate(&inner, queued, per_step, request)).await;
        let (mut evaluation, timings) = done.map_err(ApiError::from)??;
        app.query_metrics.observe(timings, &evaluation.stats);
        let is_cut = limit > 0 && truncate(&mut evaluation.value, limit);
        let stats = wants_stats.then(|| result::stats(timings, &evaluation.stats, per_step));
        // The engine has given its memory back; what is being sent is charged anew until it is sent.
        let charge = context.budget.charge(result::size_bytes(&evaluation.value)).map_err(ApiError::execution)?;
        let explain = (!evaluation.plan.is_empty()).then(|| result::plan(&evaluation.plan));
        let pieces = result::pieces(evaluation.value, stats, explain).inspect(move |_| {
            let _held = &charge;
        });
        let answer = Answer::pieces(pieces).with(&evaluation.annotations);
        Ok(if is_cut { answer.warn("results truncated due to limit") } else { answer })
    }

    /// Evaluates, and writes the query log; runs on a thread of the pool.
    fn evaluate(
        self,
        app: &App,
        queued: Duration,
        per_step: bool,
        request: Option<SpanContext>,
    ) -> Result<(Evaluation, Timings), ApiError> {
        let mut span = app.tracer.start("promqlExec", ferula_otlp::Kind::Internal, request);
        span.set("query", self.text.as_str());
        let _active = app.active_queries.get().map(|a| a.begin(&self.text, app.clock.now_ms()));
        let result = self.evaluate_here(app, queued, per_step);
        match &result {
            Ok((e, _)) => span.set("samples.read", usize::try_from(e.stats.read).unwrap_or(usize::MAX)),
            Err(e) => span.fail(&e.message),
        }
        // A query that does not parse is none, as upstream has it.
        let is_query = result.as_ref().map_or_else(|e| e.kind != ErrorKind::BadData, |_| true);
        if app.query_log.is_on() && is_query {
            let (start_ms, end_ms, step_ms) = match self.kind {
                Kind::Instant { t_ms } => (t_ms, t_ms, 0),
                Kind::Range { start_ms, end_ms, step_ms } => (start_ms, end_ms, step_ms),
            };
            app.query_log.write(&Line {
                now_ms: app.clock.now_ms(),
                query: &self.text,
                start_ms,
                end_ms,
                step_ms,
                error: result.as_ref().err().map(|e| e.message.clone()),
                stats: result.as_ref().ok().map(|(e, timings)| result::stats(*timings, &e.stats, false)),
                origin: query_log::Origin::Request {
                    client: &self.origin.client,
                    method: &self.origin.method,
                    path: &self.origin.path,
                },
            });
        }
        result
    }

    fn evaluate_here(&self, app: &App, queued: Duration, per_step: bool) -> Result<(Evaluation, Timings), ApiError> {
        let components = app.components().map_err(|_| ApiError::new(ErrorKind::Unavailable, "shutting down"))?;
        let began = Instant::now();
        let expr = parser::parse_expr_with(&self.text, &components.parse_options)
            .map_err(|e| ApiError::parameter("query", e))?;
        let options = QueryOptions {
            text: Some(&self.text),
            lookback_ms: self.lookback_ms,
            per_step_stats: per_step,
            analyze: self.explain == Explain::Analyze,
            any_order: false,
            never_waits: false,
        };
        let (engine, storage) = (&components.engine, components.storage.as_ref());
        let prepared = began.elapsed();
        if matches!(self.kind, Kind::Range { .. }) {
            check_range_type(&expr)?;
        }
        let evaluation = match self.kind {
            _ if self.explain == Explain::Plan => Evaluation::unevaluated(engine.explain(&expr)),
            Kind::Instant { t_ms } => engine.instant(&self.context, storage, &expr, t_ms, &options)?,
            Kind::Range { start_ms, end_ms, step_ms } => {
                engine.range(&self.context, storage, &expr, start_ms, end_ms, step_ms, &options)?
            }
        };
        let evaluated = began.elapsed().saturating_sub(prepared + evaluation.waited);
        let queued = queued + evaluation.waited;
        Ok((evaluation, Timings { queued, prepared, evaluated }))
    }
}

fn check_range_type(expr: &Expr) -> Result<(), ApiError> {
    match expr.value_type() {
        ValueType::Scalar | ValueType::Vector => Ok(()),
        other => Err(ApiError::parameter(
            "query",
            format_args!(
                "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
                other.documented()
            ),
        )),
    }
}

/// Cuts a vector or matrix; says whether it did.
fn truncate(value: &mut Value, limit: usize) -> bool {
    match value {
        Value::Vector(list) if list.len() > limit => list.truncate(limit),
        Value::Matrix(list) if list.len() > limit => list.truncate(limit),
        _ => return false,
    }
    true
}

impl From<QueryError> for ApiError {
    fn from(e: QueryError) -> ApiError {
        let kind = match &e {
            QueryError::TimedOut => ErrorKind::Timeout,
            QueryError::Cancelled => ErrorKind::Canceled,
            QueryError::TooManySamples | QueryError::Budget(_) | QueryError::Execution(_) => ErrorKind::Execution,
            QueryError::Storage(_) => ErrorKind::Internal,
            QueryError::Unsupported(_) => ErrorKind::BadData,
        };
        ApiError::new(kind, e)
    }
}

pub(super) async fn format(State(app): State<Arc<App>>, Form(params): Form) -> HandlerResult {
    on_parsed(app, params, |expr| {
        let mut j = Json::new();
        j.string(&parser::pretty(expr));
        j.into_bytes()
    })
    .await
}

pub(super) async fn parse(State(app): State<Arc<App>>, Form(params): Form) -> HandlerResult {
    on_parsed(app, params, |expr| parser::to_json(expr).into_bytes()).await
}

async fn on_parsed(app: Arc<App>, params: Params, print: fn(&Expr) -> Vec<u8>) -> HandlerResult {
    let components = app.components()?;
    let query = params.get("query").to_owned();
    let options = components.parse_options.clone();
    on_pool(&app, components, move |_, _| {
        let expr = parser::parse_expr_with(&query, &options).map_err(|e| ApiError::parameter("query", e))?;
        Ok(Answer::json(print(&expr)))
    })
    .await
}
