//! Aggregation groups: alerts that are told together, and when.
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

use ferula_model::Labels;
use ferula_otlp::{Kind, Span};

use super::{Core, DELIVERY_MIN_MS, Delivery, Flush, InFlight, Notification, NotifiedAlert, Now, hashes, sort};
use crate::alert::{self, Alert};
use crate::nflog::{LogEntry, LogKey, Reason, ReceiverData};
use crate::recorder::{Event as Recorded, FlushRecord, GroupInfo};
use crate::route::{Node, RouteIndex};

/// A route and the hash of the group labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupId {
    pub route: RouteIndex,
    labels_hash: u64,
}

impl GroupId {
    pub(super) fn new(route: RouteIndex, labels: &Labels) -> GroupId {
        GroupId { route, labels_hash: alert::fingerprint(labels) }
    }
}

#[derive(Debug)]
pub struct Group {
    pub id: GroupId,
    pub labels: Labels,
    /// Route key, colon, labels: `{}/{team="x"}:{alertname="Y"}`.
    pub key: Arc<str>,
    /// By fingerprint.
    pub alerts: BTreeMap<u64, Arc<Alert>>,
    pub(super) next_flush_ms: i64,
    pub(super) has_flushed: bool,
    /// What its last flush decided to tell has not been delivered everywhere.
    pub(super) is_pending: bool,
    /// One per integration of the receiver.
    pub(super) slots: Vec<Slot>,
    /// Intervals that kept it quiet at its last flush.
    pub muted_by: Vec<String>,
    /// Alerts that were kept quiet at its last flush, and by what.
    pub(super) suppressed: BTreeMap<u64, (&'static str, Vec<String>)>,
    pub(super) flush_count: u64,
    /// A name for recorded events; only while they are recorded.
    pub(super) uuid: Option<Arc<str>>,
}

/// An alert is kept quiet from now on, or is not any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppression {
    pub group_key: Arc<str>,
    pub receiver: Arc<str>,
    pub fingerprint: u64,
    /// `silence`, `inhibition`, `mute_time_interval`, `active_time_interval`; None when it is over.
    pub why: Option<&'static str>,
    /// Ids of silences, fingerprints of alerts, or names of intervals.
    pub by: Vec<String>,
}

/// What a group held at one moment, to be decided on now or after peers had their turn.
#[derive(Clone, Debug)]
pub(super) struct Look {
    pub group: GroupId,
    /// One integration; None for all.
    pub only: Option<usize>,
    pub alerts: Vec<Arc<Alert>>,
    /// The wall time that says which of them had ended.
    pub as_of_ms: i64,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Slot {
    pub in_flight: bool,
    /// The group came due while a delivery was in flight.
    pub is_due: bool,
}

impl Group {
    fn info(&self, receiver: &Arc<str>) -> Arc<GroupInfo> {
        Arc::new(GroupInfo { key: self.key.clone(), labels: self.labels.clone(), receiver: receiver.clone() })
    }
}

/// The key of a group, by which the notification log remembers it.
pub(super) fn key(node: &Node, labels: &Labels) -> Arc<str> {
    format!("{}:{}", node.key, print_labels(labels)).into()
}

/// `{a="1", b="2"}`, names as they are: the form of group keys.
fn print_labels(labels: &Labels) -> String {
    let mut out = String::from("{");
    for (i, (n, v)) in labels.iter().enumerate() {
        let _ = write!(out, "{}{n}=", if i > 0 { ", " } else { "" });
        let _ = ferula_model::labels::write_quoted(&mut out, v);
    }
    out.push('}');
    out
}

impl Core {
    pub(super) fn insert_into_group(&mut self, id: GroupId, alert: Arc<Alert>, now: Now) {
        let Some(node) = self.tree.node(id.route) else { return };
        let wait_ms = node.options.group_wait_ms;
        // An alert that has been firing for longer than the group waits is told at once.
        let is_overdue = alert.starts_at_ms.saturating_add(wait_ms) < now.wall_ms;
        let earliest = self.started_mono_ms + self.options.start_delay_ms;
        let at_once = now.mono_ms.max(earliest);
        // A group whose alerts have all been told as over is as good as gone: what comes now begins a new one, which does
        // not wait for the old one's next interval.
        if let Some(group) = self.groups.get(&id)
            && group.alerts.is_empty()
            && !group.slots.iter().any(|s| s.in_flight)
        {
            self.timers.remove(&(group.next_flush_ms, id));
            self.groups.remove(&id);
        }
        if let Some(group) = self.groups.get_mut(&id) {
            if !group.alerts.contains_key(&alert.fingerprint) {
                self.recorder.record(|| Recorded::AlertGrouped(alert.clone(), group.info(&node.options.receiver)));
            }
            group.alerts.insert(alert.fingerprint, alert);
            if !group.has_flushed && is_overdue && group.next_flush_ms > at_once {
                self.timers.remove(&(group.next_flush_ms, id));
                group.next_flush_ms = at_once;
                self.timers.insert((at_once, id));
                self.unsaved_timers.insert(id);
            }
            return;
        }
        let labels = node.options.group_by.group_labels(&alert.labels);
        let slots = self.receivers.get(&node.options.receiver).map_or(0, |r| r.integrations.len());
        let next_flush_ms = if is_overdue { at_once } else { (now.mono_ms.saturating_add(wait_ms)).max(earliest) };
        let group = Group {
            id,
            key: key(node, &labels),
            labels,
            alerts: BTreeMap::from([(alert.fingerprint, alert.clone())]),
            next_flush_ms,
            has_flushed: false,
            is_pending: false,
            slots: vec![Slot::default(); slots],
            muted_by: Vec::new(),
            suppressed: BTreeMap::new(),
            flush_count: 0,
            uuid: self.recorder.is_on().then(|| crate::app::new_uuid().into()),
        };
        self.recorder.record(|| Recorded::AlertGrouped(alert, group.info(&node.options.receiver)));
        self.timers.insert((next_flush_ms, id));
        self.groups.insert(id, group);
        self.unsaved_timers.insert(id);
        self.metrics.groups.set(self.groups.len() as f64);
    }

    /// The group's timer fired.
    pub(super) fn flush(&mut self, id: GroupId, now: Now, out: &mut Vec<Delivery>) {
        let Some(node) = self.tree.node(id.route) else { return };
        let interval_ms = node.options.group_interval_ms.max(1);
        let Some(group) = self.groups.get_mut(&id) else { return };
        group.next_flush_ms = now.mono_ms.saturating_add(interval_ms);
        group.has_flushed = true;
        group.flush_count += 1;
        self.timers.insert((group.next_flush_ms, id));
        self.unsaved_timers.insert(id);
        let look = self.look(id, None, now);
        match self.wait_ms() {
            0 => self.flush_some(look, now, out),
            wait_ms => self.wait_for_peers(look, now.mono_ms.saturating_add(wait_ms)),
        }
    }

    /// The group's alerts as of now.
    pub(super) fn look(&self, id: GroupId, only: Option<usize>, now: Now) -> Look {
        let alerts = self.groups.get(&id).map(|g| g.alerts.values().cloned().collect()).unwrap_or_default();
        Look { group: id, only, alerts, as_of_ms: now.wall_ms }
    }

    /// Decides for one integration, or for all of them, whether the group's state is to be told.
    pub(super) fn flush_some(&mut self, look: Look, now: Now, out: &mut Vec<Delivery>) {
        let Look { group: id, only, ref alerts, as_of_ms } = look;
        let Some(node) = self.tree.node(id.route) else { return };
        let options = node.options.clone();
        let Some(plan) = self.receivers.get(&options.receiver).cloned() else { return };
        let Some(group) = self.groups.get(&id) else { return };
        if alerts.is_empty() {
            return;
        }
        let (key, labels) = (group.key.clone(), group.labels.clone());
        let (flush_count, group_uuid) = (group.flush_count, group.uuid.clone().unwrap_or_default());
        let matchers_of_route = if self.recorder.is_on() { node.matchers().to_vec() } else { Vec::new() };
        let flush = "dispatch.AggregationGroup.flush";
        let mut span = self.tracer.as_ref().map_or_else(Span::none, |t| t.start(flush, Kind::Internal, None));
        let ended = alerts.iter().filter(|a| a.is_resolved_at(as_of_ms));
        let resolved: Vec<(u64, i64)> = ended.map(|a| (a.fingerprint, a.updated_at_ms)).collect();

        let (muting, why) = self.muting_intervals(&options, now.wall_ms);
        let mut told: Vec<NotifiedAlert> = Vec::new();
        let (mut inhibited, mut silenced, mut outside) = (0u64, 0u64, 0u64);
        let mut suppressed: BTreeMap<u64, (&'static str, Vec<String>)> = BTreeMap::new();
        for alert in alerts {
            let sources = self.inhibitor.inhibited_by(&alert.labels, now.wall_ms);
            if !sources.is_empty() {
                inhibited += 1;
                let by = sources.iter().map(|f| format!("{f:016x}")).collect();
                suppressed.insert(alert.fingerprint, ("inhibition", by));
                self.recorder.record(|| Recorded::InhibitionMuted {
                    rules: self.inhibitor.rules_against(&alert.labels, now.wall_ms),
                    alert: alert.clone(),
                    sources,
                });
                continue;
            }
            if !muting.is_empty() {
                outside += 1;
                suppressed.insert(alert.fingerprint, (why, muting.clone()));
                continue;
            }
            let silences = self.silenced_by(&alert.labels, now.wall_ms);
            if !silences.is_empty() {
                silenced += 1;
                let by = silences.iter().map(ToString::to_string).collect();
                suppressed.insert(alert.fingerprint, ("silence", by));
                for silence in silences.iter().filter_map(|id| self.silences.get(id)) {
                    self.recorder.record(|| Recorded::SilenceMuted(silence.clone(), alert.clone()));
                }
                continue;
            }
            told.push(NotifiedAlert { alert: alert.clone(), is_resolved: alert.is_resolved_at(as_of_ms) });
        }
        let flush = self.recorder.is_on().then(|| {
            let muted = alerts.iter().filter(|a| suppressed.contains_key(&a.fingerprint)).map(|a| a.hash());
            Arc::new(FlushRecord {
                group: GroupInfo { key: key.clone(), labels: labels.clone(), receiver: plan.name.clone() },
                matchers: matchers_of_route,
                group_uuid,
                muted: muted.collect(),
                repeat_ms: options.repeat_interval_ms,
                id: flush_count,
            })
        });
        self.note_suppressed(id, &plan.name, suppressed, alerts);
        if span.is_recorded() {
            span.set("alerting.aggregation_group.key", &*key);
            span.set("alerting.notify.receiver.name", &*plan.name);
            span.set("alerting.alerts.count", alerts.len());
        }
        for (n, reason) in [(inhibited, "inhibition"), (outside, why), (silenced, "silence")] {
            if n > 0 {
                span.event(
                    "alerts suppressed",
                    &[("reason", reason.into()), ("alerting.alerts.count", (n as usize).into())],
                );
                self.metrics.suppressed.with(&[reason]).inc_by(n);
            }
        }
        sort(&mut told);
        let told_firing: Vec<NotifiedAlert> = told.iter().filter(|a| !a.is_resolved).cloned().collect();
        let (firing, done) = hashes(&told);

        let flush_id = self.next_id();
        // One is held back while deciding, so that the flush cannot end before all of its deliveries are known.
        self.flushes.insert(flush_id, Flush { group: id, resolved, pending: 1, has_failed: only.is_some() });
        if let Some(group) = self.groups.get_mut(&id) {
            group.muted_by = muting;
            group.slots.resize(plan.integrations.len(), Slot::default());
        }
        for (slot, integration) in plan.integrations.iter().enumerate() {
            if told.is_empty() || only.is_some_and(|o| o != slot) {
                continue;
            }
            let Some(state) = self.groups.get_mut(&id).and_then(|g| g.slots.get_mut(slot)) else { continue };
            if state.in_flight {
                state.is_due = true;
                self.end_of_one_failed(flush_id);
                continue;
            }
            let log_key = LogKey {
                group_key: key.clone(),
                receiver: plan.name.clone(),
                integration: integration.name().into(),
                index: integration.index,
            };
            self.metrics.nflog_queries.inc();
            let entry = self.metrics.timed(&self.metrics.nflog_query, || self.nflog.get(&log_key));
            let reason = LogEntry::needs_update(
                entry,
                &firing,
                &done,
                integration.send_resolved,
                options.repeat_interval_ms,
                now.wall_ms,
            );
            let Some(reason) = reason else { continue };
            // What begins anew is a message of its own.
            let data = entry.filter(|_| reason != Reason::First).map(|e| e.data.clone()).unwrap_or_default();
            if let Some(until_ms) = self.announced_until(&log_key, now) {
                // A peer is at it; if it has not told by then, it is our turn.
                self.wait_for_peers(Look { only: Some(slot), ..look.clone() }, until_ms);
                self.end_of_one_failed(flush_id);
                continue;
            }
            let alerts = if integration.send_resolved { &told } else { &told_firing };
            if alerts.is_empty() {
                // Nothing to tell, but the log must know that all is resolved, or the next firing would seem old.
                let change = self.log(
                    log_key,
                    firing.clone(),
                    done.clone(),
                    ReceiverData::new(),
                    options.repeat_interval_ms,
                    now,
                );
                self.unsaved.push(change);
                continue;
            }
            let delivery = self.next_id();
            self.in_flight.insert(
                delivery,
                InFlight {
                    group: id,
                    slot,
                    flush: flush_id,
                    key: log_key.clone(),
                    firing: firing.clone(),
                    resolved: done.clone(),
                    repeat_ms: options.repeat_interval_ms,
                    data: ReceiverData::new(),
                },
            );
            if let Some(flush) = self.flushes.get_mut(&flush_id) {
                flush.pending += 1;
            }
            if let Some(state) = self.groups.get_mut(&id).and_then(|g| g.slots.get_mut(slot)) {
                state.in_flight = true;
            }
            self.set_pending(id, true);
            span.event("nflog needs update", &[("alerting.integration.name", integration.name().into())]);
            out.push(Delivery {
                id: delivery,
                data,
                trace: span.context(),
                key: log_key,
                integration: integration.clone(),
                deadline_mono_ms: now.mono_ms.saturating_add(options.group_interval_ms.max(DELIVERY_MIN_MS)),
                notification: Arc::new(Notification {
                    receiver: plan.name.clone(),
                    group_key: key.clone(),
                    group_labels: labels.clone(),
                    route_labels: options.labels.clone(),
                    alerts: alerts.clone(),
                    reason,
                    decided_at_ms: now.wall_ms,
                    flush: flush.clone(),
                }),
            });
        }
        self.end_of_one(flush_id, false);
    }

    /// Remembers what is kept quiet, and what of that is new.
    fn note_suppressed(
        &mut self,
        id: GroupId,
        receiver: &Arc<str>,
        now: BTreeMap<u64, (&'static str, Vec<String>)>,
        looked_at: &[Arc<Alert>],
    ) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        if now.is_empty() && group.suppressed.is_empty() {
            return;
        }
        let event = |fingerprint, why, by| Suppression {
            group_key: group.key.clone(),
            receiver: receiver.clone(),
            fingerprint,
            why,
            by,
        };
        for (fingerprint, (why, by)) in &now {
            if group.suppressed.get(fingerprint).is_none_or(|(was, _)| was != why) {
                self.suppressions.push(event(*fingerprint, Some(*why), by.clone()));
            }
        }
        let is_looked_at = |f: &u64| looked_at.iter().any(|a| a.fingerprint == *f);
        for fingerprint in group.suppressed.keys().filter(|f| !now.contains_key(f) && is_looked_at(f)) {
            self.suppressions.push(event(*fingerprint, None, Vec::new()));
        }
        group.suppressed = now;
    }

    pub(super) fn set_pending(&mut self, id: GroupId, is_pending: bool) {
        if let Some(group) = self.groups.get_mut(&id)
            && group.is_pending != is_pending
        {
            group.is_pending = is_pending;
            self.unsaved_timers.insert(id);
        }
    }

    fn end_of_one_failed(&mut self, flush: u64) {
        if let Some(f) = self.flushes.get_mut(&flush) {
            f.has_failed = true;
        }
    }

    /// One delivery of a flush is over. After the last one, if all went well, its resolved alerts leave the group
    /// unless they were reported again meanwhile.
    pub(super) fn end_of_one(&mut self, flush: u64, has_failed: bool) {
        let Some(f) = self.flushes.get_mut(&flush) else { return };
        f.has_failed |= has_failed;
        f.pending -= 1;
        if f.pending > 0 {
            return;
        }
        let Some(f) = self.flushes.remove(&flush) else { return };
        if f.has_failed {
            return;
        }
        self.set_pending(f.group, false);
        let receiver = self.receiver_of(f.group.route).cloned().unwrap_or_default();
        if let Some(group) = self.groups.get_mut(&f.group) {
            for (fingerprint, updated_at_ms) in f.resolved {
                if group.alerts.get(&fingerprint).is_some_and(|a| a.updated_at_ms == updated_at_ms)
                    && let Some(gone) = group.alerts.remove(&fingerprint)
                {
                    self.recorder.record(|| Recorded::AlertResolved(gone, group.info(&receiver)));
                }
            }
        }
    }

    pub(super) fn remove_empty_groups(&mut self) {
        let timers = &mut self.timers;
        self.groups.retain(|id, g| {
            let keep = !g.alerts.is_empty() || g.slots.iter().any(|s| s.in_flight);
            if !keep {
                timers.remove(&(g.next_flush_ms, *id));
            }
            keep
        });
        self.metrics.groups.set(self.groups.len() as f64);
    }
}
