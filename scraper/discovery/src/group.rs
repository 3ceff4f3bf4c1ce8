//! Target groups: what every mechanism produces.
use std::collections::BTreeMap;

use ferula_model::{Labels, LabelsBuilder};
use serde::Deserialize;

pub const ADDRESS: &str = "__address__";

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
