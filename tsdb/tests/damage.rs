//! Flips, cuts and holes anywhere in a small data directory: it opens, never panics, never shows wrong samples, and no
//! original byte is destroyed.
//!
//! 300 seeded damages; `FERULA_SWEEP=<n>` runs n instead, `FERULA_SWEEP=all` flips every byte and cuts at every offset (204,830
//! damages: some twenty CPU minutes on all cores).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ferula_fs::{Faulty, Fs, Open};
use ferula_model::{Histogram, SeriesRef, Span, Value};
use ferula_storage::{AppendOptions, Appendable, Durability, QueryContext, Queryable, SampleBatch, SelectHints};
use ferula_tsdb::Options;
use support::*;

const DIR: &str = "/data";
const MINUTE: i64 = 60_000;
/// Damages between two lines that say how far a long sweep is.
const PROGRESS_EVERY: usize = 1000;

fn options() -> Options {
    Options {
        wal_segment_size_bytes: 64 * 1024,
        max_block_range_ms: 120 * MINUTE,
        out_of_order_window_ms: 60 * MINUTE,
        ..support::options()
    }
}

fn prepare() -> Arc<Faulty> {
    let fs = Arc::new(Faulty::default());
    let db = open(fs.clone(), Path::new(DIR), options());
    let all: Vec<_> = (0..12).map(|i| labels(&format!("__name__=m{},i={i}", i % 3))).collect();
    let mut rng = fastrand::Rng::with_seed(3);
    for minute in 0..420i64 {
        let mut app = db.appender();
        for (i, l) in all.iter().enumerate() {
            let t = minute * MINUTE;
            if i == 11 {
                let n = minute as u64 + 1;
                let spans = vec![Span { offset: 0, length: 1 }];
                let h = Histogram {
                    count: n,
                    sum: n as f64,
                    positive_spans: spans,
                    positive_buckets: vec![n as i64],
                    ..Default::default()
                };
                app.append(SeriesRef::NONE, Some(l), 0, t, Value::Histogram(&h), &AppendOptions::default()).unwrap();
            } else if i == 10 && minute % 10 == 9 {
                append(&mut *app, l, t - 15 * MINUTE + 1, 1.0).unwrap();
            } else {
                append(&mut *app, l, t, rng.u32(..1000) as f64).unwrap();
            }
        }
        app.commit(Durability::Synced).unwrap();
        if minute == 300 {
            db.compact().unwrap();
            db.delete_series(&[vec![ferula_model::Matcher::equal("i", "4")]], 0, 50 * MINUTE).unwrap();
        }
    }
    db.close().unwrap();
    fs
}

fn files(fs: &Faulty, dir: &Path, out: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for e in fs.list(dir).unwrap() {
        let path = dir.join(&e.name);
        if e.is_dir {
            files(fs, &path, out);
        } else {
            out.insert(path.clone(), fs.read(&path).unwrap());
        }
    }
}

/// Reads what can be read; says whether anything was reported missing.
fn read_tolerantly(db: &dyn Queryable) -> (Content, bool) {
    let querier = db.querier(i64::MIN, i64::MAX).unwrap();
    let mut out = Content::new();
    let mut warned = false;
    let mut set = match querier.select(&QueryContext::background(), true, &SelectHints::default(), &[]) {
        Ok(set) => set,
        Err(_) => return (out, true),
    };
    while let Some(series) = set.next() {
        let Ok(mut series) = series else { return (out, true) };
        let mut batch = SampleBatch::default();
        let samples = out.entry(series.labels.to_labels()).or_default();
        loop {
            match series.samples.next_batch(&mut batch) {
                Ok(false) => break,
                Ok(true) => match &batch.values {
                    ferula_storage::Column::Floats(v) => {
                        samples.extend(batch.t_ms.iter().copied().zip(v.iter().map(|v| Sample::Float(*v))))
                    }
                    ferula_storage::Column::Histograms(h) => samples
                        .extend(batch.t_ms.iter().copied().zip(h.iter().map(|h| Sample::Histogram(Arc::clone(h))))),
                },
                Err(_) => {
                    warned = true;
                    break;
                }
            }
        }
    }
    warned |= !set.annotations().is_empty();
    (out, warned)
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Cut,
    /// A sector.
    Zeros,
    Flip(u8),
}

/// Which file, where, and what is done there.
fn damages(originals: &BTreeMap<PathBuf, Vec<u8>>) -> Vec<(PathBuf, usize, Kind)> {
    let wanted = std::env::var("FERULA_SWEEP").unwrap_or_default();
    let mut all = Vec::new();
    if wanted == "all" {
        for (path, bytes) in originals {
            all.extend((0..bytes.len()).map(|at| (path.clone(), at, Kind::Flip((at % 8) as u8))));
            all.extend((0..bytes.len()).map(|at| (path.clone(), at, Kind::Cut)));
            all.extend((0..bytes.len()).step_by(512).map(|at| (path.clone(), at, Kind::Zeros)));
        }
        return all;
    }
    for seed in 0..wanted.parse().unwrap_or(300u64) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (path, bytes) = originals.iter().nth(rng.usize(..originals.len())).unwrap();
        let at = rng.usize(..bytes.len());
        let kind = match seed % 4 {
            0 => Kind::Cut,
            1 => Kind::Zeros,
            _ => Kind::Flip(rng.u8(..8)),
        };
        all.push((path.clone(), at, kind));
    }
    all
}

#[test]
fn damage_anywhere_is_survived() {
    let fs = prepare();
    let want = read_all(&*open(Arc::new(fs.kill_image()), Path::new(DIR), options()));
    let mut originals = BTreeMap::new();
    files(&fs, Path::new(DIR), &mut originals);
    originals.retain(|_, b| !b.is_empty());
    let all = damages(&originals);
    let (next, lossless, silent) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    // A thread takes the next damage when it is done with one: how much they cost differs a lot.
    let sweep = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let Some(damage) = all.get(seed) else { return };
            match one(&fs, &originals, &want, seed, damage) {
                Outcome::Whole => drop(lossless.fetch_add(1, Ordering::Relaxed)),
                Outcome::Told => {}
                Outcome::Silent(what) => silent.lock().unwrap().push(what),
            }
            if (seed + 1).is_multiple_of(PROGRESS_EVERY) {
                let (whole, silent) = (lossless.load(Ordering::Relaxed), silent.lock().unwrap().len());
                println!("{} of {} damages: {whole} without any loss, {silent} silent", seed + 1, all.len());
            }
        }
    };
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        (1..threads).for_each(|_| drop(scope.spawn(sweep)));
        sweep();
    });
    let (lossless, silent) = (lossless.into_inner(), silent.into_inner().unwrap());
    println!("{} damages: {lossless} without any loss, {} silent", all.len(), silent.len());
    for s in &silent {
        println!("{s}");
    }
    assert!(silent.is_empty(), "{}", silent.join("\n"));
}

enum Outcome {
    /// Nothing is missing.
    Whole,
    /// Something is, and the store says so, or nobody could.
    Told,
    Silent(String),
}

/// One damage to a copy of the directory.
fn one(
    fs: &Faulty,
    originals: &BTreeMap<PathBuf, Vec<u8>>,
    want: &Content,
    seed: usize,
    (path, at, kind): &(PathBuf, usize, Kind),
) -> Outcome {
    let (at, kind) = (*at, *kind);
    let bytes = &originals[path];
    let image = Arc::new(fs.kill_image());
    let file = image.open(path, Open::Write).unwrap();
    let what = match kind {
        Kind::Cut => {
            file.truncate(at as u64).unwrap();
            "cut"
        }
        Kind::Zeros => {
            let end = (at + 512).min(bytes.len());
            file.write_at(at as u64, &vec![0; end - at]).unwrap();
            "zeros"
        }
        Kind::Flip(bit) => {
            file.write_at(at as u64, &[bytes[at] ^ (1 << bit)]).unwrap();
            "flip"
        }
    };
    let case = format!("seed {seed}: {what} at {at} of {} ({})", path.display(), bytes.len());
    let damaged = image.read(path).unwrap();
    let db = try_open(image.clone(), Path::new(DIR), options()).unwrap_or_else(|e| panic!("{case}: {e}"));
    let (got, warned) = read_tolerantly(&*db);
    let mut missing = 0;
    for (l, samples) in want {
        let got: BTreeMap<i64, &Sample> = got.get(l).into_iter().flatten().map(|(t, s)| (*t, s)).collect();
        missing += samples.iter().filter(|(t, _)| !got.contains_key(t)).count();
    }
    // The deleted stretch comes back when the tombstones are unreadable; nothing else may be new or different.
    for (l, samples) in &got {
        let known: BTreeMap<i64, &Sample> = want.get(l).into_iter().flatten().map(|(t, s)| (*t, s)).collect();
        for (t, s) in samples {
            let was_deleted = l.get("i") == Some("4") && *t <= 50 * MINUTE;
            assert!(was_deleted || known.get(t) == Some(&s), "{case}: wrong sample {l:?} {t} {s:?}");
        }
    }
    // Records of unknown type are left alone and reported.
    let reported = image.exists(Path::new("/data/quarantine")) || db.replay_report().stats.unknown > 0;
    // A log that ends at a record is a log of an earlier moment: nothing can tell.
    let used = damaged.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1);
    let is_log = path.starts_with("/data/wbl") || path.starts_with("/data/wal");
    let outcome = if missing == 0 {
        Outcome::Whole
    } else if warned || reported || !db.bad_blocks().is_empty() || (is_log && bytes.starts_with(&damaged[..used])) {
        Outcome::Told
    } else {
        Outcome::Silent(format!("{case}: {missing} samples missing"))
    };
    let told = image.exists(Path::new("/data/recovery_report.json"));
    let lost = db.replay_report();
    assert_eq!(
        told,
        !lost.damaged.is_empty() || !db.bad_blocks().is_empty() || lost.stats.orphaned + lost.stats.unknown > 0,
        "{case}"
    );
    // The damaged bytes are where they were, or in the quarantine.
    let mut now = BTreeMap::new();
    files(&image, Path::new(DIR), &mut now);
    // The restart index is ours, and written anew.
    let is_index = path.ends_with("restart_index");
    assert!(is_index || now.values().any(|b| *b == damaged), "{case}: the damaged file is gone");
    put(&db, &labels("__name__=later"), 421 * MINUTE, 1.0).unwrap_or_else(|e| panic!("{case}: {e}"));
    outcome
}
