//! Configuration that changes under a running server, and what is told about jobs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::time::Duration;

use support::Server;

/// Waits for a condition that must come true; how long it takes does not matter.
async fn until<F: Future<Output = bool>>(mut condition: impl FnMut() -> F) {
    let reached = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), reached).await.expect("the condition comes true");
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_files_are_reloaded_by_themselves() {
    let config = "rule_files: ['*.rules']\nscrape_config_files: [jobs/*.yml]\nglobal: {external_labels: {a: one}}\n";
    let s = Server::start_with(config, |o| o.auto_reload = Some(Duration::from_millis(20))).await;
    let write = |name: &str, text: &str| std::fs::write(s.dir.path().join(name), text).unwrap();
    let contains = async |path: &str, text: &str| s.get(path).await.text.contains(text);

    write("prometheus.yml", &config.replace("one", "two"));
    until(|| contains("/api/v1/status/config", "a: two")).await;
    write("x.rules", "groups: [{name: g, rules: [{record: r, expr: '1'}]}]");
    until(|| contains("/api/v1/rules", "\"name\":\"r\"")).await;
    std::fs::create_dir(s.dir.path().join("jobs")).unwrap();
    write("jobs/a.yml", "scrape_configs: [{job_name: extra}]");
    until(|| contains("/api/v1/scrape_pools", "extra")).await;

    // A broken file changes nothing but the metric, and is taken as soon as it is whole.
    write("x.rules", "groups: [{name: g, rules: [{record: r, expr: '1 +'}]}]");
    until(|| contains("/metrics", "prometheus_config_last_reload_successful 0")).await;
    assert!(contains("/api/v1/rules", "\"name\":\"r\"").await);
    write("x.rules", "groups: [{name: g, rules: [{record: later, expr: '1'}]}]");
    until(|| contains("/api/v1/rules", "\"name\":\"later\"")).await;
    until(|| contains("/metrics", "prometheus_config_last_reload_successful 1")).await;
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_scrapes_are_logged() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!(
        "global: {{scrape_failure_log_file: failures.log, scrape_interval: 1s}}\n\
         scrape_configs: [{{job_name: j, static_configs: [{{targets: ['{free}']}}]}}]"
    );
    let s = Server::start(&config).await;
    let file = s.dir.path().join("failures.log");
    until(async || std::fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n'))).await;
    let text = std::fs::read_to_string(&file).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((&line["level"], &line["job_name"]), (&"ERROR".into(), &"j".into()));
    assert_eq!(line["target"], format!("http://{free}/metrics"));
    assert_eq!(line["time"], "2023-11-14T22:13:20Z");
    let expected = format!("Get \"http://{free}/metrics\": dial tcp {free}: connect: connection refused");
    assert_eq!(line["msg"], expected);
    s.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relabelling_is_shown_step_by_step() {
    let config = "scrape_configs:\n- job_name: j\n  authorization: {credentials: s3cret}\n  relabel_configs:\n  \
                  - {source_labels: [__meta_pod], target_label: pod}\n  \
                  - {source_labels: [pod], regex: a.*, action: keep}\n  - {target_label: x, replacement: y}\n";
    let s = Server::start(config).await;
    let steps = async |labels: &str| {
        let params = [("scrapePool", "j"), ("labels", labels)];
        s.ask("/api/v1/targets/relabel_steps", &params).await.data()["steps"].clone()
    };
    let kept = steps(r#"{"__meta_pod": "app"}"#).await;
    assert_eq!(kept[0]["rule"]["sourceLabels"], serde_json::json!(["__meta_pod"]));
    assert_eq!((&kept[0]["rule"]["action"], &kept[0]["rule"]["targetLabel"]), (&"replace".into(), &"pod".into()));
    assert_eq!(kept[0]["output"], serde_json::json!({"__meta_pod": "app", "pod": "app"}));
    assert_eq!(kept[2]["output"]["x"], "y");
    assert_eq!(kept[2]["keep"], true);
    let dropped = steps(r#"{"__meta_pod": "web"}"#).await;
    let keeps: Vec<bool> = dropped.as_array().unwrap().iter().map(|s| s["keep"].as_bool().unwrap()).collect();
    assert_eq!(keeps, [true, false, false]);
    assert_eq!(dropped[1]["output"], serde_json::json!({}));
    for (params, why) in [
        (vec![], "no scrapePool parameter provided"),
        (vec![("scrapePool", "j")], "no labels parameter provided"),
        (vec![("scrapePool", "j"), ("labels", "{")], "error parsing labels"),
        (vec![("scrapePool", "k"), ("labels", "{}")], "not found"),
    ] {
        let answer = s.ask("/api/v1/targets/relabel_steps", &params).await;
        assert_eq!(answer.status, 400);
        assert!(answer.text.contains(why), "{}", answer.text);
    }
    let yaml = s.ask("/api/v1/scrape_pools/config", &[("scrapePool", "j")]).await.data()["yaml"].clone();
    let yaml = yaml.as_str().unwrap();
    assert!(yaml.contains("job_name: j") && yaml.contains("<secret>") && !yaml.contains("s3cret"), "{yaml}");
    s.stop().await;
}

/// The `storage` section: what upstream takes over at a reload has an effect at a reload here.
#[tokio::test(flavor = "multi_thread")]
async fn storage_settings_change_with_a_reload() {
    const XOR2: u8 = 4;
    let s = Server::start("{}").await;
    let labels = [("__name__", "m")];
    let metric = async |name: &str| {
        let text = s.get("/metrics").await.text;
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
        line.and_then(|v| v.parse::<f64>().ok())
    };
    s.store(&[(&labels, &[(3600, 1.0)])]).await;
    assert_eq!(s.try_store(&[(&labels, &[(3610, 1.0)])]).await.status, 400);

    let config = "storage:\n  tsdb:\n    out_of_order_time_window: 10m\n    stale_series_compaction_threshold: 0.5\n    \
                  chunk_encoding: {floats: xor2}\n    retention: {time: 3d, size: 5GB, percentage: 40}\n  \
                  exemplars: {max_exemplars: 77}\n";
    std::fs::write(s.dir.path().join("prometheus.yml"), config).unwrap();
    assert_eq!(s.post("/-/reload", "text/plain", "").await.status, 200);
    s.store(&[(&labels, &[(3610, 1.0)])]).await;
    assert_eq!(s.try_store(&[(&labels, &[(4300, 1.0)])]).await.status, 400);
    assert_eq!(metric("prometheus_tsdb_exemplar_max_exemplars").await, Some(77.0));
    assert_eq!(metric("prometheus_tsdb_retention_limit_seconds").await, Some(3.0 * 86400.0));
    assert_eq!(metric("prometheus_tsdb_retention_limit_bytes").await, Some(5.0 * f64::from(1 << 30)));
    let runtime = s.get("/api/v1/status/runtimeinfo").await.data();
    assert_eq!(runtime["storageRetention"], "3d or 5GiB or 40%");

    // Two hundred samples of a series that is new: one chunk and a part of the next.
    let late: Vec<(i64, f64)> = (0..200).map(|i| (3500 - i * 15, i as f64)).collect();
    s.store(&[(&[("__name__", "n")], &late)]).await;

    std::fs::write(s.dir.path().join("prometheus.yml"), "{}").unwrap();
    assert_eq!(s.post("/-/reload", "text/plain", "").await.status, 200);
    assert_eq!(metric("prometheus_tsdb_exemplar_max_exemplars").await, Some(1000.0));
    assert_eq!(metric("prometheus_tsdb_retention_limit_seconds").await, Some(15.0 * 86400.0));
    assert_eq!(s.try_store(&[(&labels, &[(3620, 1.0)])]).await.status, 400);
    let walreplay = async |s: &Server| s.get("/api/v1/status/walreplay").await.data();
    assert_eq!(walreplay(&s).await, serde_json::json!({"min": 0, "max": 0, "current": 0}));
    let dir = s.stop().await;
    let chunks = std::fs::read(dir.path().join("data/chunks_head/000001")).unwrap();
    // Behind the file's header: series, bounds, encoding.
    assert_eq!(chunks[8 + 24], XOR2);

    let s = Server::start_in(dir, |_| {}).await;
    until(async || walreplay(&s).await == serde_json::json!({"min": 0, "max": 1, "current": 1})).await;
    s.stop().await;
}
