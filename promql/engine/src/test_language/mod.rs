//! The promqltest language: scripts that load series, evaluate queries, and say what must come out.
//!
//! ```text
//! load 1m
//!   up{job="a"} 1 1 0
//! eval instant at 2m sum(up)
//!   {} 0
//! ```
//!
//! Source followed: the language's description in Prometheus's promqltest package, old and new forms. Every instant
//! evaluation is also run as a range query around its time. The store comes from a factory, so that the same scripts
//! test any store.
mod compare;
mod memory;
mod nhcb;
mod script;

use std::sync::Arc;

use ferula_model::Value as Written;
use ferula_promql_parser::series_description::SequenceValue;
use ferula_promql_parser::{Expr, ParseOptions, ValueType, parse_expr_with};
use ferula_storage::{AppendOptions, Appendable, Durability, QueryContext, Queryable};

pub use memory::MemoryStore;
pub use script::ScriptError;
use script::{Command, Eval, Expected, LoadSeries, When};

use crate::{Engine, EngineOptions, QueryOptions, Value};

/// A store under test.
pub trait Store: Appendable + Queryable {}
impl<T: Appendable + Queryable> Store for T {}

/// Makes an empty store.
pub type StoreFactory<'f> = &'f dyn Fn() -> Arc<dyn Store>;

/// One evaluation and, if it failed, why.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub line: usize,
    pub expr: String,
    pub failure: Option<String>,
}

/// All gates open, as upstream's own runs of its scripts have them.
pub fn test_engine() -> Engine {
    Engine::new(EngineOptions {
        delayed_name_removal: true,
        type_and_unit_labels: true,
        start_timestamps: true,
        ..EngineOptions::default()
    })
}

pub fn test_parse_options() -> ParseOptions {
    ParseOptions {
        experimental_functions: true,
        extended_range_selectors: true,
        fill_modifiers: true,
        ..ParseOptions::default()
    }
}

/// Runs a script; an error means that the script itself cannot be read or its data not be loaded.
pub fn run(script: &str, engine: &Engine, factory: StoreFactory<'_>) -> Result<Vec<Outcome>, ScriptError> {
    let mut store = factory();
    let mut outcomes = Vec::new();
    for command in script::parse(script)? {
        match command {
            Command::Clear => store = factory(),
            Command::Load { line, step_ms, with_nhcb, mut series } => {
                if with_nhcb {
                    let converted = nhcb::convert(&series);
                    series.extend(converted);
                }
                load(&*store, step_ms, &series).map_err(|message| ScriptError { line, message })?;
            }
            Command::Eval(e) => {
                let failure = evaluate(&e, engine, &*store).err();
                outcomes.push(Outcome { line: e.line, expr: e.expr, failure });
            }
        }
    }
    Ok(outcomes)
}

/// Loads lines of `metric{labels} values`, `step_ms` apart from time 0 on, as in a `load` block.
pub fn load_block(store: &dyn Store, step_ms: i64, lines: &str) -> Result<(), ScriptError> {
    let block: Vec<(usize, &str)> = lines.lines().map(str::trim).enumerate().map(|(i, l)| (i + 1, l)).collect();
    let block: Vec<(usize, &str)> = block.into_iter().filter(|(_, l)| !l.is_empty()).collect();
    let series = script::load_block(&block)?;
    load(store, step_ms, &series).map_err(|message| ScriptError { line: 1, message })
}

/// Evaluates any text that parses, under tight limits, on a few series of every kind: what the fuzz target calls.
pub fn evaluate_anything(text: &str) {
    let options = ParseOptions { length_max: 4096, ..test_parse_options() };
    let Ok(expr) = parse_expr_with(text, &options) else { return };
    let store = MemoryStore::new();
    let loaded = load_block(
        &store,
        15_000,
        "c_total{i=\"0\", z=\"a\"} 0+7x20 3+5x10
         c_total{i=\"1\", z=\"b\"} 5 NaN stale Inf -Inf 0 1
         g{i=\"0\"} 5-1x30
         b_bucket{le=\"1\"} 0+1x30
         b_bucket{le=\"+Inf\"} 0+2x30
         h{i=\"0\"} {{schema:0 count:3 sum:5 buckets:[1 2]}}+{{schema:0 count:3 sum:5 buckets:[1 2]}}x20
         mix{i=\"0\"} 1 2 {{schema:1 count:3 sum:5 buckets:[1 2]}} {{schema:-53 count:3 sum:5 custom_values:[1] buckets:[1 2]}} 4",
    );
    debug_assert!(loaded.is_ok());
    let budget = ferula_model::Budget::root("fuzz", 64 << 20);
    let ctx = QueryContext::new(Some(std::time::Duration::from_secs(2)), budget);
    let engine = Engine::new(EngineOptions { samples_max: 100_000, ..test_engine().options().clone() });
    let options = QueryOptions { text: Some(text), per_step_stats: true, ..QueryOptions::default() };
    let _ = engine.instant(&ctx, &store, &expr, 200_000, &options);
    let _ = engine.range(&ctx, &store, &expr, 0, 400_000, 17_000, &options);
}

fn load(store: &dyn Store, step_ms: i64, series: &[LoadSeries]) -> Result<(), String> {
    // In time order over all series: a store need not accept anything older than its newest sample.
    let mut samples: Vec<(i64, i64, usize, &SequenceValue)> = Vec::new();
    for (i, s) in series.iter().enumerate() {
        for (n, v) in s.values.iter().enumerate() {
            let t = step_ms * n as i64;
            let start = s.start_offsets.get(n).copied().flatten().map_or(0, |o| t + o);
            samples.push((t, start, i, v));
        }
    }
    samples.sort_by_key(|(t, ..)| *t);
    let mut appender = store.appender();
    for (t, start, i, v) in samples {
        let value = match v {
            SequenceValue::Omitted => continue,
            SequenceValue::Float(v) => Written::Float(*v),
            SequenceValue::Histogram { histogram, .. } => Written::FloatHistogram(histogram),
        };
        appender
            .append(Default::default(), Some(&series[i].labels), start, t, value, &AppendOptions::default())
            .map_err(|e| format!("append {}: {e}", series[i].labels))?;
    }
    appender.commit(Durability::Written).map_err(|e| e.to_string())?;
    Ok(())
}

fn evaluate(e: &Eval, engine: &Engine, store: &dyn Store) -> Result<(), String> {
    let expr = match parse_expr_with(&e.expr, &test_parse_options()) {
        Ok(expr) => expr,
        Err(error) => return e.check_failure(&error.to_string()),
    };
    let ctx = QueryContext::background();
    let options = QueryOptions { text: Some(&e.expr), ..QueryOptions::default() };
    let result = match e.when {
        When::Instant(t) => engine.instant(&ctx, store, &expr, e.range_vector.map_or(t, |r| r.1), &options),
        When::Range(start, end, step) => engine.range(&ctx, store, &expr, start, end, step, &options),
    };
    let answer = match result {
        Ok(answer) => answer,
        Err(error) => return e.check_failure(&error.to_string()),
    };
    if e.fails.is_some() {
        return Err("expected failure, query succeeded".to_owned());
    }
    e.check_annotations(&answer.annotations)?;
    compare::value(e, &answer.value)?;
    match e.when {
        When::Instant(t) if e.range_vector.is_none() => around(e, engine, store, &expr, t),
        _ => Ok(()),
    }
}

/// An instant query must answer what a range query around it answers at that step.
fn around(e: &Eval, engine: &Engine, store: &dyn Store, expr: &Expr, t: i64) -> Result<(), String> {
    let mut depends_on_range = !matches!(expr.value_type(), ValueType::Scalar | ValueType::Vector);
    expr.visit(|e| {
        depends_on_range |= matches!(e, Expr::Call(c) if matches!(c.func.name, "start" | "end" | "range" | "step"));
    });
    if depends_on_range || ["step()", "range()", "start()", "end()"].iter().any(|f| e.expr.contains(f)) {
        return Ok(());
    }
    let ctx = QueryContext::background();
    let options = QueryOptions { text: Some(&e.expr), ..QueryOptions::default() };
    let answer = engine
        .range(&ctx, store, expr, t - 60_000, t + 60_000, 60_000, &options)
        .map_err(|error| format!("as a range query: {error}"))?;
    if e.ordered {
        return Ok(());
    }
    let Value::Matrix(series) = answer.value else { return Err("a range query must give a matrix".to_owned()) };
    let at_t = compare::column(&series, t);
    let result = match e.expected {
        Expected::Scalar(want) => match at_t.as_slice() {
            [s] => compare::scalar(want, &s.value),
            other => Err(format!("{} series for a scalar", other.len())),
        },
        _ => compare::vector(e, &at_t),
    };
    result.map_err(|m| format!("as a range query: {m}"))
}
