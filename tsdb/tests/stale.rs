//! Stale series leave the head early: their samples stay, their references are not given out again, and nothing comes back
//! that was deleted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::path::Path;
use std::sync::Arc;

use ferula_fs::{Disk, Faulty};
use ferula_model::{Labels, Matcher, SeriesRef};
use ferula_storage::{AppendError, Appendable, Durability, Queryable};
use ferula_tsdb::{Db, Options};
use support::prometheus::{answer, ours};
use support::*;

const MINUTE: i64 = 60_000;
const STALE: f64 = f64::from_bits(ferula_model::STALE_NAN);

fn options() -> Options {
    Options { stale_series_min: 10, wal_segment_size_bytes: 64 * 1024, ..support::options() }
}

fn series(i: usize) -> Labels {
    labels(&format!("__name__=m,pod=pod-{i:03}"))
}

/// One commit for each minute of the range; `stops(i)` is the minute of a series' stale marker.
fn run(db: &Db, minutes: std::ops::Range<i64>, count: usize, stops: impl Fn(usize) -> i64) {
    for minute in minutes {
        let mut app = db.appender();
        for i in (0..count).filter(|i| minute <= stops(*i)) {
            let v = if minute == stops(i) { STALE } else { (minute * 7 + i as i64) as f64 };
            append(&mut *app, &series(i), minute * MINUTE, v).unwrap();
        }
        app.commit(Durability::Synced).unwrap();
    }
}

fn half(i: usize) -> i64 {
    if i.is_multiple_of(2) { 40 } else { i64::MAX }
}

fn reference(db: &Db, l: &Labels, t: i64) -> SeriesRef {
    let mut app = db.appender();
    let r = append(&mut *app, l, t, 1.0).unwrap();
    app.rollback();
    r
}

#[test]
fn they_leave_and_their_samples_stay() {
    let fs = Arc::new(Faulty::default());
    let dir = Path::new("/data");
    let db = open(fs.clone(), dir, options());
    run(&db, 0..50, 100, half);
    db.compact().unwrap();
    assert_eq!((db.head().series_count(), db.blocks().len()), (100, 0), "they were stale for ten minutes only");
    run(&db, 50..60, 100, half);
    let want = read_all(&*db);
    // A reader that has not begun to read holds them back no longer than compaction waits; one that is reading keeps its own.
    db.compact().unwrap();
    assert_eq!((db.head().series_count(), db.blocks().len()), (50, 1));
    assert!(db.blocks()[0].meta.is_out_of_order(), "it says nothing about where the head begins");
    assert!(read_all(&*db) == want);
    db.compact().unwrap();
    assert_eq!(db.blocks().len(), 1, "that was all");

    // After a kill the log still has them, and shows them once.
    let again = open(Arc::new(fs.kill_image()), dir, options());
    assert!(read_all(&*again) == want);
    assert_eq!(again.replay_report().stats.orphaned, 0);
    drop(again);

    // One that comes back goes on where it was, under a new reference; nothing is taken twice.
    let back = series(4);
    let (newest, late) = (60 * MINUTE, 39 * MINUTE);
    assert_eq!(put(&db, &back, late, 3.0), Err(AppendError::OutOfOrder));
    assert_eq!(put(&db, &back, 40 * MINUTE, 3.0), Err(AppendError::DuplicateTimestamp));
    assert!(reference(&db, &back, newest).0 > 100);
    put(&db, &back, newest, 3.0).unwrap();
    assert_eq!(read_all(&*db)[&back].len(), want[&back].len() + 1);

    // What is deleted from the block does not come back with the log.
    let gone = series(6);
    let matchers: Vec<Matcher> = gone.iter().map(|(n, v)| Matcher::equal(n, v)).collect();
    db.delete_series(&[matchers], i64::MIN, i64::MAX).unwrap();
    assert!(!read_all(&*db).contains_key(&gone));
    let want = read_all(&*db);
    let killed = Arc::new(fs.kill_image());
    let again = open(killed, dir, options());
    assert!(read_all(&*again) == want);

    // The head is cut some hours later: the blocks become one, checkpoints know all series that they need.
    for db in [&again, &db] {
        run(db, 61..400, 100, |i| if i.is_multiple_of(2) { -1 } else { i64::MAX });
        let want = read_all(&**db);
        db.compact().unwrap();
        assert!(read_all(&**db) == want);
        assert!(!db.blocks()[0].meta.is_out_of_order() && db.blocks().len() == 2, "{:?}", db.blocks());
    }
    let want = read_all(&*db);
    let last = open(Arc::new(fs.kill_image()), dir, options());
    assert!(read_all(&*last) == want);
    assert_eq!(last.replay_report().stats.orphaned, 0);
}

#[test]
fn readers_keep_theirs() {
    let fs = Arc::new(Faulty::default());
    let options = Options { reader_patience: std::time::Duration::ZERO, ..options() };
    let db = open(fs, Path::new("/data"), options);
    run(&db, 0..60, 40, half);
    let querier = db.querier(50 * MINUTE, 60 * MINUTE).unwrap();
    let ctx = ferula_storage::QueryContext::background();
    let mut set = querier.select(&ctx, true, &Default::default(), &[]).unwrap();
    db.compact().unwrap();
    assert_eq!((db.head().series_count(), db.blocks().len()), (40, 1), "the query holds them");
    let mut live = 0;
    while let Some(s) = set.next() {
        s.unwrap();
        live += 1;
    }
    assert_eq!(live, 20, "of the others nothing lies in the range");
    drop((set, querier));
    db.compact().unwrap();
    assert_eq!((db.head().series_count(), db.blocks().len()), (20, 1), "they go without another block");
}

#[test]
fn blocks_for_a_shipper_do_not_overlap() {
    let one_range = Options { max_block_range_ms: options().block_range_ms, ..options() };
    let db = open(Arc::new(Faulty::default()), Path::new("/data"), one_range);
    run(&db, 0..60, 40, half);
    db.compact().unwrap();
    assert_eq!((db.head().series_count(), db.blocks().len()), (40, 0));
}

/// Prometheus takes over the directory of a store that was left in this state.
#[test]
fn prometheus_sees_the_same() {
    let Some(program) = peer("released series in Prometheus", "prometheus") else { return };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let db = open(Arc::new(Disk), &data, options());
    run(&db, 0..60, 60, half);
    db.compact().unwrap();
    assert_eq!(db.head().series_count(), 30);
    run(&db, 60..70, 60, |i| if i == 2 { i64::MAX } else { half(i) });
    let want = ours(&read(&*db, 1, i64::MAX, &[])); // the range of a query is open at its left
    db.close().unwrap();
    drop(db);
    let got = answer(&program, dir.path(), &data, "m%5B4200s%5D&time=4200");
    assert!(got == want, "{} of {} series", got.len(), want.len());
    println!("{} samples of {} series as Prometheus has them", got.values().flatten().count(), got.len());
}
