//! Every shape of dashboards' queries over 1,000, 10,000 and 100,000 series and over 1 h and 24 h of samples every 15 s.
//! How to run one size: `README.md` beside this file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "parts/cpu.rs"]
mod cpu;
#[path = "parts/made.rs"]
mod made;

use std::cell::LazyCell;
use std::time::Duration;

use cpu::CpuTime;
use criterion::{Criterion, criterion_group, criterion_main};
use ferula_promql_engine::{Engine, EngineOptions, Evaluation, QueryError, QueryOptions, Value};
use ferula_promql_parser::parse_expr;
use ferula_storage::QueryContext;
use made::Made;

const END_MS: i64 = 1_700_000_000_000;
const HOUR_MS: i64 = 3_600_000;

/// Asked once per step.
const RANGE: &[(&str, &str)] = &[
    ("sum_by_rate", "sum by (instance) (rate(http_request_duration_seconds_bucket[5m]))"),
    ("hist_quantile", "histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket[5m])))"),
    (
        "hist_quantile_by_handler",
        "histogram_quantile(0.9, sum by (le, handler) (rate(http_request_duration_seconds_bucket[5m])))",
    ),
    ("topk", "topk(5, sum by (pod) (rate(container_cpu_usage_seconds_total[5m])))"),
    (
        "join_one_to_one",
        "sum(container_memory_working_set_bytes / on (namespace, pod, container) container_cpu_usage_seconds_total)",
    ),
    (
        "join_group_left",
        "sum by (node) (rate(container_cpu_usage_seconds_total[5m]) * on (namespace, pod) group_left (node) kube_pod_info)",
    ),
    (
        "regex_ratio",
        r#"sum(rate(http_request_duration_seconds_bucket{code=~"5..",handler=~"/api/.*"}[5m])) / sum(rate(http_request_duration_seconds_bucket{handler=~"/api/.*"}[5m]))"#,
    ),
    ("regex_name", r#"count by (namespace) ({__name__=~"container_mem.+"})"#),
    ("subquery", "max_over_time(sum(rate(container_cpu_usage_seconds_total[5m]))[10m:1m])"),
    ("avg_over_time", "max by (namespace) (avg_over_time(container_memory_working_set_bytes[30m]))"),
    ("min_over_time", "min by (namespace) (min_over_time(container_memory_working_set_bytes[30m]))"),
    ("max_over_time", "max by (namespace) (max_over_time(container_memory_working_set_bytes[30m]))"),
    ("quantile_over_time", "max by (namespace) (quantile_over_time(0.9, container_memory_working_set_bytes[10m]))"),
    ("count_filter", "count by (namespace) (container_memory_working_set_bytes > 1.005e8)"),
    ("raw_tenth", r#"container_memory_working_set_bytes{container="c3"}"#),
    ("raw_one", r#"container_memory_working_set_bytes{container="c3",pod="app-7c9d8b6f5d-00007"}"#),
];

/// Asked at the end alone; ranges in them make the hour or the day.
const INSTANT: &[(&str, &str)] = &[
    ("instant_sum", "sum(container_memory_working_set_bytes)"),
    ("instant_raw", "container_memory_working_set_bytes"),
    ("instant_raw_range", r#"container_memory_working_set_bytes{container="c3",pod=~".+7"}[WHOLE]"#),
    ("instant_increase", "sum by (handler) (increase(http_request_duration_seconds_bucket[WHOLE]))"),
    ("instant_subquery", "max(max_over_time(rate(container_cpu_usage_seconds_total[5m])[WHOLE:5m]))"),
];

/// A bench of a query that finds nothing would look splendid.
fn filled(answer: Result<Evaluation, QueryError>) -> Evaluation {
    let answer = answer.unwrap();
    assert!(match &answer.value {
        Value::Matrix(all) => !all.is_empty(),
        Value::Vector(all) => !all.is_empty(),
        _ => false,
    });
    answer
}

fn shapes(c: &mut Criterion<CpuTime>) {
    // What is measured is the CPU time of one thread: it has to do everything, and no limit may end it.
    let engine = Engine::new(EngineOptions {
        spare_threads: 0,
        samples_max: u64::MAX,
        timeout: Duration::from_secs(3600),
        ..EngineOptions::default()
    });
    let options = QueryOptions::default();
    for (series, size) in [(1_000, "1k"), (10_000, "10k"), (100_000, "100k")] {
        // Made for whoever runs, not for those that are filtered out.
        let store = LazyCell::new(|| Made::new(series));
        // A dashboard's steps: 60 of a minute, 288 of five.
        for (hours, step_ms) in [(1, 60_000), (24, 300_000)] {
            let mut group = c.benchmark_group(format!("{size}_series_{hours}h"));
            group.sample_size(10).warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(1));
            let start_ms = END_MS - hours * HOUR_MS;
            for (name, text) in RANGE {
                let expr = parse_expr(text).unwrap();
                group.bench_function(*name, |b| {
                    let (ctx, store) = (QueryContext::background(), &*store);
                    b.iter(|| filled(engine.range(&ctx, store, &expr, start_ms, END_MS, step_ms, &options)))
                });
            }
            for (name, text) in INSTANT {
                let expr = parse_expr(&text.replace("WHOLE", &format!("{hours}h"))).unwrap();
                group.bench_function(*name, |b| {
                    let (ctx, store) = (QueryContext::background(), &*store);
                    b.iter(|| filled(engine.instant(&ctx, store, &expr, END_MS, &options)))
                });
            }
            group.finish();
        }
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = shapes
}
criterion_main!(benches);
