//! Jobs follow files and HTTP answers, and keep what a reload did not change.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use ferula_instrument::Registry;
use ferula_model::SystemClock;
use ferula_scraper_discovery::{Discovery, FileSd, HttpSd, JobGroups, SdConfigs, StaticGroup};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

fn discovery(registry: &Registry) -> Discovery {
    Discovery::new("scrape", tokio::runtime::Handle::current(), Arc::new(SystemClock), registry)
}

fn addresses(groups: &JobGroups) -> Vec<String> {
    let groups = groups.iter().flat_map(|g| g.iter());
    groups.flat_map(|g| g.targets.iter().map(|t| t.get("__address__").unwrap().to_owned())).collect()
}

async fn wait_for(watch: &mut watch::Receiver<JobGroups>, expect: &[&str]) {
    let reached = watch.wait_for(|g| addresses(g) == expect);
    tokio::time::timeout(std::time::Duration::from_secs(20), reached)
        .await
        .expect("targets arrive")
        .expect("job lives");
}

fn fixed(targets: &[&str]) -> StaticGroup {
    StaticGroup { targets: targets.iter().map(|t| (*t).to_owned()).collect(), ..StaticGroup::default() }
}

fn one(configs: SdConfigs) -> BTreeMap<String, SdConfigs> {
    [("job".to_owned(), configs)].into()
}

#[tokio::test]
async fn files_are_followed_through_changes_errors_and_removal() {
    let registry = Registry::new();
    let (discovery, dir) = (discovery(&registry), tempfile::tempdir().unwrap());
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let file = FileSd { files: vec![path("*.json"), path("t.yml")], ..FileSd::default() };
    std::fs::write(path("a.json"), r#"[{"targets": ["a:1"]}]"#).unwrap();
    discovery
        .apply(&one(SdConfigs {
            mechanisms: vec![file.into()],
            static_configs: vec![fixed(&["s:1"])],
            ..Default::default()
        }))
        .unwrap();
    let mut watch = discovery.subscribe("job").unwrap();
    wait_for(&mut watch, &["s:1", "a:1"]).await;

    std::fs::write(path("t.yml"), "- targets: [y:1]\n").unwrap();
    wait_for(&mut watch, &["s:1", "a:1", "y:1"]).await;

    // Replaced by renaming, as Kubernetes and careful tools do.
    std::fs::write(path("next"), r#"[{"targets": ["a:2", "a:3"]}]"#).unwrap();
    std::fs::rename(path("next"), path("a.json")).unwrap();
    wait_for(&mut watch, &["s:1", "a:2", "a:3", "y:1"]).await;

    // A broken file keeps its targets; the others go on.
    std::fs::write(path("broken"), "{").unwrap();
    std::fs::rename(path("broken"), path("a.json")).unwrap();
    std::fs::write(path("t.yml"), "- targets: [y:2]\n").unwrap();
    wait_for(&mut watch, &["s:1", "a:2", "a:3", "y:2"]).await;
    let status = discovery.status("job");
    assert!(status[1].last_error.as_ref().unwrap().contains("a.json"), "{status:?}");
    assert!(status[1].last_update_ms.is_some());

    std::fs::remove_file(path("a.json")).unwrap();
    wait_for(&mut watch, &["s:1", "y:2"]).await;
}

/// Answers every request with the JSON at hand, or 500 if there is none.
async fn answer_with(body: Arc<Mutex<Option<String>>>) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = [0u8; 4096];
            let _ = socket.read(&mut head).await;
            let body = body.lock().unwrap().clone();
            let (status, text) = body.map_or(("500 Oops", String::new()), |b| ("200 OK", b));
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}",
                text.len()
            );
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    port
}

#[tokio::test]
async fn http_answers_are_followed_and_failures_keep_the_last_set() {
    let registry = Registry::new();
    let discovery = discovery(&registry);
    let body = Arc::new(Mutex::new(Some(r#"[{"targets": ["h:1"], "labels": {"a": "b"}}]"#.to_owned())));
    let port = answer_with(Arc::clone(&body)).await;
    let http = HttpSd {
        url: format!("http://127.0.0.1:{port}/sd"),
        refresh_interval: ferula_yaml::Duration::from_ms(20),
        ..HttpSd::default()
    };
    discovery.apply(&one(SdConfigs { mechanisms: vec![http.into()], ..Default::default() })).unwrap();
    let mut watch = discovery.subscribe("job").unwrap();
    wait_for(&mut watch, &["h:1"]).await;
    {
        let groups = watch.borrow_and_update().clone().unwrap();
        assert_eq!(groups[0].labels.get("__meta_url").unwrap(), format!("http://127.0.0.1:{port}/sd"));
    }
    *body.lock().unwrap() = None;
    while discovery.status("job")[1].last_error.is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(addresses(&watch.borrow()), ["h:1"]);
    *body.lock().unwrap() = Some(r#"[{"targets": ["h:2"]}]"#.to_owned());
    wait_for(&mut watch, &["h:2"]).await;
    let failures = registry.counter("prometheus_sd_http_failures_total", "").get();
    assert!(failures >= 1.0, "{failures}");
}

#[tokio::test]
async fn reloads_keep_equal_providers_and_leave_no_gap() {
    let registry = Registry::new();
    let (discovery, dir) = (discovery(&registry), tempfile::tempdir().unwrap());
    let path = dir.path().join("t.json").to_str().unwrap().to_owned();
    std::fs::write(&path, r#"[{"targets": ["f:1"]}]"#).unwrap();
    let file =
        |interval| FileSd { files: vec![path.clone()], refresh_interval: ferula_yaml::Duration::from_secs(interval) };
    let configs = |interval, targets| {
        one(SdConfigs {
            mechanisms: vec![file(interval).into()],
            static_configs: vec![fixed(targets)],
            ..Default::default()
        })
    };
    discovery.apply(&configs(60, &["s:1"])).unwrap();
    let mut watch = discovery.subscribe("job").unwrap();
    wait_for(&mut watch, &["s:1", "f:1"]).await;
    // The static provider is new, the file's is kept: its target is there in the very same moment.
    discovery.apply(&configs(60, &["s:2"])).unwrap();
    assert_eq!(addresses(&watch.borrow_and_update()), ["s:2", "f:1"]);
    // Now the file's provider is new as well; until it has read, the old set stays.
    discovery.apply(&configs(61, &["s:3"])).unwrap();
    assert_eq!(addresses(&watch.borrow_and_update()), ["s:2", "f:1"]);
    wait_for(&mut watch, &["s:3", "f:1"]).await;
    // A refused configuration changes nothing.
    let error = discovery.apply(&one(SdConfigs { not_built: vec!["nerve"], ..Default::default() })).unwrap_err();
    assert_eq!(error.to_string(), "nerve_sd_configs: known, but not built in yet");
    assert_eq!(addresses(&watch.borrow()), ["s:3", "f:1"]);
    discovery.apply(&BTreeMap::new()).unwrap();
    assert!(discovery.subscribe("job").is_none());
}
