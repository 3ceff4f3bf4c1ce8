//! The event recorder: what it writes beside the real Alertmanager's events, and where it goes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod lab;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ferula_alertmanager::{Alertmanager, Options};
use ferula_testkit::{HttpAnswer, WebhookSink, http_get, http_post, skipped};
use lab::Server;
use lab::real::{peer, start_real_with};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
const FEATURE: &str = "event-recorder";

fn config(hook: &str, events: &str) -> String {
    format!(
        r#"
route:
  receiver: all
  group_by: [job]
  group_wait: 1s
  group_interval: 1s
  repeat_interval: 90m
  routes:
  - matchers: [team="x", 'kind!~"y|z"']
    receiver: some
    group_by: [alertname, team]
receivers:
- name: all
  webhook_configs: [{{url: "{hook}"}}, {{url: "{hook}"}}]
- name: some
  webhook_configs: [{{url: "{hook}"}}]
inhibit_rules:
- source_matchers: [severity="critical"]
  target_matchers: ['severity=~"warning|info"']
  equal: [instance]
event_recorder: {events}
"#
    )
}

fn events(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

/// The type of an event, as JSON names it.
fn kind(event: &Value) -> &str {
    event["data"].as_object().and_then(|d| d.keys().next()).map_or("", |k| k.as_str())
}

fn until(file: &Path, what: &str, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    for _ in 0..PATIENCE.as_millis() / 20 {
        let all = events(file);
        if enough(&all) {
            return all;
        }
        std::thread::sleep(Duration::from_millis(20)); // polling a file
    }
    panic!("no {what}: {:#?}", events(file));
}

fn post(addr: SocketAddr, path: &str, body: &Value) -> Value {
    let (status, text) = http_post(addr, path, "application/json", body.to_string().as_bytes()).unwrap();
    assert_eq!(status, 200, "{text}");
    serde_json::from_str(&text).unwrap_or_default()
}

/// A silence, four alerts of two groups, a change of the silence, and the end of two alerts.
fn play(addr: SocketAddr, file: &Path) -> Vec<Value> {
    let silence = |id: &str, starts: &str, comment: &str| {
        json!({"id": id, "startsAt": starts, "endsAt": "2099-01-01T00:00:00Z", "createdBy": "me", "comment": comment,
            "matchers": [{"name": "alertname", "value": "C", "isRegex": false},
                {"name": "instance", "value": "2|3", "isRegex": true}, {"name": "job", "value": "no", "isEqual": false, "isRegex": false}]})
    };
    let id = post(addr, "/api/v2/silences", &silence("", "2026-01-01T00:00:00Z", "first"))["silenceID"].clone();
    let id = id.as_str().unwrap();
    let a = json!({"alertname": "A", "instance": "1", "severity": "critical", "team": "x"});
    let d = json!({"alertname": "D"});
    let alerts = json!([
        {"labels": a, "annotations": {"summary": "a \"quoted\" one"}},
        {"labels": {"alertname": "B", "instance": "1", "severity": "warning"}},
        {"labels": {"alertname": "C", "instance": "2"}},
        {"labels": d}
    ]);
    post(addr, "/api/v2/alerts", &alerts);
    let count = |all: &[Value], k: &str| all.iter().filter(|e| kind(e) == k).count();
    until(file, "first notifications", |all| {
        count(all, "notification") == 3 && count(all, "silenceMutedAlert") > 0 && count(all, "inhibitionMutedAlert") > 0
    });
    let (_, known) = http_get(addr, &format!("/api/v2/silence/{id}")).unwrap();
    let known: Value = serde_json::from_str(&known).unwrap();
    let again = post(addr, "/api/v2/silences", &silence(id, known["startsAt"].as_str().unwrap(), "second"));
    assert_eq!(again["silenceID"], id);
    let end = jiff::Timestamp::now().to_string();
    post(addr, "/api/v2/alerts", &json!([{"labels": a, "endsAt": end}, {"labels": d, "endsAt": end}]));
    until(file, "ends", |all| {
        count(all, "alertResolved") == 2 && count(all, "notification") == 6 && count(all, "silenceUpdated") == 1
    })
}

/// What does not differ from run to run: instants, random ids and versions are replaced, lists are sorted.
fn settle(v: &Value) -> Value {
    match v {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(k, _)| *k != "@timestamp")
                .map(|(k, v)| {
                    let v = match k.as_str() {
                        "id" | "groupUuid" | "version" | "buildContext" => json!("some"),
                        "startsAt" | "endsAt" | "updatedAt" if !v.as_str().unwrap().starts_with("0001") => {
                            json!("then")
                        }
                        "flushId" if v != "1" => json!("later"),
                        _ => settle(v),
                    };
                    (k.clone(), v)
                })
                .collect(),
        ),
        Value::Array(items) => {
            let mut items: Vec<Value> = items.iter().map(settle).collect();
            items.sort_by_key(Value::to_string);
            Value::Array(items)
        }
        other => other.clone(),
    }
}

#[test]
fn events_are_the_real_ones() {
    let Some(peer) = peer() else { return };
    let (hook, dir) = (WebhookSink::start(), tempfile::tempdir().unwrap());
    let (theirs, mine) = (dir.path().join("theirs.jsonl"), dir.path().join("mine.jsonl"));
    let to = |file: &Path| config(&hook.url("/"), &format!("{{file_outputs: [{{path: {}}}]}}", file.display()));
    let flags = ["--cluster.listen-address=".to_owned(), format!("--enable-feature={FEATURE}")];
    let real = match start_real_with(&peer, &to(&theirs), None, &flags) {
        Ok(r) => r,
        Err(why) => return skipped("event recorder beside the real one", &why),
    };
    let name = hostname();
    let ours = Server::start_in(&to(&mine), Arc::new(tempfile::tempdir().unwrap()), |o| {
        o.features = vec![FEATURE.to_owned()];
        o.instance.clone_from(&name);
    });
    let (theirs, mine) = (play(real.addr, &theirs), play(ours.addr, &mine));
    // The real one tells again that an alert was grouped whenever it is reported again; its schema says the first time.
    let is_repeated =
        |e: &&Value| kind(e) == "alertGrouped" && e["data"]["alertGrouped"]["alert"]["details"]["resolved"] == true;
    let repeated = theirs.iter().filter(is_repeated).count();
    let set = |all: &[Value]| -> BTreeSet<String> {
        all.iter().filter(|e| !is_repeated(e)).map(|e| settle(e).to_string()).collect()
    };
    let (their_set, my_set) = (set(&theirs), set(&mine));
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>();
    assert!(
        their_set == my_set,
        "only theirs: {:#?}\nonly ours: {:#?}",
        only(&their_set, &my_set),
        only(&my_set, &their_set)
    );
    // Both have the same families, and the same values where nothing is timing.
    let families = |addr| -> BTreeSet<String> {
        let page = http_get(addr, "/metrics").unwrap().1;
        let event = page.lines().filter(|l| l.starts_with("# TYPE alertmanager_event"));
        event.map(str::to_owned).collect()
    };
    let (their_families, my_families) = (families(real.addr), families(ours.addr));
    assert!(their_families.is_subset(&my_families), "{their_families:?} {my_families:?}");
    println!(
        "event recorder: {} events of {} kinds as the real one's ({repeated} repetitions left out), {} families",
        my_set.len(),
        mine.iter().map(kind).collect::<BTreeSet<_>>().len(),
        their_families.len()
    );
}

/// This machine's name, as the kernel says it.
fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap().trim().to_owned()
}

#[test]
fn webhooks_are_tried_again_batched_and_counted() {
    let hook = WebhookSink::start();
    let (single, batched) = (WebhookSink::start(), WebhookSink::start());
    single.answer_next(HttpAnswer::status(500));
    let url = single.url("/events?token=hush").replace("//", "//user:pw@");
    let outputs = format!(
        "{{webhook_outputs: [{{url: \"{url}\", workers: 1, max_retries: 2, retry_backoff: 1ms}}, \
         {{url: \"{}\", batch: true}}]}}",
        batched.url("/batch")
    );
    let server = Server::start_in(&config(&hook.url("/"), &outputs), Arc::new(tempfile::tempdir().unwrap()), |o| {
        o.features = vec![FEATURE.to_owned()];
    });
    let alerts: Vec<Value> = (0..20).map(|i| json!({"labels": {"alertname": "A", "n": i.to_string()}})).collect();
    post(server.addr, "/api/v2/alerts", &json!(alerts));
    // The start twice, as it failed once, and each alert known and grouped.
    let singles = single.wait_for(2 + 40, PATIENCE);
    assert_eq!(singles[0].json(), singles[1].json());
    assert!(singles.iter().all(|r| r.header("authorization") == Some("Basic dXNlcjpwdw==")));
    let page = http_get(server.addr, "/metrics").unwrap().1;
    let name = format!("webhook:{}", single.url("/events"));
    assert!(
        page.contains(&format!(
            "alertmanager_events_recorded_total{{event_type=\"alert_created\",output=\"{name}\",result=\"success\"}} 20\n"
        )),
        "{page}"
    );
    assert!(!page.contains("hush") && !page.contains("pw@"));
    let (_, status) = http_get(server.addr, "/api/v2/status").unwrap();
    assert!(!status.contains("hush") && status.contains("retry_backoff"), "{status}");
    server.stop();
    // The stop sends what was waiting for company.
    let batches = batched.wait_for(1, PATIENCE);
    let all: Vec<Value> = batches.iter().flat_map(|r| r.json().as_array().unwrap().clone()).collect();
    assert!(batches.len() < all.len() / 4, "{} requests for {} events", batches.len(), all.len());
    assert_eq!(kind(&all[0]), "alertmanagerStartupEvent");
    assert_eq!(all.iter().filter(|e| kind(e) == "alertCreated").count(), 20);
    assert_eq!(kind(all.last().unwrap()), "alertmanagerShutdownEvent");
}

#[test]
fn without_the_feature_nothing_is_recorded_and_a_reload_moves_the_file() {
    let (hook, dir) = (WebhookSink::start(), Arc::new(tempfile::tempdir().unwrap()));
    let (one, two) = (dir.path().join("one.jsonl"), dir.path().join("two.jsonl"));
    let to = |file: &Path| config(&hook.url("/"), &format!("{{file_outputs: [{{path: {}}}]}}", file.display()));
    let kafka = config(&hook.url("/"), "{kafka_outputs: [{brokers: ['k:9092'], topic: t}]}");
    let server = Server::start_in(&kafka, dir.clone(), |_| {});
    assert!(!http_get(server.addr, "/metrics").unwrap().1.contains("alertmanager_event"));
    server.stop();

    let features = vec![FEATURE.to_owned()];
    let options = Options {
        config_text: Some(kafka),
        storage_path: dir.path().join("kafka"),
        features: features.clone(),
        ..Options::default()
    };
    let clock = Arc::new(ferula_model::SystemClock);
    let refused = Alertmanager::new(options, clock, ferula_instrument::Registry::new()).err().unwrap().to_string();
    assert!(refused.ends_with("event_recorder.kafka_outputs: known, not built in yet"), "{refused}");

    let server = Server::start_in(&to(&one), dir.clone(), |o| o.features = features);
    post(server.addr, "/api/v2/alerts", &json!([{"labels": {"alertname": "A"}}]));
    until(&one, "alert in the first file", |all| all.iter().any(|e| kind(e) == "alertCreated"));
    std::fs::write(dir.path().join("alertmanager.yml"), to(&two)).unwrap();
    assert_eq!(http_post(server.addr, "/-/reload", "", b"").unwrap().0, 200);
    post(server.addr, "/api/v2/alerts", &json!([{"labels": {"alertname": "B"}}]));
    until(&two, "alert in the second file", |all| all.iter().any(|e| e.to_string().contains("\"B\"")));
    server.stop();
    assert_eq!(kind(events(&two).last().unwrap()), "alertmanagerShutdownEvent");
    assert!(!events(&one).iter().any(|e| e.to_string().contains("\"B\"")));
}
