//! The notification log: what was last sent for each group and integration, so that nothing is sent twice.
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Group key and integration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogKey {
    pub group_key: Arc<str>,
    pub receiver: Arc<str>,
    /// `webhook`, `email`, ...
    pub integration: Cow<'static, str>,
    /// Position among the receiver's integrations of that kind.
    pub index: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    pub timestamp_ms: i64,
    pub expires_at_ms: i64,
    /// Hashes of the alerts that were firing, and of those that were resolved; sorted.
    pub firing: Vec<u64>,
    pub resolved: Vec<u64>,
    /// What the receiver said of the message, so that it can be found again.
    pub data: ReceiverData,
}

/// Names and texts of one receiver's own; empty for most.
pub type ReceiverData = BTreeMap<String, String>;

/// Why a notification goes out, in the words of the webhook's `notification_reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    First,
    NewAlerts,
    SomeResolved,
    AllResolved,
    Repeat,
}
impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::First => "first notification",
            Reason::NewAlerts => "new alerts added",
            Reason::SomeResolved => "some alerts resolved",
            Reason::AllResolved => "all alerts resolved",
            Reason::Repeat => "repeat interval elapsed",
        }
    }
}

fn is_subset(of: &[u64], part: &[u64]) -> bool {
    part.iter().all(|h| of.binary_search(h).is_ok())
}

impl LogEntry {
    /// Whether the group's present state needs a notification after this one, and why. `firing` and `resolved` are
    /// sorted hashes.
    pub fn needs_update(
        entry: Option<&LogEntry>,
        firing: &[u64],
        resolved: &[u64],
        sends_resolved: bool,
        repeat_ms: i64,
        now_ms: i64,
    ) -> Option<Reason> {
        let Some(entry) = entry else {
            // A group that nobody was told about may resolve in silence.
            return (!firing.is_empty()).then_some(Reason::First);
        };
        if !is_subset(&entry.firing, firing) {
            // After everything had resolved it is a first one again.
            return Some(if entry.firing.is_empty() { Reason::First } else { Reason::NewAlerts });
        }
        if firing.is_empty() {
            return (!entry.firing.is_empty()).then_some(Reason::AllResolved);
        }
        if sends_resolved && !is_subset(&entry.resolved, resolved) {
            return Some(Reason::SomeResolved);
        }
        (entry.timestamp_ms < now_ms.saturating_sub(repeat_ms)).then_some(Reason::Repeat)
    }
}

#[derive(Debug, Default)]
pub struct NotificationLog {
    entries: HashMap<LogKey, LogEntry>,
}

impl NotificationLog {
    pub fn get(&self, key: &LogKey) -> Option<&LogEntry> {
        self.entries.get(key)
    }
    /// Keeps the younger of two entries; answers whether `entry` is now the one.
    pub fn merge(&mut self, key: LogKey, entry: LogEntry) -> bool {
        match self.entries.get(&key) {
            Some(old) if old.timestamp_ms > entry.timestamp_ms => false,
            _ => {
                self.entries.insert(key, entry);
                true
            }
        }
    }
    /// Forgets expired entries and says how many there were.
    pub fn collect_garbage(&mut self, now_ms: i64) -> usize {
        let before = self.entries.len();
        self.entries.retain(|_, e| e.expires_at_ms > now_ms);
        before - self.entries.len()
    }
    pub fn iter(&self) -> impl Iterator<Item = (&LogKey, &LogEntry)> {
        self.entries.iter()
    }
    pub fn len(&self) -> usize {
        self.entries.len()
    }
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_notification() {
        let entry = LogEntry {
            timestamp_ms: 1_000,
            expires_at_ms: 9_000,
            firing: vec![1, 2],
            resolved: vec![3],
            data: ReceiverData::new(),
        };
        let none = LogEntry { firing: vec![], ..entry.clone() };
        for (entry, firing, resolved, sends, now, want) in [
            (None, vec![1], vec![], true, 0, Some(Reason::First)),
            (None, vec![], vec![1], true, 0, None),
            (Some(&entry), vec![1, 2], vec![3], true, 1_500, None),
            (Some(&entry), vec![1], vec![3], true, 1_500, None),
            (Some(&entry), vec![1, 4], vec![], true, 1_500, Some(Reason::NewAlerts)),
            (Some(&entry), vec![1], vec![2], true, 1_500, Some(Reason::SomeResolved)),
            (Some(&entry), vec![1], vec![2], false, 1_500, None),
            (Some(&entry), vec![], vec![1, 2], false, 1_500, Some(Reason::AllResolved)),
            (Some(&none), vec![], vec![1, 2], true, 9_500, None),
            (Some(&none), vec![1], vec![], true, 1_500, Some(Reason::First)),
            (Some(&entry), vec![1, 2], vec![], true, 2_001, Some(Reason::Repeat)),
            (Some(&entry), vec![1, 2], vec![], true, 2_000, None),
        ] {
            let got = LogEntry::needs_update(entry, &firing, &resolved, sends, 1_000, now);
            assert_eq!(got, want, "{firing:?} {resolved:?} after {entry:?}");
        }
    }

    #[test]
    fn the_younger_entry_stays() {
        let key = LogKey { group_key: "{}:{}".into(), receiver: "r".into(), integration: "webhook".into(), index: 0 };
        let data = ReceiverData::new();
        let entry = |t| LogEntry {
            timestamp_ms: t,
            expires_at_ms: t + 10,
            firing: vec![],
            resolved: vec![],
            data: data.clone(),
        };
        let mut log = NotificationLog::default();
        assert!(
            log.merge(key.clone(), entry(5)) && !log.merge(key.clone(), entry(4)) && log.merge(key.clone(), entry(6))
        );
        assert_eq!((log.collect_garbage(15), log.collect_garbage(16), log.len()), (0, 1, 0));
    }
}
