//! The whole path with a running clock: configuration, scrape, store, query, rule, alert, notification.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::sync::{Arc, Mutex};

use ferula_model::SystemClock;
use ferula_net::listen::{ListenOptions, Listener};
use serde_json::{Value, json};
use support::Server;

const RULES: &str = r#"
groups:
- name: g
  interval: 100ms
  rules:
  - record: job:up:sum
    expr: sum by (job) (up)
    labels: {kind: recorded}
  - alert: TargetUp
    expr: up == 1
    labels: {severity: page}
    annotations: {summary: "{{ $labels.job }} is {{ $value }}"}
"#;

/// Takes alerts as an Alertmanager does and remembers them.
async fn alertmanager() -> (String, Arc<Mutex<Vec<Value>>>) {
    let got = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&got);
    let router = axum::Router::new().route(
        "/api/v2/alerts",
        axum::routing::post(move |body: String| async move {
            let alerts: Vec<Value> = serde_json::from_str(&body).unwrap();
            keep.lock().unwrap().extend(alerts);
        }),
    );
    let listener = Listener::bind(&["127.0.0.1:0"], ListenOptions::default()).await.unwrap();
    let address = listener.local_addrs()[0].to_string();
    tokio::spawn(listener.serve(router, std::future::pending()));
    (address, got)
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..2000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{what} did not come within 20 s");
}

#[tokio::test(flavor = "multi_thread")]
async fn from_a_scrape_to_an_alert() {
    let (am, alerts) = alertmanager().await;
    // The exposition it scrapes is its own, found through file discovery, which also proves reload.
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let config = format!(
        "global: {{scrape_interval: 100ms, evaluation_interval: 100ms, external_labels: {{dc: x}}}}\n\
         rule_files: ['*.rules']\n\
         alerting:\n  alertmanagers:\n  - static_configs: [{{targets: ['{am}']}}]\n\
         scrape_configs:\n- job_name: self\n  file_sd_configs: [{{files: ['targets.json']}}]\n"
    );
    std::fs::write(dir.path().join("prometheus.yml"), config).unwrap();
    std::fs::write(dir.path().join("a.rules"), RULES).unwrap();
    std::fs::write(dir.path().join("targets.json"), "[]").unwrap();
    let s = Server::start_in(dir, |o| o.clock = Arc::new(SystemClock)).await;
    let targets = json!([{"targets": [s.address.to_string()], "labels": {"team": "a"}}]).to_string();
    std::fs::write(s.dir.path().join("targets.json"), targets).unwrap();
    s.post("/-/reload", "text/plain", "").await;

    until("the scrape", async || {
        let answer = s.ask("/api/v1/query", &[("query", "up{job=\"self\",team=\"a\"} == 1")]).await;
        !answer.data()["result"].as_array().unwrap().is_empty()
    })
    .await;
    let targets = s.get("/api/v1/targets").await.data();
    assert_eq!(
        (&targets["activeTargets"][0]["health"], &targets["activeTargets"][0]["lastError"]),
        (&json!("up"), &json!(""))
    );
    assert_eq!(targets["activeTargets"][0]["labels"]["team"], "a");
    assert_eq!(targets["droppedTargetCounts"], json!({"self": 0}));
    assert_eq!(s.get("/api/v1/scrape_pools").await.data(), json!({"scrapePools": ["self"]}));
    let budgets = s.get("/api/v1/status/series_budgets").await.data();
    assert_eq!((&budgets["server"]["limit"], &budgets["jobs"][0]["job"]), (&json!(0), &json!("self")));
    assert!(budgets["jobs"][0]["series"].as_u64().is_some_and(|n| n > 0), "{budgets}");
    let metadata = s.get("/api/v1/metadata?metric=prometheus_build_info").await.data();
    assert_eq!(metadata["prometheus_build_info"][0]["type"], "gauge");
    let of_target = s.get("/api/v1/targets/metadata?metric=prometheus_build_info&limit=1").await.data();
    assert_eq!(of_target[0]["target"]["team"], "a");

    until("the recording rule", async || {
        let answer = s.ask("/api/v1/query", &[("query", "job:up:sum{kind=\"recorded\"}")]).await;
        answer.data()["result"][0]["value"][1] == "1"
    })
    .await;
    until("the alert", async || !alerts.lock().unwrap().is_empty()).await;
    let sent = alerts.lock().unwrap()[0].clone();
    assert_eq!(sent["labels"]["alertname"], "TargetUp");
    assert_eq!((&sent["labels"]["dc"], &sent["labels"]["severity"]), (&json!("x"), &json!("page")));
    assert_eq!(sent["annotations"]["summary"], "self is 1");
    assert!(sent["generatorURL"].as_str().unwrap().starts_with("http://ferula.test/graph?g0.expr="), "{sent}");

    let rules = s.get("/api/v1/rules?type=alert").await.data();
    let rule = &rules["groups"][0]["rules"][0];
    assert_eq!((&rule["state"], &rule["health"], &rule["type"]), (&json!("firing"), &json!("ok"), &json!("alerting")));
    assert_eq!(rule["alerts"][0]["value"], "1e+00");
    assert_eq!(s.get("/api/v1/alerts").await.data()["alerts"][0]["state"], "firing");
    assert_eq!(s.get("/api/v1/rules?type=record&rule_name[]=none").await.data()["groups"], json!([]));
    assert_eq!(
        s.get("/api/v1/alertmanagers").await.data()["activeAlertmanagers"][0]["url"],
        format!("http://{am}/api/v2/alerts")
    );
    for (query, text) in [
        ("type=foo", "invalid parameter \"type\": not supported value \"foo\""),
        (
            "exclude_alerts=foo",
            "invalid parameter \"exclude_alerts\": error converting exclude_alerts: strconv.ParseBool: parsing \"foo\": invalid syntax",
        ),
        (
            "group_limit=x",
            "invalid parameter \"group_limit\": group_limit needs to be a valid number: strconv.ParseInt: parsing \"x\": invalid syntax",
        ),
        ("group_limit=0", "invalid parameter \"group_limit\": group_limit needs to be greater than 0"),
        (
            "group_next_token=x",
            "invalid parameter \"group_next_token\": group_limit needs to be present in order to paginate over the groups",
        ),
        ("match[]=%7B", "1:2: parse error: unexpected end of input inside braces"),
    ] {
        assert_eq!(s.get(&format!("/api/v1/rules?{query}")).await.json()["error"], text);
    }

    // A broken rule file refuses the reload as a whole.
    std::fs::write(s.dir.path().join("a.rules"), "groups:\n- name: g\n  rules:\n  - record: x\n    expr: 'sum('\n")
        .unwrap();
    let refused = s.post("/-/reload", "text/plain", "").await;
    assert!(refused.status == 500 && refused.text.contains("a.rules: 5:"), "{}", refused.text);
    assert_eq!(s.get("/api/v1/alerts").await.data()["alerts"][0]["state"], "firing");
    s.stop().await;
}
