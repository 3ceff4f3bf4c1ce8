//! The metrics page beside the real Alertmanager's: names, types, labels.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod lab;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ferula_testkit::{WebhookSink, http_get, http_post, skipped};
use lab::Server;
use lab::real::{peer, start_real};

/// What the real one counts of its own insides, which ours does not have: silences are found without a scan, a version
/// index or a compilation, alerts reach their groups without a channel or a retry, members tell each other directly, and
/// a look into either index is too short to be timed.
const ABSENT: [&str; 12] = [
    "alertmanager_alerts_subscriber_channel_writes_total",
    "alertmanager_dispatcher_aggregation_group_creation_given_up_total",
    "alertmanager_dispatcher_aggregation_group_creation_retries_total",
    "alertmanager_nflog_gossip_messages_propagated_total",
    "alertmanager_nflog_query_duration_seconds",
    "alertmanager_silences_gossip_messages_propagated_total",
    "alertmanager_silences_matcher_compile_errors_total",
    "alertmanager_silences_matcher_index_size",
    "alertmanager_silences_query_duration_seconds",
    "alertmanager_silences_query_silences_scanned_total",
    "alertmanager_silences_query_silences_skipped_total",
    "alertmanager_silences_version_index_size",
];

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
        t.retain(|v| !["jira", "sns"].contains(&v.as_str())); // integrations that this build refuses by name
        assert!(!t.is_empty() && m.is_superset(&t), "{family} {label}: real {t:?}, ours {m:?}");
    }
}
