//! CPU per rule evaluation: 1,000 recording and 1,000 alerting rules of the kinds node, Kubernetes and HTTP mixins have,
//! over 100 instances in the real store; no two rules record the same series.
//! `cargo run --release -p ferula-promql-rules --example evaluation_cost [SAMPLES]`; every series has that many samples
//! before the first evaluation, 24 if nothing is said.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use ferula_instrument::Registry;
use ferula_model::{Budget, Labels, SeriesRef, SystemClock, Value};
use ferula_promql_engine::{Engine, EngineOptions};
use ferula_promql_rules::{EngineQuery, Environment, Group, NoNotify, Settings, file};
use ferula_storage::{AppendOptions, Appendable, CancelFlag, Durability};
use ferula_tsdb::{Db, Options};

/// The server's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RECORDING: [(&str, &str); 10] = [
    ("instance:node_cpu:rate5m", "sum by (instance) (rate(node_cpu_seconds_total{mode!=\"idle\",instance=\"I\"}[5m]))"),
    ("instance_mode:node_cpu:rate5m", "sum by (instance, mode) (rate(node_cpu_seconds_total{instance=\"I\"}[5m]))"),
    (
        "instance:node_network_receive_bytes:rate5m",
        "sum by (instance) (rate(node_network_receive_bytes_total{device!=\"lo\",instance=\"I\"}[5m]))",
    ),
    (
        "instance:node_memory_utilisation:ratio",
        "1 - node_memory_MemAvailable_bytes{instance=\"I\"} / node_memory_MemTotal_bytes{instance=\"I\"}",
    ),
    (
        "namespace:container_cpu:sum_rate",
        "sum by (instance, namespace) (rate(container_cpu_usage_seconds_total{instance=\"I\"}[5m]))",
    ),
    (
        "namespace:container_memory:sum",
        "sum by (instance, namespace) (container_memory_working_set_bytes{instance=\"I\"})",
    ),
    (
        "node_namespace_pod:container_cpu:sum_rate",
        "sum by (node, namespace, pod) (rate(container_cpu_usage_seconds_total{instance=\"I\"}[5m]) * on (namespace, pod) group_left (node) topk by (namespace, pod) (1, kube_pod_info{instance=\"I\"}))",
    ),
    (
        "handler:http_request_duration:p99",
        "histogram_quantile(0.99, sum by (instance, le, handler) (rate(http_request_duration_seconds_bucket{instance=\"I\"}[5m])))",
    ),
    (
        "code:http_requests:rate5m",
        "sum by (instance, code) (rate(http_request_duration_seconds_count{instance=\"I\"}[5m]))",
    ),
    ("instance:node_disk_io:rate5m", "rate(node_disk_io_time_seconds_total{instance=\"I\"}[5m])"),
];
const ALERTING: [(&str, &str); 10] = [
    (
        "NodeFilesystemAlmostOutOfSpace",
        "(node_filesystem_avail_bytes{instance=\"I\"} / node_filesystem_size_bytes{instance=\"I\"} * 100 < 3 and node_filesystem_readonly{instance=\"I\"} == 0)",
    ),
    (
        "NodeFilesystemFillingUp",
        "predict_linear(node_filesystem_avail_bytes{instance=\"I\",fstype!=\"tmpfs\"}[5m], 3600) < 0",
    ),
    (
        "NodeNetworkReceiveErrs",
        "rate(node_network_receive_errs_total{instance=\"I\"}[2m]) / rate(node_network_receive_bytes_total{instance=\"I\"}[2m]) > 0.01",
    ),
    ("NodeHighCpu", "1 - avg by (instance) (rate(node_cpu_seconds_total{mode=\"idle\",instance=\"I\"}[5m])) > 2"),
    ("NodeLoadHigh", "node_load1{instance=\"I\"} > 1e9"),
    ("KubePodCrashLooping", "increase(kube_pod_container_status_restarts_total{instance=\"I\"}[5m]) > 1e9"),
    (
        "KubePodNotReady",
        "sum by (namespace, pod) (kube_pod_status_phase{phase=~\"Pending|Unknown\",instance=\"I\"}) > 1e9",
    ),
    (
        "HttpErrorBudget",
        "sum by (handler) (rate(http_request_duration_seconds_count{code=\"500\",instance=\"I\"}[5m])) / sum by (handler) (rate(http_request_duration_seconds_count{instance=\"I\"}[5m])) > 0.9",
    ),
    (
        "LatencyHigh",
        "histogram_quantile(0.99, sum by (le) (rate(http_request_duration_seconds_bucket{instance=\"I\"}[5m]))) > 9",
    ),
    ("TargetAbsent", "absent(up{instance=\"I\"} == 1)"),
];

/// Series of one instance: about 1,000.
fn series(instance: &str) -> Vec<Labels> {
    let mut out = Vec::new();
    let mut add = |name: &str, pairs: &[(&str, String)]| {
        let mut all = vec![("__name__", name.to_owned()), ("instance", instance.to_owned())];
        all.extend(pairs.iter().cloned());
        out.push(Labels::from_pairs(all.iter().map(|(n, v)| (*n, v.as_str()))));
    };
    for cpu in 0..16 {
        for mode in ["idle", "user", "system", "iowait", "irq", "nice", "softirq", "steal"] {
            add("node_cpu_seconds_total", &[("cpu", cpu.to_string()), ("mode", mode.into())]);
        }
    }
    for d in 0..4 {
        for name in ["node_network_receive_bytes_total", "node_network_receive_errs_total"] {
            add(name, &[("device", format!("eth{d}"))]);
        }
        add("node_disk_io_time_seconds_total", &[("device", format!("sd{d}"))]);
        for name in ["node_filesystem_avail_bytes", "node_filesystem_size_bytes", "node_filesystem_readonly"] {
            add(name, &[("mountpoint", format!("/m{d}")), ("fstype", "ext4".into())]);
        }
    }
    for name in ["node_memory_MemAvailable_bytes", "node_memory_MemTotal_bytes", "node_load1", "up"] {
        add(name, &[]);
    }
    for pod in 0..30 {
        let of = |more: &[(&'static str, String)]| {
            let mut l = vec![("namespace", format!("ns{}", pod % 5)), ("pod", format!("{instance}-pod-{pod}"))];
            l.extend(more.iter().cloned());
            l
        };
        for name in [
            "container_cpu_usage_seconds_total",
            "container_memory_working_set_bytes",
            "kube_pod_container_status_restarts_total",
        ] {
            add(name, &of(&[]));
        }
        add("kube_pod_info", &of(&[("node", instance.to_owned())]));
        for phase in ["Pending", "Unknown", "Running", "Failed", "Succeeded"] {
            add("kube_pod_status_phase", &of(&[("phase", phase.into())]));
        }
    }
    for handler in 0..20 {
        for code in ["200", "500"] {
            let of = |more: &[(&'static str, String)]| {
                let mut l = vec![("handler", format!("/api/{handler}")), ("code", code.to_owned())];
                l.extend(more.iter().cloned());
                l
            };
            add("http_request_duration_seconds_count", &of(&[]));
            for le in ["0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf"] {
                add("http_request_duration_seconds_bucket", &of(&[("le", le.into())]));
            }
        }
    }
    out
}

fn rules(group: usize) -> String {
    let mut y = format!("groups:\n- name: g{group}\n  interval: 15s\n  rules:\n");
    for i in (group..100).step_by(20) {
        let instance = format!("node-{i:04}:9100");
        for (name, expr) in RECORDING {
            let _ =
                writeln!(y, "  - {{record: '{name}', expr: '{}'}}", expr.replace("\"I\"", &format!("\"{instance}\"")));
        }
        for (name, expr) in ALERTING {
            let _ = writeln!(
                y,
                "  - {{alert: {name}, expr: '{}', for: 1m, labels: {{severity: warning}}, annotations: {{summary: 'Instance {{{{ $labels.instance }}}} value {{{{ $value }}}}'}}}}",
                expr.replace("\"I\"", &format!("\"{instance}\""))
            );
        }
    }
    y
}

/// CPU seconds this thread has used.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(SystemClock);
    let registry = Registry::new();
    let options = Options { background: false, ..Options::default() };
    let db = Db::open(dir.path(), options, Arc::new(ferula_fs::Disk), clock.clone(), &registry).unwrap();
    let begin = 1_700_000_000_000i64;
    let all: Vec<Labels> = (0..100).flat_map(|i| series(&format!("node-{i:04}:9100"))).collect();
    let mut refs = vec![SeriesRef::NONE; all.len()];
    let mut load = |t_ms: i64| {
        let mut a = db.appender();
        for (i, (labels, r)) in all.iter().zip(&mut refs).enumerate() {
            let v = (t_ms - begin) as f64 / 1000.0 * (1 + i % 7) as f64 + 1.0;
            *r = a.append(*r, Some(labels), 0, t_ms, Value::Float(v), &AppendOptions::default()).unwrap();
        }
        a.commit(Durability::Written).unwrap();
    };
    let samples: i64 = std::env::args().nth(1).map_or(24, |n| n.parse().unwrap());
    for i in 0..samples {
        load(begin + i * 15_000);
    }
    let query = EngineQuery {
        engine: Arc::new(Engine::new(EngineOptions::default())),
        queryable: db.clone(),
        timeout: Duration::from_secs(30),
        budget: Budget::unlimited(),
        cancel: CancelFlag::new(),
    };
    let env = Arc::new(Environment {
        query: Arc::new(query),
        queryable: db.clone(),
        appendable: db.clone(),
        notify: Arc::new(NoNotify),
        clock,
        resend_delay_ms: 60_000,
        outage_tolerance_ms: 3_600_000,
        for_grace_ms: 600_000,
        parse_options: Default::default(),
        concurrent_rules: 1,
    });
    let settings = Settings {
        interval_ms: 15_000,
        query_offset_ms: 0,
        external_labels: Labels::empty(),
        external_url: "http://localhost:9090".into(),
    };
    let mut groups: Vec<Group> = (0..20)
        .map(|g| {
            let config = file::parse("rules.yml", &rules(g)).unwrap().remove(0);
            Group::alone(env.clone(), settings.clone(), config, &registry, false)
        })
        .collect();
    let mut spent = 0.0;
    let ticks = 8;
    for tick in 0..ticks + 1 {
        let t_ms = begin + (samples + tick) * 15_000;
        // On a thread of its own, so that a profile tells the two apart.
        std::thread::scope(|s| {
            std::thread::Builder::new().name("load".to_owned()).spawn_scoped(s, || load(t_ms)).unwrap();
        });
        let before = cpu();
        for g in &mut groups {
            g.evaluate(t_ms);
        }
        // The first tick creates the recorded series.
        if tick > 0 {
            spent += cpu() - before;
        }
    }
    let evaluations: usize = groups.iter().map(|g| g.snapshot().rules.len()).sum::<usize>() * ticks as usize;
    let failed = groups.iter().flat_map(|g| g.snapshot().rules).filter(|r| r.last_error.is_some()).count();
    let mut by_name: std::collections::BTreeMap<String, (f64, u32, Option<String>)> = Default::default();
    for r in groups.iter().flat_map(|g| g.snapshot().rules) {
        let e = by_name.entry(r.name).or_default();
        e.0 += r.evaluation_seconds;
        e.1 += 1;
        e.2 = e.2.take().or(r.last_error);
    }
    for (name, (seconds, n, error)) in by_name {
        println!("{:8.1} us  {name}  {}", seconds / f64::from(n) * 1e6, error.unwrap_or_default());
    }
    println!(
        "{} series, {evaluations} evaluations ({failed} rules failing): {:.1} us CPU each",
        all.len(),
        spent / evaluations as f64 * 1e6
    );
}
