//! A range query answers at every step what an instant query answers at that time, bit by bit, for generated expressions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::collections::BTreeMap;

use ferula_promql_engine::test_language::{MemoryStore, test_engine, test_parse_options};
use ferula_promql_engine::{Engine, EngineOptions, QueryOptions, SampleValue, Value};
use ferula_promql_parser::{Expr, parse_expr_with};
use ferula_storage::QueryContext;

/// Bits of every sample by labels and time; NaNs are one.
type Answer = BTreeMap<(String, i64), String>;

fn text(v: &SampleValue) -> String {
    match v {
        SampleValue::Float(v) if v.is_nan() => "NaN".to_owned(),
        SampleValue::Float(v) => format!("{:016x}", v.to_bits()),
        SampleValue::Histogram(h) => format!("{h} {}", h.schema),
    }
}

fn at_once(engine: &Engine, store: &MemoryStore, expr: &Expr, times: &[i64]) -> Result<Answer, String> {
    let (start, end, step) = (times[0], times[times.len() - 1], times[1] - times[0]);
    let ctx = QueryContext::background();
    let answer =
        engine.range(&ctx, store, expr, start, end, step, &QueryOptions::default()).map_err(|e| e.to_string())?;
    let Value::Matrix(series) = answer.value else { panic!("not a matrix") };
    let mut out = Answer::new();
    for s in series {
        let floats = s.floats.iter().map(|(t, v)| (*t, SampleValue::Float(*v)));
        let histograms = s.histograms.iter().map(|(t, h)| (*t, SampleValue::Histogram(h.clone())));
        for (t, v) in floats.chain(histograms) {
            let twice = out.insert((s.labels.to_string(), t), text(&v));
            assert!(twice.is_none(), "two values of {} at {t}", s.labels);
        }
    }
    Ok(out)
}

fn one_by_one(engine: &Engine, store: &MemoryStore, expr: &Expr, times: &[i64]) -> Result<Answer, String> {
    let mut out = Answer::new();
    for t in times {
        let ctx = QueryContext::background();
        let answer = engine.instant(&ctx, store, expr, *t, &QueryOptions::default()).map_err(|e| e.to_string())?;
        let Value::Vector(samples) = answer.value else { panic!("not a vector") };
        for s in samples {
            out.insert((s.labels.to_string(), *t), text(&s.value));
        }
    }
    Ok(out)
}

#[test]
fn range_is_instants() {
    let store = support::store();
    let times: Vec<i64> = (0..25).map(|i| 60_000 + i * 61_000).collect();
    let plain = Engine::new(EngineOptions::default());
    let (mut answered, mut refused) = (0, 0);
    for seed in 0..500u64 {
        let query = support::expression(seed);
        let Ok(expr) = parse_expr_with(&query, &test_parse_options()) else { continue };
        for engine in [&plain, &test_engine()] {
            let (range, instants) = (at_once(engine, &store, &expr, &times), one_by_one(engine, &store, &expr, &times));
            match (range, instants) {
                (Ok(r), Ok(i)) => {
                    assert_eq!(r, i, "seed {seed}: {query}");
                    answered += usize::from(!r.is_empty());
                }
                // Which of several errors comes first is not defined, and series that clash at different times
                // clash only in a range.
                (Err(_), _) => refused += 1,
                (Ok(_), Err(e)) => panic!("seed {seed}: {query}: only the instant queries fail: {e}"),
            }
        }
    }
    println!("range is instants: {answered} answered, {refused} refused");
    assert!(answered > 300);
}
