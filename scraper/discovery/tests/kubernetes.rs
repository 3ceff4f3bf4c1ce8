//! The six roles against an API server made for the tests: lists in pages, watches, 410 Gone, refusals, broken streams; and
//! beside the real Prometheus (`PEERS`) on recorded objects (`FERULA_CORPUS`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ferula_instrument::Registry;
use ferula_model::SystemClock;
use ferula_scraper_discovery::kubernetes::KubernetesSd;
use ferula_scraper_discovery::{Discovery, JobGroups, SdConfigs};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{broadcast, watch};

/// Objects by resource, and what happens to them.
struct Api {
    objects: Mutex<BTreeMap<String, Vec<Value>>>,
    events: broadcast::Sender<(String, String)>,
    /// Status for every request, while set.
    refuse: Mutex<Option<u16>>,
    requests: Mutex<Vec<String>>,
}

impl Api {
    async fn start(objects: BTreeMap<String, Vec<Value>>) -> (Arc<Api>, String) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let api = Arc::new(Api {
            objects: Mutex::new(objects),
            events: broadcast::Sender::new(1000),
            refuse: Mutex::default(),
            requests: Mutex::default(),
        });
        let shared = Arc::clone(&api);
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(Arc::clone(&shared).serve(socket));
            }
        });
        (api, url)
    }

    async fn serve(self: Arc<Self>, mut socket: TcpStream) {
        let (mut seen, mut chunk) = (Vec::new(), [0u8; 4096]);
        while let Ok(n @ 1..) = socket.read(&mut chunk).await {
            seen.extend_from_slice(&chunk[..n]);
            if !seen.ends_with(b"\r\n\r\n") {
                continue;
            }
            let head = String::from_utf8_lossy(&seen).into_owned();
            seen.clear();
            let target = head.split(' ').nth(1).unwrap_or("").to_owned();
            self.requests.lock().unwrap().push(target.clone());
            let (path, query) = target.split_once('?').unwrap_or((&target, ""));
            let resource = path.rsplit('/').next().unwrap_or("").to_owned();
            let refuse = *self.refuse.lock().unwrap();
            if let Some(code) = refuse {
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                    "reason": "Forbidden", "message": "not for you", "metadata": {}});
                answer(&mut socket, code, &status.to_string()).await;
            } else if query.contains("sendInitialEvents=") {
                // As a server without streaming lists, which some clients try first.
                let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 422,
                    "reason": "Invalid", "message": "sendInitialEvents is forbidden", "metadata": {}});
                answer(&mut socket, 422, &status.to_string()).await;
            } else if query.contains("watch=") {
                if self.stream(&mut socket, &resource).await.is_err() {
                    return;
                }
            } else {
                answer(&mut socket, 200, &self.list(&resource, query)).await;
            }
        }
    }

    /// A page of three, for paging to be used at all.
    fn list(&self, resource: &str, query: &str) -> String {
        let objects = self.objects.lock().unwrap();
        let items = objects.get(resource).cloned().unwrap_or_default();
        let from: usize = query.split('&').find_map(|p| p.strip_prefix("continue=")).map_or(0, |c| c.parse().unwrap());
        let page: Vec<Value> = items.iter().skip(from).take(3).cloned().collect();
        let next = if from + 3 < items.len() { (from + 3).to_string() } else { String::new() };
        let (kind, version) = match resource {
            "endpointslices" => ("EndpointSliceList", "discovery.k8s.io/v1"),
            "ingresses" => ("IngressList", "networking.k8s.io/v1"),
            "pods" => ("PodList", "v1"),
            "nodes" => ("NodeList", "v1"),
            "services" => ("ServiceList", "v1"),
            "endpoints" => ("EndpointsList", "v1"),
            "replicasets" => ("ReplicaSetList", "apps/v1"),
            "jobs" => ("JobList", "batch/v1"),
            _ => ("NamespaceList", "v1"),
        };
        let metadata = json!({"resourceVersion": "100", "continue": next});
        json!({"kind": kind, "apiVersion": version, "metadata": metadata, "items": page}).to_string()
    }

    async fn stream(&self, socket: &mut TcpStream, resource: &str) -> std::io::Result<()> {
        let mut events = self.events.subscribe();
        socket
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
            .await?;
        while let Ok((of, line)) = events.recv().await {
            if of == "break" {
                return Err(std::io::Error::other("the connection breaks"));
            }
            if of == resource {
                socket.write_all(format!("{:x}\r\n{line}\n\r\n", line.len() + 1).as_bytes()).await?;
            }
        }
        Ok(())
    }

    fn send(&self, resource: &str, kind: &str, object: &Value) {
        let _ = self.events.send((resource.to_owned(), json!({"type": kind, "object": object}).to_string()));
    }
}

async fn answer(socket: &mut TcpStream, code: u16, body: &str) {
    let head = format!("HTTP/1.1 {code} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    let _ = socket.write_all(format!("{head}{body}").as_bytes()).await;
}

fn follow(role: &str, url: &str, more: &str) -> (Discovery, watch::Receiver<JobGroups>, Registry) {
    follow_at(role, &format!("api_server: {url}"), more)
}

/// `cluster`: the field that says where it is.
fn follow_at(role: &str, cluster: &str, more: &str) -> (Discovery, watch::Receiver<JobGroups>, Registry) {
    let registry = Registry::new();
    let clock = Arc::new(SystemClock);
    let discovery = Discovery::new("scrape", tokio::runtime::Handle::current(), clock, &registry);
    let config: KubernetesSd = ferula_yaml::from_str("", &format!("role: {role}\n{cluster}\n{more}")).unwrap();
    let configs = SdConfigs { mechanisms: vec![config.into()], ..SdConfigs::default() };
    discovery.apply(&[("job".to_owned(), configs)].into()).unwrap();
    let groups = discovery.subscribe("job").unwrap();
    (discovery, groups, registry)
}

/// Every target's labels, the group's included.
fn targets(groups: &JobGroups) -> BTreeSet<BTreeMap<String, String>> {
    let mut out = BTreeSet::new();
    for group in groups.iter().flat_map(|g| g.iter()) {
        for target in &group.targets {
            let all = group.labels.iter().chain(target.iter());
            out.insert(all.map(|(n, v)| (n.to_owned(), v.to_owned())).collect());
        }
    }
    out
}

fn addresses(groups: &JobGroups) -> Vec<String> {
    targets(groups).iter().map(|t| t["__address__"].clone()).collect()
}

async fn wait_for(groups: &mut watch::Receiver<JobGroups>, expect: &[&str]) {
    let reached = groups.wait_for(|g| addresses(g) == expect);
    if tokio::time::timeout(Duration::from_secs(60), reached).await.is_err() {
        panic!("expected {expect:?}, have {:?}", addresses(&groups.borrow()));
    }
}

fn pod(name: &str, ip: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "ns", "uid": "u", "resourceVersion": "1", "labels": {"app/x": name},
            "ownerReferences": [{"apiVersion": "v1", "kind": "ReplicaSet", "name": "rs", "uid": "r", "controller": true}]},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80, "name": "web", "protocol": "TCP"}]}],
            "initContainers": [{"name": "init", "image": "ii"}]},
        "status": {"podIP": ip, "hostIP": "10.9.9.9", "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": "c", "containerID": "cri://1"}]},
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_followed_through_events_relists_and_failures() {
    let all: Vec<Value> = (1..=5).map(|i| pod(&format!("p{i}"), &format!("10.0.0.{i}"))).collect();
    let (api, url) = Api::start([("pods".to_owned(), all)].into()).await;
    let (discovery, mut groups, registry) = follow("pod", &url, "");
    let of = |range: std::ops::RangeInclusive<u8>| -> Vec<String> {
        range.flat_map(|i| [format!("10.0.0.{i}"), format!("10.0.0.{i}:80")]).collect()
    };
    let five = of(1..=5);
    let mut expect: Vec<&str> = five.iter().map(String::as_str).collect();
    expect.sort_unstable();
    wait_for(&mut groups, &expect).await;
    let first = targets(&groups.borrow()).into_iter().find(|t| t["__address__"] == "10.0.0.1:80").unwrap();
    for (name, value) in [
        ("__meta_kubernetes_namespace", "ns"),
        ("__meta_kubernetes_pod_name", "p1"),
        ("__meta_kubernetes_pod_label_app_x", "p1"),
        ("__meta_kubernetes_pod_labelpresent_app_x", "true"),
        ("__meta_kubernetes_pod_controller_kind", "ReplicaSet"),
        ("__meta_kubernetes_pod_container_id", "cri://1"),
        ("__meta_kubernetes_pod_container_port_number", "80"),
        ("__meta_kubernetes_pod_ready", "true"),
    ] {
        assert_eq!(first.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(api.requests.lock().unwrap().iter().filter(|r| r.contains("continue=")).count() >= 1, "pages");

    // The watch begins after the list; an event sent before nobody listens is nobody's.
    while api.events.receiver_count() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for i in 2..=5 {
        api.send("pods", "DELETED", &pod(&format!("p{i}"), ""));
    }
    wait_for(&mut groups, &["10.0.0.1", "10.0.0.1:80"]).await;
    api.send("pods", "MODIFIED", &pod("p1", "10.0.1.1"));
    wait_for(&mut groups, &["10.0.1.1", "10.0.1.1:80"]).await;

    // The version is too old: a new list, in one step.
    api.objects.lock().unwrap().insert("pods".into(), vec![pod("p7", "10.0.0.7")]);
    let gone = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired",
        "message": "too old resource version", "metadata": {}});
    api.send("pods", "ERROR", &gone);
    wait_for(&mut groups, &["10.0.0.7", "10.0.0.7:80"]).await;

    // Refused and disconnected: what is known stays, and it shows.
    *api.refuse.lock().unwrap() = Some(403);
    while api.events.receiver_count() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    api.send("break", "", &Value::Null);
    let failed = || registry.counter("prometheus_sd_kubernetes_failures_total", "").get() > 0.0;
    let shows = async {
        while !failed() || discovery.status("job")[1].last_error.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), shows).await.expect("the failure shows");
    assert_eq!(addresses(&groups.borrow()), ["10.0.0.7", "10.0.0.7:80"]);
    *api.refuse.lock().unwrap() = None;
    api.objects.lock().unwrap().insert("pods".into(), vec![pod("p8", "10.0.0.8")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_show_the_controllers_above_their_own() {
    let owned = |kind: &str, name: &str, api: &str| json!([{"apiVersion": api, "kind": kind, "name": name, "uid": "x", "controller": true}]);
    let object =
        |name: &str, owners: Value| json!({"metadata": {"name": name, "namespace": "ns", "ownerReferences": owners}});
    let mut of_job = pod("p2", "10.0.0.2");
    of_job["metadata"]["ownerReferences"] = owned("Job", "nightly-1", "batch/v1");
    let objects = [
        ("pods".to_owned(), vec![pod("p1", "10.0.0.1"), of_job]),
        ("replicasets".to_owned(), vec![object("rs", owned("Deployment", "web", "apps/v1"))]),
        ("jobs".to_owned(), vec![object("nightly-1", owned("CronJob", "nightly", "batch/v1"))]),
    ];
    let (_api, url) = Api::start(objects.into()).await;
    let more = "attach_metadata: {deployment: true, job: true, cronjob: true}";
    let (_discovery, mut groups, _) = follow("pod", &url, more);
    wait_for(&mut groups, &["10.0.0.1", "10.0.0.1:80", "10.0.0.2", "10.0.0.2:80"]).await;
    let found = targets(&groups.borrow());
    let of = |address: &str, label: &str| {
        let target = found.iter().find(|t| t["__address__"] == address).unwrap();
        target.get(&format!("__meta_kubernetes_pod_{label}")).cloned()
    };
    assert_eq!(of("10.0.0.1", "deployment_name").as_deref(), Some("web"));
    assert_eq!(of("10.0.0.1", "job_name"), None);
    assert_eq!(of("10.0.0.2", "job_name").as_deref(), Some("nightly-1"));
    assert_eq!(of("10.0.0.2", "cronjob_name").as_deref(), Some("nightly"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_watch_serves_all_jobs() {
    let (api, url) = Api::start([("pods".to_owned(), vec![pod("p1", "10.0.0.1")])].into()).await;
    let registry = Registry::new();
    let discovery = Discovery::new("scrape", tokio::runtime::Handle::current(), Arc::new(SystemClock), &registry);
    let config: KubernetesSd = ferula_yaml::from_str("", &format!("role: pod\napi_server: {url}")).unwrap();
    let jobs = (0..20)
        .map(|i| (format!("job{i}"), SdConfigs { mechanisms: vec![config.clone().into()], ..SdConfigs::default() }));
    discovery.apply(&jobs.collect()).unwrap();
    for i in 0..20 {
        wait_for(&mut discovery.subscribe(&format!("job{i}")).unwrap(), &["10.0.0.1", "10.0.0.1:80"]).await;
    }
    let lists = api.requests.lock().unwrap().iter().filter(|r| !r.contains("watch=")).count();
    assert_eq!(lists, 1);
}

#[test]
fn configurations_are_judged_as_upstream_judges() {
    for (yaml, expect) in [
        ("{}", "role missing (one of: pod, service, endpoints, endpointslice, node, ingress)"),
        ("{role: pot}", "unknown Kubernetes SD role \"pot\""),
        (
            "{role: pod, api_server: 'http://a', kubeconfig_file: b}",
            "cannot use 'kubeconfig_file' and 'api_server' simultaneously",
        ),
        (
            "{role: pod, bearer_token: x}",
            "to use custom HTTP client configuration please provide the 'api_server' URL explicitly",
        ),
        (
            "{role: pod, api_server: 'http://a', namespaces: {own_namespace: true}}",
            "cannot use 'api_server' and 'namespaces.own_namespace' simultaneously",
        ),
        ("{role: node, selectors: [{role: pod}]}", "node role supports only node selectors"),
    ] {
        let config: KubernetesSd = ferula_yaml::from_str("", yaml).unwrap();
        let configs = SdConfigs { mechanisms: vec![config.into()], ..SdConfigs::default() };
        assert_eq!(configs.validate().unwrap_err().to_string(), expect, "{yaml}");
    }
}

/// A process that dies with the test.
struct Peer(std::process::Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn get_json(address: &str, path: &str) -> Option<Value> {
    let mut socket = TcpStream::connect(address).await.ok()?;
    socket.write_all(format!("GET {path} HTTP/1.0\r\nhost: x\r\n\r\n").as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.ok()?;
    let at = answer.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    serde_json::from_slice(&answer[at..]).ok()
}

const ROLES: [(&str, &str); 6] = [
    ("node", ""),
    ("service", ""),
    ("pod", "attach_metadata: {node: true}"),
    ("endpoints", "attach_metadata: {node: true}"),
    ("endpointslice", "attach_metadata: {node: true}"),
    ("ingress", ""),
];

/// The recorded objects, or why the comparison is skipped.
async fn recorded() -> Result<(Arc<Api>, String), &'static str> {
    let Ok(corpus) = std::env::var("FERULA_CORPUS") else { return Err("FERULA_CORPUS is not set") };
    let text = std::fs::read_to_string(Path::new(&corpus).join("sd/kubernetes/objects-1.34.json")).expect("objects");
    Ok(Api::start(serde_json::from_str(&text).unwrap()).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn finds_what_prometheus_finds() {
    match recorded().await {
        Ok((_api, url)) => beside_prometheus("address", &format!("api_server: {url}")).await,
        Err(why) => println!("SKIPPED kubernetes roles beside Prometheus: {why}"),
    }
}

/// In the cluster of `FERULA_TEST_KUBECONFIG`, if that is set; else with a kubeconfig that leads to the recorded objects.
#[tokio::test(flavor = "multi_thread")]
async fn finds_the_same_by_a_kubeconfig() {
    if let Ok(given) = std::env::var("FERULA_TEST_KUBECONFIG") {
        return beside_prometheus("given cluster", &format!("kubeconfig_file: {given}")).await;
    }
    let (_api, url) = match recorded().await {
        Ok(recorded) => recorded,
        Err(why) => return println!("SKIPPED kubernetes roles by kubeconfig beside Prometheus: {why}"),
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("kubeconfig");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{{name: a, context: {{cluster: b, user: c}}}}]\n\
         clusters: [{{name: b, cluster: {{server: '{url}'}}}}]\nusers: [{{name: c, user: {{token: t}}}}]\n"
    );
    std::fs::write(&file, text).unwrap();
    beside_prometheus("kubeconfig", &format!("kubeconfig_file: {}", file.display())).await;
}

/// All six roles, here and in the real Prometheus (`PEERS`), in the same cluster.
async fn beside_prometheus(by: &str, cluster: &str) {
    let Ok(peers) = std::env::var("PEERS") else {
        return println!("SKIPPED kubernetes roles beside Prometheus: PEERS is not set");
    };
    let dir = tempfile::tempdir().unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut yaml = "scrape_configs:\n".to_owned();
    for (role, more) in ROLES {
        yaml.push_str(&format!(
            "- job_name: {role}\n  relabel_configs: [{{action: drop, regex: '.*', source_labels: [__address__]}}]\n  kubernetes_sd_configs:\n  - role: {role}\n    {cluster}\n"
        ));
        if !more.is_empty() {
            yaml.push_str(&format!("    {more}\n"));
        }
    }
    let file = dir.path().join("prometheus.yml");
    std::fs::write(&file, yaml).unwrap();
    let spawned = std::process::Command::new(Path::new(&peers).join("prometheus"))
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .stdout(std::process::Stdio::null())
        .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
        .spawn();
    let Ok(child) = spawned else {
        return println!("SKIPPED kubernetes roles beside Prometheus: no prometheus in PEERS");
    };
    let _peer = Peer(child);
    let theirs = |answer: &Value, role: &str| -> BTreeSet<BTreeMap<String, String>> {
        let dropped = answer["data"]["droppedTargets"].as_array().cloned().unwrap_or_default();
        let labels = dropped.iter().map(|t| t["discoveredLabels"].as_object().unwrap());
        labels
            .filter(|l| l["job"] == role)
            .map(|l| {
                let own = l.iter().filter(|(n, _)| {
                    !matches!(
                        n.as_str(),
                        "job" | "__scheme__" | "__metrics_path__" | "__scrape_interval__" | "__scrape_timeout__"
                    )
                });
                own.map(|(n, v)| (n.clone(), v.as_str().unwrap().to_owned())).collect()
            })
            .collect()
    };
    let mut running = Vec::new();
    for (role, more) in ROLES {
        let (discovery, mut groups, _) = follow_at(role, cluster, more);
        let found = tokio::time::timeout(Duration::from_secs(60), groups.wait_for(Option::is_some)).await;
        found.expect("our targets").unwrap();
        running.push((role, discovery, groups));
    }
    // Prometheus hands targets over every five seconds; and a living cluster changes.
    let mut last = Value::Null;
    for _ in 0..150 {
        if let Some(answer) = get_json(&address, "/api/v1/targets?state=dropped").await {
            last = answer;
            let all = running.iter().all(|(role, _, groups)| theirs(&last, role) == targets(&groups.borrow()));
            if all && running.iter().any(|(.., groups)| !targets(&groups.borrow()).is_empty()) {
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut different = 0;
    let mut all = 0;
    for (role, _, groups) in &running {
        let (mine, peer) = (&targets(&groups.borrow()), theirs(&last, role));
        all += mine.len();
        println!(
            "kubernetes {role} by {by}: {} targets, Prometheus {}, equal {}",
            mine.len(),
            peer.len(),
            mine.intersection(&peer).count()
        );
        if *mine != peer {
            different += 1;
            for (m, p) in mine.difference(&peer).zip(peer.difference(mine)).take(2) {
                let only = |a: &BTreeMap<String, String>, b: &BTreeMap<String, String>| -> Vec<String> {
                    a.iter().filter(|(n, v)| b.get(*n) != Some(v)).map(|(n, v)| format!("{n}={v}")).collect()
                };
                println!("  only ours   {:?}\n  only theirs {:?}", only(m, p), only(p, m));
            }
        }
    }
    if different > 0 {
        let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().filter(|l| l.contains("level=ERROR") || l.contains("kube")).collect();
        println!("{}", lines.iter().take(10).map(|l| format!("peer: {l}\n")).collect::<String>());
        println!("answer: {}", last.to_string().chars().take(300).collect::<String>());
    }
    assert!(all > 0, "nothing was found");
    assert_eq!(different, 0, "roles with other targets than Prometheus");
}
