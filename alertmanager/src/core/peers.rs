//! The core's part in a cluster: whose turn it is to notify, and what peers say.
//!
//! Peers hold the same alerts, silences and log, and flush the same groups at about the same time. The first by name
//! tells at once; the second looks one peer timeout later whether the log says that it was told, and so on. Whoever begins
//! to tell announces it, and renews the announcement while it tries: as long as that holds, nobody else begins. So a
//! receiver that fails is tried by one member only, and a member that dies in the middle is followed by the next.
use std::sync::Arc;

use super::group::Look;
use super::{Core, Delivery, LogChange, Now};
use crate::alert::Alert;
use crate::nflog::LogKey;
use crate::silence::Silence;

/// Where an instance stands in its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// How many peers have their turn before.
    pub position: usize,
    pub peer_timeout_ms: i64,
    /// Before that nothing is flushed: the peers' log may say that it was told.
    pub is_settled: bool,
    /// Whether there are peers to share alerts with.
    pub is_clustered: bool,
}
impl Default for Place {
    fn default() -> Place {
        Place { position: 0, peer_timeout_ms: 0, is_settled: true, is_clustered: false }
    }
}

/// A member says that it is about to notify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Intent {
    pub key: LogKey,
    /// Name of the member.
    pub holder: Arc<str>,
    /// From its arrival; 0 takes it back.
    pub lease_ms: i64,
}

/// The longest lease that is believed.
const LEASE_MAX_MS: i64 = 10 * 60_000;
/// Intents kept at most; beyond, peers may notify twice.
const INTENTS_MAX: usize = 100_000;

#[derive(Debug)]
pub(super) struct Announced {
    holder: Arc<str>,
    until_mono_ms: i64,
}

#[derive(Debug)]
pub(super) struct Waiting {
    look: Look,
}

impl Core {
    pub fn set_place(&mut self, place: Place) {
        self.place = place;
    }
    pub fn place(&self) -> Place {
        self.place
    }

    pub(super) fn wait_ms(&self) -> i64 {
        i64::try_from(self.place.position).unwrap_or(0).saturating_mul(self.place.peer_timeout_ms.max(0))
    }

    pub(super) fn wait_for_peers(&mut self, look: Look, until_ms: i64) {
        self.set_pending(look.group, true);
        let id = self.next_id();
        self.waiting.insert((until_ms, id), Waiting { look });
    }

    /// Flushes whose peers had their turn.
    pub(super) fn end_waiting(&mut self, now: Now, out: &mut Vec<Delivery>) {
        while let Some(first) = self.waiting.first_entry() {
            if first.key().0 > now.mono_ms {
                break;
            }
            let look = first.remove().look;
            self.flush_some(look, now, out);
        }
    }

    pub(super) fn announced_until(&self, key: &LogKey, now: Now) -> Option<i64> {
        self.intents.get(key).map(|a| a.until_mono_ms).filter(|until| *until > now.mono_ms)
    }

    /// A peer announced, renewed or took back its intent.
    pub fn receive_intent(&mut self, intent: Intent, now: Now) {
        let until_mono_ms = now.mono_ms.saturating_add(intent.lease_ms.clamp(0, LEASE_MAX_MS));
        if intent.lease_ms <= 0 {
            if self.intents.get(&intent.key).is_some_and(|a| a.holder == intent.holder) {
                self.intents.remove(&intent.key);
            }
        } else if self.intents.len() < INTENTS_MAX || self.intents.contains_key(&intent.key) {
            self.intents.insert(intent.key, Announced { holder: intent.holder, until_mono_ms });
        }
    }

    /// A member is gone, and with it its intents.
    pub fn forget_peer(&mut self, name: &str) {
        self.intents.retain(|_, a| *a.holder != *name);
    }

    pub(super) fn forget_intents(&mut self, now: Now) {
        self.intents.retain(|_, a| a.until_mono_ms > now.mono_ms);
    }

    /// An entry of a peer's log; true if it was news.
    pub fn receive_log(&mut self, (key, entry): LogChange, now: Now) -> bool {
        if entry.expires_at_ms <= now.wall_ms || self.nflog.get(&key).is_some_and(|e| *e == entry) {
            return false;
        }
        self.nflog.merge(key, entry)
    }

    /// A peer's silence; true if it was news.
    pub fn receive_silence(&mut self, silence: Silence, now: Now) -> bool {
        let is_known = self.silences.get(&silence.id).is_some_and(|s| s.updated_at_ms >= silence.updated_at_ms);
        let is_over = silence.ends_at_ms.saturating_add(self.options.retention_ms) <= now.wall_ms;
        !is_known && !is_over && self.silences.merge(silence)
    }

    /// An alert a peer was told of; answers it as it is kept, if that is worth keeping over a restart.
    pub fn receive_alert(&mut self, alert: Alert, now: Now) -> Option<Arc<Alert>> {
        let known = self.alerts.get(&alert.fingerprint);
        let is_old = known.is_some_and(|k| k.alert.updated_at_ms >= alert.updated_at_ms);
        // What ended and was told is no news, and would come back with every exchange.
        let is_past = known.is_none() && alert.is_resolved_at(now.wall_ms) && !self.told(&alert).firing;
        if is_old || is_past {
            return None;
        }
        let fingerprint = alert.fingerprint;
        let changed = self.insert_alert(alert, now);
        if let Some(known) = self.alerts.get_mut(&fingerprint) {
            known.shared_until_ms = known.alert.ends_at_ms;
        }
        changed
    }

    /// The alert, if peers have to hear of it: it changed, or they will believe it over long before the next report.
    pub(super) fn share(&mut self, fingerprint: u64, now: Now) -> Option<Arc<Alert>> {
        if !self.place.is_clustered {
            return None;
        }
        let known = self.alerts.get_mut(&fingerprint)?;
        let gained_ms = known.alert.ends_at_ms.saturating_sub(known.shared_until_ms);
        let left_ms = known.alert.ends_at_ms.saturating_sub(now.wall_ms);
        let is_news = gained_ms < 0 || (gained_ms > 0 && gained_ms >= left_ms / 2);
        is_news.then(|| {
            known.shared_until_ms = known.alert.ends_at_ms;
            known.alert.clone()
        })
    }
}
