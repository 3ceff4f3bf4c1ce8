//! The whole path through the built binary: host metrics in, query out, rule fires, mail and webhook arrive, kill -9
//! loses nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::path::Path;
use std::time::Duration;

use ferula_testkit::{Running, SmtpOptions, SmtpSink, WebhookSink};
use support::{FERULA, api, eventually, query, single};

fn node_exporter() -> Running {
    Running::start(Path::new(FERULA), "/metrics", |p| {
        vec!["node-exporter".into(), format!("--web.listen-address={}", p.addr)]
    })
}

fn server(data: &Path, config: &str, rules: &str) -> Running {
    Running::start(Path::new(FERULA), "/-/ready", |p| {
        p.file("rules.yml", rules);
        vec![
            "server".into(),
            format!("--config.file={}", p.file("prometheus.yml", config)),
            format!("--storage.tsdb.path={}", data.display()),
            format!("--web.listen-address={}", p.addr),
        ]
    })
}

#[test]
fn host_metrics_in_alert_out() {
    let smtp = SmtpSink::start(SmtpOptions {
        starttls: true,
        credentials: Some(("ferula".into(), "s3cret".into())),
        ..SmtpOptions::default()
    });
    let hook = WebhookSink::start();
    let node = node_exporter();
    let alertmanager = Running::start(Path::new(FERULA), "/-/ready", |p| {
        let ca = p.file("ca.pem", smtp.ca_pem());
        let config = format!(
            "global:\n  smtp_from: ferula@example.org\n  smtp_smarthost: localhost:{port}\n  smtp_auth_username: ferula\n  smtp_auth_password: s3cret\n  smtp_tls_config:\n    ca_file: {ca}\nroute:\n  receiver: both\n  group_by: [alertname]\n  group_wait: 0s\n  group_interval: 1s\n  repeat_interval: 1h\nreceivers:\n- name: both\n  webhook_configs:\n  - url: {hook}\n  email_configs:\n  - to: oncall@example.org\n    send_resolved: true\n",
            port = smtp.addr().port(),
            hook = hook.url("/hook"),
        );
        vec![
            "alertmanager".into(),
            format!("--config.file={}", p.file("alertmanager.yml", &config)),
            format!("--storage.path={}", p.dir.display()),
            format!("--web.listen-address={}", p.addr),
            "--cluster.listen-address=".into(),
        ]
    });
    let data = tempfile::tempdir().unwrap();
    let config = format!(
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  evaluation_interval: 1s\n  external_labels: {{site: test}}\nrule_files: [rules.yml]\nalerting:\n  alertmanagers:\n  - static_configs:\n    - targets: ['{am}']\nscrape_configs:\n- job_name: node\n  static_configs:\n  - targets: ['{node}']\n",
        am = alertmanager.addr,
        node = node.addr,
    );
    let rules = "groups:\n- name: g\n  rules:\n  - record: node:memory:bytes\n    expr: sum(node_memory_MemTotal_bytes)\n  - alert: MachineSeen\n    expr: node:memory:bytes > 0\n    for: 1s\n    labels: {severity: page}\n    annotations:\n      summary: 'memory is {{ $value | humanize1024 }}B on {{ $labels.site }}{{ $externalLabels.site }}'\n";
    let mut first = server(data.path(), &config, rules);

    // Host metrics in, query out.
    let mode =
        eventually("this machine's CPU", 15, || query(&first, "node_cpu_seconds_total{cpu=\"0\"}"), |v| v.len() == 8);
    assert_eq!(mode[0]["metric"]["job"], "node");
    eventually("a rate", 15, || query(&first, "rate(node_cpu_seconds_total[1m])"), |v| v.len() >= 8);
    assert_eq!(single(&first, "up"), Some(1.0));
    let real: f64 = std::fs::read_to_string("/proc/meminfo")
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    eventually("the recording rule", 10, || single(&first, "node:memory:bytes"), |v| *v == Some(real * 1024.0));

    // The rule fires; webhook and mail arrive.
    eventually("the alert", 10, || single(&first, "ALERTS{alertstate=\"firing\"}"), |v| *v == Some(1.0));
    let posts = hook.wait_for(1, Duration::from_secs(15));
    let body = posts[0].json();
    assert_eq!((body["version"].as_str(), body["status"].as_str()), (Some("4"), Some("firing")));
    assert_eq!(body["alerts"][0]["labels"]["alertname"], "MachineSeen");
    assert_eq!(body["alerts"][0]["labels"]["site"], "test", "external labels travel with alerts");
    let summary = body["alerts"][0]["annotations"]["summary"].as_str().unwrap().to_owned();
    assert!(summary.starts_with("memory is ") && summary.ends_with("iB on test"), "{summary}");
    let mail = &smtp.wait_for(1, Duration::from_secs(15))[0];
    assert_eq!((mail.over_tls, mail.to.as_slice()), (true, &["oncall@example.org".to_owned()][..]));
    assert_eq!(mail.auth.as_ref().map(|a| a.1.as_str()), Some("ferula"));
    assert!(mail.readable().contains("MachineSeen"), "{}", mail.readable());
    let alerts = alertmanager.get("/api/v2/alerts").1;
    assert!(alerts.contains("MachineSeen"), "{alerts}");
    assert_eq!(api(&first, "/api/v1/rules")["groups"][0]["rules"][1]["state"], "firing");

    // kill -9: everything that was visible is there again, and the alert does not start over.
    let seen = api(&first, "/api/v1/query?query=count_over_time(up[10m])")["result"][0]["value"][1].clone();
    let seen: f64 = seen.as_str().unwrap().parse().unwrap();
    let at = eventually("a timestamp", 5, || single(&first, "timestamp(up)"), Option::is_some).unwrap();
    first.kill();
    let second = server(data.path(), &config, rules);
    let path = format!("/api/v1/query?query=count_over_time(up[10m])&time={at}");
    let again: f64 = api(&second, &path)["result"][0]["value"][1].as_str().unwrap().parse().unwrap();
    assert!(again >= seen, "{seen} samples before the kill, {again} after");
    eventually("new samples", 10, || single(&second, "timestamp(up)"), |v| v.is_some_and(|t| t > at));
}

#[test]
fn everything_starts_with_one_command_and_stops_on_a_signal() {
    let dir = tempfile::tempdir().unwrap();
    let ports: Vec<u16> = (0..2).map(|_| ferula_testkit::free_port()).collect();
    let all = Running::start(Path::new(FERULA), "/-/ready", |p| {
        vec![
            "all-in-one".into(),
            format!("--server.listen-address={}", p.addr),
            format!("--alertmanager.listen-address=127.0.0.1:{}", ports[0]),
            format!("--node-exporter.listen-address=127.0.0.1:{}", ports[1]),
            format!("--data.path={}", dir.path().display()),
        ]
    });
    eventually("all three targets up", 15, || query(&all, "up == 1").len(), |n| *n == 3);
    eventually("a rate", 15, || query(&all, "rate(node_cpu_seconds_total[1m])").len(), |n| *n >= 8);
    let output = all.output();
    for address in [all.addr.port(), ports[0], ports[1]] {
        assert!(output.contains(&address.to_string()), "the addresses are printed: {output}");
    }
    assert!(output.contains("/api/v1/status/config"), "{output}");
    let config = api(&all, "/api/v1/status/config")["yaml"].as_str().unwrap().to_owned();
    assert!(config.contains("job_name: node"), "{config}");
    let rules = api(&all, "/api/v1/rules");
    assert!(rules["groups"].as_array().unwrap().len() >= 2, "{rules}");
    // An alert reaches the Alertmanager of the process without a request.
    let always = "groups:\n- name: always\n  interval: 1s\n  rules:\n  - alert: Watchdog\n    expr: vector(1)\n";
    std::fs::write(dir.path().join("config/rules.yml"), always).unwrap();
    assert_eq!(ferula_testkit::http_post(all.addr, "/-/reload", "text/plain", b"").unwrap().0, 200);
    let am = |path: &str| {
        ferula_testkit::http_get(([127, 0, 0, 1], ports[0]).into(), path).map_or_else(|_| String::new(), |a| a.1)
    };
    eventually("the alert handed over", 20, || am("/api/v2/alerts"), |a| a.contains("Watchdog"));
    let metrics = am("/metrics");
    assert!(!metrics.contains(r#"handler="/api/v2/alerts",method="post""#), "an alert came over HTTP");
    let sent =
        format!("prometheus_notifications_sent_total{{alertmanager=\"http://127.0.0.1:{}/api/v2/alerts\"}}", ports[0]);
    assert!(all.get("/metrics").1.contains(&sent), "{sent}");
    let status = std::process::Command::new("kill").args(["-TERM", &all.pid().to_string()]).status().unwrap();
    assert!(status.success());
    eventually("the end", 10, || all.get_if_running("/-/ready"), |answer| answer.is_none());
}
