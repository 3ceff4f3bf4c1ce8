//! Real programs against ours: promtool, amtool, Prometheus, Alertmanager, node exporter, as Debian builds them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ferula_testkit::{Peer, Running, WebhookSink, skipped};
use support::{FERULA, eventually, query, single, stderr, stdout};

/// The peer, or `None` after saying why the suite is skipped.
fn peer(suite: &str, name: &str, min: (u32, u32, u32)) -> Option<Peer> {
    Peer::find(name, min).map_err(|why| skipped(suite, why)).ok()
}

fn server(config: &str) -> Running {
    Running::start(Path::new(FERULA), "/-/ready", |p| {
        vec![
            "server".into(),
            format!("--config.file={}", p.file("prometheus.yml", config)),
            format!("--storage.tsdb.path={}", p.dir.join("tsdb").display()),
            format!("--web.listen-address={}", p.addr),
        ]
    })
}

fn alertmanager(hook: &WebhookSink) -> Running {
    Running::start(Path::new(FERULA), "/-/ready", |p| {
        let config = format!(
            "route:\n  receiver: hook\n  group_by: [alertname]\n  group_wait: 0s\n  group_interval: 1s\nreceivers:\n- name: hook\n  webhook_configs:\n  - url: {}\n",
            hook.url("/hook")
        );
        vec![
            "alertmanager".into(),
            format!("--config.file={}", p.file("alertmanager.yml", &config)),
            format!("--storage.path={}", p.dir.display()),
            format!("--web.listen-address={}", p.addr),
            "--cluster.listen-address=".into(),
        ]
    })
}

#[test]
fn our_server_scrapes_the_real_node_exporter() {
    let Some(exporter) = peer("real node exporter", "prometheus-node-exporter", (1, 8, 0)) else { return };
    let node = exporter.start_when("/metrics", |p| vec![format!("--web.listen-address={}", p.addr)]);
    let server = server(&format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nscrape_configs:\n- job_name: node\n  static_configs:\n  - targets: ['{}']\n",
        node.addr
    ));
    eventually("the target to be up", 15, || single(&server, "up{job=\"node\"}"), |v| *v == Some(1.0));
    eventually("its build", 10, || query(&server, "node_exporter_build_info").len(), |n| *n == 1);
    eventually("a rate", 15, || query(&server, "rate(node_cpu_seconds_total{cpu=\"0\"}[1m])").len(), |n| *n == 8);
}

#[test]
fn the_real_promtool_queries_our_server() {
    let Some(promtool) = peer("real promtool", "promtool", (3, 5, 0)) else { return };
    let server = server(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n- job_name: none\n  static_configs:\n  - targets: ['127.0.0.1:1']\n",
    );
    eventually("the first sample", 15, || single(&server, "up"), |v| *v == Some(0.0));
    let url = server.url("");
    let run = |args: &[&str]| {
        let output = promtool.command().args(args).output().unwrap();
        assert!(output.status.success(), "promtool {args:?}: {}{}", stdout(&output), stderr(&output));
        stdout(&output)
    };
    let up = "up{instance=\"127.0.0.1:1\", job=\"none\"}";
    assert!(run(&["query", "instant", &url, "up"]).starts_with(&format!("{up} => 0 @[")));
    let range = run(&["query", "range", "--step=1s", &url, "up"]);
    assert!(range.starts_with(&format!("{up} =>\n0 @[")), "{range}");
    let series = run(&["query", "series", "--match=up", &url]);
    assert_eq!(series.trim(), "{__name__=\"up\", instance=\"127.0.0.1:1\", job=\"none\"}");
    let labels = run(&["query", "labels", &url, "job"]);
    assert_eq!(labels.trim(), "none");
    run(&["check", "ready", &format!("--url={url}")]);
    let bad = promtool.command().args(["query", "instant", &url, "sum("]).output().unwrap();
    assert!(!bad.status.success() && stderr(&bad).contains("parse error"), "{}", stderr(&bad));
}

#[test]
fn the_real_prometheus_scrapes_our_exporter_and_alerts_our_alertmanager() {
    let Some(prometheus) = peer("real Prometheus", "prometheus", (3, 5, 0)) else { return };
    let amtool = peer("real amtool", "amtool", (0, 33, 0));
    let hook = WebhookSink::start();
    let alertmanager = alertmanager(&hook);
    let node = Running::start(Path::new(FERULA), "/metrics", |p| {
        vec!["node-exporter".into(), format!("--web.listen-address={}", p.addr)]
    });
    let real = prometheus.start(|p| {
        p.file(
            "rules.yml",
            "groups:\n- name: g\n  rules:\n  - alert: SeenByPrometheus\n    expr: node_load1 >= 0\n    annotations: {summary: 'load {{ $value }}'}\n",
        );
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yml]\nalerting:\n  alertmanagers:\n  - static_configs:\n    - targets: ['{}']\nscrape_configs:\n- job_name: ours\n  static_configs:\n  - targets: ['{}']\n",
            alertmanager.addr, node.addr
        );
        vec![
            format!("--config.file={}", p.file("prometheus.yml", &config)),
            format!("--storage.tsdb.path={}", p.dir.join("tsdb").display()),
            format!("--web.listen-address={}", p.addr),
        ]
    });
    eventually("our exporter in the real Prometheus", 30, || single(&real, "up{job=\"ours\"}"), |v| *v == Some(1.0));
    assert!(query(&real, "node_cpu_seconds_total").len() >= 8);
    let post = hook.wait_for(1, Duration::from_secs(30)).remove(0).json();
    assert_eq!(post["commonLabels"]["alertname"], "SeenByPrometheus");
    if let Some(amtool) = amtool {
        let url = format!("--alertmanager.url={}", alertmanager.url(""));
        let output = amtool.command().args([&url, "alert", "query", "-o", "simple"]).output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(stdout(&output).contains("SeenByPrometheus"), "{}", stdout(&output));
    }
}

#[test]
fn our_server_alerts_the_real_alertmanager() {
    let Some(real) = peer("real Alertmanager", "prometheus-alertmanager", (0, 33, 0)) else { return };
    let hook = WebhookSink::start();
    // Debian's build reads its default templates below /usr/share: the unpacked ones are bound there, in a mount
    // namespace of its own.
    if !Command::new("unshare").args(["-m", "true"]).status().is_ok_and(|s| s.success()) {
        return skipped("our alerts to the real Alertmanager", "unshare -m is not allowed here");
    }
    let share = real.path.parent().unwrap().join("../share").canonicalize().unwrap();
    let script = format!("mount --bind {} /usr/share && exec \"$@\"", share.display());
    let alertmanager = Running::start(Path::new("unshare"), "/-/ready", |p| {
        let config = format!(
            "route: {{receiver: hook, group_wait: 0s, group_interval: 1s}}\nreceivers:\n- name: hook\n  webhook_configs:\n  - url: {}\n",
            hook.url("/hook")
        );
        vec![
            "-m".into(),
            "sh".into(),
            "-c".into(),
            script.clone(),
            "sh".into(),
            real.path.display().to_string(),
            format!("--config.file={}", p.file("alertmanager.yml", &config)),
            format!("--storage.path={}", p.dir.display()),
            format!("--web.listen-address={}", p.addr),
            "--cluster.listen-address=".into(),
        ]
    });
    let _server = Running::start(Path::new(FERULA), "/-/ready", |p| {
        p.file("rules.yml", "groups:\n- name: g\n  rules:\n  - alert: SeenByAlertmanager\n    expr: vector(1)\n");
        let config = format!(
            "global: {{evaluation_interval: 1s}}\nrule_files: [rules.yml]\nalerting:\n  alertmanagers:\n  - static_configs:\n    - targets: ['{}']\n",
            alertmanager.addr
        );
        vec![
            "server".into(),
            format!("--config.file={}", p.file("prometheus.yml", &config)),
            format!("--storage.tsdb.path={}", p.dir.join("tsdb").display()),
            format!("--web.listen-address={}", p.addr),
        ]
    });
    let post = hook.wait_for(1, Duration::from_secs(30)).remove(0).json();
    assert_eq!(post["commonLabels"]["alertname"], "SeenByAlertmanager");
}
