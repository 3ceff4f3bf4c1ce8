//! The corpus's expressions from dashboards and rules all run: on no data, and on series made for their own selectors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::io::Read;

use ferula_model::{LabelsBuilder, MatchOp};
use ferula_promql_engine::test_language::{MemoryStore, test_engine, test_parse_options};
use ferula_promql_engine::{QueryError, QueryOptions, Value};
use ferula_promql_parser::{Expr, ValueType, parse_expr_with};
use ferula_storage::{AppendOptions, Appendable, Durability, QueryContext};

/// Series that the selectors of `expr` match, as far as their matchers say how they look.
fn series_for(expr: &Expr) -> MemoryStore {
    let store = MemoryStore::new();
    let mut appender = store.appender();
    for (n, selector) in expr.selectors().into_iter().enumerate() {
        for copy in 0..2 {
            let mut labels = LabelsBuilder::new();
            labels.set("instance", ["a", "b"][copy]).set("le", ["1", "+Inf"][copy]);
            for m in &selector.matchers {
                if m.op == MatchOp::Equal {
                    labels.set(&m.name, &m.value);
                } else if m.op == MatchOp::RegexMatch && !m.matches(labels.get(&m.name).unwrap_or("")) {
                    labels.set(&m.name, m.value.split(['|', '(', '.', '[']).next().unwrap_or(""));
                }
            }
            let labels = labels.labels();
            if labels.metric_name().is_empty() {
                continue;
            }
            for i in 0..20 {
                let value = ferula_model::Value::Float((i * (n as i64 + 1 + copy as i64)) as f64);
                let options = AppendOptions::default();
                appender.append(Default::default(), Some(&labels), 0, i * 30_000, value, &options).unwrap();
            }
        }
    }
    appender.commit(Durability::Written).unwrap();
    store
}

#[test]
fn all_run() {
    let Some(corpus) = std::env::var_os("FERULA_CORPUS") else {
        println!("SKIPPED real expressions: FERULA_CORPUS is not set");
        return;
    };
    let engine = test_engine();
    let (mut run, mut answered, mut refused) = (0, 0, 0);
    for name in ["realworld", "promqltest"] {
        let path = std::path::Path::new(&corpus).join("exprs").join(format!("{name}.jsonl.gz"));
        let mut text = String::new();
        let file = std::fs::File::open(&path).expect("the corpus has expressions");
        flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
        for line in text.lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let query = row["expr"].as_str().unwrap();
            let Ok(expr) = parse_expr_with(query, &test_parse_options()) else { continue };
            run += 1;
            for store in [MemoryStore::new(), series_for(&expr)] {
                let ctx = QueryContext::background();
                let options = QueryOptions { text: Some(query), ..QueryOptions::default() };
                let answer = match expr.value_type() {
                    ValueType::Scalar | ValueType::Vector => {
                        engine.range(&ctx, &store, &expr, 60_000, 600_000, 60_000, &options)
                    }
                    _ => engine.instant(&ctx, &store, &expr, 600_000, &options),
                };
                match answer {
                    Ok(a) => answered += usize::from(matches!(&a.value, Value::Matrix(m) if !m.is_empty())),
                    // Made-up series may clash; nothing else may go wrong.
                    Err(QueryError::Execution(_)) => refused += 1,
                    Err(other) => panic!("{query}: {other}"),
                }
            }
        }
    }
    println!("real expressions: {run} run, {answered} answered, {refused} refused their made-up series");
    assert!(run > 6_000);
}
