//! Label names, label values, series: what is there, without samples.
use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{OriginalUri, State};
use ferula_storage::{Annotations, LabelHints, SelectHints};

use super::answer::{Answer, ApiError};
use super::json::Json;
use super::{Form, HandlerResult, matcher_sets, on_pool, time};
use crate::app::App;

const TRUNCATED: &str = "results truncated due to limit";

/// `start`, `end` and `limit`; a limit of 0 means all.
struct Window {
    start_ms: i64,
    end_ms: i64,
    limit: usize,
}

fn window(params: &ferula_net::listen::Params) -> Result<Window, ApiError> {
    if let Some(e) = &params.error {
        return Err(ApiError::bad_data(format_args!("error parsing form values: {e}")));
    }
    Ok(Window {
        limit: time::limit(params, "limit")?,
        start_ms: time::time_or(params, "start", time::MIN_TIME_MS)?,
        end_ms: time::time_or(params, "end", time::MAX_TIME_MS)?,
    })
}

/// One more than asked for, so that a cut is noticed; 0 stays "all".
fn one_more(limit: usize) -> usize {
    if limit == 0 { 0 } else { limit.saturating_add(1) }
}

/// Label names or values of all matcher sets, sorted, without repetition, cut at the limit.
fn distinct(
    limit: usize,
    sets: &[Vec<ferula_model::Matcher>],
    read: impl Fn(&[ferula_model::Matcher]) -> Result<(Vec<String>, Annotations), ferula_storage::StorageError>,
) -> super::ApiResult {
    let mut annotations = Annotations::default();
    let mut one = |matchers: &[ferula_model::Matcher]| -> Result<Vec<String>, ApiError> {
        let (list, notes) = read(matchers)?;
        annotations.merge(notes);
        Ok(list)
    };
    let mut list = match sets {
        [] => one(&[])?,
        [single] => one(single)?,
        several => {
            let mut all = BTreeSet::new();
            for set in several {
                all.extend(one(set)?);
            }
            all.into_iter().collect()
        }
    };
    let is_cut = limit > 0 && list.len() > limit;
    if is_cut {
        list.truncate(limit);
    }
    let answer = Answer::strings(list).with(&annotations);
    Ok(if is_cut { answer.warn(TRUNCATED) } else { answer })
}

pub(super) async fn label_names(State(app): State<Arc<App>>, Form(params): Form) -> HandlerResult {
    let components = app.components()?;
    let window = window(&params)?;
    let sets = matcher_sets(&params).map_err(ApiError::bad_data)?;
    on_pool(&app, components, move |context, storage| {
        let querier = storage.querier(window.start_ms, window.end_ms)?;
        let hints = LabelHints { limit: one_more(window.limit) };
        distinct(window.limit, &sets, |matchers| querier.label_names(context, &hints, matchers))
    })
    .await
}

pub(super) async fn label_values(
    State(app): State<Arc<App>>,
    OriginalUri(uri): OriginalUri,
    Form(params): Form,
) -> HandlerResult {
    let components = app.components()?;
    // Not through axum's path extractor: a name that is not UTF-8 gets this API's error, not axum's.
    let mut segments = uri.path().rsplit('/').skip(1);
    let raw = percent_encoding::percent_decode_str(segments.next().unwrap_or(""));
    let name = raw
        .clone()
        .decode_utf8()
        .map_err(|_| ApiError::bad_data(format_args!("invalid label name: \"{}\"", escaped(raw))))?;
    // Dots and the like may come as `U__a_2e_b`; a name without that prefix stands for itself.
    let name = unescape(&name);
    if name.is_empty() {
        return Err(ApiError::bad_data("invalid label name: \"\"").into());
    }
    let window = window(&params)?;
    let sets = matcher_sets(&params).map_err(ApiError::bad_data)?;
    on_pool(&app, components, move |context, storage| {
        let querier = storage.querier(window.start_ms, window.end_ms)?;
        let hints = LabelHints { limit: one_more(window.limit) };
        distinct(window.limit, &sets, |matchers| querier.label_values(context, &name, &hints, matchers))
    })
    .await
}

/// Bytes that are no text, as Go quotes them.
fn escaped(bytes: impl Iterator<Item = u8>) -> String {
    bytes.map(|b| if b.is_ascii_graphic() { char::from(b).to_string() } else { format!("\\x{b:02x}") }).collect()
}

/// Undoes the "values" escaping: `U__`, then `__` for an underscore and `_hex_` for any other character. What is not
/// well formed stands for itself.
fn unescape(name: &str) -> String {
    let Some(rest) = name.strip_prefix("U__") else { return name.to_owned() };
    let mut out = String::with_capacity(rest.len());
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        if c != '_' {
            out.push(c);
            continue;
        }
        let hex: String = chars.by_ref().take_while(|c| *c != '_').collect();
        if hex.is_empty() {
            out.push('_');
            continue;
        }
        match u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32) {
            Some(c) if hex.len() <= 6 => out.push(c),
            _ => return name.to_owned(),
        }
    }
    out
}

pub(super) async fn series(State(app): State<Arc<App>>, Form(params): Form) -> HandlerResult {
    let components = app.components()?;
    if !params.has("match[]") {
        return Err(ApiError::bad_data("no match[] parameter provided").into());
    }
    let window = window(&params)?;
    let sets = matcher_sets(&params).map_err(|e| ApiError::parameter("match[]", e))?;
    on_pool(&app, components, move |context, storage| {
        let querier = storage.querier(window.start_ms, window.end_ms)?;
        let hints = SelectHints {
            start_ms: window.start_ms,
            end_ms: window.end_ms,
            function: "series".to_owned(),
            limit: one_more(window.limit),
            series_only: true,
            ..SelectHints::default()
        };
        let mut annotations = Annotations::default();
        // Sorted sets of several selectors are merged through one ordered set; a single one streams straight out.
        let mut merged = BTreeSet::new();
        let mut out =
            Out { json: Json::new(), first: true, left: window.limit, is_cut: false, limited: window.limit > 0 };
        out.json.raw("[");
        let mut held = context.budget.charge(0).map_err(ferula_storage::StorageError::from)?;
        for set in &sets {
            let mut found = querier.select(context, true, &hints, set)?;
            let mut n = 0u32;
            while let Some(series) = found.next() {
                let series = series?;
                n += 1;
                if n.is_multiple_of(1024) {
                    context.check()?;
                }
                if sets.len() == 1 {
                    let before = out.json.len();
                    if !out.push(series.labels.as_ref()) {
                        break;
                    }
                    held.grow((out.json.len() - before) as u64).map_err(ferula_storage::StorageError::from)?;
                } else {
                    let labels = series.labels.to_labels();
                    held.grow(2 * labels.size_bytes() as u64 + 64).map_err(ferula_storage::StorageError::from)?;
                    merged.insert(labels);
                }
            }
            annotations.merge(found.annotations());
        }
        for labels in &merged {
            if !out.push(labels) {
                break;
            }
        }
        out.json.raw("]");
        let answer = Answer::json(out.json.into_bytes()).with(&annotations);
        Ok(if out.is_cut { answer.warn(TRUNCATED) } else { answer })
    })
    .await
}

/// Label sets as a JSON list, up to a limit.
struct Out {
    json: Json,
    first: bool,
    limited: bool,
    left: usize,
    is_cut: bool,
}

impl Out {
    /// Adds one; `false` once there are too many.
    fn push(&mut self, labels: &dyn ferula_model::LabelView) -> bool {
        if self.limited {
            if self.left == 0 {
                self.is_cut = true;
                return false;
            }
            self.left -= 1;
        }
        self.json.separate(&mut self.first).labels(labels);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unescapes_names() {
        for (escaped, name) in [
            ("job", "job"),
            ("U__job", "job"),
            ("U__a_2e_b", "a.b"),
            ("U__a__b", "a_b"),
            ("U___1F600_", "\u{1F600}"),
            ("U__a_zz_", "U__a_zz_"),
            ("U__", ""),
            ("a.b", "a.b"),
        ] {
            assert_eq!(unescape(escaped), name, "{escaped}");
        }
    }
}
