//! How many threads work on a query is seen in nothing but time: answers are equal bit by bit, errors and panics are those
//! of one thread, and a query that has ended holds no series.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, Ordering};

use ferula_model::{Budget, Labels, Matcher};
use ferula_promql_engine::{Engine, EngineOptions, QueryOptions, Value};
use ferula_promql_parser::parse_expr;
use ferula_storage::{
    Annotations, LabelHints, Querier, QueryContext, Queryable, SampleBatch, SampleIter, SelectHints, Series, SeriesSet,
    StorageError,
};

const SERIES: usize = 3_000;
const SAMPLES: i64 = 60;
const STEP: i64 = 15_000;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// Of the set, before it gives this series.
    Set(usize),
    /// Of this series' samples.
    Samples(usize),
    PanicOfSet(usize),
    PanicOfSamples(usize),
}

#[derive(Clone)]
struct Store {
    fault: Fault,
    /// Series that somebody holds.
    held: Arc<AtomicIsize>,
}

impl Queryable for Store {
    fn querier(&self, _: i64, _: i64) -> Result<Box<dyn Querier>, StorageError> {
        Ok(Box::new(self.clone()))
    }
}

impl Querier for Store {
    fn select(
        &self,
        _: &QueryContext,
        _: bool,
        _: &SelectHints,
        _: &[Matcher],
    ) -> Result<Box<dyn SeriesSet>, StorageError> {
        Ok(Box::new(Set { of: self.clone(), next: 0 }))
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

struct Set {
    of: Store,
    next: usize,
}

impl SeriesSet for Set {
    fn next(&mut self) -> Option<Result<Series, StorageError>> {
        let number = self.next;
        self.next += 1;
        match self.of.fault {
            _ if number == SERIES => return None,
            Fault::Set(n) if n == number => return Some(Err(StorageError::Other(format!("no series {n}")))),
            Fault::PanicOfSet(n) if n == number => panic!("series {n}"),
            _ => {}
        }
        let labels = [("__name__", "m_total"), ("g", &format!("{}", number % 7)), ("i", &format!("{number:05}"))];
        self.of.held.fetch_add(1, Ordering::Relaxed);
        let samples = Samples { of: self.of.clone(), number, is_read: false };
        Some(Ok(Series { labels: Arc::new(Labels::from_pairs(labels)), samples: Box::new(samples) }))
    }
}

struct Samples {
    of: Store,
    number: usize,
    is_read: bool,
}

impl Drop for Samples {
    fn drop(&mut self) {
        self.of.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl SampleIter for Samples {
    fn next_batch(&mut self, out: &mut SampleBatch) -> Result<bool, StorageError> {
        out.clear();
        match self.of.fault {
            Fault::Samples(n) if n == self.number => return Err(StorageError::Other(format!("no samples of {n}"))),
            Fault::PanicOfSamples(n) if n == self.number => panic!("samples of {n}"),
            _ if std::mem::replace(&mut self.is_read, true) => return Ok(false),
            _ => {}
        }
        let (times, values) = out.floats_mut();
        for i in 0..SAMPLES {
            times.push(i * STEP);
            // Sums of these depend on their order.
            values.push(i as f64 * (1.0 + 1.0 / (self.number as f64 + 3.0)).powi(self.number as i32 % 90));
        }
        Ok(true)
    }
}

const QUERIES: [&str; 9] = [
    "m_total",
    "sum(m_total)",
    "sum by (g) (rate(m_total[5m]))",
    "avg by (g) (m_total) / on (g) stddev by (g) (irate(m_total[2m]))",
    "rate(m_total[1m]) and on (i) m_total > 20",
    "topk(3, increase(m_total[5m]))",
    "quantile by (g) (0.3, max_over_time(m_total[3m]))",
    "max_over_time(sum(rate(m_total[2m]))[5m:30s])",
    "deriv(m_total[4m])",
];

fn engines() -> Vec<Engine> {
    let engine = |spare_threads| Engine::new(EngineOptions { spare_threads, ..EngineOptions::default() });
    [0, 1, 3, 9].map(engine).into()
}

/// What a client sees, to the last bit; errors and panics as text.
fn seen(engine: &Engine, fault: Fault, text: &str, is_range: bool) -> String {
    let store = Store { fault, held: Arc::default() };
    let budget = Budget::root("all", u64::MAX);
    let ctx = QueryContext::new(None, budget.clone());
    let (expr, options) = (parse_expr(text).unwrap(), QueryOptions { per_step_stats: true, ..Default::default() });
    let end = (SAMPLES - 1) * STEP;
    let run = || match is_range {
        true => engine.range(&ctx, &store, &expr, 0, end, 2 * STEP, &options),
        false => engine.instant(&ctx, &store, &expr, end, &options),
    };
    let answer = catch_unwind(AssertUnwindSafe(run));
    assert_eq!(store.held.load(Ordering::Relaxed), 0, "{text}: series that nobody let go");
    assert_eq!(budget.used_bytes(), 0, "{text}: bytes that nobody gave back");
    match answer {
        Ok(Ok(found)) => {
            let value = match &found.value {
                Value::Matrix(all) => {
                    let bits = |f: &[(i64, f64)]| f.iter().map(|(t, v)| (*t, v.to_bits())).collect::<Vec<_>>();
                    format!("{:?}", all.iter().map(|s| (&s.labels, bits(&s.floats))).collect::<Vec<_>>())
                }
                other => format!("{other:?}"),
            };
            format!("{value} {:?} {} {:?}", found.annotations, found.stats.total_queryable, found.stats.per_step)
        }
        Ok(Err(e)) => format!("error: {e}"),
        Err(panic) => format!("panic: {}", panic.downcast_ref::<String>().unwrap()),
    }
}

#[test]
fn answers_do_not_depend_on_threads() {
    let engines = engines();
    for text in QUERIES {
        for is_range in [true, false] {
            let want = seen(&engines[0], Fault::None, text, is_range);
            assert!(want.len() > 30 && !want.starts_with("error"), "{text}: {want}");
            for engine in &engines[1..] {
                let threads = engine.options().spare_threads;
                for _ in 0..3 {
                    let got = seen(engine, Fault::None, text, is_range);
                    assert!(got == want, "{text} with {threads} more threads\n{want:.3000}\n{got:.3000}");
                }
            }
        }
    }
}

#[test]
fn the_first_fault_in_storages_order_ends_a_query() {
    let silent = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let text = info.payload_as_str().unwrap_or("");
        if !text.starts_with("series ") && !text.starts_with("samples of ") {
            silent(info);
        }
    }));
    let engines = engines();
    for text in ["m_total", "sum by (g) (rate(m_total[5m]))", "m_total + on (i, g) m_total"] {
        for at in [0, 70, 1_003, SERIES - 1] {
            for fault in [Fault::Set(at), Fault::Samples(at), Fault::PanicOfSet(at), Fault::PanicOfSamples(at)] {
                for is_range in [true, false] {
                    let want = seen(&engines[0], fault, text, is_range);
                    assert!(want.contains(&format!(" {at}")), "{want}");
                    for engine in &engines[1..] {
                        assert_eq!(seen(engine, fault, text, is_range), want, "{text}: {fault:?}");
                        let after = seen(engine, Fault::None, "count(m_total)", is_range);
                        assert!(after.contains("3000") || is_range, "the threads still work: {after}");
                    }
                }
            }
        }
    }
}

#[test]
fn queries_at_the_same_time_share_the_threads() {
    let engine = Engine::new(EngineOptions { spare_threads: 2, ..EngineOptions::default() });
    let want: Vec<String> = QUERIES.iter().map(|q| seen(&engine, Fault::None, q, true)).collect();
    std::thread::scope(|scope| {
        for client in 0..4 {
            let (engine, want) = (&engine, &want);
            scope.spawn(move || {
                for i in 0..QUERIES.len() {
                    let at = (i + client * 2) % QUERIES.len();
                    assert!(seen(engine, Fault::None, QUERIES[at], true) == want[at], "{}", QUERIES[at]);
                }
            });
        }
    });
}
