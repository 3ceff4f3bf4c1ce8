//! Whatever the engine does to be fast, the answer is the same: values bit by bit, order, annotations, sample counts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use ferula_promql_engine::test_language::{MemoryStore, load_block, test_engine, test_parse_options};
use ferula_promql_engine::{Engine, EngineOptions, QueryOptions, SampleValue, SeriesPoints, Value};
use ferula_promql_parser::parse_expr_with;
use ferula_storage::{QueryContext, Queryable};

fn line(s: &SeriesPoints) -> String {
    let floats: Vec<_> = s.floats.iter().map(|(t, v)| (*t, if v.is_nan() { 1 } else { v.to_bits() })).collect();
    format!("{} {floats:?} {:?}", s.labels, s.histograms)
}

/// All that a client could see of the answer.
fn seen(engine: &Engine, store: &dyn Queryable, text: &str, is_range: bool) -> String {
    let expr = parse_expr_with(text, &test_parse_options()).unwrap();
    let options = QueryOptions { text: Some(text), per_step_stats: true, ..QueryOptions::default() };
    let ctx = QueryContext::background();
    let answer = if is_range {
        engine.range(&ctx, store, &expr, 300_000, 1_200_000, 61_000, &options)
    } else {
        engine.instant(&ctx, store, &expr, 900_000, &options)
    };
    let answer = match answer {
        Ok(a) => a,
        // Which of several errors comes first is not defined.
        Err(_) => return "error".to_owned(),
    };
    let value = match answer.value {
        Value::Matrix(all) => all.iter().map(line).collect::<Vec<_>>().join("\n"),
        Value::Vector(all) => {
            let one = |v: &SampleValue| match v {
                SampleValue::Float(v) if v.is_nan() => "NaN".to_owned(),
                SampleValue::Float(v) => format!("{:x}", v.to_bits()),
                SampleValue::Histogram(h) => h.to_string(),
            };
            all.iter().map(|s| format!("{} {}", s.labels, one(&s.value))).collect::<Vec<_>>().join("\n")
        }
        other => format!("{other:?}"),
    };
    let mut seen = format!("{value}\n{:?}", answer.annotations);
    if !text.contains('@') {
        // What is pinned is read once, and counted so, as upstream does.
        seen.push_str(&format!("\n{} {:?}", answer.stats.total_queryable, answer.stats.per_step));
    }
    seen
}

fn engines() -> [(Engine, Engine); 2] {
    [EngineOptions::default(), test_engine().options().clone()].map(|o| {
        let plain = EngineOptions { optimises: false, spare_threads: 0, ..o.clone() };
        (Engine::new(EngineOptions { optimises: true, spare_threads: 3, ..o }), Engine::new(plain))
    })
}

#[test]
fn common_expressions() {
    let store = support::store();
    let engines = engines();
    let mut answered = 0;
    for seed in 0..400u64 {
        let one = support::expression(seed);
        let other = support::expression(seed / 7);
        for text in [
            format!("({one}) + on (i) group_left () ({other}) * on (i) group_left () ({one})"),
            format!("({one}) or ({one})"),
            format!("sum({one}) / (sum({one}) + count({one}))"),
        ] {
            if parse_expr_with(&text, &test_parse_options()).is_err() {
                continue;
            }
            for (fast, plain) in &engines {
                for is_range in [true, false] {
                    let (got, want) = (seen(fast, &*store, &text, is_range), seen(plain, &*store, &text, is_range));
                    assert_eq!(got, want, "seed {seed}: {text}");
                    answered += usize::from(!got.starts_with("error"));
                }
            }
        }
    }
    println!("optimised is plain: {answered} answers");
    assert!(answered > 1000);
}

#[test]
fn many_threads() {
    let store = MemoryStore::new();
    let mut lines = String::new();
    for i in 0..700 {
        let (start, step) = (i % 13, (i * 7) % 5 + 1);
        lines.push_str(&format!("c_total{{i=\"{i}\", z=\"{}\"}} {start}+{step}x60 {start}+0.3x60\n", i % 10));
        lines.push_str(&format!("g{{i=\"{i}\", z=\"{}\"}} {start}.1-0.{step}x100\n", i % 10));
        if i % 5 == 0 {
            lines.push_str(&format!("mix{{i=\"{i}\"}} 1 2 {{{{schema:1 count:3 sum:5 buckets:[1 2]}}}}x30 4x40\n"));
        }
    }
    load_block(&store, 15_000, &lines).unwrap();
    for (fast, plain) in &engines() {
        for text in [
            "sum(rate(c_total[5m]))",
            "sum by (z) (rate(c_total[2m]))",
            "avg by (z) (avg_over_time(g[4m]))",
            "rate(mix[5m])",
            "g",
            "sum by (z) (g) / count by (z) (g)",
            "topk(3, g)",
            "quantile_over_time(0.7, g[3m])",
            "stddev by (z) (deriv(g[5m]))",
            "changes(c_total[7m])",
            "max_over_time(sum by (z) (rate(c_total[3m]))[5m:1m])",
            "timestamp(g)",
            "{i=~\"1.*\"}",
            "rate({i=~\".+\"}[5m])",
        ] {
            for is_range in [true, false] {
                let want = seen(plain, &store, text, is_range);
                for _ in 0..3 {
                    assert_eq!(seen(fast, &store, text, is_range), want, "{text}");
                }
            }
        }
    }
}
