//! Events of the Alertmanager on standard output, beside its log: one line of JSON each, the end included.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::path::Path;
use std::process::Command;

use ferula_testkit::{Running, http_post};
use serde_json::Value;
use support::{FERULA, eventually};

const CONFIG: &str = "route: {receiver: r}\nreceivers: [{name: r}]\nevent_recorder: {stdout_outputs: [{}]}\n";

/// The types of the events so far.
fn kinds(am: &Running) -> Vec<String> {
    let output = am.output();
    let events = output.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
    events.filter_map(|e| e["data"].as_object()?.keys().next().cloned()).collect()
}

#[test]
fn events_go_to_standard_output() {
    let am = Running::start(Path::new(FERULA), "/-/ready", |p| {
        vec![
            "alertmanager".into(),
            format!("--config.file={}", p.file("alertmanager.yml", CONFIG)),
            format!("--storage.path={}", p.dir.join("data").display()),
            format!("--web.listen-address={}", p.addr),
            "--cluster.listen-address=".into(),
            "--enable-feature=event-recorder".into(),
        ]
    });
    let alert = br#"[{"labels":{"alertname":"A"}}]"#;
    assert_eq!(http_post(am.addr, "/api/v2/alerts", "application/json", alert).unwrap().0, 200);
    eventually("alert grouped", 60, || kinds(&am), |kinds| kinds.iter().any(|k| k == "alertGrouped"));
    assert!(Command::new("kill").arg(am.pid().to_string()).status().unwrap().success());
    let is_over = |kinds: &Vec<String>| kinds.last().is_some_and(|k| k == "alertmanagerShutdownEvent");
    let all = eventually("end", 60, || kinds(&am), is_over);
    assert_eq!(all[..2], ["alertmanagerStartupEvent", "alertCreated"]);
}
