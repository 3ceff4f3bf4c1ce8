//! Restarts with the index: the same series, references and samples as without it, whatever happened to it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::path::Path;
use std::sync::Arc;

use ferula_fs::{Faulty, Fs, Open};
use ferula_model::{Labels, SeriesRef, Value};
use ferula_storage::{AppendOptions, Appendable, Durability};
use ferula_tsdb::{Db, Options};
use support::*;

const DIR: &str = "/data";
const INDEX: &str = "/data/restart_index";
const MINUTE: i64 = 60_000;

fn options() -> Options {
    Options { wal_segment_size_bytes: 64 * 1024, out_of_order_window_ms: 60 * MINUTE, ..support::options() }
}

fn all() -> Vec<Labels> {
    (0..40).map(|i| labels(&format!("__name__=m{},i=n{i}", i % 3))).collect()
}

/// The references by which the store knows the series that it knows.
fn refs(db: &Db, t_ms: i64) -> Vec<Option<SeriesRef>> {
    let known = AppendOptions { existing_series_only: true, ..AppendOptions::default() };
    let mut app = db.appender();
    let all = all();
    let refs = all.iter().map(|l| app.append(SeriesRef::NONE, Some(l), 0, t_ms, Value::Float(0.0), &known).ok());
    let refs = refs.collect();
    app.rollback();
    refs
}

/// Opens copies of the same moment with and without the index.
fn compare(fs: &Faulty, t_ms: i64, case: &str) -> bool {
    let (with, without) = (Arc::new(fs.kill_image()), Arc::new(fs.kill_image()));
    let _ = without.remove_file(Path::new(INDEX));
    let with = open(with, Path::new(DIR), options());
    let without = open(without, Path::new(DIR), options());
    assert_eq!(without.series_from_index(), None, "{case}");
    assert!(read_all(&*with) == read_all(&*without), "{case}: samples differ");
    assert_eq!(refs(&with, t_ms), refs(&without, t_ms), "{case}");
    assert_eq!(with.head_stats(), without.head_stats(), "{case}");
    assert_eq!(with.head().last_ref(), without.head().last_ref(), "{case}");
    with.series_from_index().is_some()
}

#[test]
fn a_restart_finds_the_same_with_and_without_the_index() {
    let all = all();
    for seed in 0..12 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut fs = Arc::new(Faulty::new(seed));
        let mut db = open(fs.clone(), Path::new(DIR), options());
        let (mut now, mut used) = (0, 0);
        for step in 0..40 {
            let case = format!("seed {seed}, step {step}");
            match rng.u8(..10) {
                0 => db.compact().unwrap(),
                1 | 2 => db.update_restart_index(),
                3 => {
                    let name = format!("n{}", rng.u8(..40));
                    let one = vec![ferula_model::Matcher::equal("i", &name)];
                    db.delete_series(&[one], now - 50 * MINUTE, now - 10 * MINUTE).unwrap();
                }
                4 => {
                    used += usize::from(compare(&fs, now + MINUTE, &case));
                    fs = Arc::new(if rng.bool() { fs.kill_image() } else { fs.crash_image(rng.u64(..)) });
                    db = open(fs.clone(), Path::new(DIR), options());
                }
                _ => {
                    for _ in 0..rng.i64(1..40) {
                        now += MINUTE;
                        let mut app = db.appender();
                        for l in &all {
                            if rng.u8(..4) == 0 {
                                continue;
                            }
                            let late = if rng.u8(..20) == 0 { rng.i64(0..30) * MINUTE } else { 0 };
                            let _ = append(&mut *app, l, now - late, f64::from(rng.u16(..))); // some are refused
                        }
                        app.commit(Durability::Synced).unwrap();
                    }
                }
            }
        }
        db.update_restart_index();
        used += usize::from(compare(&fs, now + MINUTE, &format!("seed {seed}, end")));
        assert!(used > 0, "the index was never used");
    }
}

#[test]
fn a_damaged_index_is_worth_nothing_or_the_truth() {
    let fs = Arc::new(Faulty::default());
    let db = open(fs.clone(), Path::new(DIR), options());
    for minute in 0..30 {
        for l in all().iter().take(10 + minute as usize) {
            put(&db, l, minute * MINUTE, 1.0).unwrap();
        }
        if minute % 10 == 0 {
            db.update_restart_index();
        }
    }
    db.close().unwrap();
    let whole = fs.read(Path::new(INDEX)).unwrap();
    let mut used = 0;
    for at in 0..whole.len() {
        if at % 7 != 0 && at + 200 < whole.len() {
            continue;
        }
        let image = fs.kill_image();
        let file = image.open(Path::new(INDEX), Open::Write).unwrap();
        if at % 2 == 0 {
            file.truncate(at as u64).unwrap();
        } else {
            file.write_at(at as u64, &[whole[at] ^ (1 << (at % 8))]).unwrap();
        }
        used += usize::from(compare(&image, 60 * MINUTE, &format!("damage at {at}")));
    }
    assert!(used > 0, "the parts before the damage are still good");
}

#[test]
fn an_index_of_another_log_is_not_used() {
    let fs = Arc::new(Faulty::default());
    let db = open(fs.clone(), Path::new(DIR), options());
    let all = all();
    (0..50).for_each(|t| put(&db, &all[t as usize % 5], t * MINUTE, 1.0).unwrap());
    db.update_restart_index();
    let early = fs.kill_image();
    (50..90).for_each(|t| put(&db, &all[t as usize % 40], t * MINUTE, 1.0).unwrap());
    db.close().unwrap();
    assert!(compare(&fs, 100 * MINUTE, "as it is"));
    // The log as it was earlier, the index from later: as after a power cut that took the log's end.
    let late = fs.read(Path::new(INDEX)).unwrap();
    early.write_atomically(Path::new(INDEX), &late).unwrap();
    compare(&early, 100 * MINUTE, "an index from the future");
    // A log with other bytes at that place.
    let other = Faulty::default();
    let db = open(Arc::new(other.clone()), Path::new(DIR), options());
    (0..90).for_each(|t| put(&db, &all[t as usize % 7], t * MINUTE, 2.0).unwrap());
    db.close().unwrap();
    other.write_atomically(Path::new(INDEX), &late).unwrap();
    assert!(!compare(&other, 100 * MINUTE, "an index of another directory"));
}

/// In the background the same comes out, and what was appended meanwhile is not lost.
#[test]
fn samples_come_back_while_new_ones_are_taken() {
    let dir = tempfile::tempdir().unwrap();
    let db = open_disk(dir.path());
    for minute in 0..200 {
        let mut app = db.appender();
        for l in &all() {
            append(&mut *app, l, minute * MINUTE, minute as f64).unwrap();
        }
        app.commit(Durability::Synced).unwrap();
    }
    db.close().unwrap();
    let mut want = read_all(&*db);
    for round in 0..5 {
        let t = (200 + round) * MINUTE;
        let db = open(Arc::new(ferula_fs::Disk), dir.path(), Options { background: true, ..options() });
        assert_eq!(db.series_from_index(), Some(40));
        for l in &all() {
            put(&db, l, t, 7.0).unwrap();
            want.get_mut(l).unwrap().push((t, Sample::Float(7.0)));
        }
        assert!(read_all(&*db) == want, "round {round}"); // waits for the log
        db.close().unwrap();
    }
}
