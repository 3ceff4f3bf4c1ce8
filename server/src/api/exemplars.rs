//! `/api/v1/query_exemplars`: exemplars of the series that a query's selectors name.
use std::sync::Arc;

use axum::extract::State;

use super::answer::{Answer, ApiError};
use super::json::Json;
use super::{Form, HandlerResult, on_pool, time};
use crate::app::App;

pub(super) async fn query_exemplars(State(app): State<Arc<App>>, Form(params): Form) -> HandlerResult {
    let components = app.components()?;
    let start_ms = time::time_or(&params, "start", time::MIN_TIME_MS)?;
    let end_ms = time::time_or(&params, "end", time::MAX_TIME_MS)?;
    if end_ms < start_ms {
        return Err(ApiError::bad_data("end timestamp must not be before start timestamp").into());
    }
    let query = params.get("query").to_owned();
    let parse_options = components.parse_options.clone();
    on_pool(&app, components, move |context, storage| {
        let expr = ferula_promql_parser::parse_expr_with(&query, &parse_options).map_err(ApiError::bad_data)?;
        let sets: Vec<_> = expr.selectors().into_iter().map(|s| s.matchers.clone()).collect();
        if sets.is_empty() {
            return Ok(Answer::none());
        }
        let found = storage.querier(start_ms, end_ms)?.exemplars(context, &sets)?;
        let mut j = Json::new();
        let mut first = true;
        j.raw("[");
        for series in &found {
            j.separate(&mut first).raw("{\"seriesLabels\":").labels(&series.labels).raw(",\"exemplars\":[");
            let mut first = true;
            for exemplar in &series.exemplars {
                j.separate(&mut first).exemplar(exemplar);
            }
            j.raw("]}");
        }
        j.raw("]");
        Ok(Answer::json(j.into_bytes()))
    })
    .await
}
