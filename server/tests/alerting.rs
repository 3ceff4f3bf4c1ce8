//! The `alerting` section at work: Alertmanagers from discovery, chosen and addressed by relabelling, and what alerts become
//! on their way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::sync::Arc;
use std::time::Duration;

use ferula_model::SystemClock;
use ferula_testkit::WebhookSink;
use serde_json::json;
use support::Server;

const CONFIG: &str = r#"
global: {evaluation_interval: 100ms, external_labels: {dc: x, replica: a}}
rule_files: [alerts.rules]
alerting:
  alert_relabel_configs:
  - {action: labeldrop, regex: replica}
  - {action: drop, source_labels: [severity], regex: none}
  - {target_label: site, replacement: "$1-1", source_labels: [dc]}
  alertmanagers:
  - path_prefix: /am/
    basic_auth: {username: u, password: hush}
    file_sd_configs: [{files: [am.json], refresh_interval: 100ms}]
    relabel_configs:
    - {action: keep, source_labels: [role], regex: main}
"#;

const RULES: &str = r#"
groups:
- name: g
  interval: 100ms
  rules:
  - {alert: Told, expr: vector(1), labels: {severity: page}}
  - {alert: Untold, expr: vector(1), labels: {severity: none}}
"#;

const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn alertmanagers_come_and_go_with_discovery() {
    let (one, two) = (WebhookSink::start(), WebhookSink::start());
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let found = |target: String| {
        json!([{"targets": [target], "labels": {"role": "main"}}, {"targets": ["gone.test:9093"], "labels": {"role": "other"}}])
            .to_string()
    };
    std::fs::write(dir.path().join("prometheus.yml"), CONFIG).unwrap();
    std::fs::write(dir.path().join("alerts.rules"), RULES).unwrap();
    let file = dir.path().join("am.json");
    std::fs::write(&file, found(one.addr().to_string())).unwrap();
    let s = Server::start_in(dir, |o| {
        o.clock = Arc::new(SystemClock);
        o.rules.resend_delay_ms = 100;
    })
    .await;
    // The sinks block while they wait.
    let told =
        |sink: WebhookSink| async { tokio::task::spawn_blocking(move || sink.wait_for(2, PATIENCE)).await.unwrap() };
    let first = told(one).await;
    for request in &first {
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/am/api/v2/alerts"));
        assert_eq!(request.header("authorization"), Some("Basic dTpodXNo"));
        let labels = json!({"alertname": "Told", "dc": "x", "severity": "page", "site": "x-1"});
        let alerts = request.json();
        assert!(alerts.as_array().unwrap().iter().all(|a| a["labels"] == labels), "{alerts}");
    }
    let known = s.get("/api/v1/alertmanagers").await.data();
    assert_eq!(known["activeAlertmanagers"].as_array().unwrap().len(), 1);
    assert_eq!(known["droppedAlertmanagers"], json!([{"url": "http://gone.test:9093/am/api/v2/alerts"}]));

    // Another one takes its place; whole at once, as a file is replaced.
    std::fs::write(file.with_extension("new"), found(two.addr().to_string())).unwrap();
    std::fs::rename(file.with_extension("new"), &file).unwrap();
    let address = two.addr();
    assert_eq!(told(two).await[0].path, "/am/api/v2/alerts");
    let known = s.get("/api/v1/alertmanagers").await.data();
    assert_eq!(known["activeAlertmanagers"], json!([{"url": format!("http://{address}/am/api/v2/alerts")}]));
    s.stop().await;
}
