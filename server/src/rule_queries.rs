//! Queries of rules: they go to the engine, and into the query log with the group that asked.
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferula_model::Clock;
use ferula_otlp::{Kind, Tracer};
use ferula_promql_engine::{Evaluation, Prepared, QueryError};
use ferula_promql_parser::Expr;
use ferula_promql_rules::{EngineQuery, RuleQuery, Sample};

use crate::api::result;
use crate::query_log::{Line, Origin, QueryLog};
use crate::query_metrics::Timings;

/// The engine as rules see it.
pub(crate) struct RuleQueries {
    engine: Arc<EngineQuery>,
    log: Arc<QueryLog>,
    clock: Arc<dyn Clock>,
    tracer: Tracer,
    file: String,
    group: String,
}

impl RuleQueries {
    pub fn new(engine: EngineQuery, log: Arc<QueryLog>, clock: Arc<dyn Clock>, tracer: Tracer) -> RuleQueries {
        RuleQueries { engine: Arc::new(engine), log, clock, tracer, file: String::new(), group: String::new() }
    }

    /// Asks the engine, as a span, and notes it in the log if that is on.
    fn logged(
        &self,
        expr: &Expr,
        t_ms: i64,
        ask: impl FnOnce(&EngineQuery) -> Result<Evaluation, QueryError>,
    ) -> Result<Vec<Sample>, String> {
        let mut span = self.tracer.start("rule", Kind::Internal, None);
        if span.is_recorded() {
            span.set("group", self.group.as_str());
            span.set("file", self.file.as_str());
            span.set("query", expr.to_string().as_str());
        }
        let began = Instant::now();
        let result = ask(&self.engine).map_err(|e| e.to_string());
        if let Err(e) = &result {
            span.fail(e);
        }
        drop(span);
        if self.log.is_on() {
            let timings = Timings { queued: Duration::ZERO, prepared: Duration::ZERO, evaluated: began.elapsed() };
            self.log.write(&Line {
                now_ms: self.clock.now_ms(),
                query: &expr.to_string(),
                start_ms: t_ms,
                end_ms: t_ms,
                step_ms: 0,
                error: result.as_ref().err().cloned(),
                stats: result.as_ref().ok().map(|e| result::stats(timings, &e.stats, false)),
                origin: Origin::RuleGroup { file: &self.file, name: &self.group },
            });
        }
        EngineQuery::samples(result?)
    }
}

impl RuleQuery for RuleQueries {
    fn instant(&self, expr: &Expr, t_ms: i64) -> Result<Vec<Sample>, String> {
        self.logged(expr, t_ms, |engine| engine.evaluate(expr, t_ms))
    }

    fn again(&self, prepared: &Prepared, t_ms: i64) -> Result<Vec<Sample>, String> {
        self.logged(prepared.expr(), t_ms, |engine| engine.evaluate_again(prepared, t_ms))
    }

    fn of_group(&self, file: &str, group: &str) -> Option<Arc<dyn RuleQuery>> {
        Some(Arc::new(RuleQueries {
            engine: Arc::clone(&self.engine),
            log: Arc::clone(&self.log),
            clock: Arc::clone(&self.clock),
            tracer: self.tracer.clone(),
            file: file.to_owned(),
            group: group.to_owned(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferula_instrument::Registry;
    use ferula_model::{Budget, SystemClock};
    use ferula_promql_engine::{Engine, EngineOptions};
    use ferula_promql_rules::{Environment, Group, NoNotify, Settings, file};
    use ferula_storage::CancelFlag;

    #[test]
    fn the_log_and_the_spans_name_the_group() {
        let dir = tempfile::tempdir().unwrap();
        let (registry, clock) = (Registry::new(), Arc::new(SystemClock));
        let options = ferula_tsdb::Options { background: false, ..Default::default() };
        let disk = Arc::new(ferula_fs::Disk);
        let db = ferula_tsdb::Db::open(&dir.path().join("data"), options, disk, clock.clone(), &registry).unwrap();
        let log = Arc::new(QueryLog::new(&registry));
        let (runtime, collector) = (tokio::runtime::Runtime::new().unwrap(), ferula_testkit::WebhookSink::start());
        let tracer = Tracer::new("prometheus", "0", clock.clone());
        {
            let _inside = runtime.enter();
            let endpoint = collector.addr().to_string();
            let client_type = ferula_otlp::ClientType::Http;
            let base = ferula_otlp::ExportOptions::default();
            let options =
                ferula_otlp::ExportOptions { client_type, endpoint, insecure: true, sampling_fraction: 1.0, ..base };
            tracer.configure(Some(&options)).unwrap();
        }
        let path = dir.path().join("query.log");
        let engine = EngineQuery {
            engine: Arc::new(Engine::new(EngineOptions::default())),
            queryable: db.clone(),
            timeout: Duration::from_secs(30),
            budget: Budget::unlimited(),
            cancel: CancelFlag::new(),
        };
        let env = Arc::new(Environment {
            query: Arc::new(RuleQueries::new(engine, log.clone(), clock.clone(), tracer.clone())),
            queryable: db.clone(),
            appendable: db,
            notify: Arc::new(NoNotify),
            clock,
            resend_delay_ms: 60_000,
            outage_tolerance_ms: 3_600_000,
            for_grace_ms: 600_000,
            parse_options: Default::default(),
            concurrent_rules: 1,
        });
        let settings = Settings {
            interval_ms: 15_000,
            query_offset_ms: 0,
            external_labels: ferula_model::Labels::empty(),
            external_url: "http://localhost:9090".into(),
        };
        let rules = "groups:\n- name: partners\n  rules:\n  - {record: a, expr: vector( 1 )}\n  - {record: b, expr: 'vector(1) + on () (vector(1) or label_replace(vector(1), \"b\", \"1\", \"\", \"\"))'}\n";
        let config = file::parse("/etc/rules.yml", rules).unwrap().remove(0);
        let mut group = Group::alone(env, settings, config, &registry, false);
        group.evaluate(1_500); // the log is off
        log.set(path.to_str().unwrap()).unwrap();
        group.evaluate(16_500);
        let text = std::fs::read_to_string(path).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        runtime.block_on(tracer.stop());
        let spans = ferula_testkit::spans(&collector.requests());
        assert_eq!(spans.len(), 4, "one per rule and evaluation");
        assert!(spans.iter().all(|s| s.name == "rule" && ferula_testkit::attribute(s, "group") == "partners"));
        for line in &lines {
            assert_eq!(line["ruleGroup"], serde_json::json!({"file": "/etc/rules.yml", "name": "partners"}));
            assert!(line["httpRequest"].is_null());
        }
        let at = "1970-01-01T00:00:16.500Z";
        let params = serde_json::json!({"start": at, "end": at, "query": "vector(1)", "step": 0});
        assert_eq!(lines[0]["params"], params);
        assert_eq!(lines[0]["stats"]["samples"]["samplesRead"], 0);
        assert!(lines[1]["error"].as_str().unwrap().contains("many-to-many"), "{}", lines[1]);
    }
}
