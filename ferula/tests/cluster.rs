//! Three Alertmanagers of the built binary in one cluster: nothing is missed in any phase, nothing is told twice while all is
//! well, at most once more per group when the receiver fails, and kill -9 of all three keeps every silence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ferula_testkit::{HttpAnswer, Running, WebhookSink, free_port, http_post};
use support::{FERULA, eventually};

const GROUPS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(60);

struct Cluster {
    nodes: Vec<Option<Running>>,
    ports: Vec<u16>,
    data: tempfile::TempDir,
    hook: WebhookSink,
}

impl Cluster {
    fn start() -> Cluster {
        let mut cluster = Cluster {
            nodes: vec![None, None, None],
            ports: (0..3).map(|_| free_port()).collect(),
            data: tempfile::tempdir().unwrap(),
            hook: WebhookSink::start(),
        };
        (0..3).for_each(|n| cluster.launch(n));
        cluster.await_members(3);
        cluster
    }

    fn launch(&mut self, n: usize) {
        let config = format!(
            "route: {{receiver: r, group_by: [alertname], group_wait: 500ms, group_interval: 60s, repeat_interval: 1h}}\n\
             receivers: [{{name: r, webhook_configs: [{{url: '{}'}}]}}]\n",
            self.hook.url("/")
        );
        self.nodes[n] = Some(Running::start(Path::new(FERULA), "/-/ready", |p| {
            let mut args = vec![
                "alertmanager".into(),
                format!("--config.file={}", p.file("alertmanager.yml", &config)),
                format!("--storage.path={}", self.data.path().join(n.to_string()).display()),
                format!("--web.listen-address={}", p.addr),
                format!("--cluster.listen-address=127.0.0.1:{}", self.ports[n]),
                format!("--cluster.peer-name=member-{n}"),
                "--cluster.peer-timeout=3s".into(),
                "--cluster.reconnect-interval=1s".into(),
            ];
            args.extend(self.ports.iter().map(|port| format!("--cluster.peer=127.0.0.1:{port}")));
            args
        }));
    }

    fn up(&self) -> impl Iterator<Item = &Running> {
        self.nodes.iter().flatten()
    }

    fn await_members(&self, n: usize) {
        for node in self.up() {
            let status = || serde_json::from_str::<serde_json::Value>(&node.get("/api/v2/status").1).unwrap();
            eventually("the members", 40, status, |s| {
                s["cluster"]["status"] == "ready" && s["cluster"]["peers"].as_array().unwrap().len() == n
            });
        }
    }

    fn kill(&mut self, n: usize) {
        self.nodes[n].take().unwrap().kill();
    }

    /// As Prometheus does: to every member that answers.
    fn post(&self, phase: &str) {
        let alerts: Vec<String> =
            (0..GROUPS).map(|i| format!(r#"{{"labels":{{"alertname":"{phase}-{i}"}}}}"#)).collect();
        for node in self.up() {
            let body = format!("[{}]", alerts.join(","));
            assert_eq!(http_post(node.addr, "/api/v2/alerts", "application/json", body.as_bytes()).unwrap().0, 200);
        }
    }

    /// How often each group of a phase was told, once all were told and peers had their turn to do so again.
    fn told(&self, phase: &str, count: impl Fn(&serde_json::Value) -> bool) -> BTreeMap<String, usize> {
        let tally = |requests: &[ferula_testkit::HttpRequest]| {
            let mut out = BTreeMap::new();
            for body in requests.iter().map(|r| r.json()).filter(&count) {
                let name = body["groupLabels"]["alertname"].as_str().unwrap().to_owned();
                if name.starts_with(&format!("{phase}-")) {
                    *out.entry(name).or_insert(0) += 1;
                }
            }
            out
        };
        self.hook.wait_until(PATIENCE, |r| tally(r).len() == GROUPS);
        // The log of every member must know, or its turn is still to come.
        for node in self.up() {
            let idle = || node.get("/api/v2/alerts/groups").1.matches(&format!("{phase}-0\"")).count();
            eventually("the group", 5, idle, |n| *n > 0);
        }
        std::thread::sleep(Duration::from_secs(7)); // two peer timeouts: what must not happen has no event to wait for
        tally(&self.hook.requests())
    }

    fn silences(&self) -> Vec<usize> {
        self.up().map(|n| n.get("/api/v2/silences").1.matches("\"id\"").count()).collect()
    }
}

#[test]
fn sixty_four_groups_through_every_phase() {
    let mut cluster = Cluster::start();
    let silence = r#"{"matchers":[{"name":"quiet","value":"yes","isRegex":false}],"startsAt":"2026-01-01T00:00:00Z",
        "endsAt":"2099-01-01T00:00:00Z","createdBy":"me","comment":"c"}"#;
    for node in cluster.up() {
        assert_eq!(http_post(node.addr, "/api/v2/silences", "application/json", silence.as_bytes()).unwrap().0, 200);
    }
    eventually("the silences everywhere", 10, || cluster.silences(), |s| *s == [3, 3, 3]);

    cluster.post("healthy");
    let told = cluster.told("healthy", |_| true);
    assert_eq!((told.len(), told.values().sum::<usize>()), (GROUPS, GROUPS), "{told:?}");

    // The receiver answers 500 for a while: one member tries, the others hold back.
    cluster.hook.answer_always(HttpAnswer::status(500));
    cluster.post("failing");
    cluster.hook.wait_until(PATIENCE, |r| r.len() > 3 * GROUPS);
    std::thread::sleep(Duration::from_secs(5)); // longer than a peer timeout
    cluster.hook.answer_always(HttpAnswer::status(200));
    cluster.hook.clear();
    let told = cluster.told("failing", |_| true);
    let twice = told.values().sum::<usize>() - GROUPS;
    println!("failing receiver: {} of {GROUPS} groups told, {twice} told again", told.len());
    assert!(told.len() == GROUPS && told.values().all(|n| *n <= 2), "{told:?}");

    // The member whose turn comes first dies; nobody waits for it for long.
    cluster.kill(0);
    cluster.post("orphaned");
    let told = cluster.told("orphaned", |_| true);
    assert_eq!((told.len(), told.values().sum::<usize>()), (GROUPS, GROUPS), "{told:?}");
    cluster.launch(0);
    cluster.await_members(3);
    eventually("what it missed", 10, || cluster.silences(), |s| *s == [3, 3, 3]);

    // All three are killed at once, and come back.
    cluster.hook.clear();
    (0..3).for_each(|n| cluster.kill(n));
    (0..3).for_each(|n| cluster.launch(n));
    assert_eq!(cluster.silences(), [3, 3, 3], "silences that were acknowledged");
    cluster.await_members(3);
    cluster.post("after");
    let told = cluster.told("after", |_| true);
    assert_eq!((told.len(), told.values().sum::<usize>()), (GROUPS, GROUPS), "{told:?}");
    let again = cluster.hook.requests().len() - GROUPS;
    assert_eq!(again, 0, "told again after the kill of all three");
}
