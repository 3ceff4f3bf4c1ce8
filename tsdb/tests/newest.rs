//! Instant selectors want one sample of each series: it is the one that reading everything would have ended with.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::path::Path;
use std::sync::Arc;

use ferula_fs::Faulty;
use ferula_model::{Matcher, stale_nan};
use ferula_storage::{Appendable, Column, Durability, QueryContext, Queryable, SampleBatch, SelectHints};
use ferula_tsdb::{Db, Options};
use support::*;

/// The last sample of every series within the bounds, by the value's bits, and how many samples were handed out.
fn newest(db: &Db, from: i64, to: i64, newest_only: bool) -> (Vec<(String, i64, u64)>, usize) {
    let querier = db.querier(from, to).unwrap();
    let hints = SelectHints { start_ms: from, end_ms: to, newest_only, ..SelectHints::default() };
    let matcher = [Matcher::equal("__name__", "x")];
    let mut set = querier.select(&QueryContext::background(), true, &hints, &matcher).unwrap();
    let (mut out, mut read) = (Vec::new(), 0);
    while let Some(series) = set.next() {
        let mut series = series.unwrap();
        let (mut batch, mut last) = (SampleBatch::default(), None);
        while series.samples.next_batch(&mut batch).unwrap() {
            let Column::Floats(values) = &batch.values else { panic!("floats only") };
            last = batch.t_ms.last().copied().zip(values.last().map(|v| v.to_bits()));
            read += batch.len();
        }
        out.extend(last.map(|(t, v)| (series.labels.to_labels().to_string(), t, v)));
    }
    (out, read)
}

#[test]
fn the_newest_sample_is_the_last_of_all() {
    let options = Options { out_of_order_window_ms: 3_600_000, ..options() };
    let db = open(Arc::new(Faulty::default()), Path::new("/data"), options);
    for t in 1..=300 {
        for job in ["plain", "late", "deleted", "stale"] {
            let v = if job == "stale" && t == 300 { stale_nan() } else { t as f64 };
            put(&db, &labels(&format!("__name__=x,job={job}")), t * 15_000, v).unwrap();
        }
    }
    let check = |what: &str| {
        for (from, to) in [(0, 4_500_000), (0, 4_499_999), (4_400_001, 9_000_000), (4_500_001, 9_000_000), (0, 15_000)]
        {
            let (all, read) = newest(&db, from, to, false);
            let (one, few) = newest(&db, from, to, true);
            assert_eq!(all, one, "{what}: {from}..={to}");
            assert!(few <= read);
        }
    };
    check("in order");
    assert_eq!(newest(&db, 0, 4_500_000, true).1, 4, "one sample of each is read");

    let held = db.querier(0, i64::MAX).unwrap();
    put(&db, &labels("__name__=x,job=plain"), 4_515_000, 7.0).unwrap();
    let hints = SelectHints { end_ms: i64::MAX, newest_only: true, ..SelectHints::default() };
    let mut set = held.select(&QueryContext::background(), true, &hints, &[Matcher::equal("job", "plain")]).unwrap();
    let (mut series, mut batch) = (set.next().unwrap().unwrap(), SampleBatch::default());
    let mut last = 0;
    while series.samples.next_batch(&mut batch).unwrap() {
        last = batch.t_ms.last().copied().unwrap();
    }
    assert_eq!(last, 4_500_000, "a commit after the querier was made is not seen");
    drop((set, held));

    let mut late = db.appender();
    append(&mut *late, &labels("__name__=x,job=late"), 4_444_000, 9.0).unwrap();
    late.commit(Durability::Written).unwrap();
    check("out of order");
    db.delete_series(&[vec![Matcher::equal("job", "deleted")]], 4_450_000, i64::MAX).unwrap();
    check("deleted");
}

/// Series of a chunk or two each are decoded together: each gets its own samples, in order, and no other's.
#[test]
fn series_that_are_decoded_together_keep_their_samples() {
    let db = open(Arc::new(Faulty::default()), Path::new("/data"), options());
    let value = |i: i64, t: i64| if i % 5 == 0 { 7.0 } else { (i * 1000 + t) as f64 };
    for t in 1..=150 {
        // Some began late, some ended early: those have nothing at all within some of the bounds.
        for i in (0..37).filter(|i| t > i * 3 && (i % 7 != 3 || t < 40)) {
            put(&db, &labels(&format!("__name__=x,i={i:02}")), t * 15_000, value(i, t)).unwrap();
        }
    }
    for (from, to) in [(140, 150), (100, 149), (110, 111), (30, 45), (1, 2), (119, 121), (1, 150), (151, 160)] {
        let querier = db.querier(from * 15_000, to * 15_000).unwrap();
        for newest_only in [false, true] {
            let (start_ms, end_ms) = (from * 15_000, to * 15_000);
            let hints = SelectHints { start_ms, end_ms, newest_only, ..SelectHints::default() };
            let matcher = [Matcher::equal("__name__", "x")];
            let mut set = querier.select(&QueryContext::background(), true, &hints, &matcher).unwrap();
            let mut all = Vec::new();
            while let Some(series) = set.next() {
                let series = series.unwrap();
                let i: i64 = series.labels.get("i").unwrap().parse().unwrap();
                all.push((i, series.samples));
            }
            let only = SelectHints { series_only: true, ..hints.clone() };
            let mut set = querier.select(&QueryContext::background(), true, &only, &matcher).unwrap();
            let mut names = Vec::new();
            while let Some(series) = set.next() {
                names.push(series.unwrap().labels.get("i").unwrap().parse::<i64>().unwrap());
            }
            if !newest_only {
                assert_eq!(names, all.iter().map(|(i, _)| *i).collect::<Vec<_>>(), "{from}..={to}");
            }
            // Not in the order in which they came.
            all.sort_by_key(|(i, _)| (i * 17) % 37);
            let mut found = std::collections::BTreeMap::new();
            for (i, mut samples) in all {
                let mut batch = SampleBatch::default();
                let mine: &mut Vec<(i64, f64)> = found.entry(i).or_default();
                while samples.next_batch(&mut batch).unwrap() {
                    let Column::Floats(values) = &batch.values else { panic!("floats only") };
                    mine.extend(batch.t_ms.iter().map(|t| t / 15_000).zip(values.iter().copied()));
                }
            }
            for i in 0..37 {
                let there = (from..=to.min(150)).filter(|t| *t > i * 3 && (i % 7 != 3 || *t < 40));
                let mut expected: Vec<(i64, f64)> = there.map(|t| (t, value(i, t))).collect();
                let mine = found.remove(&i).unwrap_or_default();
                if newest_only {
                    expected = expected.split_off(expected.len().saturating_sub(mine.len().max(1)));
                }
                assert_eq!(mine, expected, "{i}: {from}..={to}, newest only: {newest_only}");
            }
        }
    }
}
