//! A selection is a stream: a series is read when it is asked for, from the head and all blocks at once, and of it only what
//! is needed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferula_fs::Faulty;
use ferula_storage::{QueryContext, Queryable, SampleBatch, SelectHints};
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
