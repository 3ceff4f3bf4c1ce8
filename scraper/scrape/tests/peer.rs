//! Random relabelling rules, ours beside the real Prometheus (`PEERS`): the same targets with the same labels and URLs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ferula_instrument::Registry;
use ferula_model::{Labels, SeriesRef, SystemClock, Value};
use ferula_scraper_scrape::config::{GlobalConfig, ScrapeConfig};
use ferula_scraper_scrape::{ScrapeManager, ScrapeOptions};
use ferula_storage::{AppendError, AppendOptions, Appendable, Appender, CommitStats, Durability, StorageError};
use support::rules::{NAMES, Random, VALUES, rule};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Takes everything, keeps nothing: nothing is scraped here within the test.
struct Nowhere;

impl Appendable for Nowhere {
    fn appender(&self) -> Box<dyn Appender> {
        Box::new(Nowhere)
    }
}
impl Appender for Nowhere {
    fn append(
        &mut self,
        _: SeriesRef,
        _: Option<&Labels>,
        _: i64,
        _: i64,
        _: Value<'_>,
        _: &AppendOptions<'_>,
    ) -> Result<SeriesRef, AppendError> {
        Ok(SeriesRef(1))
    }
    fn commit(self: Box<Self>, _: Durability) -> Result<CommitStats, StorageError> {
        Ok(CommitStats::default())
    }
    fn rollback(self: Box<Self>) {}
}

/// A document of `scrape_configs` that upstream accepts too.
fn document(r: &mut Random, jobs: usize) -> String {
    let mut out = "scrape_configs:\n".to_owned();
    for job in 0..jobs {
        let rules: Vec<String> = (0..1 + r.next(4)).map(|_| rule(r, &NAMES)).collect();
        out.push_str(&format!(
            "- job_name: j{job}\n  scrape_interval: 1h\n  relabel_configs: [{}]\n  static_configs:\n",
            rules.join(", ")
        ));
        for t in 0..4 {
            let labels: Vec<String> = (0..r.next(5))
                .map(|_| (r.pick(&NAMES[..5]), r.pick(&VALUES)))
                .collect::<std::collections::BTreeMap<_, _>>()
                .into_iter()
                .map(|(n, v)| format!("{n}: \"{v}\""))
                .collect();
            out.push_str(&format!("  - {{targets: [\"127.0.0.1:{}\"], labels: {{{}}}}}\n", t + 1, labels.join(", ")));
        }
    }
    out
}

#[derive(serde::Deserialize)]
struct File {
    scrape_configs: Vec<ScrapeConfig>,
}

/// Pool, URL, labels.
type Found = BTreeSet<(String, String, String)>;

async fn ours(yaml: &str) -> (Found, usize) {
    let file: File = ferula_yaml::from_str("peer", yaml).unwrap();
    let global = GlobalConfig::default().resolve().unwrap();
    let jobs: Vec<ScrapeConfig> = file.scrape_configs.into_iter().map(|j| j.resolve(&global).unwrap()).collect();
    let count = jobs.len();
    let registry = Registry::new();
    let manager =
        ScrapeManager::new(ScrapeOptions::default(), Arc::new(Nowhere), Arc::new(SystemClock), &registry).unwrap();
    manager.apply(jobs, &Labels::empty()).unwrap();
    let synced = || {
        let of = |i| {
            registry
                .counter_vec("prometheus_target_scrape_pool_sync_total", "", &["scrape_job"])
                .with(&[&format!("j{i}")])
                .get()
        };
        (0..count).all(|i| of(i) >= 1.0)
    };
    while !synced() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let pools = manager.targets();
    manager.stop().await;
    let active = pools.iter().flat_map(|p| &p.active);
    let found = active.map(|t| {
        let labels: serde_json::Map<String, serde_json::Value> =
            t.labels.iter().map(|(n, v)| (n.to_owned(), v.into())).collect();
        (t.scrape_pool.clone(), t.scrape_url.clone(), serde_json::Value::Object(labels).to_string())
    });
    (found.collect(), pools.iter().map(|p| p.dropped_count).sum())
}

async fn get_json(address: &str, path: &str) -> Option<serde_json::Value> {
    let mut socket = tokio::net::TcpStream::connect(address).await.ok()?;
    socket.write_all(format!("GET {path} HTTP/1.0\r\nhost: x\r\n\r\n").as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.ok()?;
    let at = answer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    serde_json::from_slice(&answer[at..]).ok()
}

struct Peer(std::process::Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn relabels_as_prometheus_does() {
    let Ok(peers) = std::env::var("PEERS") else {
        println!("SKIPPED relabelling beside Prometheus: PEERS is not set");
        return;
    };
    let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    println!("seed {seed}");
    let yaml = document(&mut Random(seed), 200);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prometheus.yml");
    std::fs::write(&file, &yaml).unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let spawned = std::process::Command::new(Path::new(&peers).join("prometheus"))
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .stdout(std::process::Stdio::null())
        .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
        .spawn();
    let Ok(child) = spawned else {
        println!("SKIPPED relabelling beside Prometheus: no prometheus in PEERS");
        return;
    };
    let _peer = Peer(child);
    let (mine, dropped) = ours(&yaml).await;
    let mut theirs = Found::new();
    for _ in 0..150 {
        if let Some(answer) = get_json(&address, "/api/v1/targets").await {
            let active = answer["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
            let text = |v: &serde_json::Value| v.as_str().unwrap_or("").to_owned();
            theirs = active
                .iter()
                .map(|t| (text(&t["scrapePool"]), text(&t["scrapeUrl"]), t["labels"].to_string()))
                .collect();
            if theirs.len() == mine.len() {
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    println!(
        "relabelling: {} active and {dropped} dropped targets, Prometheus {}, equal {}",
        mine.len(),
        theirs.len(),
        mine.intersection(&theirs).count()
    );
    if mine != theirs {
        let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        for line in log.lines().filter(|l| l.contains("level=ERROR")).take(5) {
            println!("peer: {line}");
        }
        for (what, only) in [("ours", mine.difference(&theirs)), ("theirs", theirs.difference(&mine))] {
            for (pool, url, labels) in only.take(5) {
                let rules = yaml.split("- job_name: ").find(|j| j.starts_with(&format!("{pool}\n"))).unwrap_or("");
                println!("only {what}: {pool} {url} {labels}\n{rules}");
            }
        }
    }
    assert!(mine == theirs, "seed {seed}");
    assert!(mine.len() > 100);
}
