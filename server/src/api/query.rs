//! Queries: instant, range, and what can be said about a query's text.
use std::sync::Arc;

use axum::extract::State;
use ferula_promql_parser as parser;

use super::answer::{Answer, ApiError};
use super::json::Json;
use super::{Form, HandlerResult, on_pool};
use crate::app::App;

pub(super) async fn format(State(app): State<Arc<App>>, Form(params): Form) -> HandlerResult {
    let components = app.components()?;
    let query = params.get("query").to_owned();
    let options = components.parse_options.clone();
    on_pool(&app, components, move |_, _| {
        let expr = parser::parse_expr_with(&query, &options).map_err(|e| ApiError::parameter("query", e))?;
        let mut j = Json::new();
        j.string(&parser::pretty(&expr));
        Ok(Answer::json(j.into_bytes()))
    })
    .await
}

pub(super) async fn parse(State(app): State<Arc<App>>, Form(params): Form) -> HandlerResult {
    let components = app.components()?;
    let query = params.get("query").to_owned();
    let options = components.parse_options.clone();
    on_pool(&app, components, move |_, _| {
        let expr = parser::parse_expr_with(&query, &options).map_err(|e| ApiError::parameter("query", e))?;
        Ok(Answer::json(parser::to_json(&expr).into_bytes()))
    })
    .await
}
