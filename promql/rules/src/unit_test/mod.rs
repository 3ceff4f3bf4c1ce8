//! Rule unit tests: upstream's file format (`promtool test rules`), its semantics, and its report.
//!
//! Source followed: "Unit testing for rules" of Prometheus's documentation. The store comes from a factory, so that the
//! same tests run on any store.
mod compare;
mod difference;
mod files;
mod yaml;

use std::collections::HashSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ferula_instrument::Registry;
use ferula_model::{Budget, Clock, Labels, ManualClock, SeriesRef, Value};
use ferula_promql_engine::test_language::{Store, StoreFactory};
use ferula_promql_engine::{Engine, EngineOptions, Value as Answer};
use ferula_promql_parser::series_description::{self, SequenceValue, SeriesDescription};
use ferula_promql_parser::{ParseOptions, parse_expr_with};
use ferula_storage::{AppendOptions, Appendable, CancelFlag, Durability, Queryable};

use crate::alert::NoNotify;
use crate::group::{Environment, Group, Settings};
use crate::query::{EngineQuery, Number, RuleQuery};
use crate::{AlertState, GroupConfig, file};
use compare::{GotAlert, GotSample};
use yaml::{FileYaml, TestYaml};

/// How tests are run.
#[derive(Clone, Debug, Default)]
pub struct UnitTestOptions {
    /// Feature gates of expressions.
    pub parse: ParseOptions,
    /// Run only tests whose name this says yes to; empty runs all. The expressions are regular, unanchored.
    pub only: Vec<String>,
    /// Show alerts that differ as one coloured list.
    pub as_difference: bool,
    /// Say what is run, and what the store held at the end.
    pub debug: bool,
}

/// The result of one file.
#[derive(Clone, Debug, Default)]
pub struct FileResult {
    pub file: PathBuf,
    pub tests: Vec<TestResult>,
    /// The file, or a rule file it names, cannot be used.
    pub errors: Vec<String>,
    /// What was said on the way, where that was asked for.
    pub debug: String,
}

/// The result of one test; no failures means success.
#[derive(Clone, Debug)]
pub struct TestResult {
    /// `unnamed#N` where the file gives none.
    pub name: String,
    pub failures: Vec<String>,
}

impl FileResult {
    pub fn is_success(&self) -> bool {
        self.errors.is_empty() && self.tests.iter().all(|t| t.failures.is_empty())
    }
    /// The report as promtool prints it: a success to standard output, a failure to standard error.
    pub fn report(&self) -> String {
        if self.is_success() {
            return "  SUCCESS\n".to_owned();
        }
        let mut out = "  FAILED:\n".to_owned();
        for failure in self.errors.iter().chain(self.tests.iter().flat_map(|t| &t.failures)) {
            out.push_str(failure);
            out.push('\n');
        }
        out
    }
}

/// Runs the tests of one file.
pub fn run(path: &Path, options: &UnitTestOptions, factory: StoreFactory<'_>) -> FileResult {
    let mut result = FileResult { file: path.to_owned(), ..FileResult::default() };
    if let Err(errors) = run_file(path, options, factory, &mut result) {
        result.errors = errors;
    }
    result
}

fn run_file(
    path: &Path,
    options: &UnitTestOptions,
    factory: StoreFactory<'_>,
    result: &mut FileResult,
) -> Result<(), Vec<String>> {
    let one = |e: String| vec![e];
    let text = std::fs::read_to_string(path).map_err(|e| one(format!("open {}: {e}", path.display())))?;
    let tests: FileYaml = ferula_yaml::from_str("", &text).map_err(|e| one(e.to_string()))?;
    let only: Result<Vec<_>, _> = options.only.iter().map(|p| ferula_regex::Regex::plain(p)).collect();
    let only = only.map_err(|e| one(e.to_string()))?;
    let dir = path.parent().unwrap_or(Path::new(""));
    let mut groups = Vec::new();
    let mut errors = Vec::new();
    for rule_file in files::resolve(dir, &tests.rule_files) {
        let text =
            std::fs::read_to_string(&rule_file).map_err(|e| one(format!("open {}: {e}", rule_file.display())))?;
        match file::parse_with(&rule_file.display().to_string(), &text, &options.parse) {
            Ok(mut g) => groups.append(&mut g),
            Err(e) => errors.extend(e.iter().map(ToString::to_string)),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let place = |g: &GroupConfig| tests.group_eval_order.iter().position(|n| *n == g.name);
    // Groups that the order does not name keep theirs, behind the named ones.
    groups.sort_by_key(|g| place(g).unwrap_or(usize::MAX));
    let step_ms = tests.evaluation_interval.map_or(60_000, |d| d.ms()).max(1);
    for (i, test) in tests.tests.iter().enumerate() {
        if !only.is_empty() && !only.iter().any(|r| r.is_match(&test.name)) {
            continue;
        }
        let name = if test.name.is_empty() { format!("unnamed#{i}") } else { test.name.clone() };
        let began = std::time::Instant::now();
        if options.debug {
            let _ = writeln!(result.debug, "DEBUG: Starting test {name}");
        }
        let failures = match Run::new(test, &groups, step_ms, tests.fuzzy_compare, options, factory) {
            Ok(mut run) => {
                let failures = run.all();
                if options.debug {
                    run.dump(&mut result.debug);
                }
                failures
            }
            Err(e) => vec![e],
        };
        if options.debug {
            let took = i64::try_from(began.elapsed().as_nanos()).unwrap_or(i64::MAX);
            let took = ferula_template::time::duration_text(took);
            let _ = writeln!(result.debug, "DEBUG: Test {name} finished, took {took}");
        }
        result.tests.push(TestResult { name, failures });
    }
    Ok(())
}

/// One test being run.
struct Run<'a> {
    test: &'a TestYaml,
    options: &'a UnitTestOptions,
    step_ms: i64,
    interval_ms: i64,
    start_ms: i64,
    fuzzy: bool,
    store: Arc<dyn Store>,
    query: Arc<EngineQuery>,
    series: Vec<(SeriesDescription, usize)>,
    groups: Vec<Group>,
}

impl<'a> Run<'a> {
    fn new(
        test: &'a TestYaml,
        groups: &[GroupConfig],
        step_ms: i64,
        fuzzy: bool,
        options: &'a UnitTestOptions,
        factory: StoreFactory<'_>,
    ) -> Result<Run<'a>, String> {
        let store = factory();
        let interval_ms = test.interval.map_or(step_ms, |d| d.ms()).max(1);
        let start_ms = test.start_ms()?;
        let mut series = Vec::with_capacity(test.input_series.len());
        for (i, s) in test.input_series.iter().enumerate() {
            let text = format!("{} {}", s.series, s.values);
            let parsed = series_description::parse(&text).map_err(|mut e| {
                // Upstream counts the lines of the script it makes of the series, which begins with a `load`.
                e.line = i + 2;
                e.to_string()
            })?;
            series.push((parsed, 0));
        }
        let queryable: Arc<dyn Queryable> = store.clone();
        let appendable: Arc<dyn Appendable> = store.clone();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(start_ms));
        let query = Arc::new(EngineQuery {
            engine: Arc::new(Engine::new(EngineOptions { subquery_step_ms: 60_000, ..EngineOptions::default() })),
            queryable: queryable.clone(),
            timeout: Duration::from_secs(120),
            budget: Budget::unlimited(),
            cancel: CancelFlag::new(),
        });
        let env = Arc::new(Environment {
            query: query.clone(),
            queryable,
            appendable,
            notify: Arc::new(NoNotify),
            clock,
            resend_delay_ms: 60_000,
            outage_tolerance_ms: 0,
            for_grace_ms: 0,
            parse_options: options.parse.clone(),
            concurrent_rules: 1,
        });
        let settings = Settings {
            interval_ms,
            query_offset_ms: 0,
            external_labels: Labels::from_pairs(test.external_labels.iter()),
            external_url: test.external_url.clone(),
        };
        let registry = Registry::new();
        let groups =
            groups.iter().map(|g| Group::alone(env.clone(), settings.clone(), g.clone(), &registry, false)).collect();
        Ok(Run { test, options, step_ms, interval_ms, start_ms, fuzzy, store, query, series, groups })
    }

    /// Evaluates the rules from the start to the last time a test asks for; answers all failures.
    fn all(&mut self) -> Vec<String> {
        let mut failures = Vec::new();
        let last_ms = self.test.last_eval_ms();
        let mut offset_ms = 0;
        while offset_ms <= last_ms {
            if let Err(e) = self.load_until(offset_ms) {
                failures.push(e);
                return failures;
            }
            let errors = self.evaluate(offset_ms);
            if !errors.is_empty() {
                failures.extend(errors);
                return failures;
            }
            failures.extend(self.alerts(offset_ms));
            offset_ms += self.step_ms;
        }
        let test = self.test;
        failures.extend(test.promql_expr_test.iter().filter_map(|t| self.expression(t).err()));
        failures
    }

    /// Appends the samples up to `offset_ms` after the start.
    fn load_until(&mut self, offset_ms: i64) -> Result<(), String> {
        let mut appender = self.store.appender();
        let until = usize::try_from(offset_ms / self.interval_ms).unwrap_or(0);
        for (series, next) in &mut self.series {
            for (i, value) in series.values.iter().enumerate().take(until + 1).skip(*next) {
                let t_ms = self.start_ms + self.interval_ms * i64::try_from(i).unwrap_or(i64::MAX);
                let value = match value {
                    SequenceValue::Omitted => continue,
                    SequenceValue::Float(f) => Value::Float(*f),
                    SequenceValue::Histogram { histogram, .. } => Value::FloatHistogram(histogram),
                };
                appender
                    .append(SeriesRef::NONE, Some(&series.labels), 0, t_ms, value, &AppendOptions::default())
                    .map_err(|e| format!("{}: {e}", series.labels))?;
            }
            *next = (*next).max(until + 1);
        }
        appender.commit(Durability::Written).map(|_| ()).map_err(|e| e.to_string())
    }

    fn evaluate(&mut self, offset_ms: i64) -> Vec<String> {
        let mut errors = Vec::new();
        for group in &mut self.groups {
            group.evaluate(self.start_ms + offset_ms);
            for rule in group.snapshot().rules {
                if let Some(error) = rule.last_error {
                    let time = compare::go_duration(offset_ms);
                    errors.push(format!("    rule: {}, time: {time}, err: {error}", rule.name));
                }
            }
        }
        errors
    }

    /// Compares the alerts that tests ask for between this evaluation and the next.
    fn alerts(&self, offset_ms: i64) -> Vec<String> {
        let mut due: Vec<_> = self
            .test
            .alert_rule_test
            .iter()
            .filter(|t| (offset_ms..offset_ms + self.step_ms).contains(&t.eval_time.ms()))
            .collect();
        due.sort_by_key(|t| t.eval_time);
        due.into_iter()
            .filter_map(|t| {
                let mut got: Vec<GotAlert> = Vec::new();
                for rule in self.groups.iter().flat_map(|g| g.snapshot().rules).filter(|r| r.name == t.alertname) {
                    let alerts = rule.alerting.into_iter().flat_map(|a| a.alerts.to_vec());
                    got.extend(
                        alerts
                            .filter(|a| a.state == AlertState::Firing)
                            .map(|a| GotAlert { labels: a.labels, annotations: a.annotations }),
                    );
                }
                compare::alerts(&self.test.name, t, got, self.options.as_difference).err()
            })
            .collect()
    }

    /// Everything the store holds at the last time that was asked for, and a second more.
    fn dump(&self, out: &mut String) {
        let range_ms = self.test.last_eval_ms() + 1_000;
        let range = compare::go_duration(range_ms);
        let _ = writeln!(out, "DEBUG: Dump of all data (input_series and rules) at {range}:");
        let expr = parse_expr_with(&format!("{{__name__=~\".+\"}}[{range_ms}ms]"), &self.options.parse);
        let all = expr.ok().and_then(|e| self.query.evaluate(&e, self.start_ms + range_ms).ok()).map(|e| e.value);
        let Some(Answer::Matrix(mut series)) = all else { return };
        series.sort_by(|a, b| a.labels.cmp(&b.labels));
        for s in &series {
            let _ = writeln!(out, "{} =>", s.labels);
            for (t_ms, v) in &s.floats {
                let _ = writeln!(out, "{} @[{t_ms}]", ferula_model::number::format_f(*v));
            }
            for (t_ms, h) in &s.histograms {
                let _ = writeln!(out, "{h} @[{t_ms}]");
            }
        }
    }

    fn expression(&self, t: &yaml::ExpressionYaml) -> Result<(), String> {
        let head = format!("    expr: {}, time: {}", ferula_model::labels::quoted(&t.expr), t.eval_time);
        let failed = |e: String| format!("{head}, err: {e}");
        let expr = parse_expr_with(&t.expr, &self.options.parse).map_err(|e| failed(e.to_string()))?;
        let got = self.query.instant(&expr, self.start_ms + t.eval_time.ms()).map_err(failed)?;
        let mut seen = HashSet::new();
        let mut got: Vec<GotSample> = got
            .into_iter()
            .filter(|s| seen.insert(s.labels.clone()))
            .map(|s| match s.value {
                Number::Float(value) => GotSample { labels: s.labels, value, histogram: String::new() },
                Number::Histogram(h) => GotSample { labels: s.labels, value: 0.0, histogram: h.test_expression() },
            })
            .collect();
        let mut expected = Vec::with_capacity(t.exp_samples.len());
        for s in &t.exp_samples {
            expected.push(
                compare::expected(s)
                    .map_err(|e| failed(format!("labels {}: {e}", ferula_model::labels::quoted(&s.labels))))?,
            );
        }
        compare::samples(&mut expected, &mut got, self.fuzzy)
            .map_err(|(exp, got)| format!("{head},\n        exp: {exp}\n        got: {got}"))
    }
}
