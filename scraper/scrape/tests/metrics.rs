//! `prometheus_sd_*` and `prometheus_target_*`: names, types and labels of the real Prometheus's own page (`PEERS`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ferula_instrument::Registry;
use ferula_model::{Labels, SystemClock};
use ferula_scraper_scrape::config::{GlobalConfig, ScrapeConfig};
use ferula_scraper_scrape::{ScrapeManager, ScrapeOptions};
use support::{Answer, Server, Store, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A process that dies with the test.
struct Peer(std::process::Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Type and label names of every family of interest.
type Page = BTreeMap<String, (String, BTreeSet<String>)>;

fn is_ours(name: &str) -> bool {
    name.starts_with("prometheus_sd_") || name.starts_with("prometheus_target_")
}

fn read(text: &str) -> Page {
    let mut page = Page::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            if is_ours(name) {
                page.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
            }
        } else if is_ours(line) {
            let (name, labels) = line.split_once('{').unwrap_or((line, ""));
            let name = ["_sum", "_count", "_bucket"].iter().find_map(|s| name.strip_suffix(s)).unwrap_or(name);
            let names = labels.split_once('}').map_or("", |(l, _)| l).split("\",").filter_map(|l| l.split_once('='));
            let names = names.map(|(n, _)| n.to_owned()).filter(|n| n != "quantile" && n != "le");
            if let Some((_, seen)) = page.get_mut(name) {
                seen.extend(names);
            }
        }
    }
    page
}

async fn page_of(address: &str) -> Option<String> {
    let mut socket = tokio::net::TcpStream::connect(address).await.ok()?;
    socket.write_all(b"GET /metrics HTTP/1.0\r\nhost: x\r\n\r\n").await.ok()?;
    let mut text = String::new();
    socket.read_to_string(&mut text).await.ok()?;
    Some(text)
}

/// Of mechanisms that are not built in, of Go's way to watch, and of a symbol table that we do without.
const ABSENT: [&str; 7] = [
    "prometheus_target_scrape_pool_symboltable_items",
    "prometheus_sd_kuma_",
    "prometheus_sd_linode_",
    "prometheus_sd_kubernetes_workqueue_",
    "prometheus_sd_kubernetes_http_",
    "prometheus_sd_kubernetes_cache_",
    "prometheus_sd_azure_cache_hit_total",
];

#[tokio::test(flavor = "multi_thread")]
async fn families_types_and_labels_are_prometheus_s() {
    let peer = std::env::var("PEERS").map(|p| Path::new(&p).join("prometheus")).ok().filter(|p| p.is_file());
    let Some(peer) = peer else {
        println!("SKIPPED scrape metrics beside Prometheus: PEERS is not set");
        return;
    };
    let server = Server::start(Answer::text("a 1\n")).await;
    let dir = tempfile::tempdir().unwrap();
    let targets = dir.path().join("targets.json");
    std::fs::write(&targets, format!("[{{\"targets\": [\"{}\"]}}]", server.address())).unwrap();
    let job = format!(
        "job_name: j\n  scrape_interval: 1s\n  file_sd_configs: [{{files: ['{}']}}]\n  \
         http_sd_configs: [{{url: 'http://{}/sd', refresh_interval: 1s}}]\n  target_limit: 10",
        targets.display(),
        server.address()
    );
    let file = dir.path().join("prometheus.yml");
    std::fs::write(&file, format!("scrape_configs:\n- {job}\n")).unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let child = std::process::Command::new(peer)
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let _peer = Peer(child);

    let (store, registry) = (Store::default(), Registry::new());
    let options = ScrapeOptions { first_scrape_at_once: true, ..ScrapeOptions::default() };
    let manager = ScrapeManager::new(options, Arc::new(store.clone()), Arc::new(SystemClock), &registry).unwrap();
    let config: ScrapeConfig = ferula_yaml::from_str("test", &job.replace("\n  ", "\n")).unwrap();
    let config = config.resolve(&GlobalConfig::default().resolve().unwrap()).unwrap();
    manager.apply(vec![config], &Labels::empty()).unwrap();
    until(|| store.commits() >= 2).await;

    // Once it has scraped and refreshed, all children are there.
    let mut theirs = Page::new();
    for _ in 0..150 {
        if let Some(text) = page_of(&address).await {
            theirs = read(&text);
            let has = |name: &str| theirs.get(name).is_some_and(|(_, labels)| !labels.is_empty());
            if has("prometheus_target_interval_length_seconds") && has("prometheus_sd_refresh_duration_seconds") {
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut text = Vec::new();
    ferula_exposition::write::text(&registry.gather(), &mut text);
    let ours = read(&String::from_utf8(text).unwrap());
    manager.stop().await;
    let (mut compared, mut problems) = (0, Vec::new());
    for (name, (kind, labels)) in &theirs {
        if ABSENT.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        compared += 1;
        match ours.get(name) {
            None => problems.push(format!("{name} ({kind}, {labels:?}) is missing")),
            Some((mine, _)) if mine != kind => problems.push(format!("{name} is a {mine}, not a {kind}")),
            // Later versions than the peer have labels more.
            Some((_, mine)) if !labels.is_subset(mine) => {
                problems.push(format!("{name} has {mine:?}, not {labels:?}"));
            }
            Some(_) => {}
        }
    }
    println!("metrics: {compared} of Prometheus's {} families compared, {} differ", theirs.len(), problems.len());
    assert!(compared > 20 && problems.is_empty(), "{problems:#?}");
}
