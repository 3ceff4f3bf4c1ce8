//! What the server says about itself.
use std::sync::Arc;

use axum::extract::State;

use super::HandlerResult;
use super::answer::Answer;
use super::json::Json;
use crate::app::App;

pub(super) async fn flags(State(app): State<Arc<App>>) -> HandlerResult {
    app.components()?;
    Ok(Answer::of(&app.options.flags)?)
}

pub(super) async fn build_info(State(app): State<Arc<App>>) -> HandlerResult {
    app.components()?;
    Ok(Answer::of(&app.options.build)?)
}

/// Answers before the server is ready, too: that is what it is for.
pub(super) async fn wal_replay(State(_app): State<Arc<App>>) -> HandlerResult {
    Ok(Answer::json(br#"{"min":0,"max":0,"current":0}"#.to_vec()))
}

/// Banners of the web UI; there are none.
pub(super) async fn notifications() -> HandlerResult {
    Ok(Answer::json(b"[]".to_vec()))
}

pub(super) async fn alertmanagers(State(app): State<Arc<App>>) -> HandlerResult {
    let components = app.components()?;
    let mut j = Json::new();
    let mut first = true;
    j.raw("{\"activeAlertmanagers\":[");
    for url in components.notifier.urls() {
        j.separate(&mut first).raw("{\"url\":").string(&url).raw("}");
    }
    j.raw("],\"droppedAlertmanagers\":[]}");
    Ok(Answer::json(j.into_bytes()))
}
