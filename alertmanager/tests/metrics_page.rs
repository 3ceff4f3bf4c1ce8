//! The metrics page beside the real Alertmanager's: names, types, labels.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod lab;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ferula_alertmanager::ClusterOptions;
use ferula_testkit::{WebhookSink, free_port, http_get, http_post, skipped};
use lab::Server;
use lab::real::{peer, start_real, start_real_with};

/// What the real one counts of its own insides, which ours does not have: alerts reach their groups without a channel, and
/// the index of silences is by equality, not by version.
const ABSENT: [&str; 2] =
    ["alertmanager_alerts_subscriber_channel_writes_total", "alertmanager_silences_version_index_size"];

/// The same of a cluster: the membership library keeps the times of its probes to itself.
const ABSENT_OF_CLUSTER: [&str; 1] = ["alertmanager_cluster_pings_seconds"];

/// Families by name: type and names of labels.
type Page = BTreeMap<String, (String, BTreeSet<String>)>;

fn page(text: &str) -> Page {
    let mut page = Page::new();
    let mut family = String::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|l| l.split_once(' ')) {
            family = name.to_owned();
            page.insert(family.clone(), (kind.to_owned(), BTreeSet::new()));
        } else if !line.starts_with('#') {
            let labels = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(l, _)| l);
            let names = labels.split("\",").filter_map(|l| l.split_once('=')).map(|(n, _)| n.to_owned());
            page.get_mut(&family).unwrap().1.extend(names);
        }
    }
    page.retain(|name, _| name.starts_with("alertmanager_"));
    page
}

/// Values of a label in a family.
fn values(text: &str, family: &str, label: &str) -> BTreeSet<String> {
    let quoted = format!("{label}=\"");
    let lines = text.lines().filter(|l| l.strip_prefix(family).is_some_and(|r| r.starts_with('{')));
    lines.filter_map(|l| l.split_once(&quoted)?.1.split('"').next().map(str::to_owned)).collect()
}

fn config(hook: &str) -> String {
    format!(
        "route: {{receiver: r, group_wait: 0s, group_by: [alertname]}}\nreceivers:\n- name: r\n  webhook_configs: [{{url: \"{hook}\"}}]\n"
    )
}

#[test]
fn the_real_ones_families_are_on_our_page() {
    let Some(peer) = peer() else { return };
    let sink = WebhookSink::start();
    let config = config(&sink.url("/"));
    let real = match start_real(&peer, &config, None) {
        Ok(r) => r,
        Err(why) => return skipped("alertmanager metrics page", &why),
    };
    let ours = Server::start_in(&config, Arc::new(tempfile::tempdir().unwrap()), |_| {});
    let alerts = r#"[{"labels":{"alertname":"A"}}]"#;
    for addr in [real.addr, ours.addr] {
        assert_eq!(http_post(addr, "/api/v2/alerts", "application/json", alerts.as_bytes()).unwrap().0, 200);
        assert_eq!(http_get(addr, "/api/v2/status").unwrap().0, 200);
    }
    sink.wait_for(2, Duration::from_secs(60));
    let (theirs, mine) = (http_get(real.addr, "/metrics").unwrap().1, http_get(ours.addr, "/metrics").unwrap().1);
    let (their_page, my_page) = (page(&theirs), page(&mine));
    let mut wrong = Vec::new();
    for (name, family) in their_page.iter().filter(|(n, _)| !ABSENT.contains(&n.as_str())) {
        match my_page.get(name) {
            Some(m) if m == family => {}
            other => wrong.push(format!("{name}: real {family:?}, ours {other:?}")),
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for name in ABSENT {
        assert!(their_page.contains_key(name) && !my_page.contains_key(name), "{name} is in the list of the absent");
    }
    let own: Vec<&String> = my_page.keys().filter(|n| !their_page.contains_key(*n)).collect();
    println!(
        "alertmanager metrics page: {} families as the real one's; only ours: {own:?}",
        their_page.len() - ABSENT.len()
    );
    // Fixed lists that dashboards and alerting rules ask for.
    for (family, label) in [
        ("alertmanager_notifications_failed_total", "integration"),
        ("alertmanager_notifications_failed_total", "reason"),
        ("alertmanager_notification_latency_seconds_bucket", "le"),
        ("alertmanager_http_request_duration_seconds_bucket", "le"),
        ("alertmanager_http_response_size_bytes_bucket", "le"),
    ] {
        let (mut t, m) = (values(&theirs, family, label), values(&mine, family, label));
        t.remove("jira"); // an integration that this build refuses by name
        assert!(!t.is_empty() && m.is_superset(&t), "{family} {label}: real {t:?}, ours {m:?}");
    }
}

#[test]
fn a_pairs_families_are_a_real_pairs() {
    let Some(peer) = peer() else { return };
    let config = "route: {receiver: r}\nreceivers: [{name: r}]\n";
    let peers = |ports: &[u16]| -> Vec<String> { ports.iter().map(|p| format!("127.0.0.1:{p}")).collect() };
    let ports: Vec<u16> = (0..4).map(|_| free_port()).collect();
    let (their_ports, my_ports) = ports.split_at(2);
    let mut real = Vec::new();
    for port in their_ports {
        let mut flags = vec![format!("--cluster.listen-address=127.0.0.1:{port}")];
        flags.extend(peers(their_ports).iter().map(|p| format!("--cluster.peer={p}")));
        match start_real_with(&peer, config, None, &flags) {
            Ok(r) => real.push(r),
            Err(why) => return skipped("alertmanager metrics page of a pair", &why),
        }
    }
    let ours: Vec<Server> = my_ports
        .iter()
        .map(|port| {
            Server::start_in(config, Arc::new(tempfile::tempdir().unwrap()), |o| {
                o.cluster = ClusterOptions {
                    listen_address: format!("127.0.0.1:{port}"),
                    peers: peers(my_ports),
                    ..ClusterOptions::default()
                };
            })
        })
        .collect();
    let silence = r#"{"matchers":[{"name":"a","value":"b","isRegex":false}],"startsAt":"2026-01-01T00:00:00Z",
        "endsAt":"2099-01-01T00:00:00Z","createdBy":"me","comment":"c"}"#;
    // Both pairs are whole, and have told each other something.
    let both = |addrs: [std::net::SocketAddr; 2]| -> String {
        let page = |addr| http_get(addr, "/metrics").unwrap().1;
        let until = |what: &str, addr, is_there: &dyn Fn(&str) -> bool| {
            for _ in 0..1500 {
                if is_there(&page(addr)) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20)); // polling another process
            }
            panic!("no {what}: {}", page(addr));
        };
        addrs.iter().for_each(|a| until("pair", *a, &|p| p.contains("\nalertmanager_cluster_members 2\n")));
        let said = http_post(addrs[0], "/api/v2/silences", "application/json", silence.as_bytes()).unwrap();
        assert_eq!(said.0, 200, "{}", said.1);
        let heard = "alertmanager_silences{state=\"active\"} 1\n";
        until("news", addrs[1], &|p| p.contains(heard));
        page(addrs[1])
    };
    let theirs = both([real[0].addr, real[1].addr]);
    let mine = both([ours[0].addr, ours[1].addr]);
    let (their_page, my_page) = (page(&theirs), page(&mine));
    let of_cluster = |name: &str| name.contains("cluster") || name.contains("peer") || name.contains("gossip");
    let mut equal = 0;
    for (name, family) in their_page.iter().filter(|(n, _)| of_cluster(n)) {
        let is_absent = ABSENT_OF_CLUSTER.contains(&name.as_str());
        assert_eq!(my_page.get(name), (!is_absent).then_some(family), "{name}");
        equal += usize::from(!is_absent);
    }
    for name in ["alertmanager_cluster_messages_received_total", "alertmanager_cluster_messages_sent_size_total"] {
        assert_eq!(values(&mine, name, "msg_type"), values(&theirs, name, "msg_type"), "{name}");
    }
    println!(
        "alertmanager metrics page: {equal} families of a pair as the real pair's, {} absent",
        ABSENT_OF_CLUSTER.len()
    );
}
