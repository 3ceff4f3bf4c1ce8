//! Hostile queries end with a clear error, in bounded time, memory and stack.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferula_model::{Budget, Labels, Value as Written};
use ferula_promql_engine::test_language::{MemoryStore, test_parse_options};
use ferula_promql_engine::{Engine, EngineOptions, Evaluation, QueryError, QueryOptions, Value};
use ferula_promql_parser::{Expr, ParseOptions, parse_expr_with};
use ferula_storage::{AppendOptions, Appendable, Durability, QueryContext};

fn store(series: usize, samples: i64) -> MemoryStore {
    let store = MemoryStore::new();
    let mut a = store.appender();
    for i in 0..series {
        let labels = Labels::from_pairs([("__name__", "m"), ("i", &i.to_string())]);
        for t in 0..samples {
            let (v, o) = (Written::Float((t * (i as i64 + 1)) as f64), AppendOptions::default());
            a.append(Default::default(), Some(&labels), 0, t * 15_000, v, &o).unwrap();
        }
    }
    a.commit(Durability::Written).unwrap();
    store
}

fn parse(text: &str) -> Expr {
    parse_expr_with(text, &ParseOptions { depth_max: 1_000, height_max: 5_000, ..test_parse_options() }).unwrap()
}

fn range(ctx: &QueryContext, text: &str, end: i64, step: i64) -> Result<Evaluation, QueryError> {
    let engine = Engine::new(EngineOptions { samples_max: 1_000_000, ..EngineOptions::default() });
    engine.range(ctx, &store(20, 100), &parse(text), 0, end, step, &QueryOptions::default())
}

#[test]
fn too_many_samples() {
    let ctx = QueryContext::background();
    let year = 365 * 86_400_000;
    for (text, end, step) in [
        ("vector(1)", year, 1),
        ("m", year, 1),
        ("count_over_time(vector(1)[10y:1ms])", 60_000, 60_000),
        ("1", year, 1),
        ("m", 1_400_000, 20),
        ("m + m", 1_400_000, 20),
        ("sort(m)", 1_400_000, 20),
    ] {
        let error = range(&ctx, text, end, step).unwrap_err();
        assert!(matches!(error, QueryError::TooManySamples), "{text}: {error}");
        assert_eq!(error.to_string(), "query processing would load too many samples into memory in query execution");
    }
}

#[test]
fn memory_is_charged_before_it_is_held() {
    for text in [
        "m",
        "m * on (i) group_left m",
        "topk(3, m)",
        "quantile(0.5, m)",
        "count_values(\"v\", m)",
        "avg by (i) (m)",
        "count_over_time(vector(1)[2h:1s])", // its columns alone would fit
    ] {
        let budget = Budget::root("query", 200_000);
        let ctx = QueryContext::new(None, budget.clone());
        let error = range(&ctx, text, 1_400_000, 200).unwrap_err();
        assert!(matches!(error, QueryError::Budget(_)), "{text}: {error}");
        assert!(budget.peak_bytes() <= 200_000);
        assert_eq!(budget.used_bytes(), 0, "{text} gave everything back");
    }
}

#[test]
fn a_deadline_and_a_cancellation_end_a_long_query() {
    // Far longer than the test would take if it ran to its end.
    let text = "quantile_over_time(0.5, (m * 2)[25m:100ms])";
    let ctx = QueryContext::new(Some(Duration::from_millis(50)), Budget::unlimited());
    assert!(matches!(range(&ctx, text, 1_400_000, 20), Err(QueryError::TimedOut)));

    // Without a deadline of its own, a query has the engine's.
    let engine = Engine::new(EngineOptions { timeout: Duration::from_millis(50), ..EngineOptions::default() });
    let ctx = QueryContext::background();
    let error = engine.range(&ctx, &store(20, 100), &parse(text), 0, 1_400_000, 20, &QueryOptions::default());
    assert!(matches!(error, Err(QueryError::TimedOut)));

    let cancel = ctx.cancel.clone();
    let started = Arc::new(std::sync::Barrier::new(2));
    let waiter = Arc::clone(&started);
    let canceller = std::thread::spawn(move || {
        waiter.wait();
        cancel.cancel();
        Instant::now()
    });
    started.wait();
    assert!(matches!(range(&ctx, text, 1_400_000, 20), Err(QueryError::Cancelled)));
    canceller.join().unwrap();
}

#[test]
fn deep_and_long_expressions_fit_a_small_stack() {
    let nested =
        |open: &str, inner: &str, close: &str, n: usize| format!("{}{inner}{}", open.repeat(n), close.repeat(n));
    let texts = [
        nested("(", "m", ")", 120),
        nested("abs(", "m", ")", 120),
        nested("-", "m", "", 100),
        nested("sum by (i) (", "m", ")", 120),
        nested("max_over_time(", "m", "[1m:15s])", 60),
        nested("1 + (", "m", ")", 100),
        format!("m{}", " + m".repeat(900)),
        format!("m{}", " or m".repeat(900)),
        format!("1{}", " + 1".repeat(4_000)),
    ];
    let run = move || {
        for text in texts {
            let ctx = QueryContext::background();
            let answer = range(&ctx, &text, 60_000, 15_000).unwrap();
            let Value::Matrix(series) = answer.value else { panic!("not a matrix") };
            assert!(!series.is_empty(), "{}", &text[..20]);
        }
    };
    std::thread::Builder::new().stack_size(256 * 1024).spawn(run).unwrap().join().unwrap();
}
