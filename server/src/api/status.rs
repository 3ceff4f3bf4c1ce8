//! What the server says about itself.
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::State;

use ferula_scraper_scrape::config::Bytes;
use ferula_tsdb::Limits;
use ferula_tsdb::status::Ranking;
use ferula_yaml::Duration;

use super::answer::{Answer, ApiError};
use super::json::Json;
use super::{Form, HandlerResult, time};
use crate::app::App;
use crate::info::{self, RuntimeInfo};
use crate::notifier::rfc3339;

pub(super) async fn flags(State(app): State<Arc<App>>) -> HandlerResult {
    app.components()?;
    Ok(Answer::of(&app.options.flags)?)
}

pub(super) async fn build_info(State(app): State<Arc<App>>) -> HandlerResult {
    app.components()?;
    Ok(Answer::of(&app.options.build)?)
}

/// Answers before the server is ready, too: that is what it is for.
pub(super) async fn wal_replay(State(app): State<Arc<App>>) -> HandlerResult {
    let mut j = Json::new();
    j.raw("{\"min\":").integer(app.replay.min.load(Relaxed)).raw(",\"max\":").integer(app.replay.max.load(Relaxed));
    j.raw(",\"current\":").integer(app.replay.current.load(Relaxed)).raw("}");
    Ok(Answer::json(j.into_bytes()))
}

/// Banners of the web UI; there are none.
pub(super) async fn notifications() -> HandlerResult {
    Ok(Answer::json(b"[]".to_vec()))
}

pub(super) async fn alertmanagers(State(app): State<Arc<App>>) -> HandlerResult {
    let components = app.components()?;
    let mut j = Json::new();
    let lists = [
        ("{\"activeAlertmanagers\":[", components.notifier.urls()),
        ("],\"droppedAlertmanagers\":[", components.notifier.dropped()),
    ];
    for (head, urls) in lists {
        j.raw(head);
        let mut first = true;
        for url in urls {
            j.separate(&mut first).raw("{\"url\":").string(&url).raw("}");
        }
    }
    j.raw("]}");
    Ok(Answer::json(j.into_bytes()))
}

pub(super) async fn config(State(app): State<Arc<App>>) -> HandlerResult {
    app.components()?;
    let mut j = Json::new();
    j.raw("{\"yaml\":").string(&app.config().yaml).raw("}");
    Ok(Answer::json(j.into_bytes()))
}

pub(super) async fn runtime_info(State(app): State<Arc<App>>) -> HandlerResult {
    let components = app.components()?;
    Ok(Answer::of(&RuntimeInfo {
        start_time: rfc3339(app.started_ms),
        cwd: std::env::current_dir().map_or_else(|_| String::new(), |d| d.display().to_string()),
        hostname: info::hostname(),
        server_time: rfc3339(app.clock.now_ms()),
        reload_config_success: components.reload.successful.load(Relaxed),
        last_config_time: rfc3339(i64::try_from(components.reload.success_ms.load(Relaxed)).unwrap_or(0)),
        corruption_count: components.db.replay_report().damaged.len(),
        goroutine_count: info::threads(),
        gomaxprocs: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        gomemlimit: app.budget.limit_bytes(),
        gogc: String::new(),
        godebug: String::new(),
        storage_retention: retention(&components.db.limits),
    })?)
}

/// What bounds the blocks at the moment, as upstream words it: `15d or 5GiB or 40%`.
fn retention(limits: &Limits) -> String {
    let (time, size) = (Duration::from_ms(limits.retention_ms()), Bytes(limits.retention_size_bytes()));
    let percent = limits.retention_percent();
    let parts = [
        (!time.is_zero()).then(|| time.to_string()),
        (size.0 > 0).then(|| size.to_string()),
        (percent > 0.0).then(|| format!("{percent}%")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" or ")
}

/// Entries of each list a client may ask for: one request must not be able to sort the whole index.
const STATUS_LIMIT_MAX: i64 = 10_000;

pub(super) async fn tsdb(State(app): State<Arc<App>>, Form(params): Form) -> HandlerResult {
    let components = app.components()?;
    let limit = match params.get("limit") {
        "" => 10,
        text => match time::atoi(text) {
            Ok(n) if n >= 1 => n.min(STATUS_LIMIT_MAX),
            _ => return Err(ApiError::bad_data("limit must be a positive number").into()),
        },
    };
    let limit = usize::try_from(limit).unwrap_or(10);
    let db = Arc::clone(&components.db);
    let context = app.query_context(None);
    let status = app.pool.run(&context, move |_| db.status(limit)).await.map_err(ApiError::from)?;
    let mut j = Json::new();
    j.raw("{\"headStats\":{\"numSeries\":").integer(status.head.series);
    j.raw(",\"numLabelPairs\":").integer(status.head.label_pairs);
    j.raw(",\"chunkCount\":").integer(status.head.chunks);
    j.raw(",\"minTime\":").integer(status.head.min_time_ms);
    j.raw(",\"maxTime\":").integer(status.head.max_time_ms).raw("}");
    ranking(&mut j, "seriesCountByMetricName", &status.series_count_by_metric_name);
    ranking(&mut j, "labelValueCountByLabelName", &status.label_value_count_by_label_name);
    ranking(&mut j, "memoryInBytesByLabelName", &status.memory_in_bytes_by_label_name);
    ranking(&mut j, "seriesCountByLabelValuePair", &status.series_count_by_label_value_pair);
    j.raw("}");
    Ok(Answer::json(j.into_bytes()))
}

fn ranking(j: &mut Json, name: &str, list: &Ranking) {
    let mut first = true;
    j.raw(",").string(name).raw(":[");
    for (name, value) in list {
        j.separate(&mut first).raw("{\"name\":").string(name).raw(",\"value\":").integer(*value).raw("}");
    }
    j.raw("]");
}
