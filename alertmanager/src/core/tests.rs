use super::*;
use ferula_instrument::Registry;

const CONFIG: &str = r#"
route:
  receiver: hook
  group_by: [alertname]
  group_wait: 10s
  group_interval: 60s
  repeat_interval: 5m
  routes:
  - matchers: [team=mail]
    receiver: mail
  - matchers: [team=night]
    receiver: hook
    mute_time_intervals: [always]
receivers:
- name: hook
  webhook_configs: [{url: "http://127.0.0.1:1/"}]
- name: mail
  webhook_configs: [{url: "http://127.0.0.1:1/", send_resolved: false}]
  email_configs: [{to: a@b, from: c@d, smarthost: "localhost:25"}]
inhibit_rules:
- source_matchers: [severity=critical]
  target_matchers: [severity=warning]
  equal: [job]
time_intervals:
- name: always
  time_intervals: [{}]
"#;

/// A core whose time a test turns by hand, and what it wanted sent.
struct Lab {
    core: Core,
    now: Now,
}

impl Lab {
    fn new(config: &str) -> Lab {
        let now = Now { wall_ms: 1_000_000_000, mono_ms: 0 };
        let options = CoreOptions {
            retention_ms: 120 * 3_600_000,
            alerts_gc_interval_ms: 30 * 60_000,
            maintenance_interval_ms: 30_000,
            start_delay_ms: 0,
            per_alertname_limit: 0,
            alerts_max: 0,
            alert_size_bytes_max: 1 << 20,
            silences: SilenceLimits::default(),
        };
        let config = Config::parse("test", config).unwrap();
        Lab { core: Core::new(&config, options, Metrics::new(&Registry::new()), now), now }
    }
    /// `a=1 b=2`, ending now if `ended`.
    fn post(&mut self, labels: &str, ended: bool) {
        let posted = PostableAlert {
            labels: Labels::from_pairs(labels.split(' ').filter_map(|p| p.split_once('='))),
            ends_at_ms: ended.then_some(self.now.wall_ms),
            ..Default::default()
        };
        let inserted = self.core.insert(vec![posted], self.now);
        assert!(inserted.invalid.is_empty());
    }
    /// As if the process were killed, and started again after some seconds; the monotonic clock begins anew.
    fn restart(&mut self, away_s: i64) {
        let (alerts, timers) = (self.core.kept_alerts(), self.core.timers(self.now));
        let now = Now { wall_ms: self.now.wall_ms + away_s * 1000, mono_ms: 77 };
        let config = Config::parse("test", CONFIG).unwrap();
        let mut core = Core::new(&config, self.core.options, Metrics::new(&Registry::new()), now);
        for (key, entry) in self.core.nflog.iter() {
            core.nflog.merge(key.clone(), entry.clone());
        }
        alerts.into_iter().for_each(|a| core.restore(Arc::unwrap_or_clone(a)));
        timers.into_iter().for_each(|t| core.restore_timer(t));
        core.restored(now);
        (self.core, self.now) = (core, now);
    }
    fn wait(&mut self, s: i64) -> Vec<Delivery> {
        self.now.wall_ms += s * 1000;
        self.now.mono_ms += s * 1000;
        self.core.advance(self.now)
    }
    /// Waits, delivers everything, and prints it: `integration reason: firing+ / resolved-`.
    fn told(&mut self, s: i64) -> Vec<String> {
        // Groups that come due together come in no order.
        let mut out: Vec<String> = self.wait(s).iter().map(|d| self.deliver(d, true)).collect();
        out.sort();
        out
    }
    fn deliver(&mut self, d: &Delivery, ok: bool) -> String {
        let (change, next) = self.core.finish(d.id, ok, self.now);
        assert_eq!(change.is_some(), ok);
        assert!(next.is_empty());
        print(d)
    }
}

fn print(d: &Delivery) -> String {
    let n = &d.notification;
    let alerts: Vec<String> = n
        .alerts
        .iter()
        .map(|a| format!("{}{}", a.alert.labels.get("i").unwrap_or("?"), if a.is_resolved { "-" } else { "+" }))
        .collect();
    format!("{} {}: {}", d.integration.name(), n.reason.as_str(), alerts.join(" "))
}

#[test]
fn waits_groups_repeats_and_resolves() {
    let mut lab = Lab::new(CONFIG);
    lab.post("alertname=A i=1", false);
    lab.post("alertname=A i=2", false);
    lab.post("alertname=B i=3", false);
    assert!(lab.told(9).is_empty());
    assert_eq!(lab.core.next_due_mono_ms(), 10_000);
    assert_eq!(lab.told(1), ["webhook first notification: 1+ 2+", "webhook first notification: 3+"]);
    // Nothing new at the next interval; one more alert waits for the one after.
    assert!(lab.told(60).is_empty());
    lab.post("alertname=A i=4", false);
    assert!(lab.told(59).is_empty());
    assert_eq!(lab.told(1), ["webhook new alerts added: 1+ 2+ 4+"]);
    lab.post("alertname=A i=2", true);
    assert_eq!(lab.told(60), ["webhook some alerts resolved: 1+ 2- 4+"]);
    // The resolved one is gone; after the repeat interval the rest is told again (5 m later at the next tick).
    for (i, s) in [(1, false), (4, false), (3, false)] {
        lab.post(&format!("alertname={} i={i}", if i == 3 { "B" } else { "A" }), s);
    }
    let later: Vec<Vec<String>> = (0..6)
        .map(|_| {
            lab.post("alertname=A i=1", false);
            lab.post("alertname=A i=4", false);
            lab.told(60)
        })
        .collect();
    assert_eq!(
        later.concat(),
        [
            "webhook repeat interval elapsed: 3+",
            "webhook all alerts resolved: 3-", // not reported for resolve_timeout
            "webhook repeat interval elapsed: 1+ 4+",
        ]
    );
    lab.post("alertname=A i=1", true);
    lab.post("alertname=A i=4", true);
    assert_eq!(lab.told(60), ["webhook all alerts resolved: 1- 4-"]);
    lab.wait(61);
    assert_eq!(lab.core.groups().count(), 0);
}

#[test]
fn an_overdue_alert_is_told_at_once_and_group_keys_are_upstreams() {
    let mut lab = Lab::new(CONFIG);
    let posted = PostableAlert {
        labels: Labels::from_pairs([("alertname", "A\"b"), ("team", "mail")]),
        starts_at_ms: Some(lab.now.wall_ms - 10_001),
        ..Default::default()
    };
    lab.core.insert(vec![posted], lab.now);
    let due = lab.wait(0);
    assert_eq!(
        due.iter().map(print).collect::<Vec<_>>(),
        ["webhook first notification: ?+", "email first notification: ?+"]
    );
    assert_eq!(&*due[0].notification.group_key, r#"{}/{team="mail"}:{alertname="A\"b"}"#);
    assert_eq!(due[0].deadline_mono_ms, 60_000);
}

#[test]
fn receivers_that_do_not_send_resolved_stay_quiet_but_remember() {
    let mut lab = Lab::new(CONFIG);
    lab.post("alertname=A i=1 team=mail", false);
    assert_eq!(lab.told(10).len(), 2);
    lab.post("alertname=A i=1 team=mail", true);
    assert!(lab.told(60).is_empty());
    assert_eq!(lab.core.take_unsaved().len(), 2);
    // It fires again: that is news.
    lab.post("alertname=A i=1 team=mail", false);
    assert_eq!(lab.told(60), ["email first notification: 1+", "webhook first notification: 1+"]);
}

#[test]
fn a_failing_integration_is_retried_from_the_state_of_then_and_holds_nobody_up() {
    let mut lab = Lab::new(CONFIG);
    lab.post("alertname=A i=1 team=mail", false);
    let due = lab.wait(10);
    assert_eq!(due.len(), 2);
    lab.deliver(&due[1], true); // the mail is through, the webhook hangs
    lab.post("alertname=A i=2 team=mail", false);
    assert_eq!(lab.told(60), ["email new alerts added: 1+ 2+"]);
    lab.post("alertname=A i=1 team=mail", true);
    // Its deadline passes: what is told next is the present.
    let (change, next) = lab.core.finish(due[0].id, false, lab.now);
    assert!(change.is_none());
    assert_eq!(next.iter().map(print).collect::<Vec<_>>(), ["webhook first notification: 2+"]);
    let (change, none) = lab.core.finish(next[0].id, true, lab.now);
    assert!(change.is_some() && none.is_empty());
    let (again, _) = lab.core.finish(next[0].id, true, lab.now);
    assert!(again.is_none(), "an outcome counts once");
}

#[test]
fn resolved_alerts_stay_until_their_resolution_was_delivered() {
    let mut lab = Lab::new(CONFIG);
    lab.post("alertname=A i=1", false);
    lab.told(10);
    lab.post("alertname=A i=1", true);
    for _ in 0..3 {
        let due = lab.wait(60);
        assert_eq!(due.iter().map(print).collect::<Vec<_>>(), ["webhook all alerts resolved: 1-"]);
        lab.deliver(&due[0], false);
    }
    assert_eq!(lab.told(60), ["webhook all alerts resolved: 1-"]);
    assert!(lab.told(60).is_empty());
}

#[test]
fn silenced_inhibited_and_muted_alerts_are_not_told() {
    let mut lab = Lab::new(CONFIG);
    let silence = crate::silence::Silence {
        id: "".into(),
        matcher_sets: vec![crate::matcher::parse_matchers("i=1", "t").unwrap()],
        starts_at_ms: 0,
        ends_at_ms: lab.now.wall_ms + 30_000,
        updated_at_ms: 0,
        created_by: String::new(),
        comment: String::new(),
        annotations: BTreeMap::new(),
    };
    lab.core.silences.set(silence, lab.now.wall_ms, || "s".into()).unwrap();
    lab.post("alertname=A i=1", false);
    lab.post("alertname=A i=2 severity=warning job=x", false);
    lab.post("alertname=B i=3 severity=critical job=x", false);
    lab.post("alertname=C i=4 team=night", false);
    assert_eq!(lab.told(10), ["webhook first notification: 3+"]);
    let (silenced, inhibited) =
        lab.core.muted_by(&Labels::from_pairs([("i", "1"), ("severity", "warning"), ("job", "x")]), lab.now.wall_ms);
    assert_eq!((silenced.len(), inhibited.len()), (1, 1));
    assert_eq!(
        lab.core.groups().find(|g| &*g.labels.to_string() == r#"{alertname="C"}"#).unwrap().muted_by,
        ["always"]
    );
    // The silence ends, the source resolves.
    lab.post("alertname=B i=3 severity=critical job=x", true);
    assert_eq!(lab.told(60), ["webhook all alerts resolved: 3-", "webhook first notification: 2+ 1+"]);
}

#[test]
fn a_reload_keeps_timers_the_log_and_what_is_in_flight() {
    let mut lab = Lab::new(CONFIG);
    lab.post("alertname=A i=1", false);
    lab.post("alertname=B i=2", false);
    let mut due = lab.wait(10);
    due.sort_by_key(print);
    lab.deliver(&due[0], true);
    let config = Config::parse("t", CONFIG).unwrap();
    lab.core.apply(&config, lab.now);
    lab.post("alertname=A i=3", false);
    assert!(lab.told(59).is_empty(), "nothing twice, nothing early");
    assert_eq!(lab.told(1), ["webhook new alerts added: 1+ 3+"], "B is still in flight");
    let (_, next) = lab.core.finish(due[1].id, true, lab.now);
    assert!(next.is_empty(), "B was told meanwhile");
}

#[test]
fn a_wall_clock_that_jumps_does_not_stall_timers() {
    let mut lab = Lab::new(CONFIG);
    lab.post("alertname=A i=1", false);
    lab.now.wall_ms -= 3_600_000;
    assert_eq!(lab.told(10), ["webhook first notification: 1+"]);
}

#[test]
fn limits_drop_new_alerts_only() {
    let mut lab = Lab::new(CONFIG);
    lab.core.options.per_alertname_limit = 2;
    for i in [1, 2, 3, 1, 2] {
        lab.post(&format!("alertname=A i={i}"), false);
    }
    lab.post("alertname=B i=9", false);
    assert_eq!(lab.told(10), ["webhook first notification: 1+ 2+", "webhook first notification: 9+"]);
    assert_eq!(lab.core.metrics.limited.get(), 1.0);
}

#[test]
fn timers_continue_after_a_restart() {
    let mut lab = Lab::new(CONFIG);
    lab.post("alertname=A i=1", false);
    assert_eq!(lab.told(10).len(), 1);
    lab.wait(10);
    lab.post("alertname=A i=2", false);
    lab.post("alertname=B i=3", false);
    lab.wait(4);
    // Ten seconds into the interval of A, four into the wait of B.
    lab.restart(3);
    assert!(lab.told(2).is_empty());
    assert_eq!(lab.told(1), ["webhook first notification: 3+"], "B waited ten seconds in all");
    assert!(lab.told(39).is_empty());
    assert_eq!(lab.told(1), ["webhook new alerts added: 1+ 2+"], "A keeps its interval, and repeats nothing");
    // A wall clock that was set back puts nothing off for longer than the interval.
    lab.post("alertname=A i=4", false);
    lab.restart(-86_400);
    assert_eq!(lab.told(60), ["webhook new alerts added: 1+ 2+ 4+"]);
}

#[test]
fn what_was_under_way_or_had_failed_is_told_at_once_after_a_restart() {
    let mut lab = Lab::new(CONFIG);
    lab.post("alertname=A i=1 team=mail", false);
    let due = lab.wait(10);
    lab.deliver(&due[0], true);
    lab.restart(1); // the mail was under way
    assert_eq!(lab.told(0), ["email first notification: 1+"]);
    lab.post("alertname=A i=2 team=mail", false);
    for d in lab.wait(60) {
        lab.deliver(&d, false);
    }
    lab.restart(1);
    assert_eq!(lab.told(0), ["email new alerts added: 1+ 2+", "webhook new alerts added: 1+ 2+"]);
    lab.restart(1);
    assert!(lab.told(0).is_empty(), "nothing was under way");
}

#[test]
fn an_end_that_nobody_heard_of_is_told_after_any_outage() {
    let mut lab = Lab::new(CONFIG);
    lab.post("alertname=A i=1", false);
    lab.told(10);
    lab.post("alertname=A i=1", true);
    for d in lab.wait(60) {
        lab.deliver(&d, false);
    }
    // The alert leaves the map, and waits in its group; the process is away for two hours.
    lab.now.mono_ms += 30 * 60_000;
    lab.wait(0);
    assert_eq!(lab.core.alerts().count(), 0);
    lab.restart(7_200);
    assert_eq!(lab.told(0), ["webhook all alerts resolved: 1-"]);
    lab.restart(1);
    assert!(lab.told(60).is_empty());
    // An alert that came and went without a word is not news.
    lab.post("alertname=C i=9", false);
    lab.post("alertname=C i=9", true);
    lab.restart(1);
    assert!(lab.told(60).is_empty());
}
