//! What of the core outlives the process besides silences and the log: alerts, and the timers of their groups.
use std::sync::Arc;

use super::{Core, Now, group};
use crate::alert::Alert;
use crate::nflog::LogKey;

/// When a group is to be looked at next, as it is kept on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupTimer {
    /// The group key; it names route and labels, so a changed configuration finds no timer and begins a new one.
    pub key: Arc<str>,
    /// On the wall clock: the monotonic one does not outlive the machine.
    pub next_flush_ms: i64,
    pub has_flushed: bool,
    /// A delivery was under way, or failed: the group is looked at as soon as the process is back.
    pub is_pending: bool,
}

impl Core {
    /// Takes an alert from disk, a later call for the same alert ruling; [`Core::restored`] makes them count.
    pub fn restore(&mut self, alert: Alert) {
        self.restoring.insert(alert.fingerprint, alert);
    }

    /// Takes a group's timer from disk, as [`Core::restore`] takes alerts.
    pub fn restore_timer(&mut self, timer: GroupTimer) {
        self.restoring_timers.insert(timer.key.clone(), timer);
    }

    /// After the last [`Core::restore`]. Alerts that were firing when last heard of go on firing until they time out
    /// anew, unless the notification log says that their end was told already. Resolved ones come back if
    /// somebody was told that they fire and nobody that they ended, however long the process was away. Groups
    /// continue with their timers; what was being delivered, or had failed, is decided again at once.
    pub fn restored(&mut self, now: Now) {
        for (_, mut alert) in std::mem::take(&mut self.restoring) {
            let was_firing = alert.ends_at_ms > alert.updated_at_ms;
            let told = self.told(&alert);
            if !told.firing && (told.resolved || !was_firing) {
                continue;
            }
            if was_firing {
                alert.ends_at_ms = alert.ends_at_ms.max(now.wall_ms.saturating_add(self.resolve_timeout_ms));
                alert.timeout = true;
            }
            self.insert_alert(alert, now);
        }
        let timers = std::mem::take(&mut self.restoring_timers);
        for group in self.groups.values_mut() {
            let Some(timer) = timers.get(&group.key) else { continue };
            let Some(node) = self.tree.node(group.id.route) else { continue };
            let longest = if timer.has_flushed { node.options.group_interval_ms } else { node.options.group_wait_ms };
            // A wall clock that was set back meanwhile must not put the group off for longer than it ever waits.
            let left = timer.next_flush_ms.saturating_sub(now.wall_ms).clamp(0, longest.max(0));
            let left = if timer.is_pending { 0 } else { left };
            self.timers.remove(&(group.next_flush_ms, group.id));
            group.next_flush_ms =
                now.mono_ms.saturating_add(left).max(self.started_mono_ms + self.options.start_delay_ms);
            group.has_flushed = timer.has_flushed;
            group.is_pending = timer.is_pending;
            self.timers.insert((group.next_flush_ms, group.id));
        }
    }

    /// What the log knows of an alert, over all integrations that hear of it.
    pub(super) fn told(&self, alert: &Alert) -> Told {
        let hash = alert.hash();
        let mut told = Told::default();
        for route in self.tree.matches(&alert.labels) {
            let Some(node) = self.tree.node(route) else { continue };
            let group_key = group::key(node, &node.options.group_by.group_labels(&alert.labels));
            let Some(plan) = self.receivers.get(&node.options.receiver) else { continue };
            for i in &plan.integrations {
                let key = LogKey {
                    group_key: group_key.clone(),
                    receiver: plan.name.clone(),
                    integration: i.name().into(),
                    index: i.index,
                };
                let Some(entry) = self.nflog.get(&key) else { continue };
                if entry.firing.binary_search(&hash).is_ok() {
                    told.firing = true;
                } else if entry.resolved.binary_search(&hash).is_ok() {
                    told.resolved = true;
                }
            }
        }
        told
    }

    /// Timers that changed since the last call, as they are now.
    pub fn take_unsaved_timers(&mut self, now: Now) -> Vec<GroupTimer> {
        let changed = std::mem::take(&mut self.unsaved_timers);
        changed.iter().filter_map(|id| self.groups.get(id)).map(|g| timer(g, now)).collect()
    }

    /// The timers of all groups.
    pub fn timers(&self, now: Now) -> Vec<GroupTimer> {
        self.groups.values().map(|g| timer(g, now)).collect()
    }

    /// Every alert a restart needs: those that are held, and resolved ones that only wait in a group to be told.
    pub fn kept_alerts(&self) -> Vec<Arc<Alert>> {
        let waiting = self.groups.values().flat_map(|g| &g.alerts);
        let waiting =
            waiting.filter(|(fingerprint, _)| !self.alerts.contains_key(*fingerprint)).map(|(_, a)| a.clone());
        self.alerts.values().map(|k| k.alert.clone()).chain(waiting).collect()
    }
}

fn timer(group: &super::Group, now: Now) -> GroupTimer {
    GroupTimer {
        key: group.key.clone(),
        next_flush_ms: now.wall_ms.saturating_add(group.next_flush_ms.saturating_sub(now.mono_ms)),
        has_flushed: group.has_flushed,
        is_pending: group.is_pending,
    }
}

/// Whether the last word about an alert was that it fires, or that it ended; of several integrations both may be.
#[derive(Default)]
pub(super) struct Told {
    pub firing: bool,
    pub resolved: bool,
}
