//! `relabel_configs` of alerts and remote write, as YAML.
use ferula_model::relabel;
use serde::{Deserialize, Serialize};

/// One relabelling rule as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RelabelConfig {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub source_labels: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub separator: String,
    pub regex: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub modulus: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target_label: String,
    pub replacement: String,
    pub action: String,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
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
            action: relabel::Action::Replace.as_str().to_owned(),
        }
    }
}

impl RelabelConfig {
    /// Checked and compiled, or why not, in upstream's words.
    pub fn build(&self) -> Result<relabel::Config, String> {
        if self.action.is_empty() {
            return Err("relabel action cannot be empty".to_owned());
        }
        let rule = relabel::Rule {
            source_labels: self.source_labels.clone(),
            separator: self.separator.clone(),
            regex: self.regex.clone(),
            modulus: self.modulus,
            target_label: self.target_label.clone(),
            replacement: self.replacement.clone(),
            action: relabel::Action::parse(&self.action).map_err(|e| e.to_string())?,
        };
        rule.build(relabel::NameScheme::default()).map_err(|e| e.to_string())
    }
}
