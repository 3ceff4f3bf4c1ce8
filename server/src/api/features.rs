//! `/api/v1/features`: what clients may use, by category. (Not part of the build info: see there.)
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use ferula_promql_parser::{FUNCTIONS, ParseOptions};
use ferula_scraper_discovery::Mechanism;

use super::HandlerResult;
use super::answer::Answer;
use crate::app::App;

pub(super) async fn features(State(app): State<Arc<App>>) -> HandlerResult {
    let components = app.components()?;
    Ok(Answer::of(&list(&app, &components.parse_options))?)
}

fn list(app: &App, parse: &ParseOptions) -> BTreeMap<&'static str, BTreeMap<&'static str, bool>> {
    let o = &app.options;
    let flags = o.flags.get("enable-feature").map_or("", String::as_str);
    let is_on = |feature: &str| flags.split([',', ' ']).any(|f| f == feature);
    let providers = Mechanism::NAMES.iter().chain(&["static"]).map(|name| (*name, true)).collect();
    let functions = FUNCTIONS.iter().map(|f| (f.name, !f.is_experimental || parse.experimental_functions)).collect();
    [
        (
            "api",
            BTreeMap::from([
                ("admin", o.enable_admin_api),
                ("exclude_alerts", true),
                ("label_values_match", true),
                ("lifecycle", o.enable_lifecycle),
                ("otlp_write_receiver", false),
                ("query_stats", true),
                ("query_warnings", true),
                ("remote_write_receiver", o.enable_remote_write),
                ("search", false),
                ("time_range_labels", true),
                ("time_range_series", true),
            ]),
        ),
        ("prometheus", BTreeMap::from([("agent_mode", false), ("server_mode", true)])),
        (
            "promql",
            BTreeMap::from([
                ("anchored", parse.extended_range_selectors),
                ("at_modifier", true),
                ("bool", true),
                ("by", true),
                ("duration_expr", parse.duration_expressions),
                ("fill", parse.fill_modifiers),
                ("fill_left", parse.fill_modifiers),
                ("fill_right", parse.fill_modifiers),
                ("group_left", true),
                ("group_right", true),
                ("ignoring", true),
                ("negative_offset", true),
                ("offset", true),
                ("on", true),
                ("per_query_lookback_delta", true),
                ("smoothed", parse.extended_range_selectors),
                ("subqueries", true),
                ("without", true),
            ]),
        ),
        ("promql_functions", functions),
        (
            "scrape",
            BTreeMap::from([
                ("extra_scrape_metrics", true),
                ("start_timestamp_zero_ingestion", is_on("created-timestamp-zero-ingestion")),
                ("type_and_unit_labels", false),
            ]),
        ),
        ("service_discovery_providers", providers),
    ]
    .into()
}
