//! Groups on their threads: they run, keep state over reloads, refuse bad files, and go stale when gone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod bench;

use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bench::{Bench, settings};
use ferula_model::{Clock, SystemClock};
use ferula_promql_rules::{Alert, AlertState, Environment, Notify, RuleManager};
use ferula_storage::CancelFlag;

struct Channel(mpsc::Sender<Vec<Alert>>);

impl Notify for Channel {
    fn notify(&self, alerts: Vec<Alert>) {
        let _ = self.0.send(alerts);
    }
}

struct Running {
    bench: Bench,
    manager: RuleManager,
    dir: tempfile::TempDir,
    alerts: mpsc::Receiver<Vec<Alert>>,
}

impl Running {
    fn new() -> Running {
        let bench = Bench::new();
        let (tx, alerts) = mpsc::channel();
        let env = Environment { notify: Arc::new(Channel(tx)), clock: Arc::new(SystemClock), ..bench.environment(1) };
        let manager = RuleManager::new(env, 2, CancelFlag::new(), &bench.registry);
        Running { bench, manager, dir: tempfile::tempdir().unwrap(), alerts }
    }
    fn file(&self, text: &str) -> Vec<PathBuf> {
        let path = self.dir.path().join("rules.yml");
        std::fs::write(&path, text).unwrap();
        vec![path]
    }
    /// Waits for what the groups' threads do; a minute is the end of patience, not an expectation.
    fn until(&self, what: &str, mut holds: impl FnMut(&Running) -> bool) {
        let end = Instant::now() + Duration::from_secs(60);
        while !holds(self) {
            assert!(Instant::now() < end, "{what}");
            std::thread::yield_now();
        }
    }
    fn state(&self) -> Option<(AlertState, i64)> {
        let groups = self.manager.snapshot();
        let rules = groups.iter().flat_map(|g| &g.rules).find_map(|r| r.alerting.clone())?;
        Some((rules.state, rules.alerts.first()?.active_at_ms))
    }
}

const ALERT: &str = "groups:\n- name: g\n  interval: 20ms\n  rules:\n  - {alert: A, expr: up == 0}\n";

#[test]
fn groups_run_and_keep_state_over_reloads() {
    let r = Running::new();
    let now = SystemClock.now_ms();
    r.bench.put("up", now, 0.0);
    r.manager.load(&r.file(ALERT), settings()).unwrap();
    let alerts = r.alerts.recv_timeout(Duration::from_secs(60)).unwrap();
    assert_eq!(alerts[0].labels.to_string(), "{alertname=\"A\"}");
    r.until("firing", |r| r.state().is_some_and(|s| s.0 == AlertState::Firing));
    let since = r.state().unwrap().1;
    // A rule more: the group is a new one, the alert is the same.
    let more = format!("{ALERT}  - {{record: r, expr: up + 1}}\n");
    r.manager.load(&r.file(&more), settings()).unwrap();
    assert_eq!(r.state().unwrap(), (AlertState::Firing, since), "the API shows it before the next evaluation");
    r.until("recorded", |r| !r.bench.vector("r", SystemClock.now_ms()).is_empty());
    assert_eq!(r.state().unwrap(), (AlertState::Firing, since));
    // A broken file changes nothing.
    let error =
        r.manager.load(&r.file("groups: [{name: g, rules: [{record: r, expr: 'up +'}]}]"), settings()).unwrap_err();
    assert!(
        error.to_string().contains("could not parse expression: 1:5: parse error: unexpected end of input"),
        "{error}"
    );
    assert_eq!(r.manager.snapshot()[0].rules.len(), 2);
    // Without the recording rule its series ends, at once, for the group goes on.
    r.manager.load(&r.file(ALERT), settings()).unwrap();
    r.until("stale", |r| r.bench.vector("r", SystemClock.now_ms()).is_empty());
    // Without the group everything it wrote ends.
    r.until("ALERTS are written", |r| !r.bench.vector("ALERTS", SystemClock.now_ms()).is_empty());
    r.manager.load(&[], settings()).unwrap();
    assert!(r.manager.snapshot().is_empty());
    r.until("retired", |r| r.bench.vector("ALERTS", SystemClock.now_ms()).is_empty());
    r.manager.stop();
}

#[test]
fn a_group_that_did_not_change_goes_on_untouched() {
    let r = Running::new();
    r.bench.put("up", SystemClock.now_ms(), 0.0);
    let text = "groups:\n- {name: b, rules: []}\n- {name: a, interval: 10ms, rules: [{record: r, expr: up}]}\n";
    r.manager.load(&r.file(text), settings()).unwrap();
    let names: Vec<String> = r.manager.snapshot().iter().map(|g| g.name.clone()).collect();
    assert_eq!(names, ["a", "b"]);
    r.until("evaluated", |r| r.manager.snapshot()[0].rules[0].last_evaluation_ms.is_some());
    r.manager.load(&r.file(text), settings()).unwrap();
    assert!(r.manager.snapshot()[0].rules[0].last_evaluation_ms.is_some(), "a new group would not have been evaluated");
    assert!(r.bench.metric("prometheus_rule_group_iterations_total") >= 1.0);
    assert_eq!(r.bench.metric("prometheus_rule_group_interval_seconds"), 60.01);
    drop(r);
}
