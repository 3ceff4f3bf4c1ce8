//! A directory that a real Prometheus left with `memory-snapshot-on-shutdown`: every sample is there at once, with the log
//! behind the snapshot and without it, and the snapshot moves aside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::path::Path;

use support::prometheus::{Answer, answer, ours, request, start, stop, wait_for};
use support::*;

/// The last hour of every series.
const EVERYTHING: &str = "%7B__name__!=%22%22%7D%5B1h%5D";

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for e in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(e.file_name());
        if e.file_type().unwrap().is_dir() {
            copy(&e.path(), &to)
        } else {
            std::fs::copy(e.path(), to).map(|_| ()).unwrap()
        }
    }
}

fn snapshots(data: &Path) -> usize {
    let entries = std::fs::read_dir(data).unwrap().map(Result::unwrap);
    entries.filter(|e| e.file_name().to_string_lossy().starts_with("chunk_snapshot.")).count()
}

fn check(name: &str, want: &Answer, data: &Path) {
    let mut options = options();
    options.max_exemplars = 1000;
    let db = open(std::sync::Arc::new(ferula_fs::Disk), data, options.clone());
    let got = ours(&read_all(&*db));
    let samples: usize = want.values().map(Vec::len).sum();
    let wrong: Vec<_> = want.iter().filter(|(labels, w)| got.get(*labels) != Some(w)).take(3).collect();
    assert!(wrong.is_empty() && got.len() == want.len(), "{name}: {wrong:?}, {} of {}", got.len(), want.len());
    let report = db.replay_report();
    println!("{name}: {} series, {samples} samples equal; {:?}", want.len(), report.stats);
    assert_eq!(report.snapshot_error, None);
    assert_eq!(snapshots(data), 0, "it moved aside");
    let exemplars = db.head().exemplar_count();
    // What only the snapshot had is in the log now: a crash loses nothing of it.
    drop(db);
    let _ = std::fs::remove_file(data.join("restart_index"));
    let again = open(std::sync::Arc::new(ferula_fs::Disk), data, options);
    assert_eq!(ours(&read_all(&*again)), got, "{name}: after another start");
    assert_eq!(again.head().exemplar_count(), exemplars);
    assert_eq!(again.replay_report().stats.from_snapshot, 0);
}

#[test]
fn a_snapshot_of_open_chunks() {
    let Some(program) = peer("chunk snapshots of Prometheus", "prometheus") else { return };
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let (child, address) = start(&program, dir.path(), &data, true);
    let scraped = |b: &str| {
        b.lines().any(|l| {
            l.strip_prefix("prometheus_tsdb_head_samples_appended_total{type=\"float\"} ")
                .is_some_and(|n| n.parse::<f64>().unwrap() > 20_000.0)
        })
    };
    wait_for(&address, "/metrics", scraped);
    let deleted = "/api/v1/admin/tsdb/delete_series?match[]=%7B__name__=~%22go_.*%22%7D";
    request(&address, "POST", deleted).expect("samples can be deleted");
    stop(child);
    assert_eq!(snapshots(&data), 1);
    let (whole, theirs) = (dir.path().join("whole"), dir.path().join("theirs"));
    copy(&data, &whole);
    copy(&data, &theirs);
    let want = answer(&program, dir.path(), &theirs, EVERYTHING);
    assert!(want.values().flatten().count() > 10_000, "{}", want.len());
    check("log and snapshot", &want, &whole);

    // The log before the snapshot is gone: its open chunks are all there is.
    let (cut, theirs) = (dir.path().join("cut"), dir.path().join("theirs-cut"));
    std::fs::write(data.join("wal/00000000"), b"").unwrap();
    copy(&data, &cut);
    copy(&data, &theirs);
    let want = answer(&program, dir.path(), &theirs, EVERYTHING);
    assert!(want.values().flatten().count() > 10_000, "{}", want.len());
    check("snapshot only", &want, &cut);

    // Damage in it is said, and what is readable used.
    let broken = dir.path().join("broken");
    copy(&data, &broken);
    let snapshot = std::fs::read_dir(&broken)
        .unwrap()
        .map(Result::unwrap)
        .find(|e| e.file_name().to_string_lossy().starts_with("chunk_snapshot."))
        .unwrap();
    let file = snapshot.path().join("00000000");
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[40_000] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let db = open_disk(&broken);
    assert!(db.replay_report().snapshot_error.is_some());
    let got = ours(&read_all(&*db));
    assert!(
        !got.is_empty() && got.iter().all(|(labels, lines)| want.get(labels) == Some(lines)),
        "nothing is invented"
    );
    println!("damaged snapshot: {} of {} series", got.len(), want.len());
}
