//! Alerts: what clients post, what is kept, and how two reports of the same alert merge.
use std::sync::Arc;

use ferula_model::{LabelView, Labels};

/// An alert as a client reports it. Times are milliseconds since 1970; absent ones are filled in on arrival.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PostableAlert {
    pub labels: Labels,
    pub annotations: Labels,
    pub starts_at_ms: Option<i64>,
    pub ends_at_ms: Option<i64>,
    pub generator_url: String,
}

/// Why one alert of a batch is refused, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAlert {
    #[error("start time must be before end time")]
    Times,
    #[error("at least one label pair required")]
    NoLabels,
    #[error("invalid label set: invalid name \"\"")]
    LabelName,
    #[error("invalid annotations: invalid name \"\"")]
    AnnotationName,
    #[error("alert of {size_bytes} bytes exceeds the limit of {limit_bytes} bytes")]
    TooLarge { size_bytes: usize, limit_bytes: usize },
}

/// One alert. Its identity is its label set; empty values count as absent, in annotations too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    pub labels: Labels,
    pub annotations: Labels,
    pub generator_url: Arc<str>,
    pub starts_at_ms: i64,
    /// When it counts as resolved unless reported again; in the past for an explicit end.
    pub ends_at_ms: i64,
    pub updated_at_ms: i64,
    /// The end was not reported but assumed from `resolve_timeout`.
    pub timeout: bool,
    pub fingerprint: u64,
}

impl Alert {
    /// Fills in times as upstream does and validates.
    pub fn received(
        posted: PostableAlert,
        now_ms: i64,
        resolve_timeout_ms: i64,
        size_bytes_max: usize,
    ) -> Result<Alert, InvalidAlert> {
        let starts_at_ms = posted.starts_at_ms.or(posted.ends_at_ms).unwrap_or(now_ms);
        let (ends_at_ms, timeout) = match posted.ends_at_ms {
            Some(t) => (t, false),
            None => (now_ms.saturating_add(resolve_timeout_ms), true),
        };
        if ends_at_ms < starts_at_ms {
            return Err(InvalidAlert::Times);
        }
        if posted.labels.is_empty() {
            return Err(InvalidAlert::NoLabels);
        }
        // Sorted by name, so an empty name comes first.
        if posted.labels.iter().next().is_some_and(|(n, _)| n.is_empty()) {
            return Err(InvalidAlert::LabelName);
        }
        if posted.annotations.iter().next().is_some_and(|(n, _)| n.is_empty()) {
            return Err(InvalidAlert::AnnotationName);
        }
        let size_bytes = posted.labels.size_bytes() + posted.annotations.size_bytes() + posted.generator_url.len();
        if size_bytes > size_bytes_max {
            return Err(InvalidAlert::TooLarge { size_bytes, limit_bytes: size_bytes_max });
        }
        Ok(Alert {
            fingerprint: fingerprint(&posted.labels),
            labels: posted.labels,
            annotations: posted.annotations,
            generator_url: posted.generator_url.into(),
            starts_at_ms,
            ends_at_ms,
            updated_at_ms: now_ms,
            timeout,
        })
    }

    pub fn is_resolved_at(&self, now_ms: i64) -> bool {
        self.ends_at_ms <= now_ms
    }
    pub fn name(&self) -> &str {
        self.labels.get("alertname").unwrap_or("")
    }
    /// What the notification log keeps: equal on every machine, and the hash of upstream's state files.
    pub fn hash(&self) -> u64 {
        self.labels.stable_hash()
    }

    /// Two reports of the same alert made one, as upstream: earliest start; the later report rules, except that an
    /// explicit end beats an assumed one if it is later.
    pub fn merge(older: &Alert, newer: &Alert, now_ms: i64) -> Alert {
        if newer.updated_at_ms < older.updated_at_ms {
            return Alert::merge(newer, older, now_ms);
        }
        let mut out = newer.clone();
        out.starts_at_ms = out.starts_at_ms.min(older.starts_at_ms);
        if newer.is_resolved_at(now_ms) {
            if older.is_resolved_at(now_ms) && older.ends_at_ms > newer.ends_at_ms {
                out.ends_at_ms = older.ends_at_ms;
            }
        } else if older.ends_at_ms > newer.ends_at_ms && !older.timeout {
            out.ends_at_ms = older.ends_at_ms;
        }
        out
    }

    /// Whether the two spans of activity touch: only then are two reports one alert.
    pub fn overlaps(&self, older: &Alert) -> bool {
        (self.ends_at_ms > older.starts_at_ms && self.ends_at_ms < older.ends_at_ms)
            || (self.starts_at_ms > older.starts_at_ms && self.starts_at_ms < older.ends_at_ms)
    }
}

/// FNV-1a over names and values with a 0xff after each: the id which the API shows.
pub fn fingerprint(labels: &Labels) -> u64 {
    let mut h = Fnv::default();
    for (n, v) in labels.iter() {
        h.part(n);
        h.part(v);
    }
    h.0
}

/// 64-bit FNV-1a.
pub(crate) struct Fnv(pub u64);
impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}
impl Fnv {
    pub(crate) fn part(&mut self, text: &str) {
        for b in text.bytes().chain([0xff]) {
            self.0 = (self.0 ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// What alerts inside a notification are sorted by: job, then instance (alerts without one last), then all labels.
#[derive(Debug, PartialEq, Eq)]
pub struct NotificationOrder<'a> {
    job: (bool, &'a str),
    instance: (bool, &'a str),
    labels: &'a Labels,
}

impl<'a> NotificationOrder<'a> {
    pub fn of(labels: &'a Labels) -> NotificationOrder<'a> {
        let key = |name| labels.get(name).map_or((true, ""), |value| (false, value));
        NotificationOrder { job: key("job"), instance: key("instance"), labels }
    }
}
impl Ord for NotificationOrder<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.job, self.instance).cmp(&(other.job, other.instance)).then_with(|| before(self.labels, other.labels))
    }
}
impl PartialOrd for NotificationOrder<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Upstream's order of whole label sets: fewer labels first; at the first difference the set that has the smaller
/// *name* comes later, as it is the other one that lacks a label; equal names compare by value.
pub fn before(a: &Labels, b: &Labels) -> std::cmp::Ordering {
    a.len().cmp(&b.len()).then_with(|| {
        for ((an, av), (bn, bv)) in a.iter().zip(b.iter()) {
            let order = bn.cmp(an).then_with(|| av.cmp(bv));
            if order.is_ne() {
                return order;
            }
        }
        std::cmp::Ordering::Equal
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(start: i64, end: i64, updated: i64, timeout: bool) -> Alert {
        let posted = PostableAlert {
            labels: Labels::from_pairs([("alertname", "A")]),
            starts_at_ms: Some(start),
            ends_at_ms: Some(end),
            ..Default::default()
        };
        Alert { timeout, ..Alert::received(posted, updated, 300_000, 1 << 20).unwrap() }
    }

    #[test]
    fn fingerprints_are_upstreams() {
        // As shown by the API of Alertmanager 0.33.
        for (labels, want) in [
            (vec![("alertname", "A"), ("severity", "warning"), ("x", "1")], "2605710e9c9c2359"),
            (vec![("a b", "b")], "247ea979d454adb0"),
            (vec![("a", "b")], "d2b371819297f98a"),
        ] {
            assert_eq!(format!("{:016x}", fingerprint(&Labels::from_pairs(labels))), want);
        }
    }

    #[test]
    fn merging() {
        let now = 1_000;
        for (older, newer, start, end) in [
            // A timeout end never outlives a newer report.
            (alert(10, 5_000, 100, true), alert(50, 3_000, 200, true), 10, 3_000),
            // An explicit later end does.
            (alert(10, 5_000, 100, false), alert(50, 3_000, 200, true), 10, 5_000),
            // Both resolved: the later end.
            (alert(10, 900, 100, false), alert(10, 800, 200, false), 10, 900),
            // Resolved now: the newer end.
            (alert(10, 5_000, 100, true), alert(10, 900, 200, false), 10, 900),
        ] {
            for merged in [Alert::merge(&older, &newer, now), Alert::merge(&newer, &older, now)] {
                assert_eq!((merged.starts_at_ms, merged.ends_at_ms), (start, end), "{older:?} {newer:?}");
            }
        }
    }

    #[test]
    fn received_fills_in_and_refuses() {
        let labels = Labels::from_pairs([("a", "b")]);
        let posted =
            |s, e| PostableAlert { labels: labels.clone(), starts_at_ms: s, ends_at_ms: e, ..Default::default() };
        let get =
            |s, e| Alert::received(posted(s, e), 100, 50, 1000).map(|a| (a.starts_at_ms, a.ends_at_ms, a.timeout));
        assert_eq!(get(None, None), Ok((100, 150, true)));
        assert_eq!(get(None, Some(20)), Ok((20, 20, false)));
        assert_eq!(get(Some(30), Some(20)), Err(InvalidAlert::Times));
        assert_eq!(Alert::received(PostableAlert::default(), 1, 1, 9), Err(InvalidAlert::NoLabels));
        assert!(matches!(Alert::received(posted(None, None), 1, 1, 2), Err(InvalidAlert::TooLarge { .. })));
    }
}
