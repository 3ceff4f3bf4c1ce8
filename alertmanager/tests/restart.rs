//! What a kill -9 leaves behind is enough: silences stay, nothing is told twice, firing alerts go on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod lab;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ferula_testkit::{WebhookSink, http_get, http_post};
use lab::Server;
use serde_json::Value;

const PATIENCE: Duration = Duration::from_secs(30);

fn post(server: &Server, path: &str, body: &str) -> String {
    let (code, text) = http_post(server.addr, path, "application/json", body.as_bytes()).unwrap();
    assert_eq!(code, 200, "{text}");
    text
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => std::fs::copy(entry.path(), target).map(|_| ()).unwrap(),
        }
    }
}

/// Waits until the journal holds what the log writes after a delivery.
fn wait_for_log(data: &Path, group_key: &str) {
    // The receiver follows the key; in the record of the group's timer nothing does.
    let key = [group_key.as_bytes(), &[0x12]].concat();
    for _ in 0..3_000 {
        let files = std::fs::read_dir(data.join("journal")).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_file());
        let hit = |bytes: Vec<u8>| bytes.windows(key.len()).any(|w| w == key);
        if files.filter_map(|p| std::fs::read(p).ok()).any(hit) {
            return;
        }
        std::thread::sleep(Duration::from_millis(10)); // polling a file: there is nothing to wait on
    }
    panic!("{group_key} never reached the journal");
}

#[test]
fn a_kill_loses_no_silence_and_repeats_no_notification() {
    let sink = WebhookSink::start();
    let config = format!(
        "route: {{receiver: r, group_by: [alertname], group_wait: 1ms, group_interval: 1s, repeat_interval: 1h}}\n\
         receivers: [{{name: r, webhook_configs: [{{url: '{}'}}]}}]\n",
        sink.url("/")
    );
    let first = Server::start(&config);
    let silence = r#"{"matchers":[{"name":"alertname","value":"Quiet","isRegex":false}],"startsAt":"2026-11-20T00:00:00Z",
        "endsAt":"2099-01-01T00:00:00Z","createdBy":"me","comment":"c"}"#;
    let id: Value = serde_json::from_str(&post(&first, "/api/v2/silences", silence)).unwrap();
    post(
        &first,
        "/api/v2/alerts",
        r#"[{"labels":{"alertname":"Quiet"}},{"labels":{"alertname":"Loud"},"annotations":{"s":"x"}}]"#,
    );
    sink.wait_for(1, PATIENCE);
    let data = first.dir.path().join("data");
    wait_for_log(&data, r#"{}:{alertname="Loud"}"#);

    // The files of this moment, as if the process had been killed now.
    let mut dir = Arc::new(tempfile::tempdir().unwrap());
    copy(&data, &dir.path().join("data"));
    drop(first);
    for round in 0..3 {
        let server = Server::start_in(&config, dir.clone(), |_| {});
        let (_, silences) = http_get(server.addr, "/api/v2/silences").unwrap();
        assert!(silences.contains(id["silenceID"].as_str().unwrap()), "round {round}: {silences}");
        let (_, alerts) = http_get(server.addr, "/api/v2/alerts").unwrap();
        let alerts: Vec<Value> = serde_json::from_str(&alerts).unwrap();
        assert!(
            alerts.iter().any(|a| a["labels"]["alertname"] == "Loud" && a["annotations"]["s"] == "x"),
            "round {round}"
        );
        // A new group comes, and nothing before it.
        let name = format!("News{round}");
        post(&server, "/api/v2/alerts", &format!(r#"[{{"labels":{{"alertname":"{name}"}}}}]"#));
        let seen = sink.wait_for(2 + round, PATIENCE);
        let names: Vec<String> =
            seen.iter().map(|r| r.json()["groupLabels"]["alertname"].as_str().unwrap().to_owned()).collect();
        assert_eq!(names[1..].iter().filter(|n| !n.starts_with("News")).count(), 0, "told twice: {names:?}");
        wait_for_log(&dir.path().join("data"), &format!("{{}}:{{alertname={name:?}}}"));
        // Once a crash, once a clean stop, in turn.
        if round % 2 == 0 {
            let next = Arc::new(tempfile::tempdir().unwrap());
            copy(&dir.path().join("data"), &next.path().join("data"));
            dir = next;
        } else {
            dir = server.stop();
        }
    }
    // An end that is reported after the restart is told.
    let server = Server::start_in(&config, dir, |_| {});
    post(
        &server,
        "/api/v2/alerts",
        r#"[{"labels":{"alertname":"Loud"},"endsAt":"2026-11-20T10:00:00Z","startsAt":"2026-11-20T09:00:00Z"}]"#,
    );
    let seen = sink.wait_for(5, PATIENCE);
    assert_eq!(
        (seen[4].json()["groupLabels"]["alertname"].as_str(), seen[4].json()["status"].as_str()),
        (Some("Loud"), Some("resolved"))
    );
}
