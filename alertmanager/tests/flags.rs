//! What flags change of the HTTP side, silences with all their fields, and a reload that is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod lab;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use ferula_testkit::{WebhookSink, http_get, http_post};
use lab::Server;
use serde_json::{Value, json};

const CONFIG: &str = "route: {receiver: r}\nreceivers: [{name: r}]\n";

#[test]
fn a_prefix_stands_before_everything() {
    let dir = || Arc::new(tempfile::tempdir().unwrap());
    let by_flag = Server::start_in(CONFIG, dir(), |o| o.route_prefix = "/am/".to_owned());
    let by_url = Server::start_in(CONFIG, dir(), |o| o.external_url = "http://x/am".to_owned());
    for server in [&by_flag, &by_url] {
        for (path, status) in [("/am/-/ready", 200), ("/am/api/v2/status", 200), ("/-/ready", 404), ("/am/nope", 404)] {
            assert_eq!(http_get(server.addr, path).unwrap().0, status, "{path}");
        }
    }
}

#[test]
fn a_request_that_takes_too_long_is_told_so() {
    let server = Server::start_in(CONFIG, Arc::new(tempfile::tempdir().unwrap()), |o| o.timeout_ms = 100);
    let mut stream = TcpStream::connect(server.addr).unwrap();
    // Its body never comes.
    write!(
        stream,
        "POST /api/v2/alerts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n["
    )
    .unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut answer = [0; 4096];
    let n = stream.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..n]);
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("Exceeded configured timeout of 100ms."), "{answer}");
}

#[test]
fn silences_keep_annotations_and_sets_and_are_listed_by_state() {
    let server = Server::start(CONFIG);
    let matcher = |name: &str| json!({"name": name, "value": "1", "isRegex": false, "isEqual": true});
    let post = |silence: Value| {
        let sent = silence.to_string();
        let (status, text) = http_post(server.addr, "/api/v2/silences", "application/json", sent.as_bytes()).unwrap();
        assert_eq!(status, 200, "{text}");
        serde_json::from_str::<Value>(&text).unwrap()["silenceID"].as_str().unwrap().to_owned()
    };
    let silence = |starts: &str, name: &str| {
        json!({"matchers": [matcher(name)], "startsAt": starts, "endsAt": "2099-01-01T00:00:00Z",
            "createdBy": "me", "comment": "c", "annotations": {"ticket": "T-1", "why": "move"}})
    };
    let active = post(silence("2026-01-01T00:00:00Z", "a"));
    let pending = post(silence("2098-01-01T00:00:00Z", "b"));
    let expired = post(silence("2026-01-01T00:00:00Z", "c"));
    let mut stream = TcpStream::connect(server.addr).unwrap();
    write!(stream, "DELETE /api/v2/silence/{expired} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    stream.read_to_string(&mut String::new()).unwrap();
    let list = |query: &str| -> Vec<(String, Value)> {
        let (_, text) = http_get(server.addr, &format!("/api/v2/silences{query}")).unwrap();
        let all: Vec<Value> = serde_json::from_str(&text).unwrap();
        all.into_iter().map(|s| (s["id"].as_str().unwrap().to_owned(), s)).collect()
    };
    let ids = |query: &str| -> Vec<String> { list(query).into_iter().map(|(id, _)| id).collect() };
    assert_eq!(ids(""), [active.clone(), pending.clone(), expired.clone()]);
    assert_eq!(ids("?expired=false"), [active.clone(), pending.clone()]);
    assert_eq!(ids("?active=false&pending=false"), [expired]);
    assert_eq!(ids("?active=true&expired=false&pending=false"), [active]);
    assert_eq!(ids("?filter=b%3D%221%22"), [pending]);
    assert_eq!(list("")[0].1["annotations"], json!({"ticket": "T-1", "why": "move"}));
}

#[test]
fn a_bad_file_changes_nothing_and_is_named() {
    let hook = WebhookSink::start();
    let good = format!(
        "route: {{receiver: r, group_wait: 0s}}\nreceivers: [{{name: r, webhook_configs: [{{url: \"{}\"}}]}}]\n",
        hook.url("/")
    );
    let server = Server::start(&good);
    let file = server.dir.path().join("alertmanager.yml");
    std::fs::write(&file, "route:\n  receiver: r\n  group_wait: soon\nreceivers: [{name: r}]\n").unwrap();
    let (status, why) = http_post(server.addr, "/-/reload", "", b"").unwrap();
    assert_eq!(status, 500);
    assert!(why.contains("alertmanager.yml:3:") && why.contains("route.group_wait"), "{why}");
    let page = http_get(server.addr, "/metrics").unwrap().1;
    assert!(page.contains("\nalertmanager_config_last_reload_successful 0\n"), "{page}");
    let alert = br#"[{"labels":{"alertname":"A"}}]"#;
    http_post(server.addr, "/api/v2/alerts", "application/json", alert).unwrap();
    hook.wait_for(1, Duration::from_secs(60));
    std::fs::write(&file, good).unwrap();
    assert_eq!(http_post(server.addr, "/-/reload", "", b"").unwrap().0, 200);
    let page = http_get(server.addr, "/metrics").unwrap().1;
    assert!(page.contains("\nalertmanager_config_last_reload_successful 1\n"));
}
