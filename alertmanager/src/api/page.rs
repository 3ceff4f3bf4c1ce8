//! The plain page at `/`: what fires, what is silenced, where the rest is.
use std::fmt::Write;

use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};

use super::App;
use crate::silence::State as SilenceState;
use crate::time;

/// More alerts than this are only counted.
const ROWS_MAX: usize = 500;

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

pub async fn index(State(am): State<App>) -> Response {
    let now_ms = am.clock.now_ms();
    let mut out = String::from(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Alertmanager</title><style>\
         body{font:14px/1.5 sans-serif;margin:2em;color:#222}table{border-collapse:collapse}td,th{text-align:left;\
         padding:2px 12px 2px 0;vertical-align:top;border-bottom:1px solid #ddd}.s{color:#777}</style></head><body>\
         <h1>Alertmanager</h1><p><a href=\"api/v2/alerts\">alerts</a> <a href=\"api/v2/alerts/groups\">groups</a> \
         <a href=\"api/v2/silences\">silences</a> <a href=\"api/v2/receivers\">receivers</a> \
         <a href=\"api/v2/status\">status</a> <a href=\"metrics\">metrics</a></p>",
    );
    {
        let core = am.core();
        let count = core.firing_alerts(now_ms).count();
        let _ = write!(out, "<h2>Alerts ({count})</h2><table><tr><th>state<th>since<th>labels<th>summary");
        for (alert, _) in core.firing_alerts(now_ms).take(ROWS_MAX) {
            let (silenced, inhibited) = core.muted_by(&alert.labels, now_ms);
            let state = match (silenced.is_empty(), inhibited.is_empty()) {
                (true, true) => "active",
                (false, _) => "silenced",
                _ => "inhibited",
            };
            let summary = alert.annotations.get("summary").or(alert.annotations.get("description")).unwrap_or("");
            let _ = write!(
                out,
                "<tr><td>{state}<td class=s>{}<td>{}<td>{}",
                time::format_api(alert.starts_at_ms),
                escape(&alert.labels.to_string()),
                escape(summary)
            );
        }
        let live = core.silences.iter().filter(|s| s.state(now_ms) != SilenceState::Expired);
        let _ = write!(out, "</table><h2>Silences</h2><table><tr><th>state<th>until<th>matchers<th>by<th>comment");
        for s in live.take(ROWS_MAX) {
            let sets: Vec<String> = s.matcher_sets.iter().map(|set| crate::matcher::print_set(set)).collect();
            let _ = write!(
                out,
                "<tr><td>{}<td class=s>{}<td>{}<td>{}<td>{}",
                s.state(now_ms).as_str(),
                time::format_api(s.ends_at_ms),
                escape(&sets.join(" or ")),
                escape(&s.created_by),
                escape(&s.comment)
            );
        }
    }
    let _ = write!(
        out,
        "</table><p class=s>version {} (ferula {})</p></body></html>",
        crate::VERSION,
        env!("CARGO_PKG_VERSION")
    );
    Html(out).into_response()
}
