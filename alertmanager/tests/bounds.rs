//! What strangers send is bounded: a huge alert, a hundred thousand silences, and their patterns.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod lab;

use ferula_alertmanager::matcher::parse_matchers;
use ferula_alertmanager::silence::{Silence, SilenceLimits, Silences};
use ferula_model::Labels;
use ferula_testkit::{http_get, http_post};
use lab::Server;

#[test]
fn an_alert_of_ten_megabytes_is_refused_and_the_rest_of_its_batch_is_taken() {
    let server = Server::start("route: {receiver: r}\nreceivers: [{name: r}]\n");
    let huge = "x".repeat(10 << 20);
    let body = format!(
        r#"[{{"labels":{{"alertname":"Huge"}},"annotations":{{"a":"{huge}"}}}},{{"labels":{{"alertname":"Fine"}}}}]"#
    );
    let (code, text) = http_post(server.addr, "/api/v2/alerts", "application/json", body.as_bytes()).unwrap();
    assert!(code == 400 && text.contains("exceeds the limit of 1048576 bytes") && text.len() < 1_000, "{code} {text}");
    let (_, alerts) = http_get(server.addr, "/api/v2/alerts").unwrap();
    assert!(alerts.contains("Fine") && !alerts.contains("Huge"), "{alerts}");
}

#[test]
fn a_hundred_thousand_silences_are_held_and_found_and_one_more_is_refused() {
    const MANY: usize = 100_000;
    let mut silences = Silences::new(SilenceLimits { silences_max: MANY, size_bytes_max: 0 });
    let silence = |i: usize| Silence {
        id: "".into(),
        matcher_sets: vec![parse_matchers(&format!("host=h{i},job!=x"), "test").unwrap()],
        starts_at_ms: 0,
        ends_at_ms: 1_000,
        updated_at_ms: 0,
        created_by: "me".into(),
        comment: "c".into(),
        annotations: Default::default(),
    };
    for i in 0..MANY {
        silences.set(silence(i), 1, || format!("id{i}").into()).unwrap();
    }
    for i in (0..MANY).step_by(97) {
        let labels = Labels::from_pairs([("host", format!("h{i}")), ("job", "j1".to_owned())]);
        assert_eq!(silences.silenced_by(&labels, 2), [format!("id{i}").as_str().into()]);
    }
    let refused = silences.set(silence(MANY), 1, || "more".into()).unwrap_err();
    assert_eq!(refused.to_string(), format!("exceeded maximum number of silences: {MANY}"));
    assert_eq!(silences.collect_garbage(2_000, 500), MANY);
}

/// The automaton of each pattern takes megabytes and long to build: a hundred thousand of them would end this process.
#[test]
fn silences_of_the_same_patterns_share_what_is_compiled() {
    let mut silences = Silences::new(SilenceLimits::default());
    for i in 0..100_000 {
        let text = format!("host=~\"(\\\\pL{{60}}|h{}.*)\",id=\"{i}\"", i % 4);
        let silence = Silence {
            id: "".into(),
            matcher_sets: vec![parse_matchers(&text, "test").unwrap()],
            starts_at_ms: 0,
            ends_at_ms: 1_000,
            updated_at_ms: 0,
            created_by: "me".into(),
            comment: "c".into(),
            annotations: Default::default(),
        };
        silences.set(silence, 1, || format!("s{i}").into()).unwrap();
    }
    for (id, host, found) in [("7", "h3x", true), ("7", "h2x", false), ("99999", "h3", true)] {
        let labels = Labels::from_pairs([("host", host), ("id", id)]);
        assert_eq!(silences.silenced_by(&labels, 2).len(), usize::from(found), "{id} {host}");
    }
}
