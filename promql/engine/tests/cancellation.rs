//! A client that goes away ends its query: after the flag is set, storage is asked for little more. Counted in work, not
//! in time: 4,096 series or batches of 120 samples are some milliseconds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ferula_model::{Labels, Matcher};
use ferula_promql_engine::{Engine, EngineOptions, QueryError, QueryOptions};
use ferula_promql_parser::parse_expr;
use ferula_storage::{
    Annotations, CancelFlag, LabelHints, Querier, QueryContext, Queryable, SampleBatch, SampleIter, SelectHints,
    Series, SeriesSet, StorageError,
};

const STEP: i64 = 15_000;
/// Units of work that may follow the cancellation.
const AFTER: u64 = 4_096;

/// Counts the series and batches handed out, and cancels at one of them.
struct Work {
    done: AtomicU64,
    cancel_at: u64,
    cancel: CancelFlag,
}

impl Work {
    fn unit(&self) {
        if self.done.fetch_add(1, Ordering::Relaxed) + 1 == self.cancel_at {
            self.cancel.cancel();
        }
    }
}

/// So many series of so many samples, all computed.
#[derive(Clone)]
struct Endless {
    work: Arc<Work>,
    series: usize,
    samples: i64,
}

impl Queryable for Endless {
    fn querier(&self, _: i64, _: i64) -> Result<Box<dyn Querier>, StorageError> {
        Ok(Box::new(self.clone()))
    }
}

impl Querier for Endless {
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
    of: Endless,
    next: usize,
}

impl SeriesSet for Set {
    fn next(&mut self) -> Option<Result<Series, StorageError>> {
        if self.next == self.of.series {
            return None;
        }
        self.of.work.unit();
        let labels = Labels::from_pairs([("__name__", "m_total"), ("i", &format!("{:07}", self.next))]);
        self.next += 1;
        Some(Ok(Series { labels: Arc::new(labels), samples: Box::new(Samples { of: self.of.clone(), at: 0 }) }))
    }
}

struct Samples {
    of: Endless,
    at: i64,
}

impl SampleIter for Samples {
    fn next_batch(&mut self, out: &mut SampleBatch) -> Result<bool, StorageError> {
        out.clear();
        let end = (self.at + 120).min(self.of.samples);
        if self.at < end {
            self.of.work.unit();
        }
        let (times, values) = out.floats_mut();
        for i in self.at..end {
            times.push(i * STEP);
            values.push(i as f64);
        }
        self.at = end;
        Ok(!out.is_empty())
    }
}

#[test]
fn little_work_follows_a_cancellation() {
    for threads in [0, 3] {
        let engine =
            Engine::new(EngineOptions { spare_threads: threads, samples_max: u64::MAX, ..EngineOptions::default() });
        for (series, samples) in [(60_000, 24), (12, 1_200_000)] {
            for text in [
                "m_total",
                "sum(m_total)",
                "sum by (i) (rate(m_total[5m]))",
                "topk(5, m_total)",
                "quantile(0.5, rate(m_total[5m]))",
                "sort(m_total)",
                "m_total * on (i) m_total",
                "m_total and m_total",
                "count_values(\"v\", m_total)",
                "max_over_time(sum(m_total)[10m:1m])",
                "quantile_over_time(0.5, m_total[5m])",
                "label_replace(m_total, \"j\", \"$1\", \"i\", \"(.*)\")",
                "absent(m_total)",
            ] {
                let expr = parse_expr(text).unwrap();
                let cancel_at = 20_000;
                let ctx = QueryContext::background();
                let work = Arc::new(Work { done: AtomicU64::new(0), cancel_at, cancel: ctx.cancel.clone() });
                let store = Endless { work: Arc::clone(&work), series, samples };
                let end = samples * STEP;
                let start = end.saturating_sub(100 * STEP).max(0);
                let options = QueryOptions::default();
                let answers = [
                    engine.range(&ctx, &store, &expr, start, end, 4 * STEP, &options).map(|_| ()),
                    engine.instant(&ctx, &store, &expr, end, &options).map(|_| ()),
                ];
                for answer in answers {
                    assert!(matches!(answer, Err(QueryError::Cancelled)), "{text}, {threads} threads: {answer:?}");
                }
                let after = work.done.load(Ordering::Relaxed) - cancel_at;
                assert!(after <= AFTER, "{text}, {threads} threads, {series} series: {after} more");
            }
        }
    }
}
