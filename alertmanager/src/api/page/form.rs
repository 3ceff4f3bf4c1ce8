//! The forms: a new silence, the end of one.
use std::fmt::Write;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use ferula_net::listen::Params;
use http::{HeaderMap, StatusCode, header};

use super::{App, escape, page};
use crate::app::SilenceFailure;
use crate::matcher;
use crate::silence::Silence;

const FORM_BYTES_MAX: usize = 64 << 10;
const PATIENCE: Duration = Duration::from_secs(10);

fn form(am: &App, status: StatusCode, given: &Params, error: &str) -> Response {
    let mut out = String::from("<h2>New silence</h2>");
    if !error.is_empty() {
        let _ = write!(out, "<p class=e>{}</p>", escape(error));
    }
    let _ = write!(
        out,
        "<form method=post action=\"new-silence\"><input type=hidden name=token value=\"{}\">",
        am.page_token
    );
    for (name, label, default) in [
        ("filter", "matchers, as {alertname=\"X\",team=~\"a|b\"}", ""),
        ("duration", "for", "2h"),
        ("createdBy", "by", ""),
        ("comment", "comment", ""),
    ] {
        let value = if given.has(name) { given.get(name) } else { default };
        let _ =
            write!(out, "<label>{} <input name={name} value=\"{}\" required></label>", escape(label), escape(value));
    }
    out.push_str("<button>silence</button></form>");
    page(status, "New silence", &out)
}

/// `GET /new-silence`
pub async fn new(State(am): State<App>, RawQuery(query): RawQuery) -> Response {
    form(&am, StatusCode::OK, &Params::from_query(&query.unwrap_or_default()), "")
}

/// What a form of ours sent; anything else is refused.
async fn sent(am: &App, headers: &HeaderMap, request: Body) -> Result<Params, super::super::Refusal> {
    let refuse = |why: &'static str| Err((StatusCode::FORBIDDEN, why).into_response().into());
    let site = headers.get("sec-fetch-site").and_then(|v| v.to_str().ok()).unwrap_or("same-origin");
    if site != "same-origin" {
        return refuse("this form was sent from another site\n");
    }
    let bytes = ferula_net::listen::body::read(request, FORM_BYTES_MAX, PATIENCE)
        .await
        .map_err(|e| Box::new((e.status(), e.to_string()).into_response()))?;
    let params = Params::from_query(&String::from_utf8_lossy(&bytes));
    if params.get("token") != am.page_token {
        return refuse("this form is not of this process: open the page again\n");
    }
    Ok(params)
}

fn back() -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, "./")]).into_response()
}

/// `POST /new-silence`
pub async fn make(State(am): State<App>, headers: HeaderMap, request: Body) -> Response {
    let params = match sent(&am, &headers, request).await {
        Ok(p) => p,
        Err(response) => return *response,
    };
    let silence = match silence(&params, am.clock.now_ms()) {
        Ok(s) => s,
        Err(why) => return form(&am, StatusCode::BAD_REQUEST, &params, &why),
    };
    match am.set_silence(silence).await {
        Ok(_) => back(),
        Err(e @ SilenceFailure::Silence(_)) => form(&am, StatusCode::BAD_REQUEST, &params, &e.to_string()),
        Err(e) => form(&am, StatusCode::INTERNAL_SERVER_ERROR, &params, &e.to_string()),
    }
}

fn silence(params: &Params, now_ms: i64) -> Result<Silence, String> {
    let matchers = matcher::parse_matchers(params.get("filter"), "page").map_err(|e| e.to_string())?;
    let for_ms = ferula_model::duration::parse_ms(params.get("duration")).map_err(|e| e.to_string())?;
    if for_ms <= 0 || params.get("createdBy").is_empty() || params.get("comment").is_empty() {
        return Err("duration, author and comment are needed".to_owned());
    }
    Ok(Silence {
        id: "".into(),
        matcher_sets: vec![matchers],
        starts_at_ms: now_ms,
        ends_at_ms: now_ms.saturating_add(for_ms),
        updated_at_ms: now_ms,
        created_by: params.get("createdBy").to_owned(),
        comment: params.get("comment").to_owned(),
        annotations: Default::default(),
    })
}

/// `POST /expire-silence`
pub async fn expire(State(am): State<App>, headers: HeaderMap, request: Body) -> Response {
    let params = match sent(&am, &headers, request).await {
        Ok(p) => p,
        Err(response) => return *response,
    };
    match am.expire_silence(params.get("id")).await {
        Ok(()) => back(),
        Err(SilenceFailure::Silence(e)) => (StatusCode::NOT_FOUND, e.to_string()).into_response(),
        Err(e) => (StatusCode::INTERNAL_SERVER_ERROR, e.to_string()).into_response(),
    }
}
