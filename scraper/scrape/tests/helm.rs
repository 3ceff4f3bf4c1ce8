//! The default scrape jobs of the community Helm chart against an API server with recorded objects (`FERULA_CORPUS`): the same
//! targets, labels and URLs as the real Prometheus (`PEERS`) in the same run.
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
use serde_json::{Value, json};
use support::Store;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Lists what was recorded; watches see nothing happen.
async fn api_server(objects: BTreeMap<String, Vec<Value>>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (url, objects) = (format!("http://{}", listener.local_addr().unwrap()), Arc::new(objects));
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(connection(socket, Arc::clone(&objects)));
        }
    });
    url
}

async fn connection(mut socket: TcpStream, objects: Arc<BTreeMap<String, Vec<Value>>>) {
    let (mut head, mut chunk) = (Vec::new(), [0u8; 4096]);
    while let Ok(n @ 1..) = socket.read(&mut chunk).await {
        head.extend_from_slice(&chunk[..n]);
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        head.clear();
        let target = text.split(' ').nth(1).unwrap_or("");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let resource = path.rsplit('/').next().unwrap_or("");
        if query.contains("sendInitialEvents=") {
            // As a server without streaming lists, which some clients try first.
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 422,
                "reason": "Invalid", "message": "sendInitialEvents is forbidden", "metadata": {}})
            .to_string();
            let head = "HTTP/1.1 422 X\r\ncontent-type: application/json\r\ncontent-length";
            socket.write_all(format!("{head}: {}\r\n\r\n{status}", status.len()).as_bytes()).await.unwrap();
            continue;
        }
        if query.contains("watch=") {
            let start = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
            socket.write_all(start.as_bytes()).await.unwrap();
            std::future::pending::<()>().await;
        }
        let (kind, version) = match resource {
            "pods" => ("PodList", "v1"),
            "nodes" => ("NodeList", "v1"),
            "services" => ("ServiceList", "v1"),
            _ => ("EndpointsList", "v1"),
        };
        let items = objects.get(resource).cloned().unwrap_or_default();
        let metadata = json!({"resourceVersion": "100"});
        let body = json!({"kind": kind, "apiVersion": version, "metadata": metadata, "items": items}).to_string();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        if socket.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

const SERVICE_RULES: &str = r"
  - {source_labels: [__meta_kubernetes_service_annotation_prometheus_io_scheme], action: replace, target_label: __scheme__, regex: '(https?)'}
  - {source_labels: [__meta_kubernetes_service_annotation_prometheus_io_path], action: replace, target_label: __metrics_path__, regex: '(.+)'}
  - {source_labels: [__address__, __meta_kubernetes_service_annotation_prometheus_io_port], action: replace, target_label: __address__, regex: '(.+?)(?::\d+)?;(\d+)', replacement: '$1:$2'}
  - {action: labelmap, regex: '__meta_kubernetes_service_annotation_prometheus_io_param_(.+)', replacement: '__param_$1'}
  - {action: labelmap, regex: '__meta_kubernetes_service_label_(.+)'}
  - {source_labels: [__meta_kubernetes_namespace], action: replace, target_label: namespace}
  - {source_labels: [__meta_kubernetes_service_name], action: replace, target_label: service}
  - {source_labels: [__meta_kubernetes_pod_node_name], action: replace, target_label: node}
";
const POD_RULES: &str = r"
  - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_scheme], action: replace, regex: '(https?)', target_label: __scheme__}
  - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_path], action: replace, target_label: __metrics_path__, regex: '(.+)'}
  - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_port, __meta_kubernetes_pod_ip], action: replace, regex: '(\d+);(([A-Fa-f0-9]{1,4}::?){1,7}[A-Fa-f0-9]{1,4})', replacement: '[$2]:$1', target_label: __address__}
  - {source_labels: [__meta_kubernetes_pod_annotation_prometheus_io_port, __meta_kubernetes_pod_ip], action: replace, regex: '(\d+);((([0-9]+?)(\.|$)){4})', replacement: '$2:$1', target_label: __address__}
  - {action: labelmap, regex: '__meta_kubernetes_pod_annotation_prometheus_io_param_(.+)', replacement: '__param_$1'}
  - {action: labelmap, regex: '__meta_kubernetes_pod_label_(.+)'}
  - {source_labels: [__meta_kubernetes_namespace], action: replace, target_label: namespace}
  - {source_labels: [__meta_kubernetes_pod_name], action: replace, target_label: pod}
  - {source_labels: [__meta_kubernetes_pod_phase], regex: 'Pending|Succeeded|Failed|Completed', action: drop}
  - {source_labels: [__meta_kubernetes_pod_node_name], action: replace, target_label: node}
";

fn jobs(api: &str) -> String {
    let sd = |role: &str| format!("  kubernetes_sd_configs: [{{role: {role}, api_server: '{api}'}}]\n");
    let secure = "  scheme: https\n  tls_config: {insecure_skip_verify: true}\n";
    let keep = |of: &str, what: &str| {
        format!(
            "  - {{source_labels: [__meta_kubernetes_{of}_annotation_prometheus_io_{what}], action: keep, regex: true}}\n"
        )
    };
    let drop_slow = |of: &str| {
        format!(
            "  - {{source_labels: [__meta_kubernetes_{of}_annotation_prometheus_io_scrape_slow], action: drop, regex: true}}\n"
        )
    };
    let node = |name: &str, path: &str| {
        format!(
            "- job_name: {name}\n{secure}{}  relabel_configs:\n  - {{action: labelmap, regex: '__meta_kubernetes_node_label_(.+)'}}\n  \
             - {{target_label: __address__, replacement: 'kubernetes.default.svc:443'}}\n  \
             - {{source_labels: [__meta_kubernetes_node_name], regex: '(.+)', target_label: __metrics_path__, replacement: '{path}'}}\n",
            sd("node")
        )
    };
    [
        format!(
            "- job_name: kubernetes-apiservers\n{secure}{}  relabel_configs:\n  - {{source_labels: [__meta_kubernetes_namespace, \
             __meta_kubernetes_service_name, __meta_kubernetes_endpoint_port_name], action: keep, regex: 'default;kubernetes;https'}}\n",
            sd("endpoints")
        ),
        node("kubernetes-nodes", "/api/v1/nodes/$1/proxy/metrics"),
        node("kubernetes-nodes-cadvisor", "/api/v1/nodes/$1/proxy/metrics/cadvisor"),
        format!(
            "- job_name: kubernetes-service-endpoints\n  honor_labels: true\n{}  relabel_configs:\n{}{}{}",
            sd("endpoints"),
            keep("service", "scrape"),
            drop_slow("service"),
            SERVICE_RULES.trim_start_matches('\n')
        ),
        // As above without asking for the annotation, so that there is more to compare.
        format!(
            "- job_name: all-service-endpoints\n{}  relabel_configs:\n{}",
            sd("endpoints"),
            SERVICE_RULES.trim_start_matches('\n')
        ),
        format!(
            "- job_name: kubernetes-services\n  metrics_path: /probe\n  params: {{module: [http_2xx]}}\n{}  relabel_configs:\n{}  \
             - {{source_labels: [__address__], target_label: __param_target}}\n  - {{target_label: __address__, replacement: blackbox}}\n  \
             - {{source_labels: [__param_target], target_label: instance}}\n  - {{action: labelmap, regex: '__meta_kubernetes_service_label_(.+)'}}\n",
            sd("service"),
            keep("service", "probe")
        ),
        format!(
            "- job_name: kubernetes-pods\n  honor_labels: true\n{}  relabel_configs:\n{}{}{}",
            sd("pod"),
            keep("pod", "scrape"),
            drop_slow("pod"),
            POD_RULES.trim_start_matches('\n')
        ),
        format!("- job_name: all-pods\n{}  relabel_configs:\n{}", sd("pod"), POD_RULES.trim_start_matches('\n')),
    ]
    .concat()
}

/// Job, URL, labels.
type Found = BTreeSet<(String, String, String)>;

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

#[derive(serde::Deserialize)]
struct File {
    scrape_configs: Vec<ScrapeConfig>,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_charts_jobs_find_what_prometheus_finds() {
    let peer = std::env::var("PEERS").map(|p| Path::new(&p).join("prometheus")).ok().filter(|p| p.is_file());
    let (Ok(corpus), Some(peer)) = (std::env::var("FERULA_CORPUS"), peer) else {
        println!("SKIPPED the Helm chart's jobs beside Prometheus: FERULA_CORPUS or PEERS is not set");
        return;
    };
    let text = std::fs::read_to_string(Path::new(&corpus).join("sd/kubernetes/objects-1.34.json")).unwrap();
    let mut objects: BTreeMap<String, Vec<Value>> = serde_json::from_str(&text).unwrap();
    // Every other pod and service asks to be scraped, each in its own way.
    for (kind, list) in objects.iter_mut().filter(|(k, _)| matches!(k.as_str(), "pods" | "services")) {
        for (i, object) in list.iter_mut().enumerate() {
            let annotations = match i % 4 {
                0 => json!({"prometheus.io/scrape": "true", "prometheus.io/port": "9102"}),
                1 => {
                    json!({"prometheus.io/scrape": "true", "prometheus.io/path": "/stats", "prometheus.io/scheme": "https",
                    "prometheus.io/param_format": "prometheus"})
                }
                2 => json!({"prometheus.io/probe": "true", "prometheus.io/scrape": "false"}),
                _ => json!({"prometheus.io/scrape_slow": "true", "prometheus.io/scrape": "true"}),
            };
            assert!(object["metadata"].is_object(), "{kind}");
            object["metadata"]["annotations"] = annotations;
        }
    }
    let jobs = jobs(&api_server(objects).await);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("prometheus.yml");
    let yaml = format!("scrape_configs:\n{jobs}");
    std::fs::write(&file, &yaml).unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let child = std::process::Command::new(peer)
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
        .arg(format!("--web.listen-address={address}"))
        .stdout(std::process::Stdio::null())
        .stderr(std::fs::File::create(dir.path().join("log")).unwrap())
        .spawn()
        .unwrap();
    let _peer = Peer(child);

    let parsed: File = ferula_yaml::from_str("chart", &yaml).unwrap();
    let global = GlobalConfig::default().resolve().unwrap();
    let configs: Vec<ScrapeConfig> = parsed.scrape_configs.into_iter().map(|j| j.resolve(&global).unwrap()).collect();
    let count = configs.len();
    let registry = Registry::new();
    let store = Arc::new(Store::default());
    let manager = ScrapeManager::new(ScrapeOptions::default(), store, Arc::new(SystemClock), &registry).unwrap();
    manager.apply(configs, &Labels::empty()).unwrap();
    let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
    let (mut ours, mut theirs) = (Found::new(), Found::new());
    for _ in 0..150 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        ours.clear();
        for target in manager.targets().iter().flat_map(|p| &p.active) {
            let labels: serde_json::Map<String, Value> =
                target.labels.iter().map(|(n, v)| (n.to_owned(), v.into())).collect();
            ours.insert((target.scrape_pool.clone(), target.scrape_url.clone(), Value::Object(labels).to_string()));
        }
        if let Some(answer) = get_json(&address, "/api/v1/targets?state=active").await {
            let active = answer["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
            let of = |t: &Value| (text(&t["scrapePool"]), text(&t["scrapeUrl"]), t["labels"].to_string());
            theirs = active.iter().map(of).collect();
        }
        if ours == theirs && !ours.is_empty() {
            break;
        }
    }
    manager.stop().await;
    println!(
        "chart: {count} jobs, {} targets, Prometheus {}, equal {}",
        ours.len(),
        theirs.len(),
        ours.intersection(&theirs).count()
    );
    if ours != theirs {
        let log = std::fs::read_to_string(dir.path().join("log")).unwrap_or_default();
        log.lines().filter(|l| !l.contains("level=INFO")).take(8).for_each(|l| println!("peer: {l}"));
        for (whose, only) in [("ours", ours.difference(&theirs)), ("theirs", theirs.difference(&ours))] {
            only.take(5).for_each(|t| println!("only {whose}: {t:?}"));
        }
    }
    assert!(ours == theirs && ours.len() > 30, "targets differ, or too few: {}", ours.len());
}
