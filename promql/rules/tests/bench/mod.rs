//! A store in memory, an engine, a clock and a recorder of what is sent.
#![allow(dead_code)]
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ferula_instrument::Registry;
use ferula_model::{Budget, Labels, ManualClock, SeriesRef, Value};
use ferula_promql_engine::test_language::MemoryStore;
use ferula_promql_engine::{Engine, EngineOptions};
use ferula_promql_parser::series_description::parse_metric;
use ferula_promql_rules::{
    Alert, EngineQuery, Environment, Group, GroupConfig, Notify, Number, RuleQuery, Settings, file,
};
use ferula_storage::{AppendOptions, Appendable, CancelFlag, Durability};

pub struct Bench {
    pub store: Arc<MemoryStore>,
    pub query: Arc<EngineQuery>,
    pub sink: Arc<Sink>,
    pub registry: Registry,
}

#[derive(Default)]
pub struct Sink(Mutex<Vec<Alert>>);

impl Notify for Sink {
    fn notify(&self, alerts: Vec<Alert>) {
        self.0.lock().unwrap().extend(alerts);
    }
}

pub fn settings() -> Settings {
    Settings {
        interval_ms: 60_000,
        query_offset_ms: 0,
        external_labels: Labels::from_pairs([("dc", "eu")]),
        external_url: "http://p:9090/x".into(),
    }
}

impl Bench {
    pub fn new() -> Bench {
        let store = Arc::new(MemoryStore::new());
        let query = EngineQuery {
            engine: Arc::new(Engine::new(EngineOptions::default())),
            queryable: store.clone(),
            timeout: Duration::from_secs(30),
            budget: Budget::unlimited(),
            cancel: CancelFlag::new(),
        };
        Bench { store, query: Arc::new(query), sink: Arc::default(), registry: Registry::new() }
    }
    pub fn environment(&self, concurrent_rules: usize) -> Environment {
        Environment {
            query: self.query.clone(),
            queryable: self.store.clone(),
            appendable: self.store.clone(),
            notify: self.sink.clone(),
            clock: Arc::new(ManualClock::at(0)),
            resend_delay_ms: 60_000,
            outage_tolerance_ms: 3_600_000,
            for_grace_ms: 600_000,
            parse_options: Default::default(),
            concurrent_rules,
        }
    }
    pub fn put(&self, metric: &str, t_ms: i64, v: f64) -> &Bench {
        let labels = parse_metric(metric).unwrap();
        let mut a = self.store.appender();
        a.append(SeriesRef::NONE, Some(&labels), 0, t_ms, Value::Float(v), &AppendOptions::default()).unwrap();
        a.commit(Durability::Written).unwrap();
        self
    }
    pub fn config(&self, group: &str, rules: &str) -> GroupConfig {
        let indent = |s: &str| s.lines().map(|l| format!("  {l}\n")).collect::<String>();
        let text = format!("groups:\n- name: g\n{}  rules:\n{}", indent(group), indent(rules));
        file::parse("f.yml", &text).unwrap_or_else(|e| panic!("{e:?}\n{text}")).remove(0)
    }
    pub fn group(&self, rules: &str) -> Group {
        self.group_with("", rules)
    }
    pub fn group_with(&self, group: &str, rules: &str) -> Group {
        Group::alone(Arc::new(self.environment(1)), settings(), self.config(group, rules), &self.registry, false)
    }
    pub fn restarted(&self, rules: &str) -> Group {
        Group::alone(Arc::new(self.environment(1)), settings(), self.config("", rules), &self.registry, true)
    }
    pub fn concurrent(&self, rules: &str, n: usize) -> Group {
        Group::alone(Arc::new(self.environment(n)), settings(), self.config("", rules), &self.registry, false)
    }
    pub fn count_queries(&self) -> Arc<Mutex<Vec<String>>> {
        Arc::default()
    }
    pub fn counting(&self, rules: &str, asked: Arc<Mutex<Vec<String>>>) -> Group {
        let query = Counting { inner: self.query.clone(), asked };
        let env = Environment { query: Arc::new(query), ..self.environment(1) };
        Group::alone(Arc::new(env), settings(), self.config("", rules), &self.registry, false)
    }
    /// `labels value` of an instant query, sorted.
    pub fn vector(&self, expr: &str, t_ms: i64) -> Vec<String> {
        let expr = ferula_promql_parser::parse_expr(expr).unwrap();
        let mut out: Vec<String> = self
            .query
            .instant(&expr, t_ms)
            .unwrap()
            .into_iter()
            .map(|s| match s.value {
                Number::Float(f) => format!("{} {f}", s.labels),
                Number::Histogram(h) => format!("{} {h}", s.labels),
            })
            .collect();
        out.sort();
        out
    }
    /// `state labels since t` of all active alerts.
    pub fn alerts(&self, g: &Group) -> Vec<String> {
        let rules = g.snapshot().rules;
        rules
            .iter()
            .filter_map(|r| r.alerting.as_ref())
            .flat_map(|a| a.alerts.iter())
            .map(|a| format!("{} {} since {}", a.state.as_str(), a.labels, a.active_at_ms))
            .collect()
    }
    /// What was sent since the last call.
    pub fn sent(&self) -> Vec<Alert> {
        std::mem::take(&mut self.sink.0.lock().unwrap())
    }
    /// The sum of a metric over its labels.
    pub fn metric(&self, name: &str) -> f64 {
        let mut text = Vec::new();
        ferula_exposition_text(&self.registry, &mut text);
        let text = String::from_utf8(text).unwrap();
        text.lines().filter(|l| l.starts_with(name)).filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

fn ferula_exposition_text(registry: &Registry, out: &mut Vec<u8>) {
    ferula_exposition::write::text(&registry.gather(), out);
}

struct Counting {
    inner: Arc<EngineQuery>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl RuleQuery for Counting {
    fn instant(
        &self,
        expr: &ferula_promql_parser::Expr,
        t_ms: i64,
    ) -> Result<Vec<ferula_promql_rules::Sample>, String> {
        self.asked.lock().unwrap().push(expr.to_string());
        self.inner.instant(expr, t_ms)
    }
}
