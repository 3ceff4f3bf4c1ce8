//! A server that answers as a test wants, our discovery, and the real Prometheus beside it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ferula_instrument::Registry;
use ferula_model::SystemClock;
use ferula_scraper_discovery::{Discovery, JobGroups, Mechanism, SdConfigs};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// One request as the server sees it.
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: BTreeMap<String, String>,
    pub head: String,
    pub body: String,
}

/// An answer: status, more headers (each ended by CRLF), body.
pub type Answer = (u16, String, String);

pub fn json(value: &Value) -> Answer {
    (200, "content-type: application/json\r\n".to_owned(), value.to_string())
}

pub fn missing() -> Answer {
    (404, String::new(), "not found".to_owned())
}

/// Answers on the loopback; gives `host:port` and what was asked.
pub async fn serve(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (answer, log) = (Arc::new(answer), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&log);
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
            tokio::spawn(connection(socket, answer, seen));
        }
    });
    (address, log)
}

async fn connection(
    mut socket: TcpStream,
    answer: Arc<impl Fn(&Asked) -> Answer + Send + Sync + 'static>,
    seen: Arc<Mutex<Vec<String>>>,
) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match socket.read_u8().await {
                Ok(b) => head.push(b),
                Err(_) => return,
            }
        }
        let head = String::from_utf8_lossy(&head).into_owned();
        let length = head.to_lowercase().lines().find_map(|l| l.strip_prefix("content-length: ").map(str::to_owned));
        let mut body = vec![0; length.map_or(0, |l| l.trim().parse().unwrap())];
        if socket.read_exact(&mut body).await.is_err() {
            return;
        }
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap_or("").to_owned(), words.next().unwrap_or("").to_owned());
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        seen.lock().unwrap().push(format!("{method} {target}"));
        let asked =
            Asked { method, path: path.to_owned(), query, head, body: String::from_utf8_lossy(&body).into_owned() };
        // A blocking query that nothing changes is held back, as Consul does.
        if asked.query.contains_key("index") {
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        let (status, headers, mut text) = answer(&asked);
        if asked.method == "HEAD" {
            text.clear();
        }
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n{headers}\r\n{text}", text.len());
        if socket.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Every target's labels, the group's included.
pub fn targets(groups: &JobGroups) -> BTreeSet<BTreeMap<String, String>> {
    let mut out = BTreeSet::new();
    for group in groups.iter().flat_map(|g| g.iter()) {
        for target in &group.targets {
            let all = group.labels.iter().chain(target.iter());
            out.insert(all.map(|(n, v)| (n.to_owned(), v.to_owned())).collect());
        }
    }
    out
}

/// One configuration being followed.
pub struct Following {
    pub discovery: Discovery,
    pub groups: watch::Receiver<JobGroups>,
    pub registry: Registry,
}

pub fn follow(mechanism: Mechanism) -> Following {
    let registry = Registry::new();
    let discovery = Discovery::new("scrape", tokio::runtime::Handle::current(), Arc::new(SystemClock), &registry);
    let configs = SdConfigs { mechanisms: vec![mechanism], ..SdConfigs::default() };
    discovery.apply(&[("job".to_owned(), configs)].into()).unwrap();
    let groups = discovery.subscribe("job").unwrap();
    Following { discovery, groups, registry }
}

impl Following {
    /// The targets, once there are any.
    pub async fn found(&mut self) -> BTreeSet<BTreeMap<String, String>> {
        let found = tokio::time::timeout(Duration::from_secs(30), self.groups.wait_for(|g| !targets(g).is_empty()));
        match found.await {
            Ok(groups) => targets(&groups.unwrap()),
            Err(_) => panic!("no targets: {:?}", self.discovery.status("job")),
        }
    }
}

/// The real server, which dies with the test.
pub struct Peer {
    child: std::process::Child,
    address: String,
    dir: tempfile::TempDir,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The folder of real peers, or a line that says what is skipped.
pub fn peers(suite: &str) -> Option<PathBuf> {
    let found = std::env::var("PEERS").ok().map(PathBuf::from).filter(|p| p.join("prometheus").is_file());
    if found.is_none() {
        println!("SKIPPED {suite}: PEERS is not set, or has no prometheus");
    }
    found
}

/// Whether the real promtool takes a configuration; some builds lack mechanisms.
pub fn accepted(peers: &Path, yaml: &str) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prometheus.yml");
    std::fs::write(&file, yaml).unwrap();
    let out = std::process::Command::new(peers.join("promtool"))
        .args(["check", "config", file.to_str().unwrap()])
        .output()
        .map_err(|e| e.to_string())?;
    if out.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&out.stderr).into_owned()) }
}

/// A job that discovers and drops everything, so that the API shows what was discovered.
pub fn job(name: &str, mechanism: &str, yaml: &str) -> String {
    let indented: String = yaml.lines().map(|l| format!("    {l}\n")).collect();
    format!(
        "- job_name: {name}\n  relabel_configs: [{{action: drop, regex: '.*', source_labels: [__address__]}}]\n  \
         {mechanism}_sd_configs:\n  -\n{indented}"
    )
}

impl Peer {
    pub fn start(peers: &Path, jobs: &str) -> Peer {
        let dir = tempfile::tempdir().unwrap();
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let file = dir.path().join("prometheus.yml");
        std::fs::write(&file, format!("scrape_configs:\n{jobs}")).unwrap();
        let child = std::process::Command::new(peers.join("prometheus"))
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(std::process::Stdio::null())
            .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .expect("prometheus starts");
        Peer { child, address, dir }
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let mut socket = TcpStream::connect(&self.address).await.ok()?;
        socket.write_all(format!("GET {path} HTTP/1.0\r\nhost: x\r\n\r\n").as_bytes()).await.ok()?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.ok()?;
        let at = answer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
        serde_json::from_slice(&answer[at..]).ok()
    }

    /// What each job discovered, once every one has as many targets as `expected` says, or half a minute has passed.
    pub async fn discovered(
        &self,
        expected: &BTreeMap<String, usize>,
    ) -> BTreeMap<String, BTreeSet<BTreeMap<String, String>>> {
        let mut found: BTreeMap<String, BTreeSet<BTreeMap<String, String>>> = BTreeMap::new();
        for _ in 0..150 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let Some(answer) = self.get("/api/v1/targets?state=dropped").await else { continue };
            found.clear();
            for target in answer["data"]["droppedTargets"].as_array().into_iter().flatten() {
                let labels = target["discoveredLabels"].as_object().unwrap();
                let own = labels.iter().filter(|(n, _)| {
                    !matches!(
                        n.as_str(),
                        "job" | "__scheme__" | "__metrics_path__" | "__scrape_interval__" | "__scrape_timeout__"
                    )
                });
                let own = own.map(|(n, v)| (n.clone(), v.as_str().unwrap().to_owned())).collect();
                found.entry(labels["job"].as_str().unwrap().to_owned()).or_default().insert(own);
            }
            if expected.iter().all(|(job, n)| found.get(job).map_or(0, BTreeSet::len) == *n) {
                break;
            }
        }
        found
    }

    /// Lines of its log that complain.
    pub fn complaints(&self) -> String {
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        log.lines()
            .filter(|l| l.contains("level=ERROR") || l.contains("panic") || l.contains("err="))
            .take(10)
            .map(|l| format!("peer: {l}\n"))
            .collect()
    }
}

/// What two sets differ in, for a person to read.
pub fn difference(ours: &BTreeSet<BTreeMap<String, String>>, theirs: &BTreeSet<BTreeMap<String, String>>) -> String {
    let mut out = String::new();
    let only = |a: &BTreeMap<String, String>, b: Option<&BTreeMap<String, String>>| -> Vec<String> {
        let same = |n: &String, v: &String| b.is_some_and(|b| b.get(n) == Some(v));
        a.iter().filter(|(n, v)| !same(n, v)).map(|(n, v)| format!("{n}={v}")).collect()
    };
    let near = |t: &BTreeMap<String, String>, set: &BTreeSet<BTreeMap<String, String>>| {
        set.iter().find(|o| o.get("__address__") == t.get("__address__")).cloned()
    };
    for t in ours.difference(theirs).take(3) {
        out.push_str(&format!("  only ours   {:?}\n", only(t, near(t, theirs).as_ref())));
    }
    for t in theirs.difference(ours).take(3) {
        out.push_str(&format!("  only theirs {:?}\n", only(t, near(t, ours).as_ref())));
    }
    out
}
