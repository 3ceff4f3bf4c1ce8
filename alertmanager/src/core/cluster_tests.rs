//! Three cores on a network that a test cuts and heals, under one clock: what is told, by whom, how often.
use std::collections::BTreeMap;

use ferula_instrument::Registry;

use super::*;

const CONFIG: &str = "route: {receiver: hook, group_by: [alertname], group_wait: 1s, group_interval: 30s, repeat_interval: 1h}\nreceivers: [{name: hook, webhook_configs: [{url: 'http://127.0.0.1:1/'}]}]";
const GROUPS: usize = 64;
const PEER_TIMEOUT_MS: i64 = 3_000;

struct Node {
    core: Core,
    is_up: bool,
    in_flight: Vec<(Delivery, i64)>,
}

/// How the receiver behaves at a moment.
#[derive(Clone, Copy, PartialEq)]
enum Receiver {
    Fine,
    /// Takes the request and answers 500.
    Failing,
    /// Takes the request and never answers.
    Hanging,
}

struct Lab {
    nodes: Vec<Node>,
    now: Now,
    /// Nodes of different sides do not hear each other.
    side: Vec<u8>,
    receiver: Receiver,
    /// Requests the receiver saw: group and reason, and the members that made them.
    seen: BTreeMap<String, Vec<usize>>,
}

impl Lab {
    fn new() -> Lab {
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
        let config = Config::parse("test", CONFIG).unwrap();
        let node = || Node {
            core: Core::new(&config, options, Metrics::new(&Registry::new()), now),
            is_up: true,
            in_flight: Vec::new(),
        };
        let mut lab = Lab {
            nodes: (0..3).map(|_| node()).collect(),
            now,
            side: vec![0; 3],
            receiver: Receiver::Fine,
            seen: BTreeMap::new(),
        };
        lab.membership();
        lab
    }

    fn hears(&self, from: usize, to: usize) -> bool {
        from != to && self.nodes[from].is_up && self.nodes[to].is_up && self.side[from] == self.side[to]
    }

    fn hearers(&self, from: usize) -> Vec<usize> {
        (0..3).filter(|to| self.hears(from, *to)).collect()
    }

    /// What failure detection would have found out by now.
    fn membership(&mut self) {
        for n in 0..3 {
            let position = (0..n).filter(|m| self.hears(*m, n)).count();
            let core = &mut self.nodes[n].core;
            core.set_place(Place { position, peer_timeout_ms: PEER_TIMEOUT_MS, is_settled: true, is_clustered: true });
            for m in 0..3 {
                if m != n && !self.hears(m, n) {
                    self.nodes[n].core.forget_peer(&m.to_string());
                }
            }
        }
    }

    fn post(&mut self, round: usize, node: usize) {
        let batch = (0..GROUPS).map(|i| PostableAlert {
            labels: Labels::from_pairs([("alertname", format!("G{round}-{i}"))]),
            ends_at_ms: Some(self.now.wall_ms + 3_600_000),
            ..Default::default()
        });
        let inserted = self.nodes[node].core.insert(batch.collect(), self.now);
        for to in self.hearers(node) {
            for alert in &inserted.to_share {
                let kept = self.nodes[to].core.receive_alert(Alert::clone(alert), self.now);
                assert!(kept.is_some());
            }
        }
    }

    fn tell_intent(&mut self, from: usize, d: &Delivery, lease_ms: i64) {
        for to in self.hearers(from) {
            let intent = Intent { key: d.key.clone(), holder: from.to_string().into(), lease_ms };
            self.nodes[to].core.receive_intent(intent, self.now);
        }
    }

    /// A hundred milliseconds of everything.
    fn tick(&mut self) {
        self.now.wall_ms += 100;
        self.now.mono_ms += 100;
        for n in 0..3 {
            if !self.nodes[n].is_up {
                continue;
            }
            for d in self.nodes[n].core.advance(self.now) {
                self.tell_intent(n, &d, PEER_TIMEOUT_MS);
                self.nodes[n].in_flight.push((d, 0));
            }
            // Attempts: at once, then every second; the intent is renewed with each.
            for (d, next_ms) in std::mem::take(&mut self.nodes[n].in_flight) {
                if next_ms > self.now.mono_ms {
                    self.nodes[n].in_flight.push((d, next_ms));
                    continue;
                }
                let what = format!("{} {}", d.notification.group_labels, d.notification.reason.as_str());
                let by = self.seen.entry(what).or_default();
                if by.last() != Some(&n) {
                    by.push(n); // retries of one member are one
                }
                match self.receiver {
                    Receiver::Fine => self.delivered(n, &d),
                    _ => {
                        self.tell_intent(n, &d, PEER_TIMEOUT_MS);
                        self.nodes[n].in_flight.push((d, self.now.mono_ms + 1_000));
                    }
                }
            }
        }
    }

    fn delivered(&mut self, n: usize, d: &Delivery) {
        let (change, more) = self.nodes[n].core.finish(d.id, true, self.now);
        assert!(more.is_empty());
        for to in self.hearers(n) {
            self.nodes[to].core.receive_log(change.clone().unwrap(), self.now);
        }
    }

    /// As when two members exchange everything.
    fn sync(&mut self) {
        for from in 0..3 {
            for to in self.hearers(from) {
                let log: Vec<LogChange> =
                    self.nodes[from].core.nflog.iter().map(|(k, e)| (k.clone(), e.clone())).collect();
                let silences: Vec<_> = self.nodes[from].core.silences.iter().cloned().collect();
                let alerts = self.nodes[from].core.kept_alerts();
                let core = &mut self.nodes[to].core;
                log.into_iter().for_each(|l| _ = core.receive_log(l, self.now));
                silences.iter().for_each(|s| _ = core.receive_silence(crate::silence::Silence::clone(s), self.now));
                alerts.iter().for_each(|a| drop(core.receive_alert(Alert::clone(a), self.now)));
            }
        }
    }

    fn run(&mut self, s: i64) {
        (0..s * 10).for_each(|_| self.tick());
    }

    /// Groups of a round that were told, and tellings beyond the first.
    fn told(&mut self) -> (usize, usize) {
        let seen = std::mem::take(&mut self.seen);
        (seen.len(), seen.values().map(|by| by.len() - 1).sum())
    }
}

#[test]
fn healthy_members_miss_nothing_and_repeat_nothing() {
    let mut lab = Lab::new();
    (0..3).for_each(|n| lab.post(0, n)); // as Prometheus does: to every member
    lab.run(20);
    assert_eq!(lab.told(), (GROUPS, 0));
    lab.post(1, 2); // to the last of them only: the first tells
    lab.run(20);
    assert!(lab.seen.values().all(|by| *by == [0]), "{:?}", lab.seen);
    assert_eq!(lab.told(), (GROUPS, 0));
    // New alerts, and intervals that pass, change nothing about that.
    lab.run(200);
    assert_eq!(lab.told(), (0, 0));
}

#[test]
fn a_failing_receiver_is_tried_by_one_member_only() {
    for receiver in [Receiver::Failing, Receiver::Hanging] {
        let mut lab = Lab::new();
        (0..3).for_each(|n| lab.post(0, n));
        lab.receiver = receiver;
        lab.run(9);
        lab.receiver = Receiver::Fine;
        lab.run(20);
        assert_eq!(lab.told(), (GROUPS, 0));
    }
}

#[test]
fn a_member_that_dies_in_the_middle_is_followed_by_the_next() {
    for victim in 0..3 {
        let mut lab = Lab::new();
        (0..3).for_each(|n| lab.post(0, n));
        lab.receiver = Receiver::Hanging;
        lab.run(2);
        lab.nodes[victim].is_up = false;
        lab.receiver = Receiver::Fine;
        lab.run(4);
        lab.membership();
        lab.run(20);
        let (told, twice) = lab.told();
        assert_eq!(told, GROUPS);
        assert!(twice <= if victim == 0 { GROUPS } else { 0 }, "{twice} repeated after the death of {victim}");
    }
}

#[test]
fn a_partition_may_tell_twice_and_loses_nothing_and_healing_repeats_nothing() {
    let mut lab = Lab::new();
    lab.side = vec![0, 0, 1];
    lab.membership();
    (0..3).for_each(|n| lab.post(0, n));
    lab.run(20);
    let (told, twice) = lab.told();
    assert_eq!((told, twice), (GROUPS, GROUPS), "once on each side");
    // One side hears of an alert that the other does not.
    lab.post(1, 2);
    lab.run(10);
    lab.side = vec![0; 3];
    lab.membership();
    lab.sync();
    lab.run(60);
    assert_eq!(lab.told(), (GROUPS, 0));
    assert!(lab.nodes.iter().all(|n| n.core.alerts().count() == 2 * GROUPS));
}

#[test]
fn an_end_is_told_once_and_by_the_next_if_the_first_dies_before() {
    for dies in [false, true] {
        let mut lab = Lab::new();
        (0..3).for_each(|n| lab.post(0, n));
        lab.run(10);
        lab.told();
        // Every member hears of the end; the flush comes later.
        for n in 0..3 {
            let ended = (0..GROUPS).map(|i| PostableAlert {
                labels: Labels::from_pairs([("alertname", format!("G0-{i}"))]),
                ends_at_ms: Some(lab.now.wall_ms),
                ..Default::default()
            });
            let inserted = lab.nodes[n].core.insert(ended.collect(), lab.now);
            assert!(inserted.invalid.is_empty());
        }
        lab.nodes[0].is_up = !dies;
        lab.membership();
        lab.run(60);
        assert_eq!(lab.told(), (GROUPS, 0));
    }
}

#[test]
fn nothing_is_told_before_the_cluster_has_settled() {
    let mut lab = Lab::new();
    let place = lab.nodes[0].core.place();
    lab.nodes[0].core.set_place(Place { is_settled: false, ..place });
    (1..3).for_each(|n| lab.nodes[n].is_up = false);
    lab.post(0, 0);
    lab.run(20);
    assert_eq!(lab.told(), (0, 0));
    assert!(lab.nodes[0].core.next_due_mono_ms() > lab.now.mono_ms);
    lab.nodes[0].core.set_place(place);
    lab.run(1);
    assert_eq!(lab.told(), (GROUPS, 0));
}
