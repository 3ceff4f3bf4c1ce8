//! A rule group: its rules in order, evaluated at one time, their results written and their alerts sent.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ferula_instrument::Registry;
use ferula_model::{Clock, Labels, SeriesRef, Value as StoredValue, stale_nan};
use ferula_promql_parser::ParseOptions;
use ferula_storage::{AppendError, AppendOptions, Appendable, Appender, Durability, Queryable};
use ferula_template::functions::prometheus::table_link;
use ferula_template::{Templates, Value};

use crate::alert::Notify;
use crate::alerting::{AlertingRule, Evaluation};
use crate::file::{GroupConfig, RuleConfig, RuleConfigKind};
use crate::metrics::{GroupMetrics, Metrics};
use crate::previous::Previous;
use crate::query::{Number, RuleQuery, Sample};
use crate::shared::SharedQueries;
use crate::snapshot::{AlertingSnapshot, GroupSnapshot, Health, RuleSnapshot, Status};
use crate::{dependency, recording, text};

/// What all groups of a manager share.
pub struct Environment {
    pub query: Arc<dyn RuleQuery>,
    /// Read at restart, to restore the state of alerts.
    pub queryable: Arc<dyn Queryable>,
    pub appendable: Arc<dyn Appendable>,
    pub notify: Arc<dyn Notify>,
    pub clock: Arc<dyn Clock>,
    /// An alert that goes on firing is sent again after so long.
    pub resend_delay_ms: i64,
    /// State older than this is not restored.
    pub outage_tolerance_ms: i64,
    /// An alert restored from a longer hold fires at the earliest so long after the restart.
    pub for_grace_ms: i64,
    /// Feature gates of expressions, in rule files and in the `query` function of templates.
    pub parse_options: ParseOptions,
    /// Rules of one group that may be evaluated side by side when none depends on another; 1 is one by one.
    pub concurrent_rules: usize,
}

/// What the configuration file says for all groups; a change makes every group a new one, with its old state.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub interval_ms: i64,
    pub query_offset_ms: i64,
    pub external_labels: Labels,
    pub external_url: String,
}

/// One group and all its state.
pub struct Group {
    env: Arc<Environment>,
    query: Arc<dyn RuleQuery>,
    metrics: GroupMetrics,
    pub(crate) config: Arc<GroupConfig>,
    pub(crate) settings: Arc<Settings>,
    external_labels: Value,
    external_url: Value,
    interval_ms: i64,
    rules: Vec<Rule>,
    /// Rules that may run side by side, by index; in order.
    batches: Vec<Vec<usize>>,
    queries: SharedQueries,
    /// Series of rules that are gone, to be marked stale.
    stale: Vec<Labels>,
    shared: Arc<Shared>,
}

struct Rule {
    index: usize,
    alerting: Option<AlertingRule>,
    /// Series written last time, with their references.
    previous: Vec<(Labels, SeriesRef)>,
    names: recording::Names,
}

/// The part of a group that the API reads while it is evaluated.
pub(crate) struct Shared {
    pub config: Arc<GroupConfig>,
    pub interval_ms: i64,
    rules: Vec<Mutex<Status>>,
    group: Mutex<(f64, Option<i64>)>,
}

impl Group {
    /// A group of its own, outside any manager: for tests, and for whoever evaluates rules over past data. `restores`: as
    /// after a restart.
    pub fn alone(
        env: Arc<Environment>,
        settings: Settings,
        config: GroupConfig,
        registry: &Registry,
        restores: bool,
    ) -> Group {
        let templates = text::functions(&settings.external_url);
        let metrics = Metrics::new(registry).group(&config.key());
        Group::new(env, Arc::new(settings), &templates, Arc::new(config), metrics, restores)
    }

    /// A group without state. `restores`: alerts wait for [`restore`](Group::restore) before anything is written about them.
    pub(crate) fn new(
        env: Arc<Environment>,
        settings: Arc<Settings>,
        templates: &Templates,
        config: Arc<GroupConfig>,
        metrics: GroupMetrics,
        restores: bool,
    ) -> Group {
        let interval_ms = config.interval_ms.unwrap_or(settings.interval_ms).max(1);
        let rules: Vec<Rule> = config
            .rules
            .iter()
            .enumerate()
            .map(|(index, c)| Rule {
                index,
                alerting: AlertingRule::new(c, templates, !restores),
                previous: Vec::new(),
                names: recording::Names::default(),
            })
            .collect();
        let shared = Shared {
            config: config.clone(),
            interval_ms,
            rules: rules.iter().map(|_| Mutex::default()).collect(),
            group: Mutex::new((0.0, None)),
        };
        metrics.interval.set(interval_ms as f64 / 1000.0);
        metrics.rules.set(rules.len() as f64);
        Group {
            batches: match env.concurrent_rules {
                0 | 1 => (0..rules.len()).map(|i| vec![i]).collect(),
                _ => dependency::batches(&config.rules),
            },
            queries: SharedQueries::new(&config.rules),
            external_labels: text::label_map(settings.external_labels.clone()),
            external_url: Value::str(&settings.external_url),
            query: env.query.of_group(&config.file, &config.name).unwrap_or_else(|| Arc::clone(&env.query)),
            env,
            metrics,
            config,
            settings,
            interval_ms,
            rules,
            stale: Vec::new(),
            shared: Arc::new(shared),
        }
    }

    pub fn interval_ms(&self) -> i64 {
        self.interval_ms
    }
    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }
    pub(crate) fn metrics(&self) -> &GroupMetrics {
        &self.metrics
    }
    pub(crate) fn env(&self) -> &Arc<Environment> {
        &self.env
    }
    /// Whether the state of before a restart is still to be read.
    pub(crate) fn awaits_restoration(&self) -> bool {
        self.rules.iter().any(|r| r.alerting.as_ref().is_some_and(|a| !a.restored))
    }
    pub(crate) fn alerting_rules(&mut self) -> impl Iterator<Item = &mut AlertingRule> {
        self.rules.iter_mut().filter_map(|r| r.alerting.as_mut())
    }
    /// Annotations that the `i`-th alerting rule gives an alert of which only the labels are known.
    pub(crate) fn annotations_of(&self, i: usize, labels: &Labels, now_ms: i64) -> Labels {
        let rule = self.rules.iter().filter_map(|r| r.alerting.as_ref()).nth(i);
        rule.map_or_else(Labels::empty, |r| r.annotations_of(labels, &self.evaluation(now_ms)))
    }
    pub(crate) fn evaluation(&self, now_ms: i64) -> Evaluation<'_> {
        Evaluation {
            now_ms,
            offset_ms: self.config.query_offset_ms.unwrap_or(self.settings.query_offset_ms),
            limit: self.config.limit,
            query: &self.query,
            shared: &self.queries,
            parse_options: &self.env.parse_options,
            expansions: &self.metrics.all.expansions,
            expansion_failures: &self.metrics.all.expansion_failures,
            external_labels: &self.external_labels,
            external_url: &self.external_url,
        }
    }
    /// What the API shows.
    pub fn snapshot(&self) -> GroupSnapshot {
        self.shared.snapshot()
    }

    /// Evaluates every rule at `now_ms`.
    pub fn evaluate(&mut self, now_ms: i64) {
        let started = self.env.clock.monotonic();
        self.metrics.iterations.inc();
        self.queries.begin();
        let mut rules = std::mem::take(&mut self.rules);
        let mut samples = 0;
        let mut seconds = 0.0;
        let batches = std::mem::take(&mut self.batches);
        for batch in &batches {
            let (n, s) = self.batch(&mut rules, batch, now_ms);
            samples += n;
            seconds += s;
        }
        (self.rules, self.batches) = (rules, batches);
        self.metrics.samples.set(samples as f64);
        self.mark_stale(now_ms);
        let took = self.env.clock.monotonic().saturating_sub(started);
        self.metrics.all.group_duration.observe_duration(took);
        self.metrics.last_duration.set(took.as_secs_f64());
        self.metrics.last_rule_duration_sum.set(seconds);
        self.metrics.last_evaluation.set(now_ms as f64 / 1000.0);
        let mut group = self.shared.group.lock().unwrap_or_else(PoisonError::into_inner);
        *group = (took.as_secs_f64(), Some(self.env.clock.now_ms()));
    }

    /// Evaluates rules that do not depend on each other; answers their samples and the time they took together.
    fn batch(&self, rules: &mut [Rule], batch: &[usize], now_ms: i64) -> (usize, f64) {
        if let [one] = batch {
            return rules.get_mut(*one).map_or((0, 0.0), |r| self.rule(r, now_ms));
        }
        let mut chosen: Vec<&mut Rule> = rules.iter_mut().filter(|r| batch.binary_search(&r.index).is_ok()).collect();
        let width = self.env.concurrent_rules.min(chosen.len());
        if width <= 1 {
            return chosen.into_iter().map(|r| self.rule(r, now_ms)).fold((0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        }
        let share = chosen.len().div_ceil(width);
        std::thread::scope(|scope| {
            let threads: Vec<_> = chosen
                .chunks_mut(share)
                .map(|part| {
                    scope.spawn(move || {
                        part.iter_mut().map(|r| self.rule(r, now_ms)).fold((0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1))
                    })
                })
                .collect();
            // A thread that panicked has its rules keep the state they had.
            threads.into_iter().filter_map(|t| t.join().ok()).fold((0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1))
        })
    }

    fn rule(&self, rule: &mut Rule, now_ms: i64) -> (usize, f64) {
        let Some(config) = self.config.rules.get(rule.index) else { return (0, 0.0) };
        let started = self.env.clock.monotonic();
        let e = self.evaluation(now_ms);
        self.metrics.evaluations.inc();
        let result = e.result(rule.index).and_then(|result| match &mut rule.alerting {
            Some(alerting) => alerting.evaluate(result, &e),
            None => recording::evaluate(config, result, &e, &mut rule.names),
        });
        let mut count = 0;
        let error = match result {
            Err(error) => {
                self.failed(config, &error);
                Some(error)
            }
            Ok(samples) => {
                count = samples.len();
                self.send(rule, config, now_ms);
                let error = self.write(rule, config, samples, now_ms - e.offset_ms);
                self.queries.wrote(rule.index);
                error
            }
        };
        let took = self.env.clock.monotonic().saturating_sub(started);
        self.metrics.all.evaluation_duration.observe_duration(took);
        self.publish(rule, error, took);
        (count, took.as_secs_f64())
    }

    fn failed(&self, config: &RuleConfig, error: &str) {
        self.metrics.failures.inc();
        tracing::warn!(
            file = self.config.file,
            group = self.config.name,
            rule = config.name,
            error,
            "Evaluating rule failed"
        );
    }

    fn send(&self, rule: &mut Rule, config: &RuleConfig, now_ms: i64) {
        let Some(alerting) = &mut rule.alerting else { return };
        if alerting.active.is_empty() {
            return;
        }
        let url = format!("{}{}", self.settings.external_url.trim_end_matches('/'), table_link(&config.query));
        let alerts = alerting.due(now_ms, self.env.resend_delay_ms, self.interval_ms, &url);
        if !alerts.is_empty() {
            self.env.notify.notify(alerts);
        }
    }

    /// Writes a rule's result, and stale markers for series that are no longer in it. Answers what went wrong.
    fn write(&self, rule: &mut Rule, config: &RuleConfig, samples: Vec<Sample>, t_ms: i64) -> Option<String> {
        if samples.is_empty() && rule.previous.is_empty() {
            return None;
        }
        let mut appender = self.env.appendable.appender();
        let mut written = Vec::with_capacity(samples.len());
        let mut previous = Previous::of(&rule.previous);
        let (mut error, mut refused) = (None, 0u64);
        for sample in samples {
            let known = previous.reference(&sample.labels);
            let value = match &sample.value {
                Number::Float(f) => StoredValue::Float(*f),
                Number::Histogram(h) => StoredValue::FloatHistogram(h),
            };
            match append(appender.as_mut(), known, &sample.labels, t_ms, value) {
                Ok(series) => written.push((sample.labels, series)),
                Err(e) => {
                    refused += 1;
                    error = Some(e.to_string());
                }
            }
        }
        if let Some(error) = &error {
            tracing::warn!(
                group = self.config.name,
                rule = config.name,
                refused,
                error,
                "Rule evaluation result discarded"
            );
        }
        for (labels, series) in previous.not_in(&written) {
            // Refusals are expected here: another rule may have gone on writing the series.
            let _ = append(appender.as_mut(), *series, labels, t_ms, StoredValue::Float(stale_nan()));
        }
        match appender.commit(Durability::Written) {
            Ok(_) => rule.previous = written,
            Err(e) => {
                let e = e.to_string();
                self.failed(config, &e);
                error = Some(e);
            }
        }
        error
    }

    fn publish(&self, rule: &Rule, error: Option<String>, took: Duration) {
        let Some(slot) = self.shared.rules.get(rule.index) else { return };
        let mut status = slot.lock().unwrap_or_else(PoisonError::into_inner);
        status.health = if error.is_some() { Health::Bad } else { Health::Good };
        status.last_error = error;
        status.evaluation_seconds = took.as_secs_f64();
        status.last_evaluation_ms = Some(self.env.clock.now_ms());
        if let Some(alerting) = &rule.alerting {
            status.state = alerting.state();
            if !(alerting.active.is_empty() && status.alerts.is_empty()) {
                status.alerts = alerting.snapshot();
            }
        }
    }

    /// Marks series of rules that are gone as stale.
    fn mark_stale(&mut self, now_ms: i64) {
        if self.stale.is_empty() {
            return;
        }
        let t_ms = now_ms - self.evaluation(now_ms).offset_ms;
        let mut appender = self.env.appendable.appender();
        for labels in self.stale.drain(..) {
            let _ = append(appender.as_mut(), SeriesRef::NONE, &labels, t_ms, StoredValue::Float(stale_nan()));
        }
        if let Err(error) = appender.commit(Durability::Written) {
            tracing::warn!(group = self.config.name, %error, "Stale sample appending for previous configuration failed");
        }
    }

    /// Ends the group: everything it wrote becomes stale.
    pub(crate) fn retire(&mut self, now_ms: i64) {
        for rule in &mut self.rules {
            self.stale.extend(rule.previous.drain(..).map(|(l, _)| l));
        }
        self.mark_stale(now_ms);
    }

    /// Takes over the state of the group that had this one's name: that of rules with equal name and labels, in order.
    pub(crate) fn take_state(&mut self, old: Group) {
        let key = |c: &RuleConfig| (c.name.clone(), c.labels.clone(), matches!(c.kind, RuleConfigKind::Recording));
        let mut free: HashMap<_, Vec<Rule>> = HashMap::new();
        // Backwards, so that the first of equals is taken first.
        for rule in old.rules.into_iter().rev() {
            if let Some(config) = old.config.rules.get(rule.index) {
                free.entry(key(config)).or_default().push(rule);
            }
        }
        for (rule, config) in self.rules.iter_mut().zip(&self.config.rules) {
            let Some(from) = free.get_mut(&key(config)).and_then(Vec::pop) else { continue };
            if let (Some(was), Some(slot)) = (old.shared.rules.get(from.index), self.shared.rules.get(rule.index)) {
                let was = was.lock().unwrap_or_else(PoisonError::into_inner).clone();
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = was;
            }
            rule.previous = from.previous;
            if let (Some(alerting), Some(from)) = (&mut rule.alerting, from.alerting) {
                alerting.active = from.active;
                alerting.restored = from.restored;
            }
        }
        self.stale = old.stale;
        self.stale.extend(free.into_values().flatten().flat_map(|r| r.previous).map(|(l, _)| l));
        let old_group = *old.shared.group.lock().unwrap_or_else(PoisonError::into_inner);
        *self.shared.group.lock().unwrap_or_else(PoisonError::into_inner) = old_group;
    }
}

/// Appends by reference, or by labels when the store has forgotten the reference.
fn append(
    appender: &mut dyn Appender,
    series: SeriesRef,
    labels: &Labels,
    t_ms: i64,
    value: StoredValue<'_>,
) -> Result<SeriesRef, AppendError> {
    let options = AppendOptions { reject_out_of_order: true, ..AppendOptions::default() };
    match appender.append(series, Some(labels), 0, t_ms, value, &options) {
        Err(AppendError::UnknownSeries) => appender.append(SeriesRef::NONE, Some(labels), 0, t_ms, value, &options),
        other => other,
    }
}

impl Shared {
    pub fn snapshot(&self) -> GroupSnapshot {
        let (evaluation_seconds, last_evaluation_ms) = *self.group.lock().unwrap_or_else(PoisonError::into_inner);
        let rules = self.config.rules.iter().zip(&self.rules);
        GroupSnapshot {
            name: self.config.name.clone(),
            file: self.config.file.clone(),
            interval_ms: self.interval_ms,
            limit: self.config.limit,
            evaluation_seconds,
            last_evaluation_ms,
            rules: rules
                .map(|(config, status)| {
                    let status = status.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    rule_snapshot(config, status)
                })
                .collect(),
        }
    }
}

fn rule_snapshot(config: &RuleConfig, status: Status) -> RuleSnapshot {
    let alerting = match &config.kind {
        RuleConfigKind::Recording => None,
        RuleConfigKind::Alerting { hold_ms, keep_firing_ms, annotations } => Some(AlertingSnapshot {
            state: status.state,
            hold_ms: *hold_ms,
            keep_firing_ms: *keep_firing_ms,
            annotations: Labels::from_pairs(annotations.iter().map(|(n, v)| (n.as_str(), v.as_str()))),
            alerts: status.alerts,
        }),
    };
    RuleSnapshot {
        name: config.name.clone(),
        query: config.query.clone(),
        labels: config.labels.clone(),
        health: status.health,
        last_error: status.last_error,
        evaluation_seconds: status.evaluation_seconds,
        last_evaluation_ms: status.last_evaluation_ms,
        alerting,
    }
}
