//! Silences: who muted what, from when to when.
//!
//! Source followed: API v2 of Alertmanager 0.33 and its messages. Asking whether an alert is silenced looks up each of its
//! labels in an index of equality matchers, then tries the few silences that have none.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ferula_model::Labels;

use crate::matcher::{self, MatchOp, Matcher};

pub type SilenceId = Arc<str>;

#[derive(Clone, Debug, PartialEq)]
pub struct Silence {
    /// A UUID; empty when it is to be created.
    pub id: SilenceId,
    /// An alert is silenced if all matchers of one set hold.
    pub matcher_sets: Vec<Vec<Matcher>>,
    pub starts_at_ms: i64,
    /// Excluded.
    pub ends_at_ms: i64,
    pub updated_at_ms: i64,
    pub created_by: String,
    pub comment: String,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Active,
    Pending,
    Expired,
}
impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Active => "active",
            State::Pending => "pending",
            State::Expired => "expired",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SilenceError {
    #[error("silence not found")]
    NotFound,
    #[error("invalid silence: {0}")]
    Invalid(String),
    #[error("exceeded maximum number of silences: {limit}")]
    TooMany { limit: usize },
    #[error("silence exceeded maximum size: {size_bytes} bytes (limit: {limit_bytes} bytes)")]
    TooLarge { size_bytes: usize, limit_bytes: usize },
}

impl Silence {
    pub fn state(&self, now_ms: i64) -> State {
        match now_ms {
            t if t < self.starts_at_ms => State::Pending,
            t if t < self.ends_at_ms => State::Active,
            _ => State::Expired,
        }
    }
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matcher_sets.iter().any(|set| matcher::all_match(set, labels))
    }
    /// What the size limit counts: all text.
    pub fn size_bytes(&self) -> usize {
        let matchers: usize = self.matcher_sets.iter().flatten().map(|m| m.name.len() + m.value.len() + 8).sum();
        let annotations: usize = self.annotations.iter().map(|(k, v)| k.len() + v.len() + 8).sum();
        matchers + annotations + self.comment.len() + self.created_by.len() + 80
    }
    fn validate(&self) -> Result<(), SilenceError> {
        if self.matcher_sets.is_empty() {
            return Err(SilenceError::Invalid("at least one matcher set required".to_owned()));
        }
        for (s, set) in self.matcher_sets.iter().enumerate() {
            if set.is_empty() {
                return Err(SilenceError::Invalid(format!("matcher set {s}: at least one matcher required")));
            }
            for (i, m) in set.iter().enumerate() {
                if m.name.is_empty() {
                    return Err(SilenceError::Invalid(format!(
                        "invalid label matcher {i} in set {s}: invalid label name \"\""
                    )));
                }
            }
            if set.iter().all(|m| m.matches("")) {
                return Err(SilenceError::Invalid(format!(
                    "matcher set {s}: at least one matcher must not match the empty string"
                )));
            }
        }
        if self.starts_at_ms > self.ends_at_ms {
            return Err(SilenceError::Invalid("end time must not be before start time".to_owned()));
        }
        Ok(())
    }
    /// The equality by which the index finds it; None if some set has none.
    fn index_keys(&self) -> Option<Vec<(String, String)>> {
        self.matcher_sets
            .iter()
            .map(|set| {
                let m = set.iter().find(|m| m.op == MatchOp::Equal && !m.value.is_empty())?;
                Some((m.name.clone(), m.value.clone()))
            })
            .collect()
    }
}

/// Bounds on what is kept; 0 is no bound.
#[derive(Clone, Copy, Debug, Default)]
pub struct SilenceLimits {
    pub silences_max: usize,
    pub size_bytes_max: usize,
}

#[derive(Debug, Default)]
pub struct Silences {
    limits: SilenceLimits,
    by_id: BTreeMap<SilenceId, Arc<Silence>>,
    by_equality: HashMap<String, HashMap<String, Vec<SilenceId>>>,
    /// Those that no equality finds.
    others: Vec<SilenceId>,
}

impl Silences {
    pub fn new(limits: SilenceLimits) -> Silences {
        Silences { limits, ..Silences::default() }
    }

    /// Creates, or updates the silence of the given id: in place if only times and texts change and it has not
    /// expired, else the old one expires and a new one takes over. Returns what changed, the effective one last.
    pub fn set(
        &mut self,
        mut silence: Silence,
        now_ms: i64,
        new_id: impl FnOnce() -> SilenceId,
    ) -> Result<Vec<Arc<Silence>>, SilenceError> {
        silence.updated_at_ms = now_ms;
        let previous = match silence.id.is_empty() {
            true => None,
            false => Some(self.by_id.get(&silence.id).cloned().ok_or(SilenceError::NotFound)?),
        };
        let in_place = previous.as_ref().is_some_and(|p| can_update(p, &silence, now_ms));
        if !in_place && silence.starts_at_ms < now_ms {
            silence.starts_at_ms = now_ms;
        }
        silence.validate()?;
        let (size_bytes, limit_bytes) = (silence.size_bytes(), self.limits.size_bytes_max);
        if limit_bytes > 0 && size_bytes > limit_bytes {
            return Err(SilenceError::TooLarge { size_bytes, limit_bytes });
        }
        if !in_place && self.limits.silences_max > 0 && self.by_id.len() >= self.limits.silences_max {
            return Err(SilenceError::TooMany { limit: self.limits.silences_max });
        }
        let mut changed = Vec::new();
        if let Some(previous) = previous.filter(|_| !in_place) {
            changed.extend(self.expire(&previous.id, now_ms)?);
        }
        if !in_place {
            silence.id = new_id();
        }
        let silence = Arc::new(silence);
        self.replace(silence.clone());
        changed.push(silence);
        Ok(changed)
    }

    /// Ends a silence now; None if it had ended already.
    pub fn expire(&mut self, id: &str, now_ms: i64) -> Result<Option<Arc<Silence>>, SilenceError> {
        let old = self.by_id.get(id).ok_or(SilenceError::NotFound)?;
        let state = old.state(now_ms);
        if state == State::Expired {
            return Ok(None);
        }
        let mut silence = Silence::clone(old);
        silence.ends_at_ms = now_ms;
        if state == State::Pending {
            silence.starts_at_ms = now_ms;
        }
        silence.updated_at_ms = now_ms;
        let silence = Arc::new(silence);
        self.replace(silence.clone());
        Ok(Some(silence))
    }

    /// Takes a silence from a snapshot, a journal or a peer, unless a younger one is known.
    pub fn merge(&mut self, silence: Silence) -> bool {
        if silence.id.is_empty()
            || self.by_id.get(&silence.id).is_some_and(|old| old.updated_at_ms > silence.updated_at_ms)
        {
            return false;
        }
        self.replace(Arc::new(silence));
        true
    }

    pub fn get(&self, id: &str) -> Option<&Arc<Silence>> {
        self.by_id.get(id)
    }
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Silence>> {
        self.by_id.values()
    }
    pub fn len(&self) -> usize {
        self.by_id.len()
    }
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Ids of the active silences that hold for these labels, sorted.
    pub fn silenced_by(&self, labels: &Labels, now_ms: i64) -> Vec<SilenceId> {
        self.scan(labels, now_ms).0
    }

    /// [`Silences::silenced_by`], and how many silences had to be looked at.
    pub fn scan(&self, labels: &Labels, now_ms: i64) -> (Vec<SilenceId>, usize) {
        if self.by_id.is_empty() {
            return (Vec::new(), 0);
        }
        let mut scanned = 0;
        let mut out: Vec<SilenceId> = Vec::new();
        let found = labels.iter().filter_map(|(n, v)| self.by_equality.get(n)?.get(v)).flatten();
        for id in found.chain(&self.others) {
            scanned += 1;
            let hit = self.by_id.get(id).is_some_and(|s| s.state(now_ms) == State::Active && s.matches(labels));
            if hit && !out.contains(id) {
                out.push(id.clone());
            }
        }
        out.sort();
        (out, scanned)
    }

    /// Forgets what ended longer ago than `retention_ms`.
    pub fn collect_garbage(&mut self, now_ms: i64, retention_ms: i64) -> usize {
        let old: Vec<SilenceId> = self
            .by_id
            .values()
            .filter(|s| s.ends_at_ms.saturating_add(retention_ms) <= now_ms)
            .map(|s| s.id.clone())
            .collect();
        for id in &old {
            self.remove(id);
        }
        old.len()
    }

    fn replace(&mut self, silence: Arc<Silence>) {
        self.remove(&silence.id);
        match silence.index_keys() {
            Some(keys) => {
                for (name, value) in keys {
                    self.by_equality.entry(name).or_default().entry(value).or_default().push(silence.id.clone());
                }
            }
            None => self.others.push(silence.id.clone()),
        }
        self.by_id.insert(silence.id.clone(), silence);
    }

    fn remove(&mut self, id: &SilenceId) {
        let Some(old) = self.by_id.remove(id) else { return };
        let Some(keys) = old.index_keys() else {
            self.others.retain(|i| i != id);
            return;
        };
        for (name, value) in keys {
            let Some(values) = self.by_equality.get_mut(&name) else { continue };
            if let Some(ids) = values.get_mut(&value) {
                ids.retain(|i| i != id);
                if ids.is_empty() {
                    values.remove(&value);
                }
            }
            if values.is_empty() {
                self.by_equality.remove(&name);
            }
        }
    }
}

/// Whether `new` may take the place of `old` under the same id.
fn can_update(old: &Silence, new: &Silence, now_ms: i64) -> bool {
    if old.matcher_sets != new.matcher_sets {
        return false;
    }
    match old.state(now_ms) {
        // What has begun cannot begin at another time; whole seconds count, as clients round.
        State::Active => {
            new.starts_at_ms.div_euclid(1000) == old.starts_at_ms.div_euclid(1000) && new.ends_at_ms >= now_ms
        }
        State::Pending => new.starts_at_ms >= now_ms,
        State::Expired => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silence(id: &str, matchers: &str, start: i64, end: i64) -> Silence {
        Silence {
            id: id.into(),
            matcher_sets: vec![crate::matcher::parse_matchers(matchers, "test").unwrap()],
            starts_at_ms: start,
            ends_at_ms: end,
            updated_at_ms: 0,
            created_by: "me".into(),
            comment: String::new(),
            annotations: BTreeMap::new(),
        }
    }
    fn ids(s: &Silences, labels: &[(&str, &str)], now: i64) -> String {
        s.silenced_by(&Labels::from_pairs(labels.iter().copied()), now).join(" ")
    }

    #[test]
    fn create_update_expire() {
        let mut s = Silences::default();
        let set = |s: &mut Silences, new: Silence, now, id: &str| {
            s.set(new, now, || id.into()).map(|c| c.iter().map(|s| s.id.to_string()).collect::<Vec<_>>())
        };
        assert_eq!(set(&mut s, silence("", "a=b", 0, 9_000), 1_000, "1"), Ok(vec!["1".to_owned()]));
        assert_eq!(s.get("1").unwrap().starts_at_ms, 1_000, "the past cannot be silenced");
        assert_eq!(ids(&s, &[("a", "b"), ("c", "d")], 1_000), "1");
        assert_eq!(ids(&s, &[("a", "b")], 9_000), "", "the end is excluded");
        // A later end keeps the id, other matchers do not.
        assert_eq!(set(&mut s, silence("1", "a=b", 1_400, 20_000), 2_000, "x"), Ok(vec!["1".to_owned()]));
        assert_eq!(set(&mut s, silence("1", "a=c", 1_000, 20_000), 3_000, "2"), Ok(vec!["1".into(), "2".to_owned()]));
        assert_eq!(s.get("1").unwrap().state(3_000), State::Expired);
        assert_eq!(ids(&s, &[("a", "c")], 3_000), "2");
        assert_eq!(set(&mut s, silence("9", "a=c", 0, 20_000), 3_000, "3"), Err(SilenceError::NotFound));
        assert!(s.expire("2", 4_000).unwrap().is_some() && s.expire("2", 4_000).unwrap().is_none());
        assert_eq!((s.collect_garbage(4_500, 1_000), s.collect_garbage(5_000, 1_000), s.len()), (1, 1, 0));
        assert!(s.by_equality.is_empty() && s.others.is_empty());
    }

    #[test]
    fn the_index_finds_what_matching_finds() {
        let mut s = Silences::default();
        for (i, m) in ["a=b", "a=b,c=~d.*", "a=~b", "a!=b,c=d", "z=\"\",a=b", "c=d"].iter().enumerate() {
            s.set(silence("", m, 0, 99), 0, || i.to_string().as_str().into()).unwrap();
        }
        for labels in
            [vec![("a", "b")], vec![("a", "b"), ("c", "dx")], vec![("c", "d")], vec![("a", "b"), ("z", "1")], vec![]]
        {
            let set = Labels::from_pairs(labels.iter().copied());
            let all: Vec<&str> = s.iter().filter(|s| s.matches(&set)).map(|s| &*s.id).collect();
            assert_eq!(ids(&s, &labels, 1), all.join(" "), "{labels:?}");
        }
    }

    #[test]
    fn limits_and_refusals() {
        let mut s = Silences::new(SilenceLimits { silences_max: 1, size_bytes_max: 200 });
        let e = |r: Result<Vec<Arc<Silence>>, SilenceError>| r.unwrap_err().to_string();
        assert_eq!(
            e(s.set(silence("", "a=\"\"", 0, 9), 0, || "1".into())),
            "invalid silence: matcher set 0: at least one matcher must not match the empty string"
        );
        assert!(
            e(s.set(silence("", &format!("a={}", "x".repeat(200)), 0, 9), 0, || "1".into())).contains("maximum size")
        );
        s.set(silence("", "a=b", 0, 9), 0, || "1".into()).unwrap();
        assert!(e(s.set(silence("", "a=c", 0, 9), 0, || "2".into())).contains("maximum number"));
    }
}
