//! Files of blocks and head chunks cut under a running querier: the process lives, and the answer is an error or a
//! warning that names what is damaged, never silently less or different.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ferula_fs::{Disk, Fs};
use ferula_storage::{
    Appendable, Column, Durability, QueryContext, Queryable, SampleBatch, SelectHints, SeriesSet, StorageError,
};
use ferula_tsdb::Options;
use support::*;

const MINUTE: i64 = 60_000;

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for e in Disk.list(dir).unwrap() {
        let path = dir.join(&e.name);
        if e.is_dir { out.extend(files(&path)) } else { out.push(path) }
    }
    out
}

/// Everything that is left of the set, and the errors and warnings.
fn drain(set: &mut dyn SeriesSet) -> (Content, Vec<String>) {
    let (mut out, mut problems) = (Content::new(), Vec::new());
    let problem = |e: StorageError, problems: &mut Vec<String>| problems.push(e.to_string());
    while let Some(series) = set.next() {
        let mut series = match series {
            Ok(s) => s,
            Err(e) => {
                problem(e, &mut problems);
                break;
            }
        };
        let samples = out.entry(series.labels.to_labels()).or_default();
        let mut batch = SampleBatch::default();
        loop {
            match series.samples.next_batch(&mut batch) {
                Ok(false) => break,
                Err(e) => {
                    problem(e, &mut problems);
                    break;
                }
                Ok(true) => {
                    let Column::Floats(v) = &batch.values else { panic!("floats only") };
                    samples.extend(batch.t_ms.iter().copied().zip(v.iter().map(|v| Sample::Float(*v))));
                }
            }
        }
    }
    problems.extend(set.annotations().warnings.iter().cloned());
    (out, problems)
}

#[test]
fn a_cut_file_is_an_error_not_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let all: Vec<_> = (0..60).map(|i| labels(&format!("__name__=m{},i=n{i:03}", i % 3))).collect();
    let db = open_disk(dir.path());
    let mut rng = fastrand::Rng::with_seed(1);
    for minute in 0..780 {
        let mut app = db.appender();
        for l in &all {
            append(&mut *app, l, minute * MINUTE, f64::from(rng.u32(..))).unwrap();
        }
        app.commit(Durability::Written).unwrap();
        if minute == 650 {
            db.compact().unwrap();
        }
    }
    db.close().unwrap();
    let want = read_all(&*db);
    drop(db);
    let template = dir.path().to_owned();
    let mut noticed: BTreeMap<&str, usize> = BTreeMap::new();
    let cases: Vec<PathBuf> = files(&template)
        .into_iter()
        .filter(|p| {
            p.components().any(|c| c.as_os_str() == "chunks" || c.as_os_str() == "chunks_head") || p.ends_with("index")
        })
        .map(|p| p.strip_prefix(&template).unwrap().to_owned())
        .collect();
    assert!(cases.len() >= 3, "{cases:?}");
    for file in &cases {
        for (case, cut_at) in [(0, 0), (1, 0), (2, 4096), (3, 20_000)] {
            let copy = tempfile::tempdir().unwrap();
            for p in files(&template) {
                let to = copy.path().join(p.strip_prefix(&template).unwrap());
                std::fs::create_dir_all(to.parent().unwrap()).unwrap();
                std::fs::copy(&p, &to).unwrap();
            }
            let options = Options { reader_patience: Duration::ZERO, ..options() };
            let db = open(Arc::new(Disk), copy.path(), options);
            let querier = db.querier(i64::MIN, i64::MAX).unwrap();
            let ctx = QueryContext::background();
            let mut set = querier.select(&ctx, true, &SelectHints::default(), &[]).unwrap();
            let first = (case > 0).then(|| set.next());
            let path = copy.path().join(file);
            std::fs::File::options().write(true).open(&path).unwrap().set_len(cut_at).unwrap();
            let (got, problems) = drain(&mut *set);
            drop(first);
            let mut missing = 0;
            for (l, samples) in &want {
                let got: BTreeMap<i64, &Sample> = got.get(l).into_iter().flatten().map(|(t, s)| (*t, s)).collect();
                let known: BTreeMap<i64, &Sample> = samples.iter().map(|(t, s)| (*t, s)).collect();
                assert!(got.iter().all(|(t, s)| known.get(t) == Some(s)), "{file:?} at {cut_at}: wrong sample");
                missing += usize::from(got.len() < known.len());
            }
            // The series taken before the cut was not read.
            assert!(missing <= case.min(1) || !problems.is_empty(), "{file:?} at {cut_at}: {missing} silently");
            if !problems.is_empty() {
                let kind = if file.ends_with("index") {
                    "index"
                } else {
                    file.components().rev().nth(1).unwrap().as_os_str().to_str().unwrap()
                };
                let named = problems
                    .iter()
                    .any(|p| p.contains(file.file_name().unwrap().to_str().unwrap()) || p.contains("chunks_head"));
                assert!(named, "{file:?}: {problems:?}");
                *noticed
                    .entry(if kind == "index" {
                        "index"
                    } else if kind == "chunks" {
                        "chunks"
                    } else {
                        "chunks_head"
                    })
                    .or_default() += 1;
            }
            // The store goes on: it takes samples, and no compaction destroys what is left.
            put(&db, &all[0], 781 * MINUTE, 1.0).unwrap();
            let _ = db.compact();
            assert!(path.exists(), "{file:?} is gone");
        }
    }
    assert!(noticed.len() == 3, "{noticed:?}");
    assert!(ferula_fs::faults_caught() > 0, "no fault was caught");
}
