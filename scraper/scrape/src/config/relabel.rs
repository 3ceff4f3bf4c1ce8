//! One entry of `relabel_configs`, `metric_relabel_configs` and their like.
use ferula_model::relabel::{self, Action, Config, NameScheme, Rule};
use serde::{Deserialize, Serialize};

/// As written; [`RelabelConfig::build`] checks and compiles it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelabelConfig {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_labels: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub separator: String,
    pub regex: String,
    #[serde(skip_serializing_if = "super::unset")]
    pub modulus: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target_label: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub replacement: String,
    pub action: String,
}

impl Default for RelabelConfig {
    fn default() -> Self {
        RelabelConfig {
            source_labels: Vec::new(),
            separator: relabel::DEFAULT_SEPARATOR.to_owned(),
            regex: relabel::DEFAULT_REGEX.to_owned(),
            modulus: 0,
            target_label: String::new(),
            replacement: relabel::DEFAULT_REPLACEMENT.to_owned(),
            action: "replace".to_owned(),
        }
    }
}

impl RelabelConfig {
    pub fn build(&self, scheme: NameScheme) -> Result<Config, relabel::Error> {
        if let Some(name) = self.source_labels.iter().find(|n| !scheme.is_valid_label_name(n)) {
            return Err(relabel::Error(format!("{name:?} is not a valid label name")));
        }
        let rule = Rule {
            source_labels: self.source_labels.clone(),
            separator: self.separator.clone(),
            regex: self.regex.clone(),
            modulus: self.modulus,
            target_label: self.target_label.clone(),
            replacement: self.replacement.clone(),
            action: Action::parse(&self.action)?,
        };
        rule.build(scheme)
    }
}
