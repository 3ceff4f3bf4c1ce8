//! A selection is a stream: a series is read when it is asked for, from the head and all blocks at once, and of it only what
//! is needed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferula_fs::Faulty;
use ferula_model::Labels;
use ferula_storage::{Column, QueryContext, Queryable, SampleBatch, SelectHints, Series, SeriesSet, StorageError};
use ferula_tsdb::Options;
use support::*;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

#[test]
fn one_series_at_a_time_and_only_what_is_needed() {
    let options = Options { max_block_range_ms: 2 * HOUR, ..support::options() };
    let db = open(Arc::new(Faulty::default()), Path::new("/data"), options);
    let all: Vec<_> = (0..500).map(|i| labels(&format!("__name__=m,i={i:03}"))).collect();
    for minute in (0..420).step_by(5) {
        let mut app = ferula_storage::Appendable::appender(&*db);
        for l in &all {
            append(&mut *app, l, minute * MINUTE, minute as f64).unwrap();
        }
        app.commit(Default::default()).unwrap();
    }
    db.compact().unwrap();
    let sources = db.blocks().len() + 1;
    assert!(sources >= 3, "{sources}");

    let querier = db.querier(0, i64::MAX).unwrap();
    let ctx = QueryContext::background();
    let mut set = querier.select(&ctx, true, &SelectHints::default(), &[]).unwrap();
    let mut batch = SampleBatch::default();
    for (i, l) in all.iter().enumerate() {
        let mut series = set.next().unwrap().unwrap();
        assert_eq!(series.labels.to_labels(), *l);
        // Each source has one series in hand besides those that were given.
        assert!(ctx.stats.series.load(Ordering::Relaxed) as usize <= (i + 2) * sources, "{i}");
        let mut samples = 0;
        while series.samples.next_batch(&mut batch).unwrap() {
            samples += batch.len();
        }
        assert_eq!(samples, 84);
    }
    assert!(set.next().is_none());

    // Of a wide querier a narrow selector opens only the chunks that it needs.
    let ctx = QueryContext::background();
    let hints = SelectHints { start_ms: 30 * MINUTE, end_ms: 40 * MINUTE, ..SelectHints::default() };
    let mut set = querier.select(&ctx, true, &hints, &[]).unwrap();
    let mut series = set.next().unwrap().unwrap();
    assert!(series.samples.next_batch(&mut batch).unwrap());
    assert_eq!(batch.t_ms, [30, 35, 40].map(|m| m * MINUTE));
    drop(series);
    while let Some(series) = set.next() {
        series.unwrap();
    }
    drop(set);
    assert_eq!(ctx.stats.chunks.load(Ordering::Relaxed), 500);
}

/// Labels, times and values of what is left of a set.
fn rest(set: &mut dyn SeriesSet) -> Vec<(Labels, Vec<i64>, Vec<f64>)> {
    let mut batch = SampleBatch::default();
    let mut all = Vec::new();
    while let Some(series) = set.next() {
        let mut series = series.unwrap();
        let (mut times, mut values) = (Vec::new(), Vec::new());
        while series.samples.next_batch(&mut batch).unwrap() {
            times.extend_from_slice(&batch.t_ms);
            let Column::Floats(v) = &batch.values else { panic!("not floats") };
            values.extend_from_slice(v);
        }
        all.push((series.labels.to_labels(), times, values));
    }
    all
}

#[test]
fn what_is_split_off_is_what_would_have_come_next() {
    let db = open(Arc::new(Faulty::default()), Path::new("/data"), support::options());
    for minute in 0..200 {
        let mut app = ferula_storage::Appendable::appender(&*db);
        for i in (0..100).filter(|i| i % 7 != 3 || minute < 90) {
            append(&mut *app, &labels(&format!("__name__=m,i={i:03}")), minute * MINUTE, f64::from(i)).unwrap();
        }
        app.commit(Default::default()).unwrap();
    }
    let querier = db.querier(0, i64::MAX).unwrap();
    for (start, end, newest_only) in [(0, 300, false), (100, 120, false), (195, 300, false), (150, 198, true)] {
        let (start_ms, end_ms) = (start * MINUTE, end * MINUTE);
        let hints = SelectHints { start_ms, end_ms, newest_only, ..SelectHints::default() };
        let select = |ctx: &QueryContext| querier.select(ctx, true, &hints, &[]).unwrap();
        let (whole, parts) = (QueryContext::background(), QueryContext::background());
        let expected = rest(&mut *select(&whole));
        assert!(expected.len() > 80);
        let mut set = select(&parts);
        let mut found = Vec::new();
        // Between two parts one series is taken from the set itself, which may have fetched more by then.
        for n in (1..).map(|n| n % 19) {
            let Some(mut part) = set.split_off(n) else { break };
            found.extend(rest(&mut *part));
            let Some(series) = set.next() else { continue };
            found.extend(rest(&mut OfOne(Some(series.unwrap()))));
        }
        assert_eq!(found, expected);
        let series = |ctx: &QueryContext| ctx.stats.series.load(Ordering::Relaxed);
        drop(set);
        assert_eq!(series(&parts), series(&whole));
    }
}

struct OfOne(Option<Series>);

impl SeriesSet for OfOne {
    fn next(&mut self) -> Option<Result<Series, StorageError>> {
        self.0.take().map(Ok)
    }
}
