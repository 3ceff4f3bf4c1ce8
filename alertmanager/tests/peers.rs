//! The real Alertmanager beside ours: the same configuration, the same alerts, the same answers and messages.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod lab;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ferula_testkit::{Running, WebhookSink, http_get, http_post, skipped};
use lab::Server;
use lab::real::{peer, start_real};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

fn config(hook: &str) -> String {
    format!(
        r#"
route:
  receiver: hook
  group_by: [alertname, "zone id"]
  group_wait: 2s
  group_interval: 2s
  repeat_interval: 1h
  routes:
  - matchers: ['team=~"a|b"', "kind!=\"x\""]
    receiver: firing-only
    group_by: ['...']
    continue: true
  - match: {{team: a}}
    group_by: []
receivers:
- name: hook
  webhook_configs: [{{url: "{hook}", max_alerts: 3}}]
- name: firing-only
  webhook_configs: [{{url: "{hook}", send_resolved: false}}]
inhibit_rules:
- source_matchers: [severity="critical"]
  target_matchers: [severity="warning"]
  equal: [job, absent]
"#
    )
}

fn post(addr: SocketAddr, path: &str, body: &Value) -> (u16, String) {
    http_post(addr, path, "application/json", body.to_string().as_bytes()).unwrap()
}

/// The steps of the scenario: what is posted, and how many messages there are in all once it has been told.
fn steps() -> Vec<(Value, usize)> {
    // The same in both plays, and young: a group whose alert is older than its wait is told at once, perhaps in part.
    static START: std::sync::OnceLock<jiff::Timestamp> = std::sync::OnceLock::new();
    let start =
        *START.get_or_init(|| jiff::Timestamp::from_millisecond(jiff::Timestamp::now().as_millisecond()).unwrap());
    let past = (start + Duration::from_millis(123)).to_string();
    let past = past.as_str();
    // When the third step comes: their groups wait, so that the one is known before the other is told.
    let third = (start + Duration::from_secs(4)).to_string();
    let start = start.to_string();
    let alert = |labels: Value, end: &str| {
        json!({"labels": labels, "startsAt": start, "endsAt": end,
        "annotations": {"summary": "a <b> & \"c\" \u{1F642}", "same": "1"}, "generatorURL": "http://p/graph?g0.expr=up%20%3D%3D%200&g1"})
    };
    let later = "2099-01-01T00:00:00Z";
    let young = |labels: Value| {
        let mut young = alert(labels, later);
        young["startsAt"] = json!(third);
        young
    };
    let disk = |i: u32, end: &str| {
        alert(json!({"alertname": "Disk", "zone id": "ü\"\\\n", "instance": format!("i{i}"), "job": "n"}), end)
    };
    let team =
        |name: &str, end: &str| alert(json!({"alertname": name, "team": "a", "kind": "y", "severity": "page"}), end);
    vec![
        (
            json!([
                disk(2, later),
                disk(10, later),
                disk(1, later),
                disk(3, later),
                team("T1", later),
                team("T2", later)
            ]),
            4,
        ),
        (json!([disk(2, past), team("T1", past)]), 6),
        (
            json!([
                disk(4, later),
                young(json!({"alertname": "W", "severity": "warning", "job": "q"})),
                young(json!({"alertname": "C", "severity": "critical", "job": "q"}))
            ]),
            8,
        ),
        (json!([disk(1, past), disk(3, past), disk(4, past), disk(10, past), team("T2", past)]), 10),
        (json!([disk(1, later)]), 11),
    ]
}

/// Plays the steps and answers all messages, sorted by group, each group's in their order, and how long each step took from
/// the post to its last message.
fn play(addr: SocketAddr, sink: &WebhookSink) -> (Vec<Value>, Vec<Duration>) {
    let mut delays = Vec::new();
    for (alerts, told) in steps() {
        assert_eq!(post(addr, "/api/v2/alerts", &alerts).0, 200);
        let posted = Instant::now();
        let seen = sink.wait_for(told, PATIENCE);
        delays.push(posted.elapsed());
        assert_eq!(seen.len(), told, "more than expected: {:#?}", seen.iter().map(|r| r.text()).collect::<Vec<_>>());
    }
    let mut bodies: Vec<Value> = sink.requests().iter().map(|r| r.json()).collect();
    bodies.sort_by_key(|b| (b["receiver"].to_string(), b["groupKey"].to_string()));
    (bodies, delays)
}

#[test]
fn webhook_bodies_and_api_answers_are_the_same() {
    let Some(peer) = peer() else { return };
    let (sink_a, sink_b) = (WebhookSink::start(), WebhookSink::start());
    let real = match start_real(&peer, &config(&sink_a.url("/")), None) {
        Ok(r) => r,
        Err(why) => return skipped("alertmanager peers", &why),
    };
    let ours = Server::start_in(&config(&sink_b.url("/")), Arc::new(tempfile::tempdir().unwrap()), |o| {
        o.external_url = "http://am.example/".to_owned();
    });
    let ((theirs, their_delays), (mine, my_delays)) = std::thread::scope(|s| {
        let a = s.spawn(|| play(real.addr, &sink_a));
        let b = s.spawn(|| play(ours.addr, &sink_b));
        (a.join().unwrap(), b.join().unwrap())
    });
    for (t, m) in theirs.iter().zip(&mine) {
        assert_eq!(m, t, "\nours:  {m}\nreal:  {t}");
    }
    assert_eq!(mine.len(), theirs.len());
    // Half an interval: sooner or later by more would be another timer, not a busy machine. Not the last step: it follows the
    // end of a group so closely that on both sides chance says whether a new one begins or the old one goes on.
    for (t, m) in their_delays.iter().zip(&my_delays).take(steps().len() - 1) {
        assert!(t.abs_diff(*m) < Duration::from_secs(1), "ours {my_delays:?}, real {their_delays:?}");
    }
    println!("alertmanager peers: told after {my_delays:.2?}, the real one after {their_delays:.2?}");

    let mut same = 0;
    let get = |path: &str| {
        let parse = |(code, text): (u16, String)| {
            let mut v: Value = serde_json::from_str(&text).unwrap_or(Value::String(text));
            forget(&mut v, &["updatedAt", "routeLabels", "uptime", "versionInfo"]);
            (code, v)
        };
        (parse(http_get(ours.addr, path).unwrap()), parse(http_get(real.addr, path).unwrap()))
    };
    for path in [
        "/api/v2/alerts",
        "/api/v2/alerts?filter=alertname%3DDisk&active=true",
        "/api/v2/alerts?active=false",
        "/api/v2/alerts?inhibited=false",
        "/api/v2/alerts?receiver=firing.*",
        "/api/v2/alerts?receiver=h.*",
        "/api/v2/alerts?filter=team%21%3Da&filter=alertname%3D~%22.%2B%22",
        "/api/v2/alerts?filter=team%3D",
        "/api/v2/alerts?filter=%7B",
        "/api/v2/alerts/groups",
        "/api/v2/alerts/groups?receiver=hook&muted=false",
        "/api/v2/receivers",
        "/api/v2/receivers?receiver_matchers=name%3D~%22f.*%22",
        "/api/v2/silence/nope",
        "/api/v2/nope",
        "/api/v1/alerts",
        "/nope",
        "/-/healthy",
    ] {
        let (m, t) = get(path);
        assert_eq!(m, t, "{path}");
        same += 1;
    }
    let (m, t) = get("/api/v2/status");
    let original = |v: &Value| v["config"]["original"].as_str().unwrap().to_owned();
    let differing: Vec<String> = differences(&original(&m.1), &original(&t.1));
    println!("status.config.original differs in {} lines: {differing:?}", differing.len());
    assert_eq!(m.1["cluster"], t.1["cluster"]);

    for body in [
        json!([{}]),
        json!([{"labels": {}}]),
        json!([{"labels": {"a": ""}}]),
        json!([{"labels": {"": "b"}}]),
        json!([]),
        json!([{"labels": {"a": "b"}, "startsAt": "2026-11-20T18:00:00Z", "endsAt": "2026-11-20T17:00:00Z"}]),
        json!([{"labels": {"a": "b"}, "generatorURL": "%zz"}]),
        json!([{"labels": {"ok": "1"}}, {"labels": {}}]),
    ] {
        assert_eq!(post(ours.addr, "/api/v2/alerts", &body), post(real.addr, "/api/v2/alerts", &body), "{body}");
        same += 1;
    }
    let silence = |change: Value| {
        let mut s = json!({"matchers": [{"name": "a", "value": "b", "isRegex": false}], "startsAt": "2026-11-20T00:00:00Z",
            "endsAt": "2099-01-01T00:00:00Z", "createdBy": "me", "comment": "c"});
        for (k, v) in change.as_object().unwrap() {
            s[k] = v.clone();
        }
        s
    };
    for change in [
        json!({"matchers": []}),
        json!({"matchers": [{"name": "a", "value": "", "isRegex": false}]}),
        json!({"matchers": [{"name": "", "value": "x", "isRegex": true}]}),
        json!({"endsAt": "2026-11-19T00:00:00Z"}),
        json!({"startsAt": "2020-01-01T00:00:00Z", "endsAt": "2020-01-02T00:00:00Z"}),
        json!({"id": "nope"}),
        json!({"id": "9d1fa7c5-1ae5-4d35-b0b2-5c4d5a6c9cbb"}),
        json!({"comment": null}),
        json!({"matchers": null}),
    ] {
        let body = silence(change);
        assert_eq!(post(ours.addr, "/api/v2/silences", &body), post(real.addr, "/api/v2/silences", &body), "{body}");
        same += 1;
    }
    println!("alertmanager peers: {} webhook bodies and {same} API answers equal", mine.len());
}

fn forget(v: &mut Value, names: &[&str]) {
    match v {
        Value::Object(map) => {
            map.retain(|k, _| !names.contains(&k.as_str()));
            map.values_mut().for_each(|v| forget(v, names));
        }
        Value::Array(items) => items.iter_mut().for_each(|v| forget(v, names)),
        _ => {}
    }
}

fn differences(a: &str, b: &str) -> Vec<String> {
    let (a, b): (Vec<&str>, Vec<&str>) = (a.lines().collect(), b.lines().collect());
    let only = |x: &[&str], y: &[&str], sign: char| -> Vec<String> {
        x.iter().filter(|l| !y.contains(l)).map(|l| format!("{sign}{l}")).collect()
    };
    [only(&a, &b, '+'), only(&b, &a, '-')].concat()
}

/// Ends it as an operator would, so that it writes its snapshots.
fn terminate(real: &Running) {
    let status = std::process::Command::new("kill").arg(real.pid().to_string()).status().unwrap();
    assert!(status.success());
    let snapshot = real.data_dir().join("silences");
    for _ in 0..1500 {
        if snapshot.exists() && real.get_if_running("/-/ready").is_none() && real.output().contains("Received SIGTERM")
        {
            return;
        }
        std::thread::sleep(Duration::from_millis(20)); // polling another process: there is nothing to wait on
    }
    panic!("did not end:\n{}", real.output());
}

fn copy(from: &Path, to: &Path) {
    for name in ["silences", "nflog"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

#[test]
fn a_data_folder_is_taken_over_and_handed_back() {
    let Some(peer) = peer() else { return };
    let sink = WebhookSink::start();
    let config = config(&sink.url("/"));
    let real = match start_real(&peer, &config, None) {
        Ok(r) => r,
        Err(why) => return skipped("alertmanager peers", &why),
    };
    let silence = json!({"matchers": [{"name": "a", "value": "b", "isRegex": false}, {"name": "c", "value": "d.*", "isRegex": true, "isEqual": false}],
        "startsAt": "2026-11-20T00:00:00Z", "endsAt": "2099-01-01T00:00:00Z", "createdBy": "me", "comment": "why"});
    assert_eq!(post(real.addr, "/api/v2/silences", &silence).0, 200);
    let alerts = &steps()[0].0;
    assert_eq!(post(real.addr, "/api/v2/alerts", alerts).0, 200);
    sink.wait_for(4, PATIENCE);
    let (_, before) = real.get("/api/v2/silences");
    terminate(&real);

    let dir = Arc::new(tempfile::tempdir().unwrap());
    std::fs::create_dir(dir.path().join("data")).unwrap();
    copy(&real.data_dir(), &dir.path().join("data"));
    let ours = Server::start_in(&config, dir, |_| {});
    let (mut got, mut want): (Value, Value) = (
        serde_json::from_str(&http_get(ours.addr, "/api/v2/silences").unwrap().1).unwrap(),
        serde_json::from_str(&before).unwrap(),
    );
    forget(&mut got, &["annotations"]);
    forget(&mut want, &["annotations"]);
    assert_eq!(got, want);
    // What was told before is not told again: only the new group comes.
    let news = |name: &str| json!([{"labels": {"alertname": name}}]);
    assert_eq!(post(ours.addr, "/api/v2/alerts", alerts).0, 200);
    assert_eq!(post(ours.addr, "/api/v2/alerts", &news("Ours")).0, 200);
    let seen = sink.wait_for(5, PATIENCE);
    assert_eq!(seen[4].json()["groupLabels"]["alertname"], "Ours");
    let dir = ours.stop();

    // And back: the real one reads what ours wrote.
    let handed = tempfile::tempdir().unwrap();
    copy(&dir.path().join("data"), handed.path());
    let real = start_real(&peer, &config, Some(handed.path())).unwrap();
    let (_, after) = real.get("/api/v2/silences");
    let mut after: Value = serde_json::from_str(&after).unwrap();
    forget(&mut after, &["annotations"]);
    assert_eq!(after, want);
    assert_eq!(post(real.addr, "/api/v2/alerts", alerts).0, 200);
    assert_eq!(post(real.addr, "/api/v2/alerts", &news("Ours")).0, 200);
    assert_eq!(post(real.addr, "/api/v2/alerts", &news("Real")).0, 200);
    let seen = sink.wait_for(6, PATIENCE);
    assert_eq!(seen[5].json()["groupLabels"]["alertname"], "Real", "told twice");
    println!("alertmanager peers: data folder taken over from the real Alertmanager and handed back");
}
