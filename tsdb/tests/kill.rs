//! kill -9 in a loop, at start-up, under load and during compaction: what was acknowledged is there, once and unchanged.
//!
//! The test runs its own binary as a child, which writes, compacts, and says on its standard output what is on disk.
//! Ten rounds; `FERULA_KILLS=<n>` runs n.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use ferula_fs::Disk;
use ferula_model::{Labels, SeriesRef, Value};
use ferula_storage::{AppendOptions, Appendable, Durability};
use ferula_tsdb::{Db, Options};
use support::*;

const MINUTE: i64 = 60_000;
const CHILD: &str = "FERULA_KILL_CHILD";

fn options() -> Options {
    Options { wal_segment_size_bytes: 64 * 1024, max_block_range_ms: 480 * MINUTE, ..support::options() }
}

fn all() -> Vec<Labels> {
    (0..8).map(|i| labels(&format!("__name__=m,i={i}"))).collect()
}

fn value(series: usize, minute: i64) -> f64 {
    (series as i64 * 7919 + minute * 104_729 % 1000) as f64
}

/// The child's life; as a test of its own it has nothing to do.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let background = Options { background: true, ..options() };
    let db: Arc<Db> = open(Arc::new(Disk), Path::new(&dir), background);
    db.wait_until_replayed().unwrap();
    let mut minute = db.head().max_time().max(-MINUTE) / MINUTE;
    println!("\nopen");
    let compacting = Arc::clone(&db);
    std::thread::spawn(move || {
        while compacting.compact().is_ok() {
            std::thread::yield_now();
        }
    });
    let all = all();
    loop {
        minute += 1;
        let mut app = db.appender();
        for (i, l) in all.iter().enumerate() {
            let v = Value::Float(value(i, minute));
            app.append(SeriesRef::NONE, Some(l), 0, minute * MINUTE, v, &AppendOptions::default()).unwrap();
        }
        app.commit(Durability::Synced).unwrap();
        println!("acknowledged {minute}");
        std::io::stdout().flush().unwrap();
    }
}

#[test]
fn kill_loop() {
    if std::env::var_os(CHILD).is_some() {
        return;
    }
    let rounds = std::env::var("FERULA_KILLS").ok().and_then(|n| n.parse().ok()).unwrap_or(10u64);
    let dir = tempfile::tempdir().unwrap();
    let (mut last, mut from_index, mut blocks) = (-1i64, 0, 0);
    for round in 0..rounds {
        let mut rng = fastrand::Rng::with_seed(round);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Killed after so many lines: now and then before it is open.
        let lines = if round % 5 == 4 { rng.usize(0..4) } else { rng.usize(50..700) };
        let mut out = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in out.by_ref().take(lines) {
            let line = line.unwrap();
            if let Some(n) = line.strip_prefix("acknowledged ") {
                last = n.parse().unwrap();
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died counts, too.
        for line in out.map_while(Result::ok) {
            if let Some(n) = line.strip_prefix("acknowledged ").and_then(|n| n.parse().ok()) {
                last = n;
            }
        }
        let db = open(Arc::new(Disk), dir.path(), options());
        from_index += usize::from(db.series_from_index().is_some());
        blocks = blocks.max(db.blocks().len());
        assert!(db.bad_blocks().is_empty(), "round {round}: {:?}", db.bad_blocks());
        assert_eq!(db.replay_report().stats.orphaned, 0, "round {round}");
        let content = read_all(&*db);
        for (i, l) in all().iter().enumerate() {
            let samples = content.get(l).map_or(&[][..], |s| s);
            assert!(samples.len() as i64 > last, "round {round}: {} of {} acknowledged", samples.len(), last + 1);
            for (n, (t, v)) in samples.iter().enumerate() {
                let n = n as i64;
                assert_eq!((*t, v), (n * MINUTE, &Sample::Float(value(i, n))), "round {round}, series {i}");
            }
        }
        db.close().unwrap();
    }
    println!("{rounds} kills, {} commits acknowledged, {from_index} restarts from the index", last + 1);
    assert!(from_index > 0 && blocks > 0 && last > 100);
}
