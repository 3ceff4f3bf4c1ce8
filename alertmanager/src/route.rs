//! The routing tree as it runs: options inherited, one key per node, matching an alert gives the nodes that take it.
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ferula_model::Labels;

use crate::config::{self, route::ALL_LABELS};
use crate::matcher::{self, Matcher};

/// Index into [`RouteTree::nodes`]; stable within one configuration.
pub type RouteIndex = u32;

const GROUP_WAIT_MS: i64 = 30_000;
const GROUP_INTERVAL_MS: i64 = 5 * 60_000;
const REPEAT_INTERVAL_MS: i64 = 4 * 3_600_000;

/// What a node says about its groups, its own settings and inherited ones together.
#[derive(Clone, Debug)]
pub struct RouteOptions {
    pub receiver: Arc<str>,
    pub group_by: GroupBy,
    pub group_wait_ms: i64,
    pub group_interval_ms: i64,
    pub repeat_interval_ms: i64,
    /// Names of time intervals; these two are not inherited.
    pub mute_time_intervals: Vec<String>,
    pub active_time_intervals: Vec<String>,
    /// Templates of route labels, by name.
    pub labels: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupBy {
    AllLabels,
    Names(Vec<String>),
}

impl GroupBy {
    /// The labels all alerts of one group share: only those which the alert has.
    pub fn group_labels(&self, labels: &Labels) -> Labels {
        match self {
            GroupBy::AllLabels => labels.clone(),
            GroupBy::Names(names) => {
                Labels::from_sorted(labels.iter().filter(|(n, _)| names.iter().any(|name| name == n)))
            }
        }
    }
}

#[derive(Clone, Debug)]
pub struct Node {
    matchers: Vec<Matcher>,
    carries_on: bool,
    children: Vec<RouteIndex>,
    pub options: RouteOptions,
    /// `{}/{severity="critical"}`: the first part of a group key.
    pub key: Arc<str>,
}

#[derive(Clone, Debug)]
pub struct RouteTree {
    nodes: Vec<Node>,
}

impl Node {
    /// What an alert must fulfil here, its parents' matchers left aside.
    pub fn matchers(&self) -> &[Matcher] {
        &self.matchers
    }
}

impl RouteTree {
    pub fn new(root: &config::Route) -> RouteTree {
        let defaults = RouteOptions {
            receiver: Arc::from(""),
            group_by: GroupBy::Names(Vec::new()),
            group_wait_ms: GROUP_WAIT_MS,
            group_interval_ms: GROUP_INTERVAL_MS,
            repeat_interval_ms: REPEAT_INTERVAL_MS,
            mute_time_intervals: Vec::new(),
            active_time_intervals: Vec::new(),
            labels: BTreeMap::new(),
        };
        let mut nodes: Vec<Node> = vec![node(root, &defaults, "")];
        let mut receivers: HashMap<Arc<str>, Arc<str>> = HashMap::new();
        let mut todo = vec![(0usize, root)];
        while let Some((at, route)) = todo.pop() {
            for child in &route.routes {
                let Some(parent) = nodes.get(at) else { continue };
                let mut new = node(child, &parent.options, &format!("{}/", parent.key));
                // Nodes share the text of equal receiver names.
                new.options.receiver =
                    receivers.entry(new.options.receiver.clone()).or_insert(new.options.receiver).clone();
                let index = nodes.len();
                if let Some(parent) = nodes.get_mut(at) {
                    parent.children.push(index as RouteIndex);
                }
                nodes.push(new);
                todo.push((index, child));
            }
        }
        RouteTree { nodes }
    }

    pub fn node(&self, index: RouteIndex) -> Option<&Node> {
        self.nodes.get(index as usize)
    }

    /// The nodes that take an alert with these labels, first match first; the root takes what no child takes.
    pub fn matches(&self, labels: &Labels) -> Vec<RouteIndex> {
        let mut out = Vec::new();
        // One frame per level: the node, its next child, and how many takers there were when it was entered.
        let mut frames: Vec<(RouteIndex, usize, usize)> = vec![(0, 0, 0)];
        while let Some((index, next, before)) = frames.pop() {
            let Some(node) = self.node(index) else { continue };
            let mut entered = false;
            for (i, &child) in node.children.iter().enumerate().skip(next) {
                let Some(c) = self.node(child) else { continue };
                if matcher::all_match(&c.matchers, labels) {
                    // A matching child without `continue` ends the search among its siblings.
                    let after = if c.carries_on { i + 1 } else { node.children.len() };
                    frames.push((index, after, before));
                    frames.push((child, 0, out.len()));
                    entered = true;
                    break;
                }
            }
            if !entered && out.len() == before {
                out.push(index);
            }
        }
        out
    }
}

fn node(route: &config::Route, parent: &RouteOptions, prefix: &str) -> Node {
    let matchers = route.all_matchers();
    let ms = |own: Option<ferula_yaml::Duration>, inherited: i64| own.map_or(inherited, |d| d.ms());
    let mut labels = parent.labels.clone();
    labels.extend(route.labels.clone());
    Node {
        key: format!("{prefix}{}", matcher::print_set(&matchers)).into(),
        carries_on: route.r#continue,
        children: Vec::new(),
        options: RouteOptions {
            receiver: if route.receiver.is_empty() { parent.receiver.clone() } else { route.receiver.as_str().into() },
            group_by: match &route.group_by {
                None => parent.group_by.clone(),
                Some(names) if names.iter().any(|n| n == ALL_LABELS) => GroupBy::AllLabels,
                Some(names) => GroupBy::Names(names.clone()),
            },
            group_wait_ms: ms(route.group_wait, parent.group_wait_ms),
            group_interval_ms: ms(route.group_interval, parent.group_interval_ms),
            repeat_interval_ms: ms(route.repeat_interval, parent.repeat_interval_ms),
            mute_time_intervals: route.mute_time_intervals.clone(),
            active_time_intervals: route.active_time_intervals.clone(),
            labels,
        },
        matchers,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = r#"
receiver: root
group_by: [alertname]
routes:
- matchers: [owner="a"]
  receiver: a
  group_wait: 1s
  routes:
  - matchers: [env="testing"]
    receiver: a-testing
    group_by: ['...']
  - match: {env: production}
    receiver: a-production
    continue: true
  - match_re: {env: prod.*}
    group_by: []
- matchers: ['owner=~"a|b"']
  receiver: b
"#;

    fn takers(tree: &RouteTree, labels: &[(&str, &str)]) -> Vec<String> {
        let labels = Labels::from_pairs(labels.iter().copied());
        tree.matches(&labels).iter().map(|i| tree.node(*i).unwrap().key.to_string()).collect()
    }

    #[test]
    fn matches_depth_first_with_continue() {
        let tree = RouteTree::new(&ferula_yaml::from_str("t", TREE).unwrap());
        let a = r#"{}/{owner="a"}"#;
        for (labels, want) in [
            (vec![], vec!["{}".to_owned()]),
            (vec![("owner", "a")], vec![a.to_owned()]),
            (vec![("owner", "b")], vec![r#"{}/{owner=~"a|b"}"#.to_owned()]),
            (vec![("owner", "a"), ("env", "testing")], vec![format!(r#"{a}/{{env="testing"}}"#)]),
            (
                vec![("owner", "a"), ("env", "production")],
                vec![format!(r#"{a}/{{env="production"}}"#), format!(r#"{a}/{{env=~"prod.*"}}"#)],
            ),
        ] {
            assert_eq!(takers(&tree, &labels), want);
        }
    }

    #[test]
    fn options_come_from_the_parent() {
        let tree = RouteTree::new(&ferula_yaml::from_str("t", TREE).unwrap());
        let labels = Labels::from_pairs([("owner", "a"), ("env", "prodx"), ("alertname", "X")]);
        let o = &tree.node(tree.matches(&labels)[0]).unwrap().options;
        assert_eq!((&*o.receiver, o.group_wait_ms, o.group_interval_ms), ("a", 1_000, 300_000));
        assert_eq!(o.group_by.group_labels(&labels), Labels::empty());
        let labels = Labels::from_pairs([("owner", "a"), ("env", "testing"), ("alertname", "X")]);
        let o = &tree.node(tree.matches(&labels)[0]).unwrap().options;
        assert_eq!(o.group_by.group_labels(&labels), labels);
    }
}
