//! The real amtool drives our server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod lab;

use ferula_testkit::{Peer, skipped};
use lab::Server;

const CONFIG: &str = r#"
global:
  smtp_auth_password: hunter2
route:
  receiver: default
  group_by: [alertname]
  group_wait: 1ms
  routes:
  - matchers: [team="db", 'env=~"prod|stage"']
    receiver: db
    continue: true
  - match: {team: web}
    receiver: web
    mute_time_intervals: [night]
receivers:
- name: default
- name: db
  webhook_configs: [{url: "http://127.0.0.1:1/secret-path"}]
- name: web
  email_configs: [{to: a@b.c, from: x@y.z, smarthost: "localhost:25"}]
inhibit_rules:
- source_matchers: [severity="critical"]
  target_matchers: [severity="warning"]
  equal: [alertname]
time_intervals:
- name: night
  time_intervals: [{times: [{start_time: "22:00", end_time: "24:00"}], weekdays: ["monday:friday"], location: UTC}]
"#;

struct Amtool {
    peer: Peer,
    server: Server,
    commands: std::cell::Cell<u32>,
}

impl Amtool {
    /// Standard output; panics unless it ends well.
    fn run(&self, args: &[&str]) -> String {
        let (ok, out, err) = self.try_run(args);
        assert!(ok, "amtool {args:?} failed:\n{out}{err}");
        out
    }
    fn try_run(&self, args: &[&str]) -> (bool, String, String) {
        self.commands.set(self.commands.get() + 1);
        let output =
            self.peer.command().arg(format!("--alertmanager.url={}", self.server.url(""))).args(args).output().unwrap();
        let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    }
    fn json(&self, args: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.run(args)).unwrap()
    }
}

#[test]
fn the_real_amtool_drives_ours() {
    let peer = match Peer::find("amtool", (0, 28, 0)) {
        Ok(p) => p,
        Err(why) => return skipped("amtool", &why),
    };
    let t = Amtool { peer, server: Server::start(CONFIG), commands: std::cell::Cell::new(0) };

    t.run(&[
        "alert",
        "add",
        "alertname=Disk",
        "team=db",
        "env=prod",
        "severity=critical",
        "--annotation=summary=full",
        "--generator-url=http://p/g",
    ]);
    t.run(&["alert", "add", "Disk", "team=web", "severity=warning"]);
    t.run(&["alert", "add", "Net", "team=\"x y\""]);
    let all = t.json(&["-o", "json", "alert", "query", "-a", "-s", "-i", "-u"]);
    assert_eq!(all.as_array().unwrap().len(), 3, "{all}");
    let (_, simple, err) = t.try_run(&["alert", "query"]);
    assert!(!err.contains("Warning"), "version check: {err}");
    assert!(simple.contains("Disk") && simple.contains("Net") && simple.contains("full"), "{simple}");
    let inhibited = t.json(&["-o", "json", "alert", "query", "-i", "team=web"]);
    assert_eq!(inhibited[0]["status"]["state"], "suppressed");
    assert_eq!(t.json(&["-o", "json", "alert", "query", "team=web"]), serde_json::json!([]));
    assert_eq!(t.json(&["-o", "json", "alert", "query", "--receiver=db"])[0]["labels"]["team"], "db");

    let id = t.run(&["silence", "add", "-a", "me", "-c", "maintenance", "-d", "2h", "alertname=Net"]);
    let id = id.trim();
    assert_eq!(t.run(&["silence", "query", "-q"]).trim(), id);
    assert_eq!(t.json(&["-o", "json", "silence", "query", "alertname=Net"])[0]["createdBy"], "me");
    assert_eq!(t.json(&["-o", "json", "alert", "query", "-s", "alertname=Net"])[0]["status"]["silencedBy"][0], id);
    t.run(&["silence", "update", "-d", "3h", "-c", "longer", id]);
    assert_eq!(t.json(&["-o", "json", "silence", "query", "alertname=Net"])[0]["comment"], "longer");
    t.run(&["silence", "expire", id]);
    assert_eq!(t.json(&["-o", "json", "silence", "query"]), serde_json::json!([]));
    let expired = t.json(&["-o", "json", "silence", "query", "--expired"]);
    assert_eq!(expired[0]["status"]["state"], "expired");
    let (ok, _, err) = t.try_run(&["silence", "add", "-a", "me", "-c", "c", "alertname=~.*"]);
    assert!(!ok && err.contains("at least one matcher must not match the empty string"), "{err}");
    let file = t.server.dir.path().join("silences.json");
    std::fs::write(&file, serde_json::to_vec(&expired).unwrap()).unwrap();
    t.run(&["silence", "add", "-a", "me", "-c", "c", "-d", "1h", "a=b", "c!=d", "e=~f.*", "g!~h"]);
    let matchers = t.json(&["-o", "json", "silence", "query"])[0]["matchers"].clone();
    assert_eq!(matchers.as_array().unwrap().len(), 4, "{matchers}");

    let shown = t.run(&["config", "show"]);
    assert!(shown.contains("group_by") && shown.contains("<secret>"), "{shown}");
    assert!(!shown.contains("hunter2") && !shown.contains("secret-path"), "{shown}");
    let routes = t.run(&["config", "routes", "show"]);
    assert!(routes.contains("team=\"db\"") && routes.contains("receiver: web"), "{routes}");
    assert_eq!(t.run(&["config", "routes", "test", "team=db", "env=stage"]).trim(), "db");
    t.run(&["config", "routes", "test", "--verify.receivers=web", "team=web"]);
    let cluster = t.run(&["cluster", "show"]);
    assert!(cluster.contains("disabled"), "{cluster}");
    println!("amtool: {} commands answered as expected", t.commands.get());
}
