//! What evaluation costs on top of reading: dashboards' query shapes over 18,000 series in memory, 3 h at 15 s; with
//! `BENCH_TSDB=1` also on the real store.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
#[path = "parts/cpu.rs"]
mod cpu;

use std::sync::Arc;

use cpu::CpuTime;
use criterion::{Criterion, criterion_group, criterion_main};
use ferula_instrument::Registry;
use ferula_model::{Labels, Matcher, SeriesRef, Value};
use ferula_promql_engine::{Engine, EngineOptions, QueryOptions};
use ferula_promql_parser::parse_expr;
use ferula_storage::{
    Annotations, AppendOptions, Appendable, Durability, LabelHints, Querier, QueryContext, Queryable, SampleBatch,
    SampleIter, SelectHints, Series, SeriesSet, StorageError,
};

const START: i64 = 1_700_000_000_000;
const STEP: i64 = 15_000;
const SAMPLES: usize = 4 * 3600 / 15;

/// Decoded columns; reading is a copy of 120 samples at a time, as of a chunk.
#[derive(Clone)]
struct Columns(Arc<Vec<Stored>>);

/// Labels, times, values.
type Stored = (Labels, Arc<[i64]>, Arc<[f64]>);

impl Queryable for Columns {
    fn querier(&self, _: i64, _: i64) -> Result<Box<dyn Querier>, StorageError> {
        Ok(Box::new(self.clone()))
    }
}

impl Querier for Columns {
    fn select(
        &self,
        _: &QueryContext,
        _: bool,
        _: &SelectHints,
        matchers: &[Matcher],
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        let fits = |l: &Labels| matchers.iter().all(|m| m.matches(l.get(&m.name).unwrap_or("")));
        let found = (0..self.0.len()).filter(|i| fits(&self.0[*i].0)).collect::<Vec<_>>();
        Ok(Box::new(Found { all: self.clone(), found: found.into_iter() }))
    }
    fn label_values(
        &self,
        _: &QueryContext,
        _: &str,
        _: &LabelHints,
        _: &[Matcher],
    ) -> Result<(Vec<String>, Annotations), StorageError> {
        Ok(Default::default())
    }
    fn label_names(
        &self,
        _: &QueryContext,
        _: &LabelHints,
        _: &[Matcher],
    ) -> Result<(Vec<String>, Annotations), StorageError> {
        Ok(Default::default())
    }
}

struct Found {
    all: Columns,
    found: std::vec::IntoIter<usize>,
}

impl SeriesSet for Found {
    fn next(&mut self) -> Option<Result<Series, StorageError>> {
        let (labels, times, values) = &self.all.0[self.found.next()?];
        let samples = Box::new(Iter { times: Arc::clone(times), values: Arc::clone(values), at: 0 });
        Some(Ok(Series { labels: Arc::new(labels.clone()), samples }))
    }
}

struct Iter {
    times: Arc<[i64]>,
    values: Arc<[f64]>,
    at: usize,
}

impl SampleIter for Iter {
    fn next_batch(&mut self, out: &mut SampleBatch) -> Result<bool, StorageError> {
        out.clear();
        let end = (self.at + 120).min(self.times.len());
        let (times, values) = out.floats_mut();
        times.extend_from_slice(&self.times[self.at..end]);
        values.extend_from_slice(&self.values[self.at..end]);
        let any = end > self.at;
        self.at = end;
        Ok(any)
    }
    fn skip_to(&mut self, t_ms: i64) {
        self.at = self.times.partition_point(|t| *t < t_ms);
    }
}

fn store() -> Columns {
    // 100 targets, each with its own scrape offset.
    let times: Vec<Arc<[i64]>> =
        (0..100).map(|o| (0..SAMPLES).map(|i| START + o * 147 + i as i64 * STEP).collect()).collect();
    let mut series = Vec::new();
    let mut seed = 7u64;
    for (target, times) in times.iter().enumerate() {
        for handler in 0..15 {
            for le in ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"] {
                let mut total = 0.0;
                let values: Arc<[f64]> = (0..SAMPLES)
                    .map(|_| {
                        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        total += (seed >> 60) as f64;
                        total
                    })
                    .collect();
                let labels = Labels::from_pairs([
                    ("__name__", "http_request_duration_seconds_bucket"),
                    ("handler", &format!("/api/v1/handler{handler}")),
                    ("instance", &format!("10.0.0.{target}:8080")),
                    ("job", "api-server"),
                    ("le", le),
                    ("namespace", if target % 2 == 0 { "shop" } else { "pay" }),
                    ("pod", &format!("api-server-7c9d8b6f5d-{target:05}")),
                ]);
                series.push((labels, Arc::clone(times), values));
            }
        }
    }
    Columns(Arc::new(series))
}

/// The same series in a real store's head, with its write-ahead log in a temporary folder.
fn tsdb(columns: &Columns) -> (tempfile::TempDir, Arc<ferula_tsdb::Db>) {
    let folder = tempfile::tempdir().unwrap();
    let options = ferula_tsdb::Options { background: false, block_range_ms: 24 * 3_600_000, ..Default::default() };
    let clock = Arc::new(ferula_model::SystemClock);
    let db = ferula_tsdb::Db::open(folder.path(), options, Arc::new(ferula_fs::Disk), clock, &Registry::new()).unwrap();
    let mut refs = vec![SeriesRef::NONE; columns.0.len()];
    for i in 0..SAMPLES {
        let mut a = db.appender();
        for ((labels, times, values), r) in columns.0.iter().zip(&mut refs) {
            let value = Value::Float(values[i]);
            *r = a.append(*r, Some(labels), 0, times[i], value, &AppendOptions::default()).unwrap();
        }
        a.commit(Durability::Written).unwrap();
    }
    (folder, db)
}

fn queries(c: &mut Criterion<CpuTime>) {
    let columns = store();
    measure(c, "18k_series", &columns);
    if std::env::var_os("BENCH_TSDB").is_some() {
        let (folder, db) = tsdb(&columns);
        drop(columns);
        measure(c, "18k_series_tsdb", &*db);
        drop((db, folder));
    }
}

fn measure(c: &mut Criterion<CpuTime>, group: &str, store: &dyn Queryable) {
    // What is measured is the CPU time of one thread: it has to do everything.
    let engine = Engine::new(EngineOptions { spare_threads: 0, ..EngineOptions::default() });
    let (start, end) = (START + 3_600_000, START + 4 * 3_600_000);
    let m = "http_request_duration_seconds_bucket";
    let mut group = c.benchmark_group(group);
    group.sample_size(10);
    for (name, text) in [
        ("range_hist_q99", format!("histogram_quantile(0.99, sum by (le) (rate({m}[5m])))")),
        ("range_sum_by_instance", format!("sum by (instance) (rate({m}[5m]))")),
        ("range_avg_over_time", format!("max by (handler) (avg_over_time({m}[30m]))")),
        ("range_count_filter", format!("count by (handler) ({m} > 1000)")),
        ("range_topk", format!("topk(5, sum by (pod) (rate({m}[5m])))")),
    ] {
        let expr = parse_expr(&text).unwrap();
        group.bench_function(name, |b| {
            b.iter(|| {
                let ctx = QueryContext::background();
                engine.range(&ctx, store, &expr, start, end, 60_000, &QueryOptions::default()).unwrap()
            })
        });
    }
    for (name, text) in [
        ("instant_hist_q99_by_handler", format!("histogram_quantile(0.99, sum by (le, handler) (rate({m}[5m])))")),
        ("instant_sum", format!("sum({m})")),
        ("instant_all", m.to_owned()),
    ] {
        let expr = parse_expr(&text).unwrap();
        group.bench_function(name, |b| {
            b.iter(|| {
                let ctx = QueryContext::background();
                engine.instant(&ctx, store, &expr, end, &QueryOptions::default()).unwrap()
            })
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().with_measurement(CpuTime);
    targets = queries
}
criterion_main!(benches);
