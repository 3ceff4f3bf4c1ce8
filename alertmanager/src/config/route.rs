//! The routing tree and inhibition rules as they are written; `crate::route` holds them as they run.
use std::collections::BTreeMap;

use ferula_yaml::Duration;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::matcher::{self, MatchOp, Matcher};

/// A list of matcher strings, each of which may hold several matchers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Matchers(pub Vec<Matcher>);

impl Matchers {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
impl<'de> Deserialize<'de> for Matchers {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let mut all = Vec::new();
        for line in Vec::<String>::deserialize(d)? {
            all.extend(matcher::parse_matchers(&line, "config").map_err(D::Error::custom)?);
        }
        Ok(Matchers(all))
    }
}

/// `match` and `source_match`: equality by label, deprecated upstream and still read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Equalities(pub BTreeMap<String, String>);

/// `match_re` and its like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Expressions(pub BTreeMap<String, String>);

fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() { Err(format!("invalid label name {name:?}")) } else { Ok(()) }
}

impl Equalities {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    fn matchers(&self) -> impl Iterator<Item = Matcher> + '_ {
        self.0.iter().map(|(n, v)| Matcher::equal(n, v))
    }
}
impl<'de> Deserialize<'de> for Equalities {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let map = BTreeMap::<String, String>::deserialize(d)?;
        map.keys().try_for_each(|n| check_name(n)).map_err(D::Error::custom)?;
        Ok(Equalities(map))
    }
}

impl Expressions {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    fn matchers(&self) -> impl Iterator<Item = Matcher> + '_ {
        // Compiled once already while reading.
        self.0.iter().filter_map(|(n, v)| Matcher::new(MatchOp::RegexMatch, n, v).ok())
    }
}
impl<'de> Deserialize<'de> for Expressions {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let mut out = BTreeMap::new();
        for (name, value) in BTreeMap::<String, Option<String>>::deserialize(d)? {
            check_name(&name).map_err(D::Error::custom)?;
            let value = value.ok_or_else(|| D::Error::custom(format!("invalid regexp value for {name:?}")))?;
            Matcher::new(MatchOp::RegexMatch, &name, &value).map_err(D::Error::custom)?;
            out.insert(name, value);
        }
        Ok(Expressions(out))
    }
}

fn together(equal: &Equalities, expressions: &Expressions, matchers: &Matchers) -> Vec<Matcher> {
    let mut all: Vec<Matcher> =
        equal.matchers().chain(expressions.matchers()).chain(matchers.0.iter().cloned()).collect();
    matcher::sort(&mut all);
    all
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
struct RawRoute {
    receiver: String,
    group_by: Option<Vec<String>>,
    r#match: Equalities,
    match_re: Expressions,
    matchers: Matchers,
    mute_time_intervals: Vec<String>,
    active_time_intervals: Vec<String>,
    r#continue: bool,
    routes: Vec<Route>,
    group_wait: Option<Duration>,
    group_interval: Option<Duration>,
    repeat_interval: Option<Duration>,
    labels: BTreeMap<String, String>,
}

/// One node as written. What is `None` comes from the parent.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(try_from = "RawRoute")]
pub struct Route {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub receiver: String,
    /// `Some([])` groups everything together; `...` stands for all labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_by: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Equalities::is_empty")]
    pub r#match: Equalities,
    #[serde(skip_serializing_if = "Expressions::is_empty")]
    pub match_re: Expressions,
    #[serde(skip_serializing_if = "Matchers::is_empty")]
    pub matchers: Matchers,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mute_time_intervals: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub active_time_intervals: Vec<String>,
    pub r#continue: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_wait: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_interval: Option<Duration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_interval: Option<Duration>,
    /// Route labels: templates rendered per group, inherited and overridden by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

pub const ALL_LABELS: &str = "...";

impl TryFrom<RawRoute> for Route {
    type Error = String;
    fn try_from(r: RawRoute) -> Result<Route, String> {
        if let Some(names) = &r.group_by {
            for (i, name) in names.iter().enumerate() {
                if name.is_empty() {
                    return Err(format!("invalid label name {name:?} in group_by list"));
                }
                if name == ALL_LABELS && names.iter().any(|n| n != ALL_LABELS) {
                    return Err("cannot have wildcard group_by (`...`) and other labels at the same time".to_owned());
                }
                if names.iter().take(i).any(|n| n == name) {
                    return Err(format!("duplicated label {name:?} in group_by"));
                }
            }
        }
        if r.group_interval.is_some_and(Duration::is_zero) {
            return Err("group_interval cannot be zero".to_owned());
        }
        if r.repeat_interval.is_some_and(Duration::is_zero) {
            return Err("repeat_interval cannot be zero".to_owned());
        }
        Ok(Route {
            receiver: r.receiver,
            group_by: r.group_by,
            r#match: r.r#match,
            match_re: r.match_re,
            matchers: r.matchers,
            mute_time_intervals: r.mute_time_intervals,
            active_time_intervals: r.active_time_intervals,
            r#continue: r.r#continue,
            routes: r.routes,
            group_wait: r.group_wait,
            group_interval: r.group_interval,
            repeat_interval: r.repeat_interval,
            labels: r.labels,
        })
    }
}

impl Route {
    /// Old and new forms together, sorted as route keys print them.
    pub fn all_matchers(&self) -> Vec<Matcher> {
        together(&self.r#match, &self.match_re, &self.matchers)
    }
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct InhibitRule {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    #[serde(skip_serializing_if = "Equalities::is_empty")]
    pub source_match: Equalities,
    #[serde(skip_serializing_if = "Expressions::is_empty")]
    pub source_match_re: Expressions,
    #[serde(skip_serializing_if = "Matchers::is_empty")]
    pub source_matchers: Matchers,
    #[serde(skip_serializing_if = "Equalities::is_empty")]
    pub target_match: Equalities,
    #[serde(skip_serializing_if = "Expressions::is_empty")]
    pub target_match_re: Expressions,
    #[serde(skip_serializing_if = "Matchers::is_empty")]
    pub target_matchers: Matchers,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub equal: Vec<String>,
}

impl InhibitRule {
    pub fn source(&self) -> Vec<Matcher> {
        together(&self.source_match, &self.source_match_re, &self.source_matchers)
    }
    pub fn target(&self) -> Vec<Matcher> {
        together(&self.target_match, &self.target_match_re, &self.target_matchers)
    }
}
