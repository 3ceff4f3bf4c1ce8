//! Three Alertmanagers of the built binary in one cluster: nothing is missed in any phase, nothing is told twice while all is
//! well, at most once more per group when the receiver fails, and kill -9 of all three keeps every silence. The same over
//! TLS, where who has no right certificate is turned away.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use ferula_testkit::{Authority, HttpAnswer, Launch, Running, WebhookSink, free_port, http_post};
use support::{FERULA, eventually};

const GROUPS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(60);

struct Cluster {
    nodes: Vec<Option<Running>>,
    ports: Vec<u16>,
    data: tempfile::TempDir,
    hook: WebhookSink,
    /// Signs the members' certificates; without one nothing is encrypted.
    authority: Option<Authority>,
}

/// Writes certificates and `--cluster.tls-config` of a member into its folder; every member trusts `authority`.
fn write_tls(p: &Launch<'_>, authority: &Authority, signer: &Authority) -> String {
    let (cert, key) = signer.sign(&["127.0.0.1"]);
    for (name, text) in [("ca.pem", authority.pem()), ("cert.pem", cert), ("key.pem", key)] {
        p.file(name, &text);
    }
    let config = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n  client_ca_file: ca.pem\n  \
                  client_auth_type: RequireAndVerifyClientCert\n\
                  tls_client_config:\n  ca_file: ca.pem\n  cert_file: cert.pem\n  key_file: key.pem\n";
    format!("--cluster.tls-config={}", p.file("tls.yml", config))
}

impl Cluster {
    fn start(authority: Option<Authority>) -> Cluster {
        let mut cluster = Cluster {
            nodes: vec![None, None, None],
            ports: (0..3).map(|_| free_port()).collect(),
            data: tempfile::tempdir().unwrap(),
            hook: WebhookSink::start(),
            authority,
        };
        (0..3).for_each(|n| cluster.launch(n));
        cluster.await_members(3);
        cluster
    }

    fn launch(&mut self, n: usize) {
        let authority = self.authority.as_ref();
        self.nodes[n] = Some(self.member(&format!("member-{n}"), self.ports[n], |p| {
            authority.map(|a| write_tls(p, a, a)).into_iter().collect()
        }));
    }

    /// A process that calls all members.
    fn member(&self, name: &str, port: u16, more: impl Fn(&Launch<'_>) -> Vec<String>) -> Running {
        let config = format!(
            "route: {{receiver: r, group_by: [alertname], group_wait: 500ms, group_interval: 10m, repeat_interval: 1h}}\n\
             receivers: [{{name: r, webhook_configs: [{{url: '{}'}}]}}]\n",
            self.hook.url("/")
        );
        Running::start(Path::new(FERULA), "/-/ready", |p| {
            let mut args = vec![
                "alertmanager".into(),
                format!("--config.file={}", p.file("alertmanager.yml", &config)),
                format!("--storage.path={}", self.data.path().join(name).display()),
                format!("--web.listen-address={}", p.addr),
                format!("--cluster.listen-address=127.0.0.1:{port}"),
                format!("--cluster.peer-name={name}"),
                "--cluster.peer-timeout=3s".into(),
                "--cluster.reconnect-interval=1s".into(),
            ];
            args.extend(self.ports.iter().map(|port| format!("--cluster.peer=127.0.0.1:{port}")));
            args.extend(more(p));
            args
        })
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
        // Every member has looked at every group in its turn, and nothing is under way.
        for node in self.up() {
            let pending = || metric(node, "alertmanager_dispatcher_notifications_pending");
            eventually("the end of all turns", 60, pending, |n| *n == 0);
        }
        tally(&self.hook.requests())
    }

    /// How often each member looked into its notification log.
    fn looks(&self) -> Vec<usize> {
        self.up().map(|n| metric(n, "alertmanager_nflog_queries_total")).collect()
    }

    fn silence(&self) {
        let silence = r#"{"matchers":[{"name":"quiet","value":"yes","isRegex":false}],"endsAt":"2099-01-01T00:00:00Z",
            "startsAt":"2026-01-01T00:00:00Z","createdBy":"me","comment":"c"}"#;
        for node in self.up() {
            assert_eq!(
                http_post(node.addr, "/api/v2/silences", "application/json", silence.as_bytes()).unwrap().0,
                200
            );
        }
        eventually("the silences everywhere", 10, || self.silences(), |s| *s == [3, 3, 3]);
    }

    fn silences(&self) -> Vec<usize> {
        self.up().map(|n| n.get("/api/v2/silences").1.matches("\"id\"").count()).collect()
    }
}

/// The value of a series without labels.
fn metric(node: &Running, name: &str) -> usize {
    let page = node.get("/metrics").1;
    let value = page.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|v| v.parse::<f64>().ok()).unwrap_or_else(|| panic!("no {name}")) as usize
}

#[test]
fn sixty_four_groups_through_every_phase() {
    let mut cluster = Cluster::start(None);
    cluster.silence();

    cluster.post("healthy");
    let told = cluster.told("healthy", |_| true);
    assert_eq!((told.len(), told.values().sum::<usize>()), (GROUPS, GROUPS), "{told:?}");

    // The receiver answers 500 for a while: one member tries, the others hold back.
    cluster.hook.answer_always(HttpAnswer::status(500));
    let before = cluster.looks();
    cluster.post("failing");
    cluster.hook.wait_until(PATIENCE, |r| r.len() > 3 * GROUPS);
    // Until each of the others had its turn for every group, found it announced, and waits on.
    eventually(
        "the others' turns",
        60,
        || cluster.looks(),
        |looks| looks.iter().zip(&before).all(|(now, before)| *now >= before + GROUPS),
    );
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

#[test]
fn over_tls_members_meet_and_strangers_do_not() {
    let mut cluster = Cluster::start(Some(Authority::new()));
    cluster.silence();
    cluster.post("healthy");
    let told = cluster.told("healthy", |_| true);
    assert_eq!((told.len(), told.values().sum::<usize>()), (GROUPS, GROUPS), "{told:?}");
    for node in cluster.up() {
        for name in ["packet_bytes_sent_total", "packet_bytes_received_total", "stream_connections_sent_total"] {
            assert!(metric(node, &format!("alertmanager_tls_transport_{name}")) > 0, "{name}");
        }
    }
    cluster.kill(0);
    cluster.launch(0);
    cluster.await_members(3);
    eventually("what it missed", 10, || cluster.silences(), |s| *s == [3, 3, 3]);

    // One knows whom to trust, but is signed by somebody else; one does not speak TLS at all.
    let (authority, other) = (cluster.authority.as_ref().unwrap(), Authority::new());
    let stranger = cluster.member("stranger", free_port(), |p| vec![write_tls(p, authority, &other)]);
    let said = |node: &Running, words: &[&str]| {
        let output = node.output();
        output.lines().any(|l| words.iter().all(|w| l.contains(w)))
    };
    let refused = "A cluster member was refused, or refuses us";
    for node in cluster.up() {
        eventually("a refusal", 40, || said(node, &[refused, "127.0.0.1", "UnknownIssuer"]), |said| *said);
    }
    eventually("news of the refusal", 40, || said(&stranger, &[refused, "received fatal alert"]), |said| *said);
    let plain = cluster.member("plain", free_port(), |_| Vec::new());
    for node in cluster.up() {
        eventually("a refusal", 40, || said(node, &[refused, "TLS: received corrupt message"]), |said| *said);
    }
    for outsider in [&stranger, &plain] {
        assert_eq!(metric(outsider, "alertmanager_cluster_members"), 1);
        assert_eq!(outsider.get("/api/v2/silences").1.matches("\"id\"").count(), 0, "nothing was told to it");
    }
    cluster.await_members(3);
}
