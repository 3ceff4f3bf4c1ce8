//! The heart, without input or output: alerts come in, time is told, notifications come out.
//!
//! ```text
//!  insert(alerts) ─ route tree ─▶ groups ── timers ──▶ advance(now) ─ inhibit, intervals, silences, log ─▶ deliveries
//!                                   ▲                                                                        │
//!                                   └────────────────────────── finish(delivery, outcome) ◀── the shell sends ┘
//! ```
//!
//! Invariants: a group has at most one delivery in flight per integration; what comes due meanwhile is sent when that one
//! ends, from the state of then. An alert leaves its group only after its resolution was delivered everywhere or
//! was muted. Timers run on the monotonic clock, so that a corrected wall clock neither stalls nor bursts them.
//! Cost: a repeated alert is one map lookup and one per group it is in; routing happens once per label set.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ferula_model::{Clock, Labels};
use ferula_otlp::{SpanContext, Tracer};

use crate::alert::{self, Alert, InvalidAlert, PostableAlert};
use crate::config::{self, Config};
use crate::inhibit::Inhibitor;
use crate::metrics::Metrics;
use crate::nflog::{LogEntry, LogKey, NotificationLog, Reason, ReceiverData};
use crate::recorder::{Event as Recorded, FlushRecord, Recorder};
use crate::route::{RouteIndex, RouteOptions, RouteTree};
use crate::silence::{SilenceId, SilenceLimits, Silences};
use crate::time_interval::TimeInterval;

mod explain;
mod group;
mod peers;
mod persist;

pub use explain::Explained;
pub use group::{Group, GroupId, Suppression};
pub use peers::{Intent, Place};
pub use persist::GroupTimer;

/// Both clocks, read once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub wall_ms: i64,
    pub mono_ms: i64,
}
impl Now {
    pub fn read(clock: &dyn Clock) -> Now {
        Now { wall_ms: clock.now_ms(), mono_ms: i64::try_from(clock.monotonic().as_millis()).unwrap_or(i64::MAX) }
    }
}

/// What bounds and paces the core. Zero limits do not bound.
#[derive(Clone, Copy, Debug)]
pub struct CoreOptions {
    pub retention_ms: i64,
    pub alerts_gc_interval_ms: i64,
    pub maintenance_interval_ms: i64,
    pub start_delay_ms: i64,
    pub per_alertname_limit: usize,
    pub alerts_max: usize,
    pub alert_size_bytes_max: usize,
    pub silences: SilenceLimits,
}

/// How one integration of one receiver is told.
#[derive(Clone, Debug)]
pub struct Integration {
    pub receiver: Arc<str>,
    /// Position among the receiver's integrations of the same kind.
    pub index: u32,
    pub send_resolved: bool,
    pub kind: IntegrationKind,
}
#[derive(Clone, Debug)]
pub enum IntegrationKind {
    Webhook(Arc<config::Webhook>),
    Email(Arc<config::Email>),
    Service(Arc<config::Service>),
}
impl Integration {
    pub fn name(&self) -> &'static str {
        match &self.kind {
            IntegrationKind::Webhook(_) => "webhook",
            IntegrationKind::Email(_) => "email",
            IntegrationKind::Service(s) => s.integration(),
        }
    }
}

#[derive(Clone, Debug)]
pub struct ReceiverPlan {
    pub name: Arc<str>,
    pub labels: BTreeMap<String, String>,
    pub integrations: Vec<Arc<Integration>>,
}

/// One alert of a notification, as of the moment it was decided.
#[derive(Clone, Debug)]
pub struct NotifiedAlert {
    pub alert: Arc<Alert>,
    pub is_resolved: bool,
}

/// What is to be told.
#[derive(Clone, Debug)]
pub struct Notification {
    pub receiver: Arc<str>,
    pub group_key: Arc<str>,
    pub group_labels: Labels,
    /// Templates of route labels, by name.
    pub route_labels: BTreeMap<String, String>,
    /// In the order of sending; never empty.
    pub alerts: Vec<NotifiedAlert>,
    pub reason: Reason,
    pub decided_at_ms: i64,
    /// For the event recorder, where there is one.
    pub(crate) flush: Option<Arc<FlushRecord>>,
}

/// One notification to one integration, to be tried until `deadline_mono_ms`.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub id: u64,
    /// What the notification log will remember it by.
    pub key: LogKey,
    pub integration: Arc<Integration>,
    pub notification: Arc<Notification>,
    pub deadline_mono_ms: i64,
    /// What the receiver said of the group's last message, while that is still the same story.
    pub data: ReceiverData,
    /// The span of the decision.
    pub trace: Option<SpanContext>,
}

/// Alerts that were taken, and why others were not.
#[derive(Debug, Default)]
pub struct Inserted {
    pub invalid: Vec<InvalidAlert>,
    /// Alerts that are new, or began, or ended: what must be kept over a restart. A mere repetition is not among them.
    pub changed: Vec<Arc<Alert>>,
    /// Alerts that peers have to hear of.
    pub to_share: Vec<Arc<Alert>>,
}

/// An entry of the notification log that changed.
pub type LogChange = (LogKey, LogEntry);

struct Known {
    alert: Arc<Alert>,
    /// Where it is told: a group per route that takes it. Labels decide it, so it holds as long as the configuration.
    places: Places,
    /// The end that peers know of.
    shared_until_ms: i64,
}

/// The groups of one alert; nearly always one, which needs no memory of its own.
#[derive(Clone, Debug)]
pub enum Places {
    One([GroupId; 1]),
    Many(Arc<[GroupId]>),
}
impl std::ops::Deref for Places {
    type Target = [GroupId];
    fn deref(&self) -> &[GroupId] {
        match self {
            Places::One(one) => one,
            Places::Many(many) => many,
        }
    }
}

struct InFlight {
    group: GroupId,
    slot: usize,
    flush: u64,
    key: LogKey,
    firing: Vec<u64>,
    resolved: Vec<u64>,
    repeat_ms: i64,
    data: ReceiverData,
}

/// A flush whose deliveries are not all done.
struct Flush {
    group: GroupId,
    /// Resolved alerts and when they were last updated.
    resolved: Vec<(u64, i64)>,
    pending: usize,
    has_failed: bool,
}

pub struct Core {
    options: CoreOptions,
    metrics: Metrics,
    tree: RouteTree,
    receivers: HashMap<Arc<str>, Arc<ReceiverPlan>>,
    receiver_order: Vec<Arc<ReceiverPlan>>,
    intervals: HashMap<String, Vec<TimeInterval>>,
    resolve_timeout_ms: i64,
    alerts: BTreeMap<u64, Known>,
    per_alertname: HashMap<String, usize>,
    groups: HashMap<GroupId, Group>,
    timers: BTreeSet<(i64, GroupId)>,
    inhibitor: Inhibitor,
    recorder: Recorder,
    tracer: Option<Tracer>,
    pub silences: Silences,
    pub nflog: NotificationLog,
    in_flight: HashMap<u64, InFlight>,
    flushes: HashMap<u64, Flush>,
    restoring: HashMap<u64, Alert>,
    /// Timers from disk by group key, until [`Core::restored`].
    restoring_timers: HashMap<Arc<str>, GroupTimer>,
    /// Groups whose timer changed since the last [`Core::take_unsaved_timers`].
    unsaved_timers: BTreeSet<GroupId>,
    place: Place,
    /// Flushes that wait for peers, by when they end to: the monotonic time, and a number that keeps them apart.
    waiting: BTreeMap<(i64, u64), peers::Waiting>,
    /// What peers are about to tell.
    intents: HashMap<LogKey, peers::Announced>,
    /// Alerts that began or ceased to be kept quiet, since the last [`Core::take_suppressions`].
    suppressions: Vec<Suppression>,
    /// Changes of the log that no delivery answers for; [`Core::take_unsaved`].
    unsaved: Vec<LogChange>,
    last_id: u64,
    started_mono_ms: i64,
    next_maintenance_ms: i64,
    next_gc_ms: i64,
}

/// The shortest time a delivery gets, however short the group interval.
const DELIVERY_MIN_MS: i64 = 10_000;

impl Core {
    pub fn new(config: &Config, options: CoreOptions, metrics: Metrics, now: Now) -> Core {
        let mut core = Core {
            options,
            metrics,
            tree: RouteTree::new(&config::Route::default()),
            receivers: HashMap::new(),
            receiver_order: Vec::new(),
            intervals: HashMap::new(),
            resolve_timeout_ms: 0,
            alerts: BTreeMap::new(),
            per_alertname: HashMap::new(),
            groups: HashMap::new(),
            timers: BTreeSet::new(),
            inhibitor: Inhibitor::default(),
            recorder: Recorder::default(),
            tracer: None,
            silences: Silences::new(options.silences),
            nflog: NotificationLog::default(),
            in_flight: HashMap::new(),
            flushes: HashMap::new(),
            restoring: HashMap::new(),
            restoring_timers: HashMap::new(),
            unsaved_timers: BTreeSet::new(),
            place: Place::default(),
            waiting: BTreeMap::new(),
            intents: HashMap::new(),
            suppressions: Vec::new(),
            unsaved: Vec::new(),
            last_id: 0,
            started_mono_ms: now.mono_ms,
            next_maintenance_ms: now.mono_ms + options.maintenance_interval_ms,
            next_gc_ms: now.mono_ms + options.alerts_gc_interval_ms,
        };
        core.apply(config, now);
        core
    }

    /// From now on decisions are spans.
    pub fn set_tracer(&mut self, tracer: Tracer) {
        self.tracer = Some(tracer);
    }

    /// From now on what happens is recorded.
    pub(crate) fn set_recorder(&mut self, recorder: Recorder) {
        self.recorder = recorder;
    }

    /// Takes a new configuration. Alerts are routed anew; a group that exists before and after keeps its timer.
    pub fn apply(&mut self, config: &Config, now: Now) {
        if let Some(root) = &config.route {
            self.tree = RouteTree::new(root);
        }
        self.receiver_order = config.receivers.iter().map(|r| Arc::new(plan(r))).collect();
        self.receivers = self.receiver_order.iter().map(|r| (r.name.clone(), r.clone())).collect();
        self.intervals = config
            .mute_time_intervals
            .iter()
            .chain(&config.time_intervals)
            .map(|i| (i.name.clone(), i.time_intervals.clone()))
            .collect();
        self.resolve_timeout_ms = config.global.resolve_timeout.ms();
        self.inhibitor = Inhibitor::new(&config.inhibit_rules);
        self.metrics.inhibition_rules.set(self.inhibitor.rule_count() as f64);
        self.metrics.receivers.set(self.receiver_order.len() as f64);
        let integrations: usize = self.receiver_order.iter().map(|r| r.integrations.len()).sum();
        self.metrics.integrations.set(integrations as f64);

        let old = std::mem::take(&mut self.groups);
        self.timers.clear();
        // Deliveries in flight end by themselves and are still logged, but nobody counts them towards a flush any more.
        self.flushes.clear();
        self.waiting.clear();
        let alerts: Vec<Arc<Alert>> = self.alerts.values().map(|k| k.alert.clone()).collect();
        for alert in alerts {
            let places = self.places(&alert.labels);
            if let Some(known) = self.alerts.get_mut(&alert.fingerprint) {
                known.places = places.clone();
            }
            self.inhibitor.insert(&alert);
            for id in places.iter() {
                self.insert_into_group(*id, alert.clone(), now);
            }
        }
        self.take_over(&old);
        self.metrics.groups.set(self.groups.len() as f64);
    }

    /// Gives groups that existed before a reload their timers and their deliveries in flight.
    fn take_over(&mut self, old: &HashMap<GroupId, Group>) {
        let place = |g: &Group| (g.key.clone(), g.labels.clone());
        let new_ids: HashMap<(Arc<str>, Labels), GroupId> = self.groups.values().map(|g| (place(g), g.id)).collect();
        for was in old.values() {
            let Some(group) = new_ids.get(&place(was)).and_then(|id| self.groups.get_mut(id)) else { continue };
            self.timers.remove(&(group.next_flush_ms, group.id));
            (group.next_flush_ms, group.has_flushed) = (was.next_flush_ms, was.has_flushed);
            group.is_pending = was.is_pending;
            self.timers.insert((group.next_flush_ms, group.id));
        }
        for flight in self.in_flight.values_mut() {
            let Some(id) = old.get(&flight.group).and_then(|g| new_ids.get(&place(g))) else { continue };
            let slot = self.receivers.get(&flight.key.receiver).and_then(|r| {
                r.integrations.iter().position(|i| i.name() == flight.key.integration && i.index == flight.key.index)
            });
            if let (Some(slot), Some(group)) = (slot, self.groups.get_mut(id))
                && let Some(state) = group.slots.get_mut(slot)
            {
                state.in_flight = true;
                (flight.group, flight.slot) = (*id, slot);
            }
        }
    }

    /// Takes in a batch: the valid alerts are kept, the others are reported.
    pub fn insert(&mut self, batch: Vec<PostableAlert>, now: Now) -> Inserted {
        let mut out = Inserted::default();
        for posted in batch {
            match Alert::received(posted, now.wall_ms, self.resolve_timeout_ms, self.options.alert_size_bytes_max) {
                Err(e) => {
                    self.metrics.invalid.inc();
                    out.invalid.push(e);
                }
                Ok(alert) => {
                    let is_resolved = alert.is_resolved_at(now.wall_ms);
                    let received =
                        if is_resolved { &self.metrics.received_resolved } else { &self.metrics.received_firing };
                    received.inc();
                    let fingerprint = alert.fingerprint;
                    out.changed.extend(self.insert_alert(alert, now));
                    out.to_share.extend(self.share(fingerprint, now));
                }
            }
        }
        out
    }

    /// Answers the alert as it is kept, if that is a change worth keeping.
    fn insert_alert(&mut self, mut alert: Alert, now: Now) -> Option<Arc<Alert>> {
        let fingerprint = alert.fingerprint;
        let mut is_change = true;
        let shared_until_ms = self.alerts.get(&fingerprint).map_or(0, |k| k.shared_until_ms);
        let places = match self.alerts.get(&fingerprint) {
            Some(known) => {
                if alert.overlaps(&known.alert) {
                    alert = Alert::merge(&known.alert, &alert, now.wall_ms);
                }
                is_change = alert.starts_at_ms != known.alert.starts_at_ms
                    || alert.is_resolved_at(now.wall_ms) != known.alert.is_resolved_at(now.wall_ms);
                // The same label text once in memory, however often it is reported.
                alert.labels = known.alert.labels.clone();
                if alert.annotations == known.alert.annotations {
                    alert.annotations = known.alert.annotations.clone();
                }
                if alert.generator_url == known.alert.generator_url {
                    alert.generator_url = known.alert.generator_url.clone();
                }
                known.places.clone()
            }
            None => {
                let limit = self.options.per_alertname_limit;
                let of_name = self.per_alertname.get(alert.name()).copied().unwrap_or(0);
                let is_full = self.options.alerts_max > 0 && self.alerts.len() >= self.options.alerts_max;
                if is_full || (limit > 0 && of_name >= limit) {
                    self.metrics.limited.inc();
                    return None;
                }
                *self.per_alertname.entry(alert.name().to_owned()).or_default() += 1;
                self.places(&alert.labels)
            }
        };
        let alert = Arc::new(alert);
        if !self.alerts.contains_key(&fingerprint) {
            self.recorder.record(|| Recorded::AlertCreated(alert.clone()));
        }
        self.inhibitor.insert(&alert);
        self.alerts.insert(fingerprint, Known { alert: alert.clone(), places: places.clone(), shared_until_ms });
        for id in places.iter() {
            self.insert_into_group(*id, alert.clone(), now);
        }
        is_change.then_some(alert)
    }

    /// The earliest monotonic time at which [`Core::advance`] has something to do.
    pub fn next_due_mono_ms(&self) -> i64 {
        let timer = self.timers.first().map_or(i64::MAX, |(t, _)| *t);
        let timer = if self.place.is_settled { timer } else { i64::MAX };
        let waiting = self.waiting.first_key_value().map_or(i64::MAX, |((t, _), _)| *t);
        timer.min(waiting).min(self.next_maintenance_ms).min(self.next_gc_ms)
    }

    /// Does what has come due and answers what is to be sent now.
    pub fn advance(&mut self, now: Now) -> Vec<Delivery> {
        let mut out = Vec::new();
        while let Some(&(due, id)) = self.timers.first() {
            if due > now.mono_ms || !self.place.is_settled {
                break;
            }
            self.timers.remove(&(due, id));
            self.flush(id, now, &mut out);
        }
        self.end_waiting(now, &mut out);
        if now.mono_ms >= self.next_maintenance_ms {
            self.forget_intents(now);
            self.next_maintenance_ms = now.mono_ms + self.options.maintenance_interval_ms.max(1);
            self.remove_empty_groups();
        }
        if now.mono_ms >= self.next_gc_ms {
            self.next_gc_ms = now.mono_ms + self.options.alerts_gc_interval_ms.max(1);
            self.collect_alerts(now);
        }
        out
    }

    /// Tells the outcome of a delivery. A success changes the notification log; a group that came due meanwhile
    /// yields its next delivery at once.
    pub fn finish(&mut self, id: u64, is_delivered: bool, now: Now) -> (Option<LogChange>, Vec<Delivery>) {
        let Some(flight) = self.in_flight.remove(&id) else { return (None, Vec::new()) };
        let mut change = None;
        if is_delivered {
            change = Some(self.log(flight.key, flight.firing, flight.resolved, flight.data, flight.repeat_ms, now));
        }
        let mut out = Vec::new();
        self.end_of_one(flight.flush, !is_delivered);
        if let Some(slot) = self.groups.get_mut(&flight.group).and_then(|g| g.slots.get_mut(flight.slot)) {
            slot.in_flight = false;
            if std::mem::take(&mut slot.is_due) {
                let look = self.look(flight.group, Some(flight.slot), now);
                self.flush_some(look, now, &mut out);
            }
        }
        (change, out)
    }

    /// What the receiver said of a delivery, to be told before [`Core::finish`].
    pub fn remember(&mut self, id: u64, data: ReceiverData) {
        if let Some(flight) = self.in_flight.get_mut(&id) {
            flight.data = data;
        }
    }

    /// Changes of the notification log that happened without a delivery since the last call.
    pub fn take_unsaved(&mut self) -> Vec<LogChange> {
        std::mem::take(&mut self.unsaved)
    }

    /// What began or ceased to be kept quiet since the last call.
    pub fn take_suppressions(&mut self) -> Vec<Suppression> {
        std::mem::take(&mut self.suppressions)
    }

    fn log(
        &mut self,
        key: LogKey,
        firing: Vec<u64>,
        resolved: Vec<u64>,
        data: ReceiverData,
        repeat_ms: i64,
        now: Now,
    ) -> LogChange {
        let keep_ms = repeat_ms.saturating_mul(2).min(self.options.retention_ms);
        let expires_at_ms = now.wall_ms.saturating_add(if keep_ms > 0 { keep_ms } else { self.options.retention_ms });
        let entry = LogEntry { timestamp_ms: now.wall_ms, expires_at_ms, firing, resolved, data };
        self.nflog.merge(key.clone(), entry.clone());
        (key, entry)
    }

    fn next_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn collect_alerts(&mut self, now: Now) {
        let counts = &mut self.per_alertname;
        self.alerts.retain(|_, k| {
            let keep = !k.alert.is_resolved_at(now.wall_ms);
            if !keep && let Some(n) = counts.get_mut(k.alert.name()) {
                *n -= 1;
                if *n == 0 {
                    counts.remove(k.alert.name());
                }
            }
            keep
        });
        self.inhibitor.collect_garbage(now.wall_ms);
    }

    /// What mutes an alert besides its route's time intervals.
    pub fn muted_by(&self, labels: &Labels, now_ms: i64) -> (Vec<SilenceId>, Vec<u64>) {
        (self.silenced_by(labels, now_ms), self.inhibitor.inhibited_by(labels, now_ms))
    }

    fn silenced_by(&self, labels: &Labels, now_ms: i64) -> Vec<SilenceId> {
        let m = &self.metrics;
        m.silences_queries.inc();
        let (ids, scanned) = m.timed(&m.silences_query, || self.silences.scan(labels, now_ms));
        m.silences_scanned.inc_by(scanned as u64);
        m.silences_skipped.inc_by(self.silences.len().saturating_sub(scanned) as u64);
        ids
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Every alert that is held, resolved ones too.
    pub fn alerts(&self) -> impl Iterator<Item = &Arc<Alert>> {
        self.alerts.values().map(|k| &k.alert)
    }
    /// Every alert that is not resolved, by fingerprint.
    pub fn firing_alerts(&self, now_ms: i64) -> impl Iterator<Item = (&Arc<Alert>, &[GroupId])> {
        self.alerts.values().filter(move |k| !k.alert.is_resolved_at(now_ms)).map(|k| (&k.alert, &*k.places))
    }
    /// Receivers that an alert goes to, in the order of routes.
    pub fn receivers_of(&self, alert: &Alert) -> Vec<Arc<str>> {
        self.places_of(alert).iter().filter_map(|id| self.receiver_of(id.route).cloned()).collect()
    }
    pub fn receiver_of(&self, route: RouteIndex) -> Option<&Arc<str>> {
        self.tree.node(route).map(|n| &n.options.receiver)
    }
    /// The groups an alert belongs to, one per route that takes it.
    pub fn places_of(&self, alert: &Alert) -> Places {
        match self.alerts.get(&alert.fingerprint) {
            Some(known) => known.places.clone(),
            None => self.places(&alert.labels),
        }
    }
    fn places(&self, labels: &Labels) -> Places {
        let place = |route: &RouteIndex| {
            let group_by = &self.tree.node(*route)?.options.group_by;
            Some(GroupId::new(*route, &group_by.group_labels(labels)))
        };
        match self.tree.matches(labels).as_slice() {
            [one] => place(one).map_or_else(|| Places::Many(Arc::default()), |id| Places::One([id])),
            many => Places::Many(many.iter().filter_map(place).collect()),
        }
    }
    /// The templates of a route's labels.
    pub fn route_labels(&self, route: RouteIndex) -> BTreeMap<String, String> {
        self.tree.node(route).map(|n| n.options.labels.clone()).unwrap_or_default()
    }
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }
    /// What is not decided or not told yet: groups whose first or latest look is still to come, looks that wait for
    /// peers, and deliveries under way. At 0 nothing more is sent before a timer or an alert says so.
    pub fn pending(&self, now: Now) -> usize {
        let due = |g: &&Group| !g.has_flushed || g.next_flush_ms <= now.mono_ms;
        self.groups.values().filter(due).count() + self.waiting.len() + self.in_flight.len()
    }
    pub fn receivers(&self) -> &[Arc<ReceiverPlan>] {
        &self.receiver_order
    }
    pub fn options(&self) -> &CoreOptions {
        &self.options
    }
    /// Names of the intervals that keep a route from notifying now; empty if it may.
    fn muting_intervals(&self, o: &RouteOptions, now_ms: i64) -> (Vec<String>, &'static str) {
        let inside =
            |name: &String| self.intervals.get(name).is_some_and(|list| list.iter().any(|i| i.contains(now_ms)));
        if !o.active_time_intervals.is_empty() && !o.active_time_intervals.iter().any(inside) {
            return (o.active_time_intervals.clone(), "active_time_interval");
        }
        (o.mute_time_intervals.iter().filter(|n| inside(n)).cloned().collect(), "mute_time_interval")
    }
}

pub(crate) fn plan(r: &config::Receiver) -> ReceiverPlan {
    let name: Arc<str> = r.name.as_str().into();
    let mut integrations = Vec::new();
    let mut add = |index: usize, send_resolved: bool, kind: IntegrationKind| {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        integrations.push(Arc::new(Integration { receiver: name.clone(), index, send_resolved, kind }));
    };
    for (i, w) in r.webhook_configs.iter().enumerate() {
        add(i, w.send_resolved, IntegrationKind::Webhook(Arc::new(w.clone())));
    }
    for (i, e) in r.email_configs.iter().enumerate() {
        add(i, e.send_resolved, IntegrationKind::Email(Arc::new(e.clone())));
    }
    for kind in r.services.chunk_by(|a, b| a.integration() == b.integration()) {
        for (i, s) in kind.iter().enumerate() {
            add(i, s.send_resolved(), IntegrationKind::Service(Arc::new(s.clone())));
        }
    }
    ReceiverPlan { labels: r.labels.clone(), integrations, name }
}

/// Sorted hashes of the firing and of the resolved alerts.
fn hashes(alerts: &[NotifiedAlert]) -> (Vec<u64>, Vec<u64>) {
    let pick = |resolved: bool| {
        let mut v: Vec<u64> = alerts.iter().filter(|a| a.is_resolved == resolved).map(|a| a.alert.hash()).collect();
        v.sort_unstable();
        v
    };
    (pick(false), pick(true))
}

fn sort(alerts: &mut Vec<NotifiedAlert>) {
    // The names that rule most are looked up once, not at every comparison.
    let mut order: Vec<_> = alerts.iter().map(|a| (alert::NotificationOrder::of(&a.alert.labels), a)).collect();
    order.sort_by(|a, b| a.0.cmp(&b.0));
    *alerts = order.into_iter().map(|(_, a)| a.clone()).collect();
}

#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod tests;
