//! Alerting rules: which label sets are active, since when, and what is written and sent about them.
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use ferula_instrument::Counter;
use ferula_model::labels::{ALERT_NAME, METRIC_NAME};
use ferula_model::{Labels, LabelsBuilder};
use ferula_promql_parser::{ParseOptions, parse_expr_with};
use ferula_template::functions::prometheus::{Host, Sample as TemplateSample};
use ferula_template::{Functions, Templates, Value};

use crate::alert::{Active, Alert, AlertState, RESOLVED_RETENTION_MS};
use crate::file::{RuleConfig, RuleConfigKind};
use crate::query::{Number, RuleQuery, Sample};
use crate::shared::SharedQueries;
use crate::snapshot::AlertSnapshot;
use crate::text::{self, AlertText};

pub(crate) const ALERTS: &str = "ALERTS";
pub(crate) const ALERTS_FOR_STATE: &str = "ALERTS_FOR_STATE";
const ALERT_STATE: &str = "alertstate";

/// What one evaluation of any rule is given.
pub(crate) struct Evaluation<'a> {
    /// The evaluation's time; queries and results are `offset_ms` older.
    pub now_ms: i64,
    pub offset_ms: i64,
    pub limit: u64,
    pub query: &'a Arc<dyn RuleQuery>,
    pub shared: &'a SharedQueries,
    pub parse_options: &'a ParseOptions,
    pub expansions: &'a Counter,
    pub expansion_failures: &'a Counter,
    pub external_labels: &'a Value,
    pub external_url: &'a Value,
}

impl Evaluation<'_> {
    /// The result of the rule `index` of the group.
    pub fn result(&self, index: usize) -> Result<Vec<Sample>, String> {
        self.shared.instant(index, self.query.as_ref(), self.now_ms - self.offset_ms)
    }
}

#[derive(Debug)]
pub(crate) struct AlertingRule {
    name: String,
    labels: Vec<(String, AlertText)>,
    annotations: Vec<(String, AlertText)>,
    pub hold_ms: i64,
    pub keep_firing_ms: i64,
    pub active: HashMap<Labels, Active>,
    /// Until the state of before a restart is restored, nothing is written over it.
    pub restored: bool,
    /// A template failed last time: logged once, not at every evaluation.
    template_failed: bool,
}

impl AlertingRule {
    /// `None` for a recording rule.
    pub fn new(config: &RuleConfig, templates: &Templates, restored: bool) -> Option<AlertingRule> {
        let RuleConfigKind::Alerting { hold_ms, keep_firing_ms, annotations } = &config.kind else { return None };
        let compile = |text: &str| AlertText::new(&config.name, text, templates);
        Some(AlertingRule {
            name: config.name.clone(),
            labels: config.labels.iter().map(|(n, v)| (n.to_owned(), compile(v))).collect(),
            annotations: annotations.iter().map(|(n, v)| (n.clone(), compile(v))).collect(),
            hold_ms: *hold_ms,
            keep_firing_ms: *keep_firing_ms,
            active: HashMap::new(),
            restored,
            template_failed: false,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Labels of every alert of this rule that are known without a sample.
    pub fn plain_labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.labels.iter().filter_map(|(n, t)| match t {
            AlertText::Plain(v) if n != ALERT_NAME => Some((n.as_str(), v.as_str())),
            _ => None,
        })
    }

    /// Moves every alert on by one evaluation; answers the series to write.
    pub fn evaluate(&mut self, result: Vec<Sample>, e: &Evaluation<'_>) -> Result<Vec<Sample>, String> {
        let found = self.found(result, e)?;
        for (labels, alert) in &found {
            match self.active.get_mut(labels) {
                Some(known) if known.state != AlertState::Inactive => {
                    known.value = alert.value.clone();
                    known.annotations = alert.annotations.clone();
                }
                _ => {
                    self.active.insert(labels.clone(), alert.clone());
                }
            }
        }
        let (hold, keep) = (self.hold_ms, self.keep_firing_ms);
        self.active.retain(|labels, a| advance(a, found.contains_key(labels), hold, keep, e.now_ms));
        let live = self.active.values().filter(|a| a.state != AlertState::Inactive).count() as u64;
        if e.limit > 0 && live > e.limit {
            self.active.clear();
            return Err(format!("exceeded limit of {} with {live} alerts", e.limit));
        }
        Ok(if self.restored { self.series() } else { Vec::new() })
    }

    /// The alerts the expression finds now, by their final labels.
    fn found(&mut self, result: Vec<Sample>, e: &Evaluation<'_>) -> Result<HashMap<Labels, Active>, String> {
        let mut found = HashMap::with_capacity(result.len());
        let host = RuleHost { query: e.query.clone(), now_ms: e.now_ms, options: e.parse_options.clone() };
        let functions = if result.is_empty() { Functions::new() } else { text::evaluation(Arc::new(host)) };
        let mut failure = None;
        for sample in result {
            let value = match &sample.value {
                Number::Float(f) => Value::Float(*f),
                Number::Histogram(h) => Value::from(h.to_string()),
            };
            let mut b = LabelsBuilder::from_view(&sample.labels);
            let data = text::data(sample.labels, e.external_labels, e.external_url, value);
            let mut expand = |t: &AlertText| {
                let (text, failed) = t.expand(&data, &functions);
                e.expansions.inc();
                e.expansion_failures.inc_by(u64::from(failed.is_some()));
                failure = failure.take().or(failed);
                text
            };
            b.del(METRIC_NAME);
            for (name, t) in &self.labels {
                b.set(name, &expand(t));
            }
            b.set(ALERT_NAME, &self.name);
            let labels = b.labels();
            b.clear();
            for (name, t) in &self.annotations {
                b.set(name, &expand(t));
            }
            let alert = Active {
                state: AlertState::Pending,
                labels: labels.clone(),
                annotations: b.labels(),
                value: sample.value,
                active_at_ms: e.now_ms,
                fired_at_ms: None,
                resolved_at_ms: None,
                last_sent_ms: None,
                keep_firing_since_ms: None,
            };
            match found.entry(labels) {
                Entry::Vacant(v) => v.insert(alert),
                Entry::Occupied(_) => {
                    return Err("vector contains metrics with the same labelset after applying alert labels".into());
                }
            };
        }
        if let (Some(error), false) = (&failure, self.template_failed) {
            tracing::warn!(alert = self.name, error, "Expanding alert template failed");
        }
        self.template_failed = failure.is_some();
        Ok(found)
    }

    /// `ALERTS` and `ALERTS_FOR_STATE` of what is pending or firing.
    fn series(&self) -> Vec<Sample> {
        let mut out = Vec::with_capacity(2 * self.active.len());
        for a in self.active.values().filter(|a| a.state != AlertState::Inactive) {
            let mut b = LabelsBuilder::from_view(&a.labels);
            b.set(METRIC_NAME, ALERTS_FOR_STATE);
            // Seconds, as upstream writes and reads them.
            let since = Number::Float(a.active_at_ms.div_euclid(1000) as f64);
            out.push(Sample { labels: b.labels(), value: since });
            b.set(METRIC_NAME, ALERTS).set(ALERT_STATE, a.state.as_str());
            out.push(Sample { labels: b.labels(), value: Number::Float(1.0) });
        }
        out
    }

    /// Alerts whose state is to be sent now; marks them as sent.
    pub fn due(&mut self, now_ms: i64, resend_delay_ms: i64, interval_ms: i64, generator_url: &str) -> Vec<Alert> {
        let mut out = Vec::new();
        for a in self.active.values_mut().filter(|a| a.is_due(now_ms, resend_delay_ms)) {
            a.last_sent_ms = Some(now_ms);
            // Two evaluations or two deliveries may fail before it is taken for resolved.
            let valid_until = now_ms.saturating_add(resend_delay_ms.max(interval_ms).saturating_mul(4));
            out.push(Alert {
                labels: a.labels.clone(),
                annotations: a.annotations.clone(),
                starts_at_ms: a.fired_at_ms.unwrap_or(a.active_at_ms),
                ends_at_ms: a.resolved_at_ms.unwrap_or(valid_until),
                generator_url: generator_url.to_owned(),
            });
        }
        out
    }

    /// Annotations of an alert of which only the labels are known.
    pub fn annotations_of(&self, labels: &Labels, e: &Evaluation<'_>) -> Labels {
        let host = RuleHost { query: e.query.clone(), now_ms: e.now_ms, options: e.parse_options.clone() };
        let functions = text::evaluation(Arc::new(host));
        let data = text::data(labels.clone(), e.external_labels, e.external_url, Value::Float(f64::NAN));
        let mut b = LabelsBuilder::new();
        for (name, t) in &self.annotations {
            b.set(name, &t.expand(&data, &functions).0);
        }
        b.labels()
    }

    /// The rule's state: the furthest any of its alerts is.
    pub fn state(&self) -> AlertState {
        self.active.values().map(|a| a.state).max().unwrap_or(AlertState::Inactive)
    }

    /// Pending and firing alerts for the API, in label order.
    pub fn snapshot(&self) -> Arc<[AlertSnapshot]> {
        let mut out: Vec<AlertSnapshot> = self
            .active
            .values()
            .filter(|a| a.state != AlertState::Inactive)
            .map(|a| AlertSnapshot {
                labels: a.labels.clone(),
                annotations: a.annotations.clone(),
                state: a.state,
                active_at_ms: a.active_at_ms,
                keep_firing_since_ms: a.keep_firing_since_ms,
                value: match &a.value {
                    Number::Float(f) => ferula_model::number::format_e(*f),
                    Number::Histogram(h) => h.to_string(),
                },
            })
            .collect();
        out.sort_by(|a, b| a.labels.cmp(&b.labels));
        out.into()
    }
}

/// One evaluation in the life of one alert; `false` when it is to be forgotten.
fn advance(a: &mut Active, is_found: bool, hold_ms: i64, keep_firing_ms: i64, now_ms: i64) -> bool {
    if is_found {
        a.keep_firing_since_ms = None;
    } else {
        let mut keeps = false;
        if a.state == AlertState::Firing && keep_firing_ms > 0 {
            let since = *a.keep_firing_since_ms.get_or_insert(now_ms);
            keeps = now_ms - since < keep_firing_ms;
        }
        if !keeps {
            return match a.state {
                AlertState::Firing => {
                    a.state = AlertState::Inactive;
                    a.resolved_at_ms = Some(now_ms);
                    true
                }
                AlertState::Inactive => a.resolved_at_ms.is_some_and(|r| now_ms - r <= RESOLVED_RETENTION_MS),
                AlertState::Pending | AlertState::Unknown => false,
            };
        }
    }
    if a.state == AlertState::Pending && now_ms - a.active_at_ms >= hold_ms {
        a.state = AlertState::Firing;
        a.fired_at_ms = Some(now_ms);
    }
    true
}

/// What templates ask of the server.
struct RuleHost {
    query: Arc<dyn RuleQuery>,
    now_ms: i64,
    options: ParseOptions,
}

impl Host for RuleHost {
    fn query(&self, expr: &str) -> Result<Vec<TemplateSample>, String> {
        let parsed = parse_expr_with(expr, &self.options).map_err(|e| e.to_string())?;
        let samples = self.query.instant(&parsed, self.now_ms)?;
        Ok(samples
            .into_iter()
            .map(|s| TemplateSample {
                labels: s.labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
                value: match s.value {
                    Number::Float(f) => f,
                    Number::Histogram(_) => 0.0,
                },
            })
            .collect())
    }
    fn now_ms(&self) -> i64 {
        self.now_ms
    }
}
