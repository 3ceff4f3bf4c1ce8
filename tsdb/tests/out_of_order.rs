//! Samples that come late, inside the window.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use ferula_fs::{Faulty, Fs};
use ferula_model::{SeriesRef, Value};
use ferula_storage::{AppendError, AppendOptions, Appendable, Durability};
use ferula_tsdb::Options;
use support::*;

const DIR: &str = "/data";
const MINUTE: i64 = 60_000;

fn window() -> Options {
    Options { out_of_order_window_ms: 300 * MINUTE, wal_segment_size_bytes: 64 * 1024, ..options() }
}

#[test]
fn late_samples_are_kept_sorted_and_logged() {
    let fs = Arc::new(Faulty::default());
    let db = open(fs.clone(), Path::new(DIR), window());
    let (a, b) = (labels("__name__=a"), labels("__name__=b"));
    put(&db, &a, 500 * MINUTE, 1.0).unwrap();
    put(&db, &a, 499 * MINUTE, 2.0).unwrap();
    put(&db, &a, 250 * MINUTE, 3.0).unwrap();
    put(&db, &b, 260 * MINUTE, 4.0).unwrap(); // a new series, too late for its chunks
    assert_eq!(put(&db, &a, 199 * MINUTE, 5.0), Err(AppendError::TooOld));
    assert_eq!(put(&db, &a, 500 * MINUTE, 9.0), Err(AppendError::DuplicateTimestamp));
    put(&db, &a, 499 * MINUTE, 7.0).unwrap(); // the first one of that time stays
    let strict = AppendOptions { reject_out_of_order: true, ..AppendOptions::default() };
    let mut app = db.appender();
    let refused = app.append(SeriesRef::NONE, Some(&a), 0, 498 * MINUTE, Value::Float(1.0), &strict);
    assert_eq!(refused, Err(AppendError::OutOfOrder));
    app.rollback();
    let want = [format!("{}=3 {}=2 {}=1", 250 * MINUTE, 499 * MINUTE, 500 * MINUTE), format!("{}=4", 260 * MINUTE)];
    for db in [db, open(Arc::new(fs.kill_image()), Path::new(DIR), window())] {
        let content = read_all(&*db);
        assert_eq!([floats(&content, &a), floats(&content, &b)], want);
        assert_eq!(floats(&read(&*db, 250 * MINUTE, 260 * MINUTE, &[]), &a), format!("{}=3", 250 * MINUTE));
    }
}

#[test]
fn late_samples_become_blocks_that_are_merged() {
    let fs = Arc::new(Faulty::default());
    let db = open(fs.clone(), Path::new(DIR), window());
    let mut rng = fastrand::Rng::with_seed(7);
    let all: Vec<_> = (0..5).map(|i| labels(&format!("__name__=x,i={i}"))).collect();
    let mut model: BTreeMap<_, BTreeMap<i64, f64>> = BTreeMap::new();
    for minute in 0..900i64 {
        let mut app = db.appender();
        for l in &all {
            let late = rng.u32(..4) == 0;
            let t = (minute - if late { rng.i64(0..250) } else { 0 }).max(0) * MINUTE + 3_600_000;
            let v = rng.u32(..1000) as f64;
            if model.get(l).is_none_or(|m| !m.contains_key(&t)) && append(&mut *app, l, t, v).is_ok() {
                model.entry(l.clone()).or_default().insert(t, v);
            }
        }
        app.commit(Durability::Synced).unwrap();
        if minute % 200 == 199 {
            db.compact().unwrap();
        }
    }
    let want: Content =
        model.into_iter().map(|(l, m)| (l, m.into_iter().map(|(t, v)| (t, Sample::Float(v))).collect())).collect();
    assert!(read_all(&*db) == want);
    assert!(db.blocks().windows(2).all(|w| w[0].meta.max_time_ms <= w[1].meta.min_time_ms), "no overlap is left");
    for seed in 0..5 {
        let image = Arc::new(fs.crash_image(seed));
        let again = open(image.clone(), Path::new(DIR), window());
        assert!(read_all(&*again) == want, "after a power cut");
        again.compact().unwrap();
        assert!(read_all(&*again) == want);
        assert!(image.exists(Path::new("/data/wbl")));
    }
}
