//! Queries: instant, range, and what can be said about a query's text.
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use ferula_net::listen::Params;
use ferula_promql_engine::{Evaluation, QueryError, QueryOptions, Value};
use ferula_promql_parser::{self as parser, Expr, ValueType};
use ferula_storage::QueryContext;

use super::answer::{Answer, ApiError, ErrorKind};
use super::json::Json;
use super::result;
use super::{Form, HandlerResult, on_pool, time};
use crate::app::App;
use crate::query_metrics::Timings;

/// Points per series in one range query, as upstream has it.
const POINTS_MAX: i64 = 11_000;

pub(super) async fn instant(State(app): State<Arc<App>>, Form(params): Form) -> HandlerResult {
    let limit = time::limit(&params, "limit")?;
    let t_ms = time::time_or(&params, "time", app.clock.now_ms())?;
    let ask = Ask::read(&app, &params, limit, Kind::Instant { t_ms })?;
    ask.answer(&app).await
}

pub(super) async fn range(State(app): State<Arc<App>>, Form(params): Form) -> HandlerResult {
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
    let ask = Ask::read(&app, &params, limit, Kind::Range { start_ms, end_ms, step_ms })?;
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
}

impl Ask {
    fn read(app: &App, params: &Params, limit: usize, kind: Kind) -> Result<Ask, ApiError> {
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
        })
    }

    async fn answer(self, app: &Arc<App>) -> HandlerResult {
        let components = app.components()?;
        let per_step = components.per_step_stats && self.wants_steps;
        let (limit, wants_stats) = (self.limit, self.wants_stats);
        let context = self.context.clone();
        let inner = Arc::clone(app);
        let _running = app.query_metrics.running();
        let done = app.pool.run(&context, move |queued| self.evaluate(&inner, queued, per_step)).await;
        let (mut evaluation, timings) = done.map_err(ApiError::from)??;
        app.query_metrics.observe(timings, &evaluation.stats);
        let is_cut = limit > 0 && truncate(&mut evaluation.value, limit);
        let stats = wants_stats.then(|| result::stats(timings, &evaluation.stats, per_step));
        // The engine has given its memory back; what is being sent is charged anew until it is sent.
        let charge = context.budget.charge(result::size_bytes(&evaluation.value)).map_err(ApiError::execution)?;
        let pieces = result::pieces(evaluation.value, stats).inspect(move |_| {
            let _held = &charge;
        });
        let answer = Answer::pieces(pieces).with(&evaluation.annotations);
        Ok(if is_cut { answer.warn("results truncated due to limit") } else { answer })
    }

    /// Parses and evaluates; runs on a thread of the pool.
    fn evaluate(self, app: &App, queued: Duration, per_step: bool) -> Result<(Evaluation, Timings), ApiError> {
        let components = app.components().map_err(|_| ApiError::new(ErrorKind::Unavailable, "shutting down"))?;
        let began = Instant::now();
        let expr = parser::parse_expr_with(&self.text, &components.parse_options)
            .map_err(|e| ApiError::parameter("query", e))?;
        let options = QueryOptions { text: Some(&self.text), lookback_ms: self.lookback_ms, per_step_stats: per_step };
        let (engine, storage) = (&components.engine, components.storage.as_ref());
        let prepared = began.elapsed();
        let evaluation = match self.kind {
            Kind::Instant { t_ms } => engine.instant(&self.context, storage, &expr, t_ms, &options),
            Kind::Range { start_ms, end_ms, step_ms } => {
                check_range_type(&expr)?;
                engine.range(&self.context, storage, &expr, start_ms, end_ms, step_ms, &options)
            }
        };
        let evaluated = began.elapsed().saturating_sub(prepared);
        Ok((evaluation?, Timings { queued, prepared, evaluated }))
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
