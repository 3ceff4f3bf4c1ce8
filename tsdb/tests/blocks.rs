//! Blocks: cutting the head, merging, deleting, snapshots, crashes in between.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::path::Path;
use std::sync::Arc;

use ferula_fs::{Disk, Faulty, Fs};
use ferula_model::{Histogram, Labels, Matcher, SeriesRef, Span, Value};
use ferula_storage::{AppendOptions, Appendable, Durability, LabelHints, QueryContext, Queryable, SelectHints};
use ferula_tsdb::{Db, Error, Options};
use support::*;

const DIR: &str = "/data";
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

fn series(n: usize) -> Vec<Labels> {
    (0..n).map(|i| labels(&format!("__name__=m{},i={i}", i % 2))).collect()
}

/// A sample a minute for every series over the half-open range of minutes; every seventh series is a histogram.
fn fill(db: &Db, series: &[Labels], from: i64, to: i64) {
    for m in from..to {
        let mut app = db.appender();
        for (i, l) in series.iter().enumerate() {
            if i % 7 == 6 {
                let n = (m - from + 1) as u64;
                let h = Histogram {
                    schema: 0,
                    count: n * 2,
                    sum: n as f64,
                    positive_spans: vec![Span { offset: 0, length: 2 }],
                    positive_buckets: vec![n as i64, 0],
                    ..Histogram::default()
                };
                app.append(SeriesRef::NONE, Some(l), 0, m * MINUTE, Value::Histogram(&h), &AppendOptions::default())
                    .unwrap();
            } else {
                append(&mut *app, l, m * MINUTE, (m * 10 + i as i64) as f64).unwrap();
            }
        }
        app.commit(Durability::Written).unwrap();
    }
}

fn total(c: &Content) -> usize {
    c.values().map(Vec::len).sum()
}

#[test]
fn the_head_becomes_blocks_and_nothing_changes() {
    let fs = Arc::new(Faulty::default());
    let options = Options { wal_segment_size_bytes: 64 * 1024, ..options() };
    let db = open(fs.clone(), Path::new(DIR), options.clone());
    let all = series(14);
    fill(&db, &all, 0, 620); // 10 h 20 min
    let want = read_all(&*db);
    db.compact().unwrap();
    let ranges: Vec<_> = db.blocks().iter().map(|b| (b.meta.min_time_ms / HOUR, b.meta.max_time_ms / HOUR)).collect();
    assert_eq!(ranges, [(0, 6), (6, 8)], "three blocks of two hours were merged");
    assert_eq!(db.head().min_time(), 8 * HOUR);
    assert_eq!(read_all(&*db), want);
    let meta = db.blocks()[0].meta.clone();
    assert_eq!((meta.stats.num_series, meta.stats.num_samples), (14, 14 * 360));
    assert_eq!((meta.compaction.level, meta.compaction.sources.len(), meta.compaction.parents.len()), (2, 3, 3));
    let part = read(&*db, 5 * HOUR, 7 * HOUR, &[Matcher::equal("i", "3")]);
    assert_eq!(total(&part), 121);
    assert_eq!(put(&db, &all[0], 5 * HOUR, 1.0), Err(ferula_storage::AppendError::OutOfBounds));
    let ctx = QueryContext::background();
    let q = db.querier(0, HOUR).unwrap();
    assert_eq!(q.label_values(&ctx, "__name__", &LabelHints::default(), &[]).unwrap().0, ["m0", "m1"]);
    assert_eq!(q.label_names(&ctx, &LabelHints::default(), &[Matcher::equal("i", "1")]).unwrap().0, ["__name__", "i"]);

    // The log was cut: its first segments are in a checkpoint now.
    let wal: Vec<_> = fs.list(Path::new("/data/wal")).unwrap().into_iter().map(|e| e.name).collect();
    assert!(wal.iter().any(|n| n.starts_with("checkpoint.")) && !wal.contains(&"00000000".to_owned()), "{wal:?}");
    let again = open(Arc::new(fs.kill_image()), Path::new(DIR), options);
    assert_eq!(read_all(&*again), want);
    assert_eq!(again.head().last_ref(), db.head().last_ref());
    fill(&again, &all, 620, 630);
    assert_eq!(total(&read_all(&*again)), total(&want) + 140);
}

#[test]
fn a_crash_at_any_step_of_compaction_loses_nothing() {
    let all = series(4);
    let prepare = |seed| {
        let fs = Arc::new(Faulty::new(seed));
        let db = open(fs.clone(), Path::new(DIR), Options { wal_segment_size_bytes: 32 * 1024, ..options() });
        fill(&db, &all, 0, 400);
        db.wal().sync().unwrap();
        (fs, db)
    };
    let (fs, db) = prepare(0);
    let want = read_all(&*db);
    let before = fs.operations();
    db.compact().unwrap();
    let steps = fs.operations() - before;
    assert!(steps > 50, "{steps}");
    for step in 0..steps {
        let (fs, db) = prepare(step);
        fs.crash_at(fs.operations() + step);
        assert!(db.compact().is_err(), "step {step}");
        for seed in 0..3 {
            let image = Arc::new(fs.crash_image(step * 3 + seed));
            let again = try_open(image.clone(), Path::new(DIR), options());
            let again = again.unwrap_or_else(|e| panic!("step {step} seed {seed}: {e}\n{:?}", fs.log().last()));
            assert!(read_all(&*again) == want, "step {step} seed {seed}: {:?}", fs.log().last());
            assert!(again.bad_blocks().is_empty());
            again.compact().unwrap();
            assert!(read_all(&*again) == want, "compacted after a crash at step {step} seed {seed}");
            let left: Vec<_> =
                image.list(Path::new(DIR)).unwrap().into_iter().filter(|e| e.name.contains("tmp")).collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}

#[test]
fn errors_during_compaction_change_nothing_and_are_tried_again() {
    let all = series(4);
    for step in (0..120).step_by(3) {
        let fs = Arc::new(Faulty::new(step));
        let db = open(fs.clone(), Path::new(DIR), Options { wal_segment_size_bytes: 32 * 1024, ..options() });
        fill(&db, &all, 0, 400);
        let want = read_all(&*db);
        fs.fail_at(fs.operations() + step, std::io::ErrorKind::Other);
        let first = db.compact();
        assert_eq!(read_all(&*db), want, "step {step} {first:?}");
        match db.compact() {
            Ok(()) | Err(Error::Poisoned(_)) => {} // a failed sync of the log is final
            Err(e) => panic!("step {step}: {e}"),
        }
        assert_eq!(read_all(&*db), want, "step {step}");
        drop(db);
        let again = open(Arc::new(fs.kill_image()), Path::new(DIR), options());
        assert_eq!(read_all(&*again), want, "step {step}");
    }
}

#[test]
fn deleted_samples_are_gone_everywhere() {
    let fs = Arc::new(Faulty::default());
    let db = open(fs.clone(), Path::new(DIR), options());
    let all = series(8);
    fill(&db, &all, 0, 300);
    db.compact().unwrap();
    assert_eq!(db.blocks().len(), 1);
    let before = read_all(&*db);
    let matchers = vec![Matcher::equal("__name__", "m0")];
    db.delete_series(std::slice::from_ref(&matchers), 100 * MINUTE, 200 * MINUTE).unwrap();
    let mut want = before.clone();
    for (l, samples) in &mut want {
        if l.metric_name() == "m0" {
            samples.retain(|(t, _)| !(100 * MINUTE..=200 * MINUTE).contains(t));
        }
    }
    assert!(read_all(&*db) == want);
    let again = open(Arc::new(fs.kill_image()), Path::new(DIR), options());
    assert!(read_all(&*again) == want, "after a restart");
    again.clean_tombstones().unwrap();
    assert!(read_all(&*again) == want);
    assert_eq!((again.blocks().len(), again.blocks()[0].tombstone_count()), (1, 0));
    fill(&again, &all, 300, 500);
    again.compact().unwrap();
    let got = read_all(&*again);
    assert_eq!(total(&got), total(&want) + 1600, "the head's deletions went into its block");
    db.delete_series(&[vec![]], i64::MIN, i64::MAX).unwrap();
    assert!(read_all(&*db) == want, "no matcher is no wish to delete all");
    let any: Vec<Vec<Matcher>> = ["m0", "m1"].map(|name| vec![Matcher::equal("__name__", name)]).into();
    db.delete_series(&any, i64::MIN, i64::MAX).unwrap();
    assert!(read_all(&*db).is_empty());
    put(&db, &all[0], 301 * MINUTE, 1.0).unwrap();
    assert_eq!(total(&read_all(&*db)), 1, "later samples are not deleted");
}

#[test]
fn retention_drops_old_blocks() {
    let fs = Arc::new(Faulty::default());
    let options = Options { retention_ms: 6 * HOUR, max_block_range_ms: 2 * HOUR, ..options() };
    let db = open(fs.clone(), Path::new(DIR), options.clone());
    let all = series(2);
    fill(&db, &all, 0, 15 * 60);
    db.compact().unwrap();
    let ranges: Vec<_> = db.blocks().iter().map(|b| b.meta.min_time_ms / HOUR).collect();
    assert_eq!(ranges, [6, 8, 10]);
    drop(db);
    let size = Options { retention_size_bytes: 1, ..options };
    let db = open(fs, Path::new(DIR), size);
    db.compact().unwrap();
    assert!(db.blocks().is_empty());
}

#[test]
fn series_that_ended_are_forgotten_and_come_back_under_a_new_reference() {
    let fs = Arc::new(Faulty::default());
    let db = open(fs.clone(), Path::new(DIR), Options { wal_segment_size_bytes: 32 * 1024, ..options() });
    let all = series(6);
    fill(&db, &all[..3], 0, 60);
    fill(&db, &all[3..], 60, 400);
    db.compact().unwrap();
    assert_eq!(db.head_stats().series, 3);
    let last = db.head().last_ref();
    fill(&db, &all[..3], 400, 700);
    assert_eq!(db.head().last_ref(), last + 3);
    let want = read_all(&*db);
    let again = open(Arc::new(fs.kill_image()), Path::new(DIR), options());
    assert!(read_all(&*again) == want);
    again.compact().unwrap();
    assert!(read_all(&*again) == want);
    fill(&again, &all, 700, 720);
    again.compact().unwrap();
    drop(again);
}

#[test]
fn a_damaged_block_is_left_out_with_a_warning() {
    let fs = Arc::new(Faulty::default());
    let db = open(fs.clone(), Path::new(DIR), Options { max_block_range_ms: 2 * HOUR, ..options() });
    let all = series(3);
    fill(&db, &all, 0, 400);
    db.compact().unwrap();
    assert_eq!(db.blocks().len(), 2);
    let want = read_all(&*db);
    let image = Arc::new(fs.kill_image());
    let index = db.blocks()[0].dir.join("index");
    let size = image.metadata(&index).unwrap().len;
    image.open(&index, ferula_fs::Open::Write).unwrap().write_at(size - 10, &[0xff]).unwrap();
    let again = open(image.clone(), Path::new(DIR), Options { max_block_range_ms: 2 * HOUR, ..options() });
    assert_eq!((again.blocks().len(), again.bad_blocks().len()), (1, 1));
    assert!(image.exists(&index), "it is never deleted");
    let q = again.querier(0, HOUR).unwrap();
    let mut set = q.select(&QueryContext::background(), true, &Default::default(), &[]).unwrap();
    assert!(set.next().is_none());
    assert!(set.annotations().warnings.iter().any(|w| w.contains("index")));
    assert_eq!(total(&read(&*again, 2 * HOUR, i64::MAX, &[])), total(&want) - 360);
    let strict = Options { strict_recovery: true, ..options() };
    drop(again);
    assert!(try_open(image, Path::new(DIR), strict).is_err());
}

#[test]
fn snapshots_are_whole_directories() {
    let dir = tempfile::tempdir().unwrap();
    let db = open_disk(dir.path());
    fill(&db, &series(9), 0, 300);
    db.compact().unwrap();
    let name = db.snapshot(false).unwrap();
    assert!(name.starts_with("20231114T221320Z-"), "{name}");
    let copy = open_disk(&dir.path().join("snapshots").join(name));
    assert_eq!((copy.blocks().len(), copy.head_stats().series), (2, 0));
    assert_eq!(read_all(&*copy), read_all(&*db));
}

/// What the real tools say of a directory of ours.
#[test]
fn promtool_reads_our_blocks() {
    let Some(promtool) = peer("promtool reads our blocks", "promtool") else { return };
    let dir = tempfile::tempdir().unwrap();
    let db = open(Arc::new(Disk), dir.path(), options());
    fill(&db, &series(14), 0, 500);
    db.compact().unwrap();
    db.close().unwrap();
    let run = |args: &[&str]| {
        let out = std::process::Command::new(&promtool).args(args).arg(dir.path()).output().unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{args:?}: {text}");
        text
    };
    let ulid = db.blocks()[0].meta.ulid.clone();
    assert!(run(&["tsdb", "list"]).contains(&ulid));
    assert!(run(&["tsdb", "analyze"]).contains("Total Series: 14"));
    let dump = run(&["tsdb", "dump"]);
    let lines = dump.lines().filter(|l| l.starts_with('{')).count();
    // promtool's dump asks for floats, then float histograms, then histograms, and each question swallows a sample: two
    // are missing of every histogram series.
    assert_eq!(lines, total(&read_all(&*db)) - 2 * 2, "every sample of blocks and log");
    println!("promtool tsdb dump: {lines} samples");
}

/// A running Prometheus, killed when dropped.
struct Prometheus {
    process: std::process::Child,
    address: String,
    _log: tempfile::TempDir,
}

impl Prometheus {
    fn start(program: &Path, data: &Path) -> Prometheus {
        let log = tempfile::tempdir().unwrap();
        let (config, output) = (log.path().join("p.yml"), log.path().join("log"));
        std::fs::write(&config, "global: {}\n").unwrap();
        let process = std::process::Command::new(program)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .args(["--web.listen-address=127.0.0.1:0", "--storage.tsdb.retention.time=100y"])
            .stderr(std::fs::File::create(&output).unwrap())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut started = Prometheus { process, address: String::new(), _log: log };
        for _ in 0..1000 {
            let text = std::fs::read_to_string(&output).unwrap();
            assert!(!text.to_lowercase().contains("corrupt"), "{text}");
            if text.contains("Server is ready to receive web requests")
                && let Some(at) = text.split("msg=\"Listening on\"").nth(1)
            {
                let address = at.split("address=").nth(1).unwrap();
                started.address = address.split_whitespace().next().unwrap().to_owned();
                return started;
            }
            assert!(started.process.try_wait().unwrap().is_none(), "it ended: {text}");
            std::thread::sleep(std::time::Duration::from_millis(20)); // waiting for another program, not for us
        }
        panic!("not ready: {}", std::fs::read_to_string(&output).unwrap());
    }
    fn query(&self, expr: &str, time: f64) -> serde_json::Value {
        use std::io::{Read, Write};
        let escaped: String = expr.bytes().map(|b| format!("%{b:02x}")).collect();
        let mut c = std::net::TcpStream::connect(&self.address).unwrap();
        write!(c, "GET /api/v1/query?query={escaped}&time={time} HTTP/1.0\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = String::new();
        c.read_to_string(&mut answer).unwrap();
        let json: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!(json["status"], "success", "{json}");
        json["data"]["result"].clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn prometheus_takes_our_directory_and_gives_it_back() {
    let Some(program) = peer("Prometheus on our directory", "prometheus") else { return };
    let dir = tempfile::tempdir().unwrap();
    let base = 1_700_006_400_000 / MINUTE;
    let db = open_disk(dir.path());
    fill(&db, &series(14), base, base + 500);
    db.compact().unwrap();
    db.delete_series(&[vec![Matcher::equal("i", "3")]], i64::MIN, i64::MAX).unwrap();
    db.close().unwrap();
    let want = read_all(&*db);
    drop(db);
    let peer = Prometheus::start(&program, dir.path());
    let end = (base + 499) * 60;
    let got = peer.query("sum(count_over_time({__name__=~\"m.\"}[9h]))", end as f64);
    assert_eq!(got[0]["value"][1], total(&want).to_string(), "{got}");
    let got = peer.query("m0{i=\"4\"}", (end - 3600 * 7) as f64);
    assert_eq!(got[0]["value"][1], ((base + 499 - 420) * 10 + 4).to_string(), "{got}");
    let got = peer.query("histogram_count(m0{i=\"6\"})", end as f64);
    assert_eq!(got[0]["value"][1], "1000", "{got}");
    drop(peer);
    let db = open_disk(dir.path());
    assert!(read_all(&*db) == want, "and back again");
}

/// A querier that nobody drops: compaction goes on, and what it should have seen is an error to it, not a gap.
#[test]
fn a_leaked_querier_does_not_stop_compaction() {
    let fs = Arc::new(Faulty::default());
    let options = Options { reader_patience: std::time::Duration::ZERO, ..options() };
    let db = open(fs, Path::new("/data"), options);
    for minute in 0..400i64 {
        (0..3).for_each(|i| put(&db, &labels(&format!("__name__=m,i={i}")), minute * 60_000, 1.0).unwrap());
    }
    let querier = db.querier(0, i64::MAX).unwrap();
    let ctx = QueryContext::background();
    let mut set = querier.select(&ctx, true, &SelectHints::default(), &[]).unwrap();
    assert!(set.next().is_some_and(|s| s.is_ok()));
    db.compact().unwrap();
    assert!(!db.blocks().is_empty());
    let told = set.next().unwrap().err().map(|e| e.to_string()).unwrap_or_default();
    assert!(told.contains("took too long"), "{told}");
    assert!(set.next().is_none());
    assert_eq!(read_all(&*db).values().map(Vec::len).sum::<usize>(), 1200);
}

#[test]
fn blocks_appear_and_disappear_while_the_store_is_open() {
    let fs = Arc::new(Faulty::default());
    let db = open(fs.clone(), Path::new(DIR), options());
    fill(&db, &series(3), 0, 400);
    db.compact().unwrap();
    let before = read_all(&*db);
    let blocks: Vec<String> = db.blocks().iter().map(|b| b.meta.ulid.clone()).collect();
    assert!(!blocks.is_empty());
    let (at, aside) = (Path::new(DIR).join(&blocks[0]), Path::new("/aside"));
    fs.rename(&at, aside).unwrap();
    db.reload_blocks().unwrap();
    assert_eq!(db.blocks().len(), blocks.len() - 1);
    assert!(read_all(&*db) != before);
    fs.rename(aside, &at).unwrap();
    db.reload_blocks().unwrap();
    assert!(read_all(&*db) == before);
    // One that cannot be read is named, until it can.
    let meta = at.join("meta.json");
    let good = fs.read(&meta).unwrap();
    fs.rename(&at, aside).unwrap();
    db.reload_blocks().unwrap();
    fs.write_atomically(&aside.join("meta.json"), b"{}").unwrap();
    fs.rename(aside, &at).unwrap();
    db.reload_blocks().unwrap();
    assert_eq!((db.bad_blocks().len(), db.blocks().len()), (1, blocks.len() - 1));
    fs.write_atomically(&meta, &good).unwrap();
    db.reload_blocks().unwrap();
    assert_eq!((db.bad_blocks().len(), read_all(&*db) == before), (0, true));
}

#[test]
fn blocks_wait_for_their_upload() {
    let fs = Arc::new(Faulty::default());
    let list = Path::new("/data/thanos.shipper.json");
    let options = Options { delay_compact_file: Some(list.to_owned()), ..options() };
    let db = open(fs.clone(), Path::new(DIR), options);
    fs.write_atomically(list, b"{\"version\":1,\"uploaded\":[]}").unwrap();
    fill(&db, &series(3), 0, 60 * 14);
    db.compact().unwrap();
    assert!(db.blocks().len() >= 5 && db.blocks().iter().all(|b| b.meta.compaction.level == 1));
    let uploaded: Vec<String> = db.blocks().iter().map(|b| b.meta.ulid.clone()).collect();
    fs.write_atomically(list, serde_json::json!({"version": 1, "uploaded": uploaded}).to_string().as_bytes()).unwrap();
    db.compact().unwrap();
    assert!(db.blocks().iter().any(|b| b.meta.compaction.level > 1));
}

#[test]
fn limits_change_while_the_store_is_open() {
    let fs = Arc::new(Faulty::default());
    let db = open(fs.clone(), Path::new(DIR), Options { retention_ms: 0, ..options() });
    fill(&db, &series(3), 0, 60 * 14);
    db.compact().unwrap();
    let all = db.blocks().len();
    let used: u64 = db.blocks().iter().map(|b| b.size_bytes).sum();
    fs.set_capacity(fs.used_bytes() * 4);
    // Everything fits into the whole disk, nothing into a thousandth of it.
    for (retention_percent, left) in [(100.0, all), (0.1, 0)] {
        assert!(used > 0);
        db.apply_options(&Options { retention_ms: 0, retention_percent, ..options() }).unwrap();
        db.compact().unwrap();
        assert_eq!(db.blocks().len(), left, "{retention_percent} %");
    }
}
