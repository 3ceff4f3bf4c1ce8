//! `/silences` and `/silence/{id}`.
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse, Response};
use ferula_net::listen::Params;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::{App, Refusal, body, failure, filters, flag, json, passes, refused, unprocessable};
use crate::matcher::{MatchOp, Matcher};
use crate::silence::{Silence, SilenceError, SilenceId, State as SilenceState};
use crate::time;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PostedMatcher {
    name: Option<String>,
    value: Option<String>,
    is_regex: Option<bool>,
    is_equal: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    id: Option<String>,
    matchers: Option<Vec<PostedMatcher>>,
    matcher_sets: Option<Vec<Vec<PostedMatcher>>>,
    starts_at: Option<String>,
    ends_at: Option<String>,
    created_by: Option<String>,
    comment: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownMatcher {
    is_equal: bool,
    is_regex: bool,
    name: String,
    value: String,
}

#[derive(Serialize)]
struct ShownState {
    state: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    id: SilenceId,
    status: ShownState,
    updated_at: String,
    annotations: BTreeMap<String, String>,
    comment: String,
    created_by: String,
    ends_at: String,
    matchers: Vec<ShownMatcher>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    matcher_sets: Vec<Vec<ShownMatcher>>,
    starts_at: String,
}

fn show_set(set: &[Matcher]) -> Vec<ShownMatcher> {
    set.iter()
        .map(|m| ShownMatcher {
            is_equal: m.is_equal(),
            is_regex: m.is_regex(),
            name: m.name.clone(),
            value: m.value.clone(),
        })
        .collect()
}

fn show(s: &Silence, now_ms: i64) -> Shown {
    Shown {
        id: s.id.clone(),
        status: ShownState { state: s.state(now_ms).as_str() },
        updated_at: time::format_api(s.updated_at_ms),
        annotations: s.annotations.clone(),
        comment: s.comment.clone(),
        created_by: s.created_by.clone(),
        ends_at: time::format_api(s.ends_at_ms),
        matchers: s.matcher_sets.first().map(|set| show_set(set)).unwrap_or_default(),
        matcher_sets: if s.matcher_sets.len() > 1 {
            s.matcher_sets.iter().map(|set| show_set(set)).collect()
        } else {
            Vec::new()
        },
        starts_at: time::format_api(s.starts_at_ms),
    }
}

pub async fn list(State(am): State<App>, RawQuery(query): RawQuery) -> Response {
    let params = Params::from_query(&query.unwrap_or_default());
    let filter = match filters(&params, "filter") {
        Ok(f) => f,
        Err(response) => return *response,
    };
    let wanted = |s: SilenceState| flag(&params, s.as_str(), true);
    let now_ms = am.clock.now_ms();
    let mut found: Vec<Arc<Silence>> = am
        .core()
        .silences
        .iter()
        .filter(|s| wanted(s.state(now_ms)))
        .filter(|s| {
            // A filter looks at what the silence says about a label.
            s.matcher_sets
                .iter()
                .any(|set| passes(&filter, |name| set.iter().rfind(|m| m.name == name).map(|m| m.value.as_str())))
        })
        .cloned()
        .collect();
    // Active ones by their end, pending ones by their start, then the expired, latest end first.
    found.sort_by_key(|s| match s.state(now_ms) {
        state @ SilenceState::Active => (state, s.ends_at_ms, s.id.clone()),
        state @ SilenceState::Pending => (state, s.starts_at_ms, s.id.clone()),
        state @ SilenceState::Expired => (state, s.ends_at_ms.saturating_neg(), s.id.clone()),
    });
    let shown: Vec<Shown> = found.iter().map(|s| show(s, now_ms)).collect();
    json(&shown)
}

fn matcher_set(posted: &[PostedMatcher], set: usize) -> Result<Vec<Matcher>, Refusal> {
    let mut out = Vec::with_capacity(posted.len());
    for (i, p) in posted.iter().enumerate() {
        let missing = |field: &str| Box::new(unprocessable(602, format!("matchers.{i}.{field} in body is required")));
        let name = p.name.as_deref().ok_or_else(|| missing("name"))?;
        let value = p.value.as_deref().ok_or_else(|| missing("value"))?;
        let op = match (p.is_regex.ok_or_else(|| missing("isRegex"))?, p.is_equal.unwrap_or(true)) {
            (false, true) => MatchOp::Equal,
            (false, false) => MatchOp::NotEqual,
            (true, true) => MatchOp::RegexMatch,
            (true, false) => MatchOp::RegexNoMatch,
        };
        let m = Matcher::new(op, name, value).map_err(|e| {
            Box::new(refused(
                StatusCode::BAD_REQUEST,
                format!(
                    "invalid silence: invalid label matcher {i} in set {set}: invalid regular expression {value:?}: {e}"
                ),
            ))
        })?;
        out.push(m);
    }
    Ok(out)
}

fn parse(bytes: &[u8], now_ms: i64) -> Result<Silence, Refusal> {
    let bad = |reason: String| {
        Box::new(failure(
            StatusCode::BAD_REQUEST,
            400,
            format!("parsing silence body from \"\" failed, because {reason}"),
        ))
    };
    let posted: Posted = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
    let missing = |field: &str| Box::new(unprocessable(602, format!("{field} in body is required")));
    let comment = posted.comment.ok_or_else(|| missing("comment"))?;
    let created_by = posted.created_by.ok_or_else(|| missing("createdBy"))?;
    let ends_at = posted.ends_at.ok_or_else(|| missing("endsAt"))?;
    let mut sets = Vec::new();
    match (&posted.matchers, &posted.matcher_sets) {
        (None, None) => return Err(missing("matchers")),
        (Some(m), None) if m.is_empty() => {
            return Err(Box::new(unprocessable(612, "matchers in body should have at least 1 items".to_owned())));
        }
        (_, Some(many)) if !many.is_empty() => {
            for (i, set) in many.iter().enumerate() {
                sets.push(matcher_set(set, i)?);
            }
        }
        (Some(m), _) => sets.push(matcher_set(m, 0)?),
        (None, _) => return Err(missing("matchers")),
    }
    let starts_at = posted.starts_at.ok_or_else(|| missing("startsAt"))?;
    let (starts_at_ms, ends_at_ms) =
        (time::parse(&starts_at).map_err(&bad)?.unwrap_or(0), time::parse(&ends_at).map_err(&bad)?.unwrap_or(0));
    if starts_at_ms >= ends_at_ms {
        let reason = "Failed to create silence: start time must be before end time";
        return Err(Box::new(refused(StatusCode::BAD_REQUEST, reason)));
    }
    if ends_at_ms < now_ms {
        return Err(Box::new(refused(
            StatusCode::BAD_REQUEST,
            "Failed to create silence: end time can't be in the past",
        )));
    }
    Ok(Silence {
        id: posted.id.unwrap_or_default().as_str().into(),
        matcher_sets: sets,
        starts_at_ms,
        ends_at_ms,
        updated_at_ms: now_ms,
        created_by,
        comment,
        annotations: posted.annotations.unwrap_or_default(),
    })
}

pub async fn post(State(am): State<App>, headers: HeaderMap, request: Body) -> Response {
    let bytes = match body(&am, &headers, request).await {
        Ok(b) => b,
        Err(response) => return *response,
    };
    if bytes.is_empty() {
        return unprocessable(602, "silence in body is required".to_owned());
    }
    let silence = match parse(&bytes, am.clock.now_ms()) {
        Ok(s) => s,
        Err(response) => return *response,
    };
    match am.set_silence(silence).await {
        Ok(id) => {
            #[derive(Serialize)]
            struct Created {
                #[serde(rename = "silenceID")]
                silence_id: SilenceId,
            }
            json(&Created { silence_id: id })
        }
        Err(e) => {
            let status = match &e {
                crate::app::SilenceFailure::Silence(SilenceError::NotFound) => StatusCode::NOT_FOUND,
                crate::app::SilenceFailure::Silence(_) => StatusCode::BAD_REQUEST,
                crate::app::SilenceFailure::NotDurable => StatusCode::INTERNAL_SERVER_ERROR,
            };
            refused(status, e)
        }
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text
            .bytes()
            .enumerate()
            .all(|(i, b)| if matches!(i, 8 | 13 | 18 | 23) { b == b'-' } else { b.is_ascii_hexdigit() })
}

fn checked(id: &str) -> Result<(), Refusal> {
    match is_uuid(id) {
        true => Ok(()),
        false => Err(unprocessable(601, format!("silenceID in path must be of type uuid: {id:?}")).into()),
    }
}

pub async fn one(State(am): State<App>, Path(id): Path<String>) -> Response {
    if let Err(response) = checked(&id) {
        return *response;
    }
    let found = am.core().silences.get(&id).cloned();
    match found {
        Some(s) => json(&show(&s, am.clock.now_ms())),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

pub async fn expire(State(am): State<App>, Path(id): Path<String>) -> Response {
    if let Err(response) = checked(&id) {
        return *response;
    }
    match am.expire_silence(&id).await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(crate::app::SilenceFailure::Silence(SilenceError::NotFound)) => StatusCode::NOT_FOUND.into_response(),
        Err(e) => refused(StatusCode::INTERNAL_SERVER_ERROR, e),
    }
}
