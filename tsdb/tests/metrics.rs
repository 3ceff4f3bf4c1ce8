//! The store's metrics have the names, types, labels and help texts of the real Prometheus.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;

use ferula_fs::Disk;
use ferula_instrument::Registry;
use ferula_model::ManualClock;
use ferula_tsdb::{Db, Options};
use support::*;

/// Type, help and label names (without the sample's own) of each family.
type Families = BTreeMap<String, (String, String, BTreeSet<String>)>;

fn parse(page: &str) -> Families {
    let mut out = Families::new();
    for line in page.lines().filter(|l| l.contains(" prometheus_tsdb_") || l.starts_with("prometheus_tsdb_")) {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", "HELP", name, help] => out.entry(name.to_owned()).or_default().1 = help.to_owned(),
            ["#", "TYPE", name, kind] => out.entry(name.to_owned()).or_default().0 = kind.to_owned(),
            _ => {
                let Some((name, rest)) = line.split_once('{') else { continue };
                let labels = rest.split_once('}').unwrap().0;
                let names = labels.split(',').filter_map(|l| l.split_once('=')).map(|(n, _)| n.to_owned());
                let base = name.strip_suffix("_bucket").unwrap_or(name);
                out.entry(base.to_owned()).or_default().2.extend(names);
            }
        }
    }
    out
}

fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.starts_with("HTTP/1.0 200").then_some(text)
}

/// The page of a Prometheus that scrapes itself, so that its counters by type exist.
fn upstream(program: &std::path::Path) -> Families {
    let dir = tempfile::tempdir().unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let config = dir.path().join("prometheus.yml");
    let scrape = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: a, static_configs: [{{targets: ['{address}']}}]}}]\n"
    );
    std::fs::write(&config, scrape).unwrap();
    let mut child = Command::new(program)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let wanted = "prometheus_tsdb_head_samples_appended_total{";
    let mut page = None;
    for _ in 0..600 {
        page = get(&address, "/metrics").filter(|p| p.contains(wanted));
        if page.is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50)); // another process: there is nothing to wait on
    }
    child.kill().unwrap();
    child.wait().unwrap();
    parse(&page.expect("the peer serves its metrics within half a minute"))
}

#[test]
fn metrics_are_those_of_prometheus() {
    let Some(program) = peer("tsdb metrics against Prometheus", "prometheus") else { return };
    let want = upstream(&program);
    assert!(want.len() > 60, "{}", want.len());
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::new();
    let options = Options { background: false, max_exemplars: 10, ..Options::default() };
    let db =
        Db::open(dir.path(), options, Arc::new(Disk), Arc::new(ManualClock::at(1_700_000_000_000)), &registry).unwrap();
    put(&db, &labels("__name__=x"), 1_700_000_000_000, 1.0).unwrap();
    let mut page = Vec::new();
    ferula_exposition::write::text(&registry.gather(), &mut page);
    let got = parse(&String::from_utf8(page).unwrap());
    let mut wrong = Vec::new();
    for (name, w) in &want {
        match got.get(name) {
            None => wrong.push(format!("{name} is missing")),
            Some(g) if g != w => wrong.push(format!("{name}: {g:?}, upstream {w:?}")),
            Some(_) => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Value of a metric without labels.
fn value(registry: &Registry, name: &str) -> f64 {
    let mut page = Vec::new();
    ferula_exposition::write::text(&registry.gather(), &mut page);
    let page = String::from_utf8(page).unwrap();
    let found = page.lines().find_map(|l| l.strip_prefix(&format!("prometheus_tsdb_{name} ")));
    found.unwrap_or_else(|| panic!("{name} is missing")).parse().unwrap()
}

#[test]
fn what_happens_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let series = labels("__name__=x");
    let open = |registry: &Registry| {
        let clock = Arc::new(ManualClock::at(1_700_000_000_000));
        Db::open(dir.path(), support::options(), Arc::new(Disk), clock, registry).unwrap()
    };
    let registry = Registry::new();
    let db = open(&registry);
    for hour in 0..5i64 {
        put(&db, &series, hour * 3_600_000, 1.0).unwrap();
    }
    assert_eq!((value(&registry, "reloads_total"), value(&registry, "symbol_table_size_bytes")), (1.0, 0.0));
    db.compact().unwrap();
    assert_eq!(value(&registry, "reloads_total"), 2.0);
    assert_eq!(value(&registry, "head_truncations_total"), 1.0);
    assert!(value(&registry, "symbol_table_size_bytes") > 0.0);
    db.close().unwrap();
    drop(db);
    // A file of head chunks is damaged, and a snapshot is none.
    std::fs::write(dir.path().join("chunks_head/000009"), b"garbage").unwrap();
    std::fs::create_dir(dir.path().join("chunk_snapshot.000000.0000000001")).unwrap();
    std::fs::write(dir.path().join("chunk_snapshot.000000.0000000001/00000000"), [7; 100]).unwrap();
    let registry = Registry::new();
    let db = open(&registry);
    assert_eq!(value(&registry, "mmap_chunk_corruptions_total"), 1.0);
    assert_eq!(value(&registry, "snapshot_replay_error_total"), 1.0);
    assert_eq!(read_all(&*db)[&series].len(), 5);
}
