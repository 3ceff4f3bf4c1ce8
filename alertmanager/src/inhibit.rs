//! Inhibition: alerts that are muted because another alert is firing.
//!
//! Sources are indexed by the values of the rule's `equal` labels, so a question costs one lookup per rule whose target
//! matchers hold.
use std::collections::HashMap;
use std::sync::Arc;

use ferula_model::Labels;

use crate::alert::{Alert, Fnv};
use crate::config;
use crate::matcher;
use crate::recorder::RuleInfo;

#[derive(Debug)]
struct Rule {
    shown: Arc<RuleInfo>,
    /// Firing sources by the hash of their `equal` values, then sorted by fingerprint: mostly one.
    sources: HashMap<u64, Vec<Arc<Alert>>>,
}

impl Rule {
    /// An absent label and an empty one are equal.
    fn equal_hash(&self, labels: &Labels) -> u64 {
        let mut h = Fnv::default();
        for name in &self.shown.equal {
            h.part(labels.get(name).unwrap_or(""));
        }
        h.0
    }
    fn is_equal(&self, a: &Labels, b: &Labels) -> bool {
        self.shown.equal.iter().all(|n| a.get(n).unwrap_or("") == b.get(n).unwrap_or(""))
    }
}

#[derive(Debug, Default)]
pub struct Inhibitor {
    rules: Vec<Rule>,
}

impl Inhibitor {
    pub fn new(rules: &[config::InhibitRule]) -> Inhibitor {
        let rule = |r: &config::InhibitRule| Rule {
            shown: Arc::new(RuleInfo { source: r.source(), target: r.target(), equal: r.equal.clone() }),
            sources: HashMap::new(),
        };
        Inhibitor { rules: rules.iter().map(rule).collect() }
    }

    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// Learns of an alert, new or updated.
    pub fn insert(&mut self, alert: &Arc<Alert>) {
        for rule in &mut self.rules {
            if matcher::all_match(&rule.shown.source, &alert.labels) {
                let hash = rule.equal_hash(&alert.labels);
                let sources = rule.sources.entry(hash).or_insert_with(|| Vec::with_capacity(1));
                match sources.binary_search_by_key(&alert.fingerprint, |a| a.fingerprint) {
                    Ok(at) => sources.get_mut(at).into_iter().for_each(|known| *known = alert.clone()),
                    Err(at) => sources.insert(at, alert.clone()),
                }
            }
        }
    }

    /// Fingerprints of the alerts that inhibit these labels now, at most one per rule; empty if none does.
    pub fn inhibited_by(&self, labels: &Labels, now_ms: i64) -> Vec<u64> {
        let mut out = Vec::new();
        for (_, source) in self.hits(labels, now_ms) {
            if !out.contains(&source) {
                out.push(source);
            }
        }
        out
    }

    /// The rules by which these labels are inhibited now.
    pub(crate) fn rules_against(&self, labels: &Labels, now_ms: i64) -> Vec<Arc<RuleInfo>> {
        self.hits(labels, now_ms).map(|(rule, _)| rule.shown.clone()).collect()
    }

    /// Rules that inhibit, with the alert each does it by.
    fn hits(&self, labels: &Labels, now_ms: i64) -> impl Iterator<Item = (&Rule, u64)> {
        self.rules.iter().filter_map(move |rule| {
            if !matcher::all_match(&rule.shown.target, labels) {
                return None;
            }
            let sources = rule.sources.get(&rule.equal_hash(labels))?;
            // An alert that matches both sides is not inhibited by another one that does: they would mute each other.
            let also_source = matcher::all_match(&rule.shown.source, labels);
            let hit = sources.iter().find(|s| {
                !s.is_resolved_at(now_ms)
                    && rule.is_equal(&s.labels, labels)
                    && !(also_source && matcher::all_match(&rule.shown.target, &s.labels))
            })?;
            Some((rule, hit.fingerprint))
        })
    }

    /// Forgets resolved sources.
    pub fn collect_garbage(&mut self, now_ms: i64) {
        for rule in &mut self.rules {
            rule.sources.retain(|_, alerts| {
                alerts.retain(|a| !a.is_resolved_at(now_ms));
                !alerts.is_empty()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::PostableAlert;

    #[test]
    fn equal_labels_self_inhibition_and_resolution() {
        let rules: Vec<config::InhibitRule> = ferula_yaml::from_str(
            "t",
            "[{source_matchers: [s=1], target_matchers: [t=1], equal: [e, absent]}, {source_matchers: [x=1], target_matchers: [y=1]}]",
        )
        .unwrap();
        let labels = |pairs: &str| Labels::from_pairs(pairs.split(' ').filter_map(|p| p.split_once('=')));
        for (source, target, want) in [
            ("s=1 e=a", "t=1 e=a", true),
            ("s=1 e=a", "t=1 e=b", false),
            ("s=1", "t=1", true),
            ("s=1 e=a", "u=1 e=a", false),
            ("s=1 t=1 e=a", "s=1 t=1 e=a", false),
            ("s=1 e=a", "s=1 t=1 e=a", true),
            ("s=1 t=1 e=a", "t=1 e=a", true),
            ("x=1", "y=1", true),
        ] {
            let mut inhibitor = Inhibitor::new(&rules);
            let posted = PostableAlert { labels: labels(source), ..Default::default() };
            inhibitor.insert(&Arc::new(Alert::received(posted, 0, 100, 1 << 20).unwrap()));
            assert_eq!(!inhibitor.inhibited_by(&labels(target), 99).is_empty(), want, "{source} -> {target}");
            assert!(inhibitor.inhibited_by(&labels(target), 100).is_empty(), "resolved");
            inhibitor.collect_garbage(100);
            assert!(inhibitor.rules.iter().all(|r| r.sources.is_empty()));
        }
    }
}
