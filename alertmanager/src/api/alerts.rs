//! `/alerts` and `/alerts/groups`.
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use ferula_model::Labels;
use ferula_net::listen::Params;
use ferula_regex::Regex;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::{App, Refusal, body, failure, filters, flag, json, passes, refused, unprocessable};
use crate::alert::{self, Alert, PostableAlert};
use crate::core::{Core, GroupId};
use crate::matcher::Matcher;
use crate::notify::data::Kv;
use crate::time;

#[derive(Deserialize)]
struct Posted<'a> {
    #[serde(borrow)]
    labels: Option<Pairs<'a>>,
    #[serde(borrow, default)]
    annotations: Option<Pairs<'a>>,
    #[serde(borrow, default, rename = "startsAt")]
    starts_at: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "endsAt")]
    ends_at: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "generatorURL")]
    generator_url: Option<Cow<'a, str>>,
}

/// A JSON object of strings, borrowed where nothing is escaped.
struct Pairs<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        #[derive(Deserialize)]
        struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Vec<(Cow<'de, str>, Cow<'de, str>)>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object of strings")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut out = Vec::with_capacity(8);
                while let Some((k, v)) = map.next_entry::<Text<'de>, Text<'de>>()? {
                    out.push((k.0, v.0));
                }
                Ok(out)
            }
        }
        d.deserialize_map(Visitor).map(Pairs)
    }
}

impl Pairs<'_> {
    fn labels(&self) -> Labels {
        // As `Labels::from_pairs`, without a copy of every string: this runs for each alert of each report.
        let mut pairs: Vec<(&str, &str)> = self.0.iter().map(|(n, v)| (n.as_ref(), v.as_ref())).collect();
        pairs.sort_by_key(|(n, _)| *n);
        // Of a repeated name the last value counts.
        pairs.dedup_by(|later, first| {
            later.0 == first.0 && {
                first.1 = later.1;
                true
            }
        });
        Labels::from_sorted(pairs.into_iter().filter(|(_, v)| !v.is_empty()))
    }
}

pub async fn post(State(am): State<App>, headers: HeaderMap, request: Body) -> Response {
    let bytes = match body(&am, &headers, request).await {
        Ok(b) => b,
        Err(response) => return *response,
    };
    if bytes.is_empty() {
        return unprocessable(602, "alerts in body is required".to_owned());
    }
    let alerts = match parse(&bytes) {
        Ok(a) => a,
        Err(response) => return *response,
    };
    let inserted = am.post_alerts(alerts);
    if inserted.invalid.is_empty() {
        return StatusCode::OK.into_response();
    }
    // As upstream: the valid ones are in, the answer names the others.
    let reasons: Vec<String> = inserted.invalid.iter().map(ToString::to_string).collect();
    refused(StatusCode::BAD_REQUEST, reasons.join("; "))
}

fn parse(bytes: &[u8]) -> Result<Vec<PostableAlert>, Refusal> {
    let bad = |reason: String| {
        Box::new(failure(
            StatusCode::BAD_REQUEST,
            400,
            format!("parsing alerts body from \"\" failed, because {reason}"),
        ))
    };
    let posted: Vec<Posted<'_>> = serde_json::from_slice(bytes).map_err(|e| bad(e.to_string()))?;
    let mut out = Vec::with_capacity(posted.len());
    for (i, p) in posted.iter().enumerate() {
        let Some(labels) = &p.labels else {
            return Err(Box::new(unprocessable(602, format!("{i}.labels in body is required"))));
        };
        let instant = |text: &Option<Cow<'_, str>>| time::parse(text.as_deref().unwrap_or("")).map_err(&bad);
        let url = p.generator_url.as_deref().unwrap_or("");
        if !is_uri(url) {
            return Err(Box::new(unprocessable(601, format!("{i}.generatorURL in body must be of type uri: {url:?}"))));
        }
        out.push(PostableAlert {
            labels: labels.labels(),
            annotations: p.annotations.as_ref().map(Pairs::labels).unwrap_or_default(),
            starts_at_ms: instant(&p.starts_at)?,
            ends_at_ms: instant(&p.ends_at)?,
            generator_url: url.to_owned(),
        });
    }
    Ok(out)
}

/// What Go takes for a request URI: empty, or absolute, with well-formed escapes and no control characters.
fn is_uri(text: &str) -> bool {
    let is_absolute =
        text.is_empty() || text.starts_with('/') || text.split_once(':').is_some_and(|(s, _)| !s.is_empty());
    let escapes_hold = text
        .split('%')
        .skip(1)
        .all(|rest| rest.as_bytes().get(..2).is_some_and(|h| h.iter().all(u8::is_ascii_hexdigit)));
    // Beyond the query anything may stand.
    let escapes_hold = escapes_hold || text.split('?').next().is_some_and(|path| !path.contains('%'));
    is_absolute && escapes_hold && !text.bytes().any(|b| b < 0x20 || b == 0x7f)
}

#[derive(Serialize)]
struct Name {
    name: Arc<str>,
}

#[derive(Serialize)]
struct Status {
    #[serde(rename = "inhibitedBy")]
    inhibited_by: Vec<String>,
    #[serde(rename = "mutedBy")]
    muted_by: Vec<String>,
    #[serde(rename = "silencedBy")]
    silenced_by: Vec<Arc<str>>,
    state: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Gettable {
    annotations: Kv,
    ends_at: String,
    fingerprint: String,
    receivers: Vec<Name>,
    starts_at: String,
    status: Status,
    updated_at: String,
    #[serde(rename = "generatorURL", skip_serializing_if = "str::is_empty")]
    generator_url: Arc<str>,
    labels: Kv,
}

/// The parameters both lists share.
struct Query {
    active: bool,
    silenced: bool,
    inhibited: bool,
    muted: bool,
    filter: Vec<Matcher>,
    receiver: Option<Regex>,
    receiver_filter: Vec<Matcher>,
}

impl Query {
    fn read(query: Option<String>) -> Result<Query, Refusal> {
        let params = Params::from_query(&query.unwrap_or_default());
        let receiver = match params.get("receiver") {
            "" => None,
            text => Some(Regex::plain(&format!("^(?:{text})$")).map_err(|e| {
                Refusal::from(refused(StatusCode::BAD_REQUEST, format!("failed to parse receiver param: {e}")))
            })?),
        };
        Ok(Query {
            active: flag(&params, "active", true),
            silenced: flag(&params, "silenced", true),
            inhibited: flag(&params, "inhibited", true),
            muted: flag(&params, "muted", true),
            filter: filters(&params, "filter")?,
            receiver,
            receiver_filter: filters(&params, "receiver_matchers")?,
        })
    }
    fn takes_receiver(&self, core: &Core, name: &Arc<str>) -> bool {
        if !self.receiver.as_ref().is_none_or(|re| re.is_match(name)) {
            return false;
        }
        self.receiver_filter.is_empty()
            || core
                .receivers()
                .iter()
                .any(|r| r.name == *name && passes(&self.receiver_filter, |n| r.labels.get(n).map(String::as_str)))
    }
    /// The alert as it is shown, unless the query leaves it out.
    fn show(
        &self,
        core: &Core,
        alert: &Alert,
        receivers: Vec<Name>,
        muted_by: &[String],
        now_ms: i64,
    ) -> Option<Gettable> {
        if !passes(&self.filter, |n| alert.labels.get(n)) {
            return None;
        }
        let (silenced, inhibited) = core.muted_by(&alert.labels, now_ms);
        let is_suppressed = !silenced.is_empty() || !inhibited.is_empty() || !muted_by.is_empty();
        if (!self.active && !is_suppressed)
            || (!self.silenced && !silenced.is_empty())
            || (!self.inhibited && !inhibited.is_empty())
        {
            return None;
        }
        Some(Gettable {
            annotations: Kv(alert.annotations.clone()),
            ends_at: time::format_api(alert.ends_at_ms),
            fingerprint: format!("{:016x}", alert.fingerprint),
            receivers,
            starts_at: time::format_api(alert.starts_at_ms),
            status: Status {
                inhibited_by: inhibited.iter().map(|f| format!("{f:016x}")).collect(),
                muted_by: muted_by.to_vec(),
                silenced_by: silenced,
                state: if is_suppressed { "suppressed" } else { "active" },
            },
            updated_at: time::format_api(alert.updated_at_ms),
            generator_url: alert.generator_url.clone(),
            labels: Kv(alert.labels.clone()),
        })
    }
}

fn names(core: &Core, places: &[GroupId]) -> Vec<Name> {
    places.iter().filter_map(|id| core.receiver_of(id.route)).map(|name| Name { name: name.clone() }).collect()
}

pub async fn list(State(am): State<App>, RawQuery(query): RawQuery) -> Response {
    let query = match Query::read(query) {
        Ok(q) => q,
        Err(response) => return *response,
    };
    let now_ms = am.clock.now_ms();
    let shown: Vec<Gettable> = {
        let core = am.core();
        core.firing_alerts(now_ms)
            .filter_map(|(alert, places)| {
                let receivers = names(&core, places);
                if !receivers.iter().any(|r| query.takes_receiver(&core, &r.name)) {
                    return None;
                }
                query.show(&core, alert, receivers, &[], now_ms)
            })
            .collect()
    };
    json(&shown)
}

#[derive(Serialize)]
struct ShownGroup {
    alerts: Vec<Gettable>,
    labels: Kv,
    receiver: Name,
    #[serde(rename = "routeLabels")]
    route_labels: BTreeMap<String, String>,
}

pub async fn groups(State(am): State<App>, RawQuery(query): RawQuery) -> Response {
    let query = match Query::read(query) {
        Ok(q) => q,
        Err(response) => return *response,
    };
    let now_ms = am.clock.now_ms();
    let mut shown: Vec<ShownGroup> = {
        let core = am.core();
        core.groups()
            .filter_map(|group| {
                let receiver = core.receiver_of(group.id.route)?.clone();
                if !query.takes_receiver(&core, &receiver) {
                    return None;
                }
                let alerts: Vec<Gettable> = group
                    .alerts
                    .values()
                    .filter(|a| !a.is_resolved_at(now_ms))
                    .filter_map(|a| {
                        let mut receivers = names(&core, &core.places_of(a));
                        receivers.retain(|r| query.takes_receiver(&core, &r.name));
                        query.show(&core, a, receivers, &group.muted_by, now_ms)
                    })
                    .collect();
                // Muted are groups outside of their route's time intervals; silenced and inhibited ones have own flags.
                if alerts.is_empty() || (!query.muted && !group.muted_by.is_empty()) {
                    return None;
                }
                Some(ShownGroup {
                    alerts,
                    labels: Kv(group.labels.clone()),
                    receiver: Name { name: receiver },
                    route_labels: core.route_labels(group.id.route),
                })
            })
            .collect()
    };
    shown.sort_by(|a, b| alert::before(&a.labels.0, &b.labels.0).then_with(|| a.receiver.name.cmp(&b.receiver.name)));
    json(&shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_as_go_takes_them() {
        for (text, want) in [
            ("", true),
            ("http://x/y?a=%zz", true),
            ("/graph", true),
            ("%zz", false),
            ("http://x/%zz", false),
            ("x", false),
            ("a:b", true),
        ] {
            assert_eq!(is_uri(text), want, "{text}");
        }
    }

    #[test]
    fn escapes_in_json_are_undone_and_borrowed_text_is_kept() {
        let alerts = parse(
            br#"[{"labels":{"a":"x\u003cy","b":""},"annotations":null,"startsAt":"2026-01-01T00:00:00Z","other":[1]}]"#,
        );
        let alerts = alerts.unwrap_or_else(|_| panic!("parses"));
        assert_eq!(alerts[0].labels, Labels::from_pairs([("a", "x<y")]));
        let twice =
            parse(br#"[{"labels":{"b":"1","a":"2","b":"","c":"3","c":"4"}}]"#).unwrap_or_else(|_| panic!("parses"));
        assert_eq!(twice[0].labels, Labels::from_pairs([("a", "2"), ("c", "4")]));
        assert!(alerts[0].starts_at_ms.is_some() && alerts[0].ends_at_ms.is_none());
    }
}
