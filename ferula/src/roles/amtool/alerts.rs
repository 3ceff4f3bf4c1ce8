//! `amtool alert`: query and add.
use std::collections::BTreeMap;

use ferula_alertmanager::matcher::{self, MatchOp};
use serde::{Deserialize, Serialize};

use super::args::{AlertAdd, AlertQuery};
use super::client::Call;
use super::table::{json, row, table};
use super::{Outcome, Output, Tool};

/// An alert as the API gives it, its fields in the order Go prints them.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct GettableAlert {
    annotations: BTreeMap<String, String>,
    ends_at: String,
    pub fingerprint: String,
    receivers: Vec<Receiver>,
    starts_at: String,
    status: Status,
    updated_at: String,
    #[serde(rename = "generatorURL", default, skip_serializing_if = "String::is_empty")]
    generator_url: String,
    pub labels: BTreeMap<String, String>,
}
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Receiver {
    name: String,
}
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    inhibited_by: Vec<String>,
    #[serde(default)]
    muted_by: Vec<String>,
    silenced_by: Vec<String>,
    state: String,
}

/// A first word that is no matcher is the name of an alert.
pub(super) fn with_alertname(mut matchers: Vec<String>) -> Vec<String> {
    if let Some(first) = matchers.first_mut()
        && matcher::parse_matcher(first, "amtool").is_err()
    {
        *first = format!("alertname={}", serde_json::Value::String(first.clone()));
    }
    matchers
}

/// `name=value` words as a map; any other matcher is refused.
pub(super) fn pairs(words: &[String], what: &str) -> Outcome<BTreeMap<String, String>> {
    let mut out = BTreeMap::new();
    for word in words {
        let m = matcher::parse_matcher(word, "amtool").map_err(|e| e.to_string())?;
        if m.op != MatchOp::Equal {
            return Err(format!("{what} must be specified as key=value pairs"));
        }
        out.insert(m.name.clone(), m.value.clone());
    }
    Ok(out)
}

/// RFC 3339, as Go takes and refuses it.
pub(super) fn instant(text: &str) -> Outcome<jiff::Timestamp> {
    text.parse::<jiff::Timestamp>().map_err(|_| {
        format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\"")
    })
}

fn quoted(pairs: &BTreeMap<String, String>) -> String {
    let words: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}=\"{v}\"")).collect();
    words.join(" ")
}

impl Tool {
    pub(super) async fn alerts(&self, query: &[(&str, &str)]) -> Outcome<Vec<GettableAlert>> {
        self.client.get(&Call { path: "/alerts", operation: "getAlerts" }, "alerts", query).await
    }

    #[allow(clippy::print_stdout)]
    pub(super) async fn query_alerts(&self, q: AlertQuery) -> Outcome {
        let is_any = q.inhibited || q.silenced || q.active || q.unprocessed;
        let flag = |on: bool| if on { "true" } else { "false" };
        let matchers = with_alertname(q.matchers);
        let mut query = vec![("active", flag(q.active || !is_any))];
        query.extend(matchers.iter().map(|m| ("filter", m.as_str())));
        query.push(("inhibited", flag(q.inhibited)));
        query.extend(q.receiver.iter().map(|r| ("receiver", r.as_str())));
        query.extend([("silenced", flag(q.silenced)), ("unprocessed", flag(q.unprocessed))]);
        let mut alerts = self.alerts(&query).await?;
        if self.output == Output::Json {
            print!("{}", json(&alerts)?);
            return Ok(());
        }
        alerts.sort_by(|a, b| a.starts_at.cmp(&b.starts_at));
        let is_simple = self.output == Output::Simple;
        let mut rows = vec![match is_simple {
            true => row(&["Alertname", "Starts At", "Summary", "State"]),
            false => row(&["Labels", "Annotations", "Starts At", "Ends At", "Generator URL", "State"]),
        }];
        let of = |map: &BTreeMap<String, String>, name: &str| map.get(name).cloned().unwrap_or_default();
        rows.extend(alerts.iter().map(|a| match is_simple {
            true => vec![
                of(&a.labels, "alertname"),
                self.date(&a.starts_at),
                of(&a.annotations, "summary"),
                a.status.state.clone(),
            ],
            false => vec![
                quoted(&a.labels),
                quoted(&a.annotations),
                self.date(&a.starts_at),
                self.date(&a.ends_at),
                a.generator_url.clone(),
                a.status.state.clone(),
            ],
        }));
        print!("{}", table(&rows));
        Ok(())
    }

    pub(super) async fn add_alert(&self, a: AlertAdd) -> Outcome {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Posted {
            labels: BTreeMap<String, String>,
            annotations: BTreeMap<String, String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            starts_at: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            ends_at: Option<String>,
            #[serde(rename = "generatorURL", skip_serializing_if = "Option::is_none")]
            generator_url: Option<String>,
        }
        let time = |t: &Option<String>| t.as_deref().map(instant).transpose().map(|t| t.map(|t| t.to_string()));
        let posted = Posted {
            labels: pairs(&with_alertname(a.labels), "labels")?,
            annotations: pairs(&a.annotation, "annotations")?,
            starts_at: time(&a.start)?,
            ends_at: time(&a.end)?,
            generator_url: a.generator_url,
        };
        self.client.post(&Call { path: "/alerts", operation: "postAlerts" }, "alerts", &[posted]).await.map(|_| ())
    }
}
