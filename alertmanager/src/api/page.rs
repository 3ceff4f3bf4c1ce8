//! The plain pages: what fires, what is silenced, what became of it; silences are made and ended here.
//!
//! Every form carries a secret of this process that no other site can read, and a browser that says the request comes from
//! elsewhere is refused: a page somewhere cannot make or end silences with its visitors' reach.
use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};

use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use ferula_net::listen::Params;
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;

use super::App;
use crate::silence::State as SilenceState;
use crate::time;

mod form;

pub use form::{expire, make, new};

/// More alerts than this are only counted.
const ROWS_MAX: usize = 500;

const CSS: &str = "body{font:14px/1.5 sans-serif;margin:2em;color:#222}table{border-collapse:collapse}\
    td,th{text-align:left;padding:2px 12px 2px 0;vertical-align:top;border-bottom:1px solid #ddd}\
    .s{color:#777}.e{color:#a00}form{margin:0}label{display:block;margin:.5em 0}input{width:40em;max-width:95%}\
    button,td input{width:auto}";

/// A secret for the forms of this process. The hasher's keys come from the system, its outcome tells nothing about them.
pub(crate) fn new_token() -> String {
    let word = || RandomState::new().hash_one(std::process::id());
    format!("{:016x}{:016x}", word(), word())
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn quoted_for_url(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// A whole page around `body`; nothing but our own style sheet and forms is let in.
fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let html = format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} - Alertmanager</title>\
         <link rel=\"stylesheet\" href=\"page.css\"></head><body><h1>Alertmanager</h1><p><a href=\"./\">alerts</a> \
         <a href=\"new-silence\">new silence</a> <a href=\"history\">history</a> <span class=s>API: \
         <a href=\"api/v2/alerts/groups\">groups</a> <a href=\"api/v2/silences\">silences</a> \
         <a href=\"api/v2/receivers\">receivers</a> <a href=\"api/v2/status\">status</a> <a href=\"metrics\">metrics</a></span></p>\
         {body}<p class=s>version {} (ferula {})</p></body></html>",
        crate::VERSION,
        env!("CARGO_PKG_VERSION")
    );
    let mut response = (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

pub async fn css() -> Response {
    ([(header::CONTENT_TYPE, "text/css")], CSS).into_response()
}

pub async fn index(State(am): State<App>) -> Response {
    let now_ms = am.clock.now_ms();
    let mut out = String::new();
    {
        let core = am.core();
        let count = core.firing_alerts(now_ms).count();
        let _ = write!(out, "<h2>Alerts ({count})</h2><table><tr><th>state<th>since<th>labels<th>summary<th>");
        for (alert, _) in core.firing_alerts(now_ms).take(ROWS_MAX) {
            let (silenced, inhibited) = core.muted_by(&alert.labels, now_ms);
            let state = match (silenced.is_empty(), inhibited.is_empty()) {
                (true, true) => "active",
                (false, _) => "silenced",
                _ => "inhibited",
            };
            let summary = alert.annotations.get("summary").or(alert.annotations.get("description")).unwrap_or("");
            let labels = alert.labels.to_string();
            let _ = write!(
                out,
                "<tr><td>{state}<td class=s>{}<td>{}<td>{}<td><a href=\"new-silence?filter={}\">silence</a> \
                 <a href=\"history?alert={:016x}\">history</a>",
                time::format_api(alert.starts_at_ms),
                escape(&labels),
                escape(summary),
                quoted_for_url(&labels),
                alert.fingerprint,
            );
        }
        let live = core.silences.iter().filter(|s| s.state(now_ms) != SilenceState::Expired);
        let _ = write!(out, "</table><h2>Silences</h2><table><tr><th>state<th>until<th>matchers<th>by<th>comment<th>");
        for s in live.take(ROWS_MAX) {
            let sets: Vec<String> = s.matcher_sets.iter().map(|set| crate::matcher::print_set(set)).collect();
            let _ = write!(
                out,
                "<tr><td>{}<td class=s>{}<td>{}<td>{}<td>{}<td><form method=post action=\"expire-silence\">\
                 <input type=hidden name=token value=\"{}\"><input type=hidden name=id value=\"{}\">\
                 <button>expire</button></form>",
                s.state(now_ms).as_str(),
                time::format_api(s.ends_at_ms),
                escape(&sets.join(" or ")),
                escape(&s.created_by),
                escape(&s.comment),
                am.page_token,
                escape(&s.id),
            );
        }
    }
    out.push_str("</table>");
    page(StatusCode::OK, "Alerts", &out)
}

/// `GET /history`: the API's question, as a table.
pub async fn history(State(am): State<App>, RawQuery(query): RawQuery) -> Response {
    let params = Params::from_query(&query.unwrap_or_default());
    let events = match super::history::question(&am, &params).await {
        Ok(question) => super::history::ask(&am, question).await,
        Err(_) => return page(StatusCode::BAD_REQUEST, "History", "<p class=e>This question cannot be read.</p>"),
    };
    let mut out = String::from("<h2>History</h2><form method=get action=history>");
    for (name, hint) in [("filter", "label, as team=\"db\""), ("receiver", "receiver"), ("alert", "fingerprint")] {
        let value = escape(params.get(name));
        if name != "alert" || !value.is_empty() {
            let _ = write!(out, "<label>{hint} <input name={name} value=\"{value}\"></label>");
        }
    }
    out.push_str("<button>search</button></form><table><tr><th>at<th>what<th>alert or group<th>receiver<th>details");
    for event in &events {
        let text = |name: &str| escape(event[name].as_str().unwrap_or(""));
        let list = |name: &str| {
            let words = event[name].as_array().into_iter().flatten().filter_map(Value::as_str);
            escape(&words.collect::<Vec<_>>().join(" "))
        };
        let labels =
            event["labels"].as_object().map(|l| serde_json::to_string(l).unwrap_or_default()).unwrap_or_default();
        let details = match event["kind"].as_str() {
            Some("notified") => format!(
                "{} {}: {}, {} attempts, {} alerts {}",
                text("integration"),
                text("reason"),
                if event["isDelivered"] == true { "delivered" } else { "failed" },
                event["attempts"],
                event["alertCount"],
                text("error")
            ),
            Some("suppressed") => format!("{} {}", text("why"), list("by")),
            Some("began") => format!("{} to {}", escape(&labels), list("receivers")),
            Some("silence") => format!("{} {} by {}: {}", text("state"), text("matchers"), text("by"), text("comment")),
            _ => escape(&labels),
        };
        let what = match event["fingerprint"].as_str() {
            Some(f) => format!("<a href=\"history?alert={0}\">{0}</a>", escape(f)),
            None => text("groupKey"),
        };
        let _ = write!(
            out,
            "<tr><td class=s>{}<td>{}<td>{what}<td>{}<td>{details}",
            text("at"),
            text("kind"),
            text("receiver")
        );
    }
    out.push_str("</table>");
    page(StatusCode::OK, "History", &out)
}
