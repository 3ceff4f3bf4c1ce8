//! Why an alert is, or is not, told now.
use std::sync::Arc;

use serde::Serialize;

use super::{Core, Now, group};
use crate::nflog::LogKey;
use crate::silence::SilenceId;
use crate::time;

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    pub labels: String,
    pub is_resolved: bool,
    pub silenced_by: Vec<SilenceId>,
    /// Fingerprints.
    pub inhibited_by: Vec<String>,
    /// Every route that takes the alert.
    pub routes: Vec<ExplainedRoute>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedRoute {
    pub route: Arc<str>,
    pub receiver: Arc<str>,
    pub group_key: Arc<str>,
    /// Time intervals that keep the route quiet now.
    pub muted_by: Vec<String>,
    /// How long until its group is looked at again; absent if the group is gone.
    pub next_flush_in_ms: Option<i64>,
    pub integrations: Vec<ExplainedIntegration>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedIntegration {
    pub integration: &'static str,
    pub index: u32,
    pub send_resolved: bool,
    pub is_in_flight: bool,
    /// When the group was last told, and whether this alert was in that message as firing.
    pub last_told_at: Option<String>,
    pub was_told_firing: bool,
}

impl Core {
    /// None for an alert that is not held.
    pub fn explain(&self, fingerprint: u64, now: Now) -> Option<Explained> {
        let known = self.alerts.get(&fingerprint)?;
        let labels = &known.alert.labels;
        let (silenced_by, inhibited) = self.muted_by(labels, now.wall_ms);
        let routes = known.places.iter().filter_map(|id| {
            let node = self.tree.node(id.route)?;
            let group_labels = node.options.group_by.group_labels(labels);
            let group_key = group::key(node, &group_labels);
            let held = self.groups.get(id);
            let plan = self.receivers.get(&node.options.receiver)?;
            let integrations = plan.integrations.iter().enumerate().map(|(slot, i)| {
                let key = LogKey {
                    group_key: group_key.clone(),
                    receiver: plan.name.clone(),
                    integration: i.name().into(),
                    index: i.index,
                };
                let entry = self.nflog.get(&key);
                ExplainedIntegration {
                    integration: i.name(),
                    index: i.index,
                    send_resolved: i.send_resolved,
                    is_in_flight: held.and_then(|g| g.slots.get(slot)).is_some_and(|s| s.in_flight),
                    last_told_at: entry.map(|e| time::format_api(e.timestamp_ms)),
                    was_told_firing: entry.is_some_and(|e| e.firing.binary_search(&known.alert.hash()).is_ok()),
                }
            });
            Some(ExplainedRoute {
                route: node.key.clone(),
                receiver: node.options.receiver.clone(),
                muted_by: self.muting_intervals(&node.options, now.wall_ms).0,
                next_flush_in_ms: held.map(|g| (g.next_flush_ms - now.mono_ms).max(0)),
                integrations: integrations.collect(),
                group_key,
            })
        });
        Some(Explained {
            labels: labels.to_string(),
            is_resolved: known.alert.is_resolved_at(now.wall_ms),
            silenced_by,
            inhibited_by: inhibited.iter().map(|f| format!("{f:016x}")).collect(),
            routes: routes.collect(),
        })
    }
}
