//! `/api/v1/admin/tsdb/*` behind `--web.enable-admin-api`, and the list of blocks.
use std::sync::Arc;

use axum::extract::{Path, State};
use ferula_net::listen::Params;
use ferula_tsdb::Db;
use serde::Serialize;

use super::answer::{Answer, ApiError, ApiResult, ErrorKind};
use super::{Form, HandlerResult, time};
use crate::app::App;

pub(super) async fn admin(
    State(app): State<Arc<App>>,
    Path(action): Path<String>,
    Form(params): Form,
) -> HandlerResult {
    let components = app.components()?;
    let run: fn(&Db, &Params) -> ApiResult = match action.as_str() {
        "delete_series" => delete_series,
        "clean_tombstones" => clean_tombstones,
        "snapshot" => snapshot,
        _ => return Err(ApiError::new(ErrorKind::NotFound, "unknown action").into()),
    };
    if !app.options.enable_admin_api {
        return Err(ApiError::new(ErrorKind::Unavailable, "admin APIs disabled").into());
    }
    let db = Arc::clone(&components.db);
    // Not on the query pool: this may take minutes, and must not be cancelled half-way when the client goes away.
    let done = tokio::task::spawn_blocking(move || run(&db, &params)).await;
    Ok(done.map_err(ApiError::internal)??)
}

fn delete_series(db: &Db, params: &Params) -> ApiResult {
    let selectors: Vec<&str> = params.all("match[]").collect();
    if selectors.is_empty() {
        return Err(ApiError::bad_data("no match[] parameter provided"));
    }
    let start_ms = time::time_or(params, "start", time::MIN_TIME_MS)?;
    let end_ms = time::time_or(params, "end", time::MAX_TIME_MS)?;
    let mut sets = Vec::new();
    for text in selectors {
        let set = ferula_promql_parser::parse_metric_selector(text).map_err(|e| ApiError::parameter("match[]", e))?;
        sets.push(set);
    }
    db.delete_series(&sets, start_ms, end_ms).map_err(ApiError::internal)?;
    Ok(Answer::none())
}

fn clean_tombstones(db: &Db, _: &Params) -> ApiResult {
    db.clean_tombstones().map_err(ApiError::internal)?;
    Ok(Answer::none())
}

fn snapshot(db: &Db, params: &Params) -> ApiResult {
    let skip_head = match params.get("skip_head") {
        "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
        "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
        other => {
            let why = format!(
                "unable to parse boolean: strconv.ParseBool: parsing {}: invalid syntax",
                ferula_model::labels::quoted(other)
            );
            return Err(ApiError::parameter("skip_head", why));
        }
    };
    #[derive(Serialize)]
    struct Snapshot {
        name: String,
    }
    let name = db.snapshot(skip_head).map_err(|e| ApiError::internal(format_args!("create snapshot: {e}")))?;
    Answer::of(&Snapshot { name })
}

/// The `meta.json` of every block that is served.
pub(super) async fn blocks(State(app): State<Arc<App>>) -> HandlerResult {
    let components = app.components()?;
    #[derive(Serialize)]
    struct Blocks<'a> {
        blocks: Vec<&'a ferula_tsdb::block::Meta>,
    }
    let blocks = components.db.blocks();
    Ok(Answer::of(&Blocks { blocks: blocks.iter().map(|b| &b.meta).collect() })?)
}
