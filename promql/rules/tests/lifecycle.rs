//! Rules from evaluation to evaluation, under a clock turned by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod bench;

use bench::Bench;
use ferula_promql_rules::{AlertState, Health};

const MINUTE: i64 = 60_000;

#[test]
fn recording_rules_write_back_and_go_stale() {
    let b = Bench::new();
    let mut g = b.group("- record: job:up:sum\n  expr: sum by (job) (up)\n  labels: {team: a}");
    b.put("up{job=\"x\"}", 0, 1.0).put("up{job=\"y\"}", 0, 1.0);
    g.evaluate(0);
    assert_eq!(
        b.vector("job:up:sum", 0),
        ["{__name__=\"job:up:sum\", job=\"x\", team=\"a\"} 1", "{__name__=\"job:up:sum\", job=\"y\", team=\"a\"} 1"]
    );
    b.put("up{job=\"x\"}", MINUTE, f64::from_bits(ferula_model::STALE_NAN)).put("up{job=\"y\"}", MINUTE, 3.0);
    g.evaluate(MINUTE);
    assert_eq!(b.vector("job:up:sum", MINUTE), ["{__name__=\"job:up:sum\", job=\"y\", team=\"a\"} 3"]);
    assert_eq!(g.snapshot().rules[0].health, Health::Good);
}

#[test]
fn alerts_go_from_pending_to_firing_to_resolved() {
    let b = Bench::new();
    let mut g = b.group(
        "- alert: Down\n  expr: up == 0\n  for: 2m\n  labels: {sev: \"{{ $labels.job }}-{{ $value }}\"}\n  annotations: {s: \"{{ $labels.instance }} is {{ $value | humanize }} on {{ $externalLabels.dc }} at {{ $externalURL }}{{ $labels.none }}\"}",
    );
    b.put("up{job=\"x\",instance=\"i\"}", 0, 0.0);
    g.evaluate(0);
    let labels = "{alertname=\"Down\", instance=\"i\", job=\"x\", sev=\"x-0\"}";
    assert_eq!(b.alerts(&g), [format!("pending {labels} since 0")]);
    assert!(b.sent().is_empty());
    assert_eq!(
        b.vector("ALERTS", 0),
        ["{__name__=\"ALERTS\", alertname=\"Down\", alertstate=\"pending\", instance=\"i\", job=\"x\", sev=\"x-0\"} 1"]
    );
    b.put("up{job=\"x\",instance=\"i\"}", 2 * MINUTE, 0.0);
    g.evaluate(MINUTE);
    g.evaluate(2 * MINUTE);
    assert_eq!(b.alerts(&g), [format!("firing {labels} since 0")]);
    assert_eq!(
        b.vector("ALERTS", 2 * MINUTE),
        ["{__name__=\"ALERTS\", alertname=\"Down\", alertstate=\"firing\", instance=\"i\", job=\"x\", sev=\"x-0\"} 1"]
    );
    assert_eq!(
        b.vector("ALERTS_FOR_STATE", 2 * MINUTE),
        ["{__name__=\"ALERTS_FOR_STATE\", alertname=\"Down\", instance=\"i\", job=\"x\", sev=\"x-0\"} 0"]
    );
    let sent = b.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].labels.to_string(), labels);
    assert_eq!(sent[0].annotations.to_string(), "{s=\"i is 0 on eu at http://p:9090/x\"}");
    assert_eq!((sent[0].starts_at_ms, sent[0].ends_at_ms), (2 * MINUTE, 6 * MINUTE));
    assert_eq!(sent[0].generator_url, "http://p:9090/x/graph?g0.expr=up+%3D%3D+0&g0.tab=1");
    // It comes back: resolved at once, sent at once, and again for 15 minutes.
    b.put("up{job=\"x\",instance=\"i\"}", 3 * MINUTE, 1.0);
    g.evaluate(3 * MINUTE);
    assert!(b.alerts(&g).is_empty());
    assert!(b.vector("ALERTS", 3 * MINUTE).is_empty());
    assert_eq!(b.sent()[0].ends_at_ms, 3 * MINUTE);
    for t in 4..=25 {
        b.put("up{job=\"x\",instance=\"i\"}", t * MINUTE, 1.0);
        g.evaluate(t * MINUTE);
    }
    let again = b.sent();
    assert!(again.iter().all(|a| a.ends_at_ms == 3 * MINUTE));
    assert_eq!(again.len(), 7, "every second minute until 18 m");
}

#[test]
fn a_pending_alert_that_ends_is_forgotten() {
    let b = Bench::new();
    let mut g = b.group("- {alert: A, expr: up == 0, for: 5m}");
    b.put("up", 0, 0.0).put("up", MINUTE, 1.0).put("up", 2 * MINUTE, 0.0);
    for (t, expected) in [(0, "pending {alertname=\"A\"} since 0"), (2, "pending {alertname=\"A\"} since 120000")] {
        g.evaluate(t * MINUTE);
        assert_eq!(b.alerts(&g), [expected]);
        g.evaluate((t + 1) * MINUTE);
        if t == 0 {
            assert!(b.alerts(&g).is_empty());
        }
    }
    assert!(b.sent().is_empty());
}

#[test]
fn keep_firing_for_keeps() {
    let b = Bench::new();
    let mut g = b.group("- {alert: A, expr: up == 0, keep_firing_for: 3m}");
    b.put("up", 0, 0.0);
    g.evaluate(0);
    for t in 1..=3 {
        b.put("up", t * MINUTE, 1.0);
        g.evaluate(t * MINUTE);
        assert_eq!(b.alerts(&g), ["firing {alertname=\"A\"} since 0"], "{t}");
    }
    assert_eq!(g.snapshot().rules[0].alerting.as_ref().unwrap().alerts[0].keep_firing_since_ms, Some(MINUTE));
    b.put("up", 4 * MINUTE, 1.0);
    g.evaluate(4 * MINUTE);
    assert!(b.alerts(&g).is_empty());
}

#[test]
fn limits_duplicates_and_errors_are_said() {
    let b = Bench::new();
    b.put("up{i=\"1\"}", 0, 0.0).put("up{i=\"2\"}", 0, 0.0);
    for (rules, error) in [
        (
            "- {alert: A, expr: up == 0, labels: {i: same}}",
            "vector contains metrics with the same labelset after applying alert labels",
        ),
        (
            "- {record: r, expr: up, labels: {i: same}}",
            "vector contains metrics with the same labelset after applying rule labels",
        ),
        ("- {record: r, expr: up + on (j) up}", "found duplicate series"),
        ("- {record: r, expr: '\"text\"'}", "rule result is not a vector or scalar"),
    ] {
        let mut g = b.group(rules);
        g.evaluate(0);
        let rule = &g.snapshot().rules[0];
        assert_eq!(rule.health, Health::Bad);
        assert!(rule.last_error.as_ref().unwrap().contains(error), "{:?}", rule.last_error);
    }
    let mut g = b.group_with("limit: 1", "- {alert: A, expr: up == 0}\n- {record: r, expr: up}");
    g.evaluate(0);
    let snapshot = g.snapshot();
    assert_eq!(snapshot.rules[0].last_error.as_deref(), Some("exceeded limit of 1 with 2 alerts"));
    assert_eq!(snapshot.rules[1].last_error.as_deref(), Some("exceeded limit of 1 with 2 series"));
    assert!(b.vector("r", 0).is_empty());
    let failures = b.metric("prometheus_rule_evaluation_failures_total");
    assert!(failures >= 6.0, "{failures}");
}

#[test]
fn templates_query_and_fail_politely() {
    let b = Bench::new();
    b.put("up", MINUTE, 0.0).put("other{a=\"1\"}", MINUTE, 42.0);
    let mut g = b.group(
        "- alert: A\n  expr: up == 0\n  annotations:\n    q: '{{ with query \"other\" }}{{ . | first | label \"a\" }}={{ . | first | value }}{{ end }}'\n    bad: '{{ query \"none\" | first | value }}'\n    now: '{{ now }} {{ pathPrefix }}'",
    );
    g.evaluate(MINUTE);
    let sent = b.sent();
    let get = |n| sent[0].annotations.get(n).unwrap().to_owned();
    assert_eq!(get("q"), "1=42");
    assert_eq!(get("now"), "60 /x");
    assert_eq!(
        get("bad"),
        "<error expanding template: error executing template __alert_A: template: __alert_A:1:130: executing \"__alert_A\" at <first>: error calling first: first() called on vector with no elements>"
    );
}

#[test]
fn query_offset_looks_back_and_writes_back() {
    let b = Bench::new();
    b.put("up", MINUTE, 1.0).put("up", 2 * MINUTE, 2.0);
    let mut g = b.group_with("query_offset: 1m", "- {record: r, expr: up}");
    g.evaluate(2 * MINUTE);
    assert_eq!(b.vector("r", MINUTE), ["{__name__=\"r\"} 1"]);
}

#[test]
fn group_labels_are_overlaid_by_the_rules() {
    let b = Bench::new();
    b.put("up", 0, 1.0);
    let mut g = b.group_with("labels: {a: g, b: g}", "- {record: r, expr: up, labels: {b: r}}");
    g.evaluate(0);
    assert_eq!(b.vector("r", 0), ["{__name__=\"r\", a=\"g\", b=\"r\"} 1"]);
}

#[test]
fn state_comes_back_after_a_restart() {
    for (hold, down_for, expected) in [
        ("30m", 5, "since 20"), // shifted by the time it was down
        ("4m", 5, "since 20"),  // upstream forgets holds below the grace period
        ("10m", 5, "since 20"),
        ("2h", 90, "since 110"), // outside the tolerance: new
    ] {
        let b = Bench::new();
        let rules = format!("- {{alert: A, expr: up == 0, for: {hold}, labels: {{sev: page}}}}");
        let mut g = b.group(&rules);
        for t in 15..=18 {
            b.put("up", t * MINUTE, 0.0);
            g.evaluate(t * MINUTE);
        }
        drop(g);
        let up = 18 + down_for;
        let mut g = b.restarted(&rules);
        for t in [up + 1, up + 2] {
            b.put("up", t * MINUTE, 0.0);
            g.evaluate(t * MINUTE);
        }
        assert!(
            b.vector("ALERTS", (up + 2) * MINUTE).is_empty() || down_for < 5,
            "nothing is written before the restoration"
        );
        g.restore((up + 2) * MINUTE);
        b.put("up", (up + 3) * MINUTE, 0.0);
        g.evaluate((up + 3) * MINUTE);
        let alerts = b.alerts(&g);
        assert!(!b.vector("ALERTS", (up + 3) * MINUTE).is_empty());
        let since: i64 = alerts[0].rsplit(' ').next().unwrap().parse::<i64>().unwrap() / MINUTE;
        let wanted = match expected {
            "since 20" => match hold {
                // Up to 3 minutes of 4 or 10 had passed; 7 minutes without evaluation are added to the start.
                "10m" => up + 2,
                _ => 15 + down_for + 2,
            },
            _ => up + 1,
        };
        assert_eq!(since, wanted, "{hold} {alerts:?}");
    }
}

#[test]
fn keep_firing_for_survives_a_restart() {
    // Minutes; down for five of them. A time that ran out meanwhile is over, any longer one goes on, however short or long.
    for (keep, is_kept) in [(4, false), (7, true), (20, true), (55, true)] {
        let b = Bench::new();
        let rules = format!(
            "- {{alert: A, expr: up == 0, keep_firing_for: {keep}m, annotations: {{s: '{{{{ $labels.alertname }}}}'}}}}"
        );
        let mut g = b.group(&rules);
        b.put("up", 0, 0.0);
        g.evaluate(0);
        b.put("up", MINUTE, 1.0);
        g.evaluate(MINUTE);
        drop(g);
        let mut g = b.restarted(&rules);
        for t in 5..=6 {
            b.put("up", t * MINUTE, 1.0);
            g.evaluate(t * MINUTE);
        }
        assert!(b.alerts(&g).is_empty());
        b.sent();
        g.restore(6 * MINUTE);
        b.put("up", 7 * MINUTE, 1.0);
        g.evaluate(7 * MINUTE);
        if !is_kept {
            assert!(b.alerts(&g).is_empty(), "{keep}m");
            continue;
        }
        assert_eq!(b.alerts(&g), ["firing {alertname=\"A\"} since 0"], "{keep}m");
        let sent = b.sent();
        assert_eq!(sent[0].annotations.to_string(), "{s=\"A\"}");
        let end = (keep + 2) * MINUTE;
        b.put("up", end, 1.0);
        g.evaluate(end);
        assert!(b.alerts(&g).is_empty(), "{keep}m");
        assert_eq!(b.sent()[0].ends_at_ms, end, "{keep}m");
    }
}

#[test]
fn independent_rules_side_by_side_give_the_same() {
    let b = Bench::new();
    b.put("up", 0, 0.0).put("x", 0, 5.0);
    let rules = "- {record: a, expr: up + 1}\n- {record: b, expr: a + 1}\n- {record: c, expr: x}\n- {alert: D, expr: up == 0}\n- {record: e, expr: x * 2}\n- {alert: F, expr: 'ALERTS{alertname=\"D\"}'}";
    let mut g = b.concurrent(rules, 4);
    g.evaluate(0);
    for (name, value) in [("a", 1), ("b", 2), ("c", 5), ("e", 10)] {
        assert_eq!(b.vector(name, 0), [format!("{{__name__=\"{name}\"}} {value}")]);
    }
    let states: Vec<AlertState> =
        g.snapshot().rules.iter().filter_map(|r| r.alerting.as_ref().map(|a| a.state)).collect();
    assert_eq!(states, [AlertState::Firing, AlertState::Firing]);
}

#[test]
fn what_rules_have_in_common_is_asked_once() {
    let b = Bench::new();
    b.put("x", 0, 85.0).put("y", 0, -1.0);
    let rules = "- {alert: Warn, expr: x > 80}\n- {alert: Crit, expr: (x) > 90}\n- {record: copy, expr: x}\n- {record: x, expr: x + 10}\n- {alert: Late, expr: x >= 95}\n- {alert: Low, expr: y < -0.5}\n- {alert: Lower, expr: y < (-2)}\n- {alert: Other, expr: x > bool 1}";
    let asked = b.count_queries();
    let mut g = b.counting(rules, asked.clone());
    g.evaluate(0);
    let firing: Vec<String> = b.alerts(&g).iter().map(|a| a.split('"').nth(1).unwrap().to_owned()).collect();
    assert_eq!(firing, ["Warn", "Late", "Low", "Other"]);
    assert_eq!(b.vector("copy", 0), ["{__name__=\"copy\"} 85"]);
    // x once for three rules, x + 10, x again because it was written, y once, and the last one.
    assert_eq!(asked.lock().unwrap().len(), 5, "{asked:?}");
}
