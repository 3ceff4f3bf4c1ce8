//! Options that change while the store is open, and what it says of reading its log.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferula_fs::{Faulty, Fs};
use ferula_storage::AppendError;
use ferula_tsdb::Options;
use ferula_tsdb::replay::Progress;
use support::*;

const DIR: &str = "/data";
const XOR: u8 = 1;
const XOR2: u8 = 4;

/// Encodings of the chunks in the first head-chunk file, in the order in which they were cut.
fn encodings(fs: &dyn Fs) -> Vec<u8> {
    let bytes = fs.read(Path::new("/data/chunks_head/000001")).unwrap();
    let mut at = 8;
    let mut out = Vec::new();
    // Series, bounds, encoding, length (here in two bytes at most), data, checksum.
    while bytes.get(at..at + 8).is_some_and(|s| s.iter().any(|b| *b != 0)) {
        out.push(bytes[at + 24]);
        let (low, high) = (usize::from(bytes[at + 25]), usize::from(bytes[at + 26]));
        let (len, header) = if low < 128 { (low, 26) } else { ((low & 127) | high << 7, 27) };
        at += header + len + 4;
    }
    out
}

#[test]
fn the_encoding_of_new_chunks_changes_with_a_reload() {
    let fs = Arc::new(Faulty::default());
    let db = open(fs.clone(), Path::new(DIR), options());
    let l = labels("__name__=m");
    let mut t = 0;
    let mut fill = |samples: i64| {
        for _ in 0..samples {
            put(&db, &l, t * 15_000, t as f64).unwrap();
            t += 1;
        }
    };
    fill(130); // the first chunk is full, the second one is open
    db.apply_options(&Options { xor2: true, ..options() }).unwrap();
    fill(230); // the second goes on as it began, the third is new and stays open
    db.apply_options(&options()).unwrap();
    fill(240);
    let want = read_all(&*db);
    db.close().unwrap();
    let found = encodings(&*fs);
    assert_eq!(found[..4], [XOR, XOR, XOR2, XOR], "{found:?}");
    drop(db);
    assert!(read_all(&*open(fs, Path::new(DIR), options())) == want);
}

#[test]
fn the_late_window_opens_and_closes_with_a_reload() {
    let db = open(Arc::new(Faulty::default()), Path::new(DIR), options());
    let l = labels("__name__=m");
    put(&db, &l, 100_000, 1.0).unwrap();
    assert_eq!(put(&db, &l, 90_000, 1.0), Err(AppendError::OutOfOrder));
    db.apply_options(&Options { out_of_order_window_ms: 20_000, ..options() }).unwrap();
    put(&db, &l, 90_000, 1.0).unwrap();
    assert_eq!(put(&db, &l, 70_000, 1.0), Err(AppendError::TooOld));
    db.apply_options(&options()).unwrap();
    assert_eq!(put(&db, &l, 95_000, 1.0), Err(AppendError::OutOfOrder));
    assert_eq!(floats(&read_all(&*db), &l), "90000=1 100000=1");
}

/// As the real one answers: a start counts the segment that it begins as the last one.
#[test]
fn progress_names_the_segments() {
    let fs = Arc::new(Faulty::default());
    let numbers = |p: &Progress| [&p.min, &p.max, &p.current].map(|n| n.load(Ordering::Relaxed));
    for (index, start) in (0..6).map(|start| (start % 2 == 0, start)) {
        let progress = Arc::new(Progress::default());
        if !index {
            let _ = fs.remove_file(Path::new("/data/restart_index"));
        }
        let background = start > 3;
        let db =
            open(fs.clone(), Path::new(DIR), Options { progress: Some(progress.clone()), background, ..options() });
        db.wait_until_replayed().unwrap();
        assert_eq!(numbers(&progress), [0, start, start], "start {start}");
        put(&db, &labels("__name__=m"), start as i64 * 1000, 1.0).unwrap();
        db.close().unwrap();
    }
    let segments = fs.list(Path::new("/data/wal")).unwrap();
    assert_eq!(segments.len(), 6);
}
