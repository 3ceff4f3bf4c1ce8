//! Target groups: what every mechanism produces.
use std::collections::BTreeMap;

use ferula_model::{Labels, LabelsBuilder};
use serde::Deserialize;

pub const ADDRESS: &str = "__address__";

/// Every character a legacy label name cannot have becomes an underscore.
pub(crate) fn sanitize(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

/// `host:port`, with brackets around an IPv6 address.
pub(crate) fn join(host: &str, port: i64) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Every item surrounded by the separator, so that `.*,item,.*` finds each; nothing for no items.
pub(crate) fn surrounded<S: AsRef<str>>(items: &[S], separator: &str) -> String {
    let mut out = String::new();
    for item in items {
        out.push_str(separator);
        out.push_str(item.as_ref());
    }
    if !items.is_empty() {
        out.push_str(separator);
    }
    out
}

/// Labels being made of one mechanism's meta labels.
pub(crate) struct Meta {
    prefix: &'static str,
    labels: LabelsBuilder,
}

impl Meta {
    /// `prefix` is `__meta_<mechanism>_`.
    pub(crate) fn new(prefix: &'static str) -> Meta {
        Meta { prefix, labels: LabelsBuilder::new() }
    }
    /// A target, begun with its address.
    pub(crate) fn at(prefix: &'static str, address: &str) -> Meta {
        let mut meta = Meta::new(prefix);
        meta.labels.set(ADDRESS, address);
        meta
    }
    pub(crate) fn set(&mut self, name: &str, value: impl AsRef<str>) -> &mut Meta {
        self.labels.set(&format!("{}{name}", self.prefix), value.as_ref());
        self
    }
    /// `name` followed by each key, made a label name.
    pub(crate) fn map<'a, K: AsRef<str> + 'a, V: AsRef<str> + 'a>(
        &mut self,
        name: &str,
        pairs: impl IntoIterator<Item = (&'a K, &'a V)>,
    ) -> &mut Meta {
        for (key, value) in pairs {
            self.set(&format!("{name}{}", sanitize(key.as_ref())), value);
        }
        self
    }
    pub(crate) fn merge(&mut self, other: &Labels) -> &mut Meta {
        for (name, value) in other {
            self.labels.set(name, value);
        }
        self
    }
    pub(crate) fn labels(&self) -> Labels {
        self.labels.labels()
    }
}

/// Targets that share labels. `source` names the group within its provider, so that changes can be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetGroup {
    pub source: String,
    pub labels: Labels,
    /// Each has `__address__` at least.
    pub targets: Vec<Labels>,
}

/// A group as files and HTTP answers write it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WrittenGroup {
    pub targets: Vec<String>,
    pub labels: BTreeMap<String, String>,
}

impl WrittenGroup {
    /// With the labels the mechanism adds.
    pub(crate) fn into_group(self, source: String, more: &[(&str, &str)]) -> TargetGroup {
        let mut labels = LabelsBuilder::new();
        for (name, value) in &self.labels {
            labels.set(name, value);
        }
        for (name, value) in more {
            labels.set(name, value);
        }
        let targets = self.targets.iter().map(|address| Labels::from_pairs([(ADDRESS, address)])).collect();
        TargetGroup { source, labels: labels.labels(), targets }
    }
}

/// Groups of a list in which an entry may be null, which is a mistake worth naming.
pub(crate) fn groups_of(
    list: Vec<Option<WrittenGroup>>,
    source: &str,
    meta: (&str, &str),
) -> Result<Vec<TargetGroup>, String> {
    list.into_iter()
        .enumerate()
        .map(|(i, entry)| match entry {
            Some(group) => Ok(group.into_group(format!("{source}:{i}"), &[meta])),
            None => Err(format!("nil target group item found (index {i})")),
        })
        .collect()
}
