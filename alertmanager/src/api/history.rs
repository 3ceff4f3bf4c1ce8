//! `GET /history`: what became of alerts. Ours, beyond upstream's API.
use axum::extract::{RawQuery, State};
use axum::response::Response;
use ferula_net::listen::Params;
use http::StatusCode;
use serde_json::Value;

use super::{App, filters, json, passes, refused};
use crate::history::Question;

const LIMIT: usize = 200;
const LIMIT_MAX: usize = 10_000;

/// Reads files, so not on the threads that answer.
pub(super) async fn ask(am: &App, question: Question) -> Vec<Value> {
    let am = am.clone();
    tokio::task::spawn_blocking(move || am.history.ask(&question)).await.unwrap_or_default()
}

/// What `alert` (fingerprint), `filter` (matchers on labels), `receiver`, `kind`, `failed`, `since` and `limit` ask for.
pub(super) async fn question(am: &App, params: &Params) -> Result<Question, super::Refusal> {
    let limit = match params.get("limit") {
        "" => LIMIT,
        text => match text.parse::<usize>() {
            Ok(n) => n.min(LIMIT_MAX),
            Err(_) => return Err(refused(StatusCode::BAD_REQUEST, format!("limit {text:?} is no number")).into()),
        },
    };
    let filter = filters(params, "filter")?;
    let alert = params.get("alert").to_owned();
    let fingerprints = match (alert.is_empty(), filter.is_empty()) {
        (true, true) => None,
        (false, true) => Some(vec![alert]),
        _ => {
            let am = am.clone();
            let found = tokio::task::spawn_blocking(move || {
                am.history.fingerprints(|labels| passes(&filter, |n| labels.get(n).and_then(Value::as_str)))
            });
            let mut found = found.await.unwrap_or_default();
            found.retain(|f| alert.is_empty() || *f == alert);
            Some(found)
        }
    };
    Ok(Question {
        fingerprints,
        receiver: params.get("receiver").to_owned(),
        kind: params.get("kind").to_owned(),
        is_failed: super::flag(params, "failed", false),
        since: params.get("since").to_owned(),
        limit,
    })
}

pub async fn history(State(am): State<App>, RawQuery(query): RawQuery) -> Response {
    let params = Params::from_query(&query.unwrap_or_default());
    match question(&am, &params).await {
        Ok(question) => json(&ask(&am, question).await),
        Err(response) => *response,
    }
}
