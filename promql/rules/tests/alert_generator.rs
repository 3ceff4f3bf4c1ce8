//! The rules of the Prometheus programme "alert generator compliance" (specification 1.0), one by one: when an alert is
//! pending, firing, inactive, when it is sent, and what the message says. Times are turned by hand.
//!
//! Where the specification and Prometheus differ we do as Prometheus: an alert is sent again when *more* than the resend
//! delay has passed, and the end of a firing one counts from the evaluation that sends it, not from its beginning.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod bench;

use bench::Bench;
use ferula_promql_rules::{Group, Health};

/// Evaluates every `interval` seconds, `v` being the next of `values`; one line for each evaluation: seconds, active
/// alerts as `state@activeAt`, messages as `>startsAt..endsAt`.
struct Play {
    b: Bench,
    g: Group,
    interval: i64,
    t: i64,
}

impl Play {
    fn new(interval: i64, rules: &str) -> Play {
        let b = Bench::new();
        let g = b.group_with(&format!("interval: {interval}s"), rules);
        Play { b, g, interval, t: 0 }
    }
    fn next(&mut self, value: f64) -> String {
        let ms = self.t * 1000;
        self.b.put("v{i=\"1\"}", ms, value);
        self.g.evaluate(ms);
        let mut line = format!("{}:", self.t);
        for rule in self.g.snapshot().rules.iter().filter_map(|r| r.alerting.as_ref()) {
            for a in rule.alerts.iter() {
                line += &format!(" {}@{}", a.state.as_str(), a.active_at_ms / 1000);
            }
        }
        for a in self.b.sent() {
            line += &format!(" >{}..{}", a.starts_at_ms / 1000, a.ends_at_ms / 1000);
        }
        self.t += self.interval;
        line
    }
    fn all(&mut self, values: &[f64]) -> Vec<String> {
        values.iter().map(|v| self.next(*v)).collect()
    }
}

#[test]
fn without_a_hold_it_fires_at_once_and_is_sent_again_and_again() {
    let mut p = Play::new(30, "- {alert: A, expr: v > 10}");
    assert_eq!(
        p.all(&[5.0, 15.0, 15.0, 16.0, 17.0, 15.0, 15.0, 15.0]),
        [
            "0:",
            "30: firing@30 >30..270", // four resend delays ahead: they are longer than four intervals
            "60: firing@30",
            "90: firing@30",
            "120: firing@30 >30..360",
            "150: firing@30",
            "180: firing@30",
            "210: firing@30 >30..450",
        ]
    );
}

#[test]
fn a_long_interval_decides_how_often_and_how_long() {
    let mut p = Play::new(300, "- {alert: A, expr: v > 10}");
    assert_eq!(
        p.all(&[15.0, 15.0, 15.0]),
        ["0: firing@0 >0..1200", "300: firing@0 >0..1500", "600: firing@0 >0..1800"]
    );
}

#[test]
fn a_hold_is_waited_for_in_silence() {
    let mut p = Play::new(30, "- {alert: A, expr: v > 10, for: 90s}");
    assert_eq!(
        p.all(&[15.0, 15.0, 15.0, 15.0, 15.0]),
        ["0: pending@0", "30: pending@0", "60: pending@0", "90: firing@0 >90..330", "120: firing@0"]
    );
    // A hold shorter than the interval ends with the next evaluation.
    let mut p = Play::new(30, "- {alert: A, expr: v > 10, for: 15s}");
    assert_eq!(p.all(&[15.0, 15.0]), ["0: pending@0", "30: firing@0 >30..270"]);
}

#[test]
fn a_pending_alert_that_ends_is_never_sent_and_begins_anew() {
    let mut p = Play::new(30, "- {alert: A, expr: v > 10, for: 60s}");
    assert_eq!(
        p.all(&[15.0, 15.0, 5.0, 15.0, 15.0, 15.0]),
        ["0: pending@0", "30: pending@0", "60:", "90: pending@90", "120: pending@90", "150: firing@90 >150..390"]
    );
}

#[test]
fn a_resolved_alert_says_so_for_fifteen_minutes() {
    let mut p = Play::new(30, "- {alert: A, expr: v > 10, for: 30s}");
    assert_eq!(p.all(&[15.0, 15.0, 5.0]), ["0: pending@0", "30: firing@0 >30..270", "60: >30..60"]);
    let after = p.all(&[5.0; 40]);
    let sent: Vec<&str> = after.iter().filter(|l| l.contains('>')).map(String::as_str).collect();
    let expected: Vec<String> = (1..=10).map(|n| format!("{}: >30..60", 60 + 90 * n)).collect();
    assert_eq!(sent, expected, "every 90 s, the last at 60 + 900");
}

#[test]
fn a_new_alert_ends_the_word_of_the_resolved_one() {
    let mut p = Play::new(30, "- {alert: A, expr: v > 10, for: 60s}");
    p.all(&[15.0, 15.0]);
    assert_eq!(p.next(15.0), "60: firing@0 >60..300");
    assert_eq!(p.next(5.0), "90: >60..90");
    assert_eq!(
        p.all(&[15.0, 15.0, 15.0, 5.0]),
        ["120: pending@120", "150: pending@120", "180: firing@120 >180..420", "210: >180..210"]
    );
}

/// `ALERTS` says what is active, and nothing of what is not.
#[test]
fn series_of_active_alerts() {
    let mut p = Play::new(
        30,
        "- {alert: A, expr: v > 10, for: 30s, labels: {alertstate: mine, i: \"<{{ $labels.i }}>\", alertname: B}}",
    );
    let series = |state: &str| format!("{{__name__=\"ALERTS\", alertname=\"A\", alertstate=\"{state}\", i=\"<1>\"}} 1");
    for (value, expected) in [(15.0, vec![series("pending")]), (15.0, vec![series("firing")]), (5.0, vec![])] {
        let ms = p.t * 1000;
        p.b.put("v{i=\"1\"}", ms, value);
        p.g.evaluate(ms);
        assert_eq!(p.b.vector("ALERTS", ms), expected, "{ms}");
        p.t += p.interval;
    }
    // The messages keep the rule's own alertstate: only the series is renamed.
    let sent = p.b.sent();
    assert_eq!(sent[0].labels.to_string(), "{alertname=\"A\", alertstate=\"mine\", i=\"<1>\"}");
}

#[test]
fn the_latest_annotations_and_the_source_are_told() {
    let b = Bench::new();
    let mut g =
        b.group_with("interval: 90s", "- {alert: A, expr: 'v > 10', annotations: {s: 'is {{ $value }}', none: ''}}");
    for (t, v) in [(0, 15.0), (90_000, 16.0)] {
        b.put("v", t, v);
        g.evaluate(t);
        let sent = b.sent();
        assert_eq!(sent[0].annotations.get("s"), Some(format!("is {v}").as_str()));
        assert_eq!(sent[0].generator_url, "http://p:9090/x/graph?g0.expr=v+%3E+10&g0.tab=1");
    }
    // And of a resolved one the last there were.
    b.put("v", 180_000, 1.0);
    g.evaluate(180_000);
    assert_eq!(b.sent()[0].annotations.get("s"), Some("is 16"));
}

/// Rules run in the order of the file, each seeing what those before it wrote at this evaluation.
#[test]
fn a_rule_sees_the_alerts_of_the_one_before() {
    let mut p = Play::new(
        30,
        "- {alert: A, expr: v > 10, for: 30s}\n- {alert: B, expr: 'ALERTS{alertname=\"A\",alertstate=\"firing\"}', annotations: {was: '{{ $labels.alertname }}'}}",
    );
    assert_eq!(
        p.all(&[15.0, 15.0, 5.0]),
        ["0: pending@0", "30: firing@0 firing@30 >30..270 >30..270", "60: >30..60 >30..60"]
    );
}

#[test]
fn two_alerts_with_the_same_labels_are_an_error_that_sends_and_writes_nothing() {
    let b = Bench::new();
    let mut g = b.group_with("interval: 30s", "- {alert: A, expr: v > 10, labels: {i: same}}");
    b.put("v{i=\"1\"}", 0, 15.0);
    g.evaluate(0);
    assert_eq!(b.sent().len(), 1);
    b.put("v{i=\"1\"}", 120_000, 15.0).put("v{i=\"2\"}", 120_000, 15.0);
    g.evaluate(120_000);
    let rule = &g.snapshot().rules[0];
    assert_eq!(rule.health, Health::Bad);
    assert_eq!(
        rule.last_error.as_deref(),
        Some("vector contains metrics with the same labelset after applying alert labels")
    );
    assert!(b.sent().is_empty(), "it would have been sent again now");
    assert_eq!(b.vector("max(timestamp(ALERTS))", 120_000), ["{} 0"], "nothing younger than the last good evaluation");
    // The next good evaluation goes on where the last good one was.
    b.put("v{i=\"1\"}", 150_000, 15.0).put("v{i=\"2\"}", 150_000, 5.0);
    g.evaluate(150_000);
    assert_eq!(b.alerts(&g), ["firing {alertname=\"A\", i=\"same\"} since 0"]);
    assert_eq!(b.sent().len(), 1);
}
