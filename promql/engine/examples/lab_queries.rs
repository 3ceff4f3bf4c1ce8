//! What the lab's queries cost inside the engine, over a data directory that the lab left behind:
//!
//! ```text
//! cargo run --release -p ferula-promql-engine --example lab_queries -- DATA [--reps N] [--threads SPARE] [--only TEXT] [--clients N]
//! ```
//!
//! Prints for each query the CPU time of the whole process (ms, mean and least of the repetitions), the wall time, series
//! and samples decoded, and ns of CPU per decoded sample. With `--clients`, so many ask all queries at once, each beginning
//! with another one: prints queries a second and how long they took. Open a copy of the directory: it is taken over as a server would.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ferula_instrument::Registry;
use ferula_promql_engine::{Engine, EngineOptions, Evaluation, QueryOptions, Value};
use ferula_promql_parser::parse_expr;
use ferula_storage::QueryContext;

/// The server's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The lab's data ends here: 4 h of samples every 15 s.
const END_MS: i64 = 1_700_020_740_000;
const HOUR_MS: i64 = 3_600_000;

/// Name, hours and step in seconds (0: instant), text.
const QUERIES: &[(&str, i64, i64, &str)] = &[
    ("i_count", 0, 0, "count(node_load1)"),
    ("i_cpu_by_instance", 0, 0, r#"sum by (instance) (rate(node_cpu_seconds_total{mode!="idle"}[5m]))"#),
    (
        "i_hist_q99_by_handler",
        0,
        0,
        "histogram_quantile(0.99, sum by (le, handler) (rate(http_request_duration_seconds_bucket[5m])))",
    ),
    ("i_topk_pod_cpu", 0, 0, "topk(10, sum by (namespace, pod) (rate(container_cpu_usage_seconds_total[5m])))"),
    (
        "i_join_mem_by_node",
        0,
        0,
        "sum by (node) (container_memory_working_set_bytes * on (namespace, pod) group_left (node) kube_pod_info)",
    ),
    ("i_name_regex_count", 0, 0, r#"count by (job) ({__name__=~"node_.+"})"#),
    ("i_absent", 0, 0, r#"absent(nonexistent_metric{job="lab"})"#),
    ("i_quantile_over_time", 0, 0, "quantile_over_time(0.9, node_load1[1h])"),
    ("i_subquery_max_rate", 0, 0, "max_over_time(rate(node_network_receive_bytes_total[5m])[30m:1m])"),
    (
        "i_error_ratio_1h",
        0,
        0,
        r#"sum by (handler) (increase(http_request_duration_seconds_count{code="500"}[1h])) / sum by (handler) (increase(http_request_duration_seconds_count[1h]))"#,
    ),
    ("i_count_count", 0, 0, "count(count by (pod) (kube_pod_info))"),
    ("i_predict_linear", 0, 0, r#"predict_linear(node_filesystem_avail_bytes{fstype!="tmpfs"}[1h], 4*3600) < 0"#),
    (
        "i_label_replace",
        0,
        0,
        r#"sum by (app) (label_replace(kube_pod_info, "app", "$1", "created_by_name", "([a-z]+).*"))"#,
    ),
    ("i_one_series_counter", 0, 0, r#"node_cpu_seconds_total{instance="node-0003:9100",cpu="3",mode="user"}"#),
    ("r_cpu_by_instance", 3, 60, r#"sum by (instance) (rate(node_cpu_seconds_total{mode!="idle"}[5m]))"#),
    ("r_hist_q99", 3, 60, "histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket[5m])))"),
    (
        "r_hist_q90_ns_handler",
        3,
        60,
        "histogram_quantile(0.9, sum by (le, namespace, handler) (rate(http_request_duration_seconds_bucket[5m])))",
    ),
    ("r_mem_by_ns", 3, 60, r#"sum by (namespace) (container_memory_working_set_bytes{container!=""})"#),
    ("r_topk_pod_cpu", 3, 60, "topk(5, sum by (pod) (rate(container_cpu_usage_seconds_total[5m])))"),
    ("r_idle_inverse", 3, 60, r#"1 - avg by (instance) (rate(node_cpu_seconds_total{mode="idle"}[5m]))"#),
    ("r_mem_ratio_match", 3, 60, "node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes"),
    (
        "r_join_group_left",
        3,
        60,
        r#"sum by (namespace) (rate(container_cpu_usage_seconds_total[5m]) * on (namespace, pod) group_left (node) kube_pod_info{node=~"node-00[0-2].*"})"#,
    ),
    (
        "r_one_series_rate",
        3,
        15,
        r#"rate(node_network_receive_bytes_total{instance="node-0007:9100",device="eth0"}[5m])"#,
    ),
    ("r_avg_over_time_30m", 3, 60, "avg_over_time(node_load5[30m])"),
    (
        "r_error_ratio_regex",
        3,
        60,
        r#"sum(rate(http_request_duration_seconds_count{code=~"5..",handler=~"/api/.*"}[5m])) / sum(rate(http_request_duration_seconds_count{handler=~"/api/.*"}[5m]))"#,
    ),
    ("r_subquery_sum", 1, 60, "max_over_time(sum(rate(container_cpu_usage_seconds_total[5m]))[10m:1m])"),
    ("r_count_filter", 3, 60, "count by (phase) (kube_pod_status_phase == 1)"),
    ("r_raw_one_series", 3, 15, r#"node_load1{instance="node-0001:9100"}"#),
    ("r_raw_800_series", 3, 60, "container_memory_rss"),
];

/// CPU time of all threads of this process.
fn cpu() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

/// A number that changes when any bit of the answer does.
fn fingerprint(e: &Evaluation) -> u64 {
    use std::hash::{Hash, Hasher};
    let mut h = std::hash::DefaultHasher::new();
    match &e.value {
        Value::Matrix(series) => {
            for s in series {
                s.labels.hash(&mut h);
                s.floats.iter().for_each(|(t, v)| (t, v.to_bits()).hash(&mut h));
            }
        }
        other => format!("{other:?}").hash(&mut h),
    }
    h.finish()
}

/// Has `clients` ask every query `reps` times.
fn clients(clients: usize, reps: usize, queries: usize, ask: impl Fn(usize) -> &'static str + Sync) {
    let (began, used) = (Instant::now(), cpu());
    let mut took: Vec<(Duration, &str, Duration)> = std::thread::scope(|scope| {
        let one = |client: usize| {
            let order = (0..reps * queries).map(move |i| (i + i / queries + client * queries / clients) % queries);
            let ask = &ask;
            scope.spawn(move || {
                let timed = |i| {
                    let start = Instant::now();
                    let name = ask(i);
                    (start.elapsed(), name, began.elapsed())
                };
                order.map(timed).collect::<Vec<_>>()
            })
        };
        let all: Vec<_> = (0..clients).map(one).collect();
        all.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    let used = (cpu() - used).as_secs_f64() * 1e3 / took.len() as f64;
    // While all of them ask.
    let ends = || took.chunks(reps * queries).filter_map(|client| client.last()).map(|last| last.2);
    let (first_done, all_done) = (ends().min().unwrap(), ends().max().unwrap());
    let together = took.iter().filter(|t| t.2 <= first_done).count();
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share).round() as usize];
    println!(
        "{:.1} queries/s ({:.1} to the end), {:.2} ms of CPU each; p50 {:.1?}, p90 {:.1?}, p95 {:.1?}, p99 {:.1?}, slowest {:.1?}",
        together as f64 / first_done.as_secs_f64(),
        took.len() as f64 / all_done.as_secs_f64(),
        used,
        at(0.5).0,
        at(0.9).0,
        at(0.95).0,
        at(0.99).0,
        at(1.0).0,
    );
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let after = |name: &str| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1));
    let reps: u32 = after("--reps").map_or(10, |n| n.parse().unwrap());
    let threads: usize = after("--threads").map_or(0, |n| n.parse().unwrap());
    let only = after("--only").map_or("", |s| s);
    let folder = args.first().expect("a data directory");

    let options = ferula_tsdb::Options { background: false, ..Default::default() };
    let clock = Arc::new(ferula_model::SystemClock);
    let began = Instant::now();
    let db =
        ferula_tsdb::Db::open(folder.as_ref(), options, Arc::new(ferula_fs::Disk), clock, &Registry::new()).unwrap();
    let engine = Engine::new(EngineOptions { spare_threads: threads, ..EngineOptions::default() });
    let ask = |hours: i64, step_s: i64, expr: &ferula_promql_parser::Expr| {
        let ctx = QueryContext::background();
        let o = QueryOptions::default();
        let found = match step_s {
            0 => engine.instant(&ctx, &*db, expr, END_MS, &o),
            _ => engine.range(&ctx, &*db, expr, END_MS - hours * HOUR_MS, END_MS, step_s * 1000, &o),
        };
        (found.unwrap(), ctx)
    };
    let all = parse_expr(r#"count({__name__=~".+"})"#).unwrap();
    ask(0, 0, &all);
    eprintln!("open and read once after {:.1?}", began.elapsed());

    if let Some(n) = after("--clients") {
        let parsed = |q: &'static (&str, i64, i64, &str)| (q.0, q.1, q.2, parse_expr(q.3).unwrap());
        let queries: Vec<_> = QUERIES.iter().filter(|q| q.0.contains(only)).map(parsed).collect();
        return clients(n.parse().unwrap(), reps as usize, queries.len(), |i| {
            drop(ask(queries[i].1, queries[i].2, &queries[i].3));
            queries[i].0
        });
    }

    println!(
        "{:22} {:>9} {:>9} {:>9} {:>8} {:>10} {:>8}  {:>16}",
        "query", "cpu ms", "least", "wall ms", "series", "samples", "ns/smp", "fingerprint"
    );
    let mut total = (Duration::ZERO, Duration::ZERO);
    for (name, hours, step, text) in QUERIES.iter().filter(|q| q.0.contains(only)) {
        let expr = parse_expr(text).unwrap();
        let (answer, ctx) = ask(*hours, *step, &expr);
        let (mut least, mut sum, mut wall) = (Duration::MAX, Duration::ZERO, Duration::ZERO);
        for _ in 0..reps {
            let (before, began) = (cpu(), Instant::now());
            drop(ask(*hours, *step, &expr));
            let took = cpu() - before;
            wall += began.elapsed();
            sum += took;
            least = least.min(took);
        }
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        let samples = ctx.stats.samples.load(Ordering::Relaxed);
        total = (total.0 + sum / reps, total.1 + least);
        println!(
            "{name:22} {:9.3} {:9.3} {:9.3} {:8} {samples:10} {:8.2}  {:016x}",
            ms(sum / reps),
            ms(least),
            ms(wall / reps),
            ctx.stats.series.load(Ordering::Relaxed),
            least.as_nanos() as f64 / samples.max(1) as f64,
            fingerprint(&answer),
        );
    }
    println!("{:22} {:9.3} {:9.3}", "all", total.0.as_secs_f64() * 1e3, total.1.as_secs_f64() * 1e3);
}
