//! A directory that a real Prometheus left with `memory-snapshot-on-shutdown`: every sample is there at once, with the log
//! behind the snapshot and without it, and the snapshot moves aside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use support::*;

fn get(address: &str, path: &str) -> Option<String> {
    request(address, "GET", path)
}

/// The body of a good answer.
fn request(address: &str, method: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    head.starts_with("HTTP/1.0 20").then(|| body.to_owned())
}

/// Asks until the answer is as wanted: another process, there is nothing else to wait on.
fn wait_for(address: &str, path: &str, wanted: impl Fn(&str) -> bool) -> String {
    for _ in 0..600 {
        if let Some(body) = get(address, path).filter(|b| wanted(b)) {
            return body;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{path}: no answer as wanted within half a minute");
}

fn start(program: &Path, dir: &Path, data: &Path, scrapes: bool) -> (Child, String) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let config = dir.join("prometheus.yml");
    let text = match scrapes {
        true => format!(
            "global: {{scrape_interval: 100ms}}\nscrape_configs: [{{job_name: a, static_configs: [{{targets: ['{address}']}}]}}]\n"
        ),
        false => "global: {}\n".to_owned(),
    };
    std::fs::write(&config, text).unwrap();
    let child = Command::new(program)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", data.display()))
        .arg(format!("--web.listen-address={address}"))
        .arg("--enable-feature=memory-snapshot-on-shutdown,native-histograms,exemplar-storage")
        .arg("--web.enable-admin-api")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    (child, address)
}

/// As from a supervisor: it writes its snapshot and ends.
fn stop(mut child: Child) {
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    child.wait().unwrap();
}

/// Samples by the labels' JSON: time, and value or count and sum of a histogram, as the API prints them.
type Answer = BTreeMap<String, Vec<String>>;

fn number(text: &str) -> String {
    format!("{:?}", text.parse::<f64>().unwrap())
}

fn milliseconds(v: &serde_json::Value) -> i64 {
    (v.as_f64().unwrap() * 1000.0).round() as i64
}

/// Everything a real server has.
fn answer(program: &Path, dir: &Path, data: &Path) -> Answer {
    let (child, address) = start(program, dir, data, false);
    wait_for(&address, "/-/ready", |_| true);
    let body = wait_for(&address, "/api/v1/query?query=%7B__name__!=%22%22%7D%5B1h%5D", |b| b.contains("success"));
    stop(child);
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    let mut out = Answer::new();
    for series in json["data"]["result"].as_array().unwrap() {
        let labels: BTreeMap<&String, &serde_json::Value> = series["metric"].as_object().unwrap().iter().collect();
        let samples = out.entry(serde_json::to_string(&labels).unwrap()).or_default();
        for v in series["values"].as_array().into_iter().flatten() {
            samples.push(format!("{} {}", milliseconds(&v[0]), number(v[1].as_str().unwrap())));
        }
        for h in series["histograms"].as_array().into_iter().flatten() {
            let field = |name: &str| number(h[1][name].as_str().unwrap());
            samples.push(format!("{} {} {}", milliseconds(&h[0]), field("count"), field("sum")));
        }
        samples.sort();
    }
    out
}

fn ours(content: &Content) -> Answer {
    let mut out = Answer::new();
    for (labels, samples) in content {
        let labels: BTreeMap<&str, &str> = labels.iter().collect();
        let mut lines: Vec<String> = samples
            .iter()
            .filter_map(|(t, s)| match s {
                Sample::Float(v) if ferula_model::is_stale_nan(*v) => None,
                Sample::Float(v) => Some(format!("{t} {v:?}")),
                Sample::Histogram(h) if h.is_stale() => None,
                Sample::Histogram(h) => Some(format!("{t} {:?} {:?}", h.count, h.sum)),
            })
            .collect();
        lines.sort();
        if !lines.is_empty() {
            out.insert(serde_json::to_string(&labels).unwrap(), lines);
        }
    }
    out
}

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
    let want = answer(&program, dir.path(), &theirs);
    assert!(want.values().flatten().count() > 10_000, "{}", want.len());
    check("log and snapshot", &want, &whole);

    // The log before the snapshot is gone: its open chunks are all there is.
    let (cut, theirs) = (dir.path().join("cut"), dir.path().join("theirs-cut"));
    std::fs::write(data.join("wal/00000000"), b"").unwrap();
    copy(&data, &cut);
    copy(&data, &theirs);
    let want = answer(&program, dir.path(), &theirs);
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
