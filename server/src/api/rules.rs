//! Rules and alerts.
use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use ferula_model::labels::quoted;
use ferula_model::{LabelView as _, Labels, Matcher};
use ferula_net::listen::Params;
use ferula_promql_rules::{AlertSnapshot, GroupSnapshot, RuleSnapshot};

use super::answer::{Answer, ApiError};
use super::json::Json;
use super::targets::{fits, time_text};
use super::{Form, HandlerResult, matcher_sets, time};
use crate::app::App;
use crate::notifier::rfc3339;

pub(super) async fn alerts(State(app): State<Arc<App>>) -> HandlerResult {
    let components = app.components()?;
    let mut j = Json::new();
    let mut first = true;
    j.raw("{\"alerts\":[");
    for group in components.rules.snapshot() {
        for alert in group.rules.iter().filter_map(|r| r.alerting.as_ref()).flat_map(|a| a.alerts.iter()) {
            alert_json(j.separate(&mut first), alert);
        }
    }
    j.raw("]}");
    Ok(Answer::json(j.into_bytes()))
}

fn alert_json(j: &mut Json, a: &AlertSnapshot) {
    j.raw("{\"labels\":").labels(&a.labels).raw(",\"annotations\":").labels(&a.annotations);
    j.raw(",\"state\":").string(a.state.as_str()).raw(",\"activeAt\":").string(&rfc3339(a.active_at_ms));
    if let Some(since) = a.keep_firing_since_ms {
        j.raw(",\"keepFiringSince\":").string(&rfc3339(since));
    }
    j.raw(",\"value\":").string(&a.value).raw("}");
}

/// What of the rules is asked for.
struct Filter {
    recording: bool,
    alerting: bool,
    names: BTreeSet<String>,
    groups: BTreeSet<String>,
    files: BTreeSet<String>,
    matchers: Vec<Vec<Matcher>>,
    exclude_alerts: bool,
    group_limit: usize,
    group_next_token: String,
}

impl Filter {
    fn read(params: &Params) -> Result<Filter, ApiError> {
        let kind = params.get("type").to_lowercase();
        if !matches!(kind.as_str(), "" | "alert" | "record") {
            return Err(ApiError::parameter("type", format_args!("not supported value {}", quoted(&kind))));
        }
        let exclude_alerts = match params.get("exclude_alerts") {
            "" => false,
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            other => {
                let why = format!("strconv.ParseBool: parsing {}: invalid syntax", quoted(other));
                let why = format!("error converting exclude_alerts: {why}");
                return Err(ApiError::parameter("exclude_alerts", why));
            }
        };
        let group_limit = match params.get("group_limit") {
            "" => 0,
            text => match time::atoi(text) {
                Ok(n) if n > 0 => usize::try_from(n).unwrap_or(usize::MAX),
                Ok(_) => return Err(ApiError::parameter("group_limit", "group_limit needs to be greater than 0")),
                Err(e) => {
                    let why = format!("group_limit needs to be a valid number: {}", e.replace("Atoi", "ParseInt"));
                    return Err(ApiError::parameter("group_limit", why));
                }
            },
        };
        let group_next_token = params.get("group_next_token").to_owned();
        if !group_next_token.is_empty() && group_limit == 0 {
            let why = "group_limit needs to be present in order to paginate over the groups";
            return Err(ApiError::parameter("group_next_token", why));
        }
        let set = |name: &str| params.all(name).map(str::to_owned).collect();
        Ok(Filter {
            recording: kind != "alert",
            alerting: kind != "record",
            names: set("rule_name[]"),
            groups: set("rule_group[]"),
            files: set("file[]"),
            matchers: matcher_sets(params).map_err(ApiError::bad_data)?,
            exclude_alerts,
            group_limit,
            group_next_token,
        })
    }

    fn takes_group(&self, g: &GroupSnapshot) -> bool {
        (self.groups.is_empty() || self.groups.contains(&g.name))
            && (self.files.is_empty() || self.files.contains(&g.file))
    }
    fn takes_rule(&self, r: &RuleSnapshot) -> bool {
        (if r.alerting.is_some() { self.alerting } else { self.recording })
            && (self.names.is_empty() || self.names.contains(&r.name))
            && (self.matchers.is_empty() || self.matchers.iter().any(|set| fits(&r.labels, set)))
    }
}

/// Names a group in paging. Opaque to clients; the same after a restart.
fn token(g: &GroupSnapshot) -> String {
    format!("{:016x}", Labels::from_pairs([("file", &g.file), ("group", &g.name)]).stable_hash())
}

pub(super) async fn rules(State(app): State<Arc<App>>, Form(params): Form) -> HandlerResult {
    let components = app.components()?;
    let filter = Filter::read(&params)?;
    let mut groups = components.rules.snapshot();
    groups.retain(|g| filter.takes_group(g));
    if !filter.group_next_token.is_empty() {
        let Some(at) = groups.iter().position(|g| token(g) == filter.group_next_token) else {
            let why = format!("invalid group_next_token '{}'. were rule groups changed?", filter.group_next_token);
            return Err(ApiError::parameter("group_next_token", why).into());
        };
        groups.drain(..at);
    }
    let mut j = Json::new();
    let (mut first, mut shown, mut next) = (true, 0, None);
    j.raw("{\"groups\":[");
    for group in &groups {
        let rules: Vec<&RuleSnapshot> = group.rules.iter().filter(|r| filter.takes_rule(r)).collect();
        if rules.is_empty() {
            continue;
        }
        if filter.group_limit > 0 && shown == filter.group_limit {
            next = Some(token(group));
            break;
        }
        shown += 1;
        group_json(j.separate(&mut first), group, &rules, filter.exclude_alerts);
    }
    j.raw("]");
    if let Some(next) = next {
        j.raw(",\"groupNextToken\":").string(&next);
    }
    j.raw("}");
    Ok(Answer::json(j.into_bytes()))
}

fn group_json(j: &mut Json, g: &GroupSnapshot, rules: &[&RuleSnapshot], exclude_alerts: bool) {
    let mut first = true;
    j.raw("{\"name\":").string(&g.name).raw(",\"file\":").string(&g.file).raw(",\"rules\":[");
    for rule in rules {
        rule_json(j.separate(&mut first), rule, exclude_alerts);
    }
    j.raw("],\"interval\":").raw(&seconds(g.interval_ms)).raw(",\"limit\":").integer(g.limit);
    j.raw(",\"evaluationTime\":").raw(&g.evaluation_seconds.to_string());
    j.raw(",\"lastEvaluation\":").string(&time_text(g.last_evaluation_ms)).raw("}");
}

fn rule_json(j: &mut Json, r: &RuleSnapshot, exclude_alerts: bool) {
    let kind = if r.alerting.is_some() { "alerting" } else { "recording" };
    j.raw("{");
    if let Some(a) = &r.alerting {
        j.raw("\"state\":").string(a.state.as_str()).raw(",");
    }
    j.raw("\"name\":").string(&r.name).raw(",\"query\":").string(&r.query);
    if let Some(a) = &r.alerting {
        j.raw(",\"duration\":").raw(&seconds(a.hold_ms)).raw(",\"keepFiringFor\":").raw(&seconds(a.keep_firing_ms));
    }
    j.raw(",\"labels\":").labels(&r.labels);
    if let Some(a) = &r.alerting {
        j.raw(",\"annotations\":").labels(&a.annotations).raw(",\"alerts\":");
        if exclude_alerts {
            j.raw("null");
        } else {
            let mut first = true;
            j.raw("[");
            for alert in a.alerts.iter() {
                alert_json(j.separate(&mut first), alert);
            }
            j.raw("]");
        }
    }
    j.raw(",\"health\":").string(r.health.as_str());
    if let Some(e) = &r.last_error {
        j.raw(",\"lastError\":").string(e);
    }
    j.raw(",\"evaluationTime\":").raw(&r.evaluation_seconds.to_string());
    j.raw(",\"lastEvaluation\":").string(&time_text(r.last_evaluation_ms)).raw(",\"type\":").string(kind).raw("}");
}

fn seconds(ms: i64) -> String {
    (ms as f64 / 1000.0).to_string()
}
