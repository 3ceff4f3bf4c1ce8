//! How long queries go on after their time is over, or after their client went away:
//!
//! ```text
//! cargo run --release -p ferula-promql-engine --example overrun -- [SERIES] [HOURS] [MS]
//! ```
//!
//! Prints for each shape, over so many made series (100,000) and hours (24), the ms of wall and of CPU time between the end
//! of its time (MS after it began, 200), or the flag that a lost connection sets, and its own end; the worst last.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "../benches/parts/made.rs"]
mod made;

use std::time::{Duration, Instant};

use ferula_model::Budget;
use ferula_promql_engine::{Engine, EngineOptions, QueryError, QueryOptions};
use ferula_promql_parser::parse_expr;
use ferula_storage::QueryContext;
use made::Made;

/// The server's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const END_MS: i64 = 1_700_000_000_000;

const QUERIES: &[&str] = &[
    "container_memory_working_set_bytes",
    "sum by (instance) (rate(http_request_duration_seconds_bucket[5m]))",
    "histogram_quantile(0.99, http_request_duration_seconds_bucket)",
    "topk(5, container_cpu_usage_seconds_total)",
    "sort(container_cpu_usage_seconds_total)",
    "quantile(0.9, container_memory_working_set_bytes)",
    "count_values('v', container_memory_working_set_bytes)",
    "container_memory_working_set_bytes * on (namespace, pod) group_left (node) kube_pod_info",
    "container_memory_working_set_bytes and container_memory_working_set_bytes",
    "label_replace(container_memory_working_set_bytes, 'x', '$1', 'pod', '(.*)')",
    "max_over_time(sum(rate(container_cpu_usage_seconds_total[5m]))[1h:1m])",
    "quantile_over_time(0.9, container_memory_working_set_bytes[6h])",
    "sum_over_time(sum_over_time(sum_over_time(vector(1)[2h:1s])[2h:1s])[2h:1s])",
    "quantile_over_time(0.5, vector(1)[1y:1s])",
    "count_over_time(vector(1)[10y:1ms])",
    "count_over_time(vector(1)[1y:1s])",
    "max_over_time(vector(1)[1y:1s])",
    "absent_over_time(vector(1)[1y:1s])",
    "stddev_over_time(vector(time())[1y:1s])",
    "rate(vector(1)[1y:1s])",
    "{__name__=~'.+'}[1d]",
];

fn cpu() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<i64>().expect("a number"));
    let (series, hours) = (arguments.next().unwrap_or(100_000), arguments.next().unwrap_or(24));
    let run = Duration::from_millis(arguments.next().unwrap_or(200).unsigned_abs());
    let store = Made::new(usize::try_from(series).unwrap());
    let engine = Engine::new(EngineOptions { samples_max: u64::MAX, ..EngineOptions::default() });
    let (options, start_ms) = (QueryOptions::default(), END_MS - hours * 3_600_000);
    let mut worst = Duration::ZERO;
    println!("{:>12} {:>8} {:>8}  query", "ended by", "wall ms", "CPU ms");
    for text in QUERIES {
        let expr = parse_expr(text).unwrap();
        for is_cancelled in [false, true] {
            let ctx = QueryContext::new((!is_cancelled).then_some(run), Budget::root("query", 8 << 30));
            let flag = ctx.cancel.clone();
            let over = std::thread::spawn(move || {
                std::thread::sleep(run);
                if is_cancelled {
                    flag.cancel();
                }
                (Instant::now(), cpu())
            });
            let answer = if text.ends_with("[1d]") {
                engine.instant(&ctx, &store, &expr, END_MS, &options)
            } else {
                engine.range(&ctx, &store, &expr, start_ms, END_MS, 60_000, &options)
            };
            // An answer is given back within the time as well.
            let ended_by = match &answer {
                Ok(_) => "its answer",
                Err(QueryError::TimedOut) => "time",
                Err(QueryError::Cancelled) => "its client",
                Err(_) => "a limit",
            };
            drop(answer);
            let (end, used) = (Instant::now(), cpu());
            let (over, used_before) = over.join().unwrap();
            let (wall, used) = (end.saturating_duration_since(over), used.saturating_sub(used_before));
            worst = worst.max(if ended_by == "its answer" { Duration::ZERO } else { wall });
            let ms = |d: Duration| d.as_secs_f64() * 1e3;
            println!("{ended_by:>12} {:>8.1} {:>8.1}  {text}", ms(wall), ms(used));
        }
    }
    println!("worst: {:.1} ms", worst.as_secs_f64() * 1e3);
}
