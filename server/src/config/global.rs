//! `global`: defaults of all scrape jobs, evaluation, external labels.
use std::collections::BTreeMap;

use ferula_model::Labels;
use ferula_model::labels::{METRIC_NAME, quoted};
use ferula_yaml::Duration;
use serde::{Deserialize, Serialize};

use super::size::Size;
use super::{Problem, zero_duration};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GlobalConfig {
    pub scrape_interval: Duration,
    pub scrape_timeout: Duration,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scrape_protocols: Vec<String>,
    pub evaluation_interval: Duration,
    #[serde(skip_serializing_if = "zero_duration")]
    pub rule_query_offset: Duration,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub external_labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub query_log_file: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub scrape_failure_log_file: String,
    #[serde(skip_serializing_if = "Size::is_zero")]
    pub body_size_limit: Size,
    #[serde(skip_serializing_if = "zero")]
    pub sample_limit: u64,
    #[serde(skip_serializing_if = "zero")]
    pub target_limit: u64,
    #[serde(skip_serializing_if = "zero")]
    pub label_limit: u64,
    #[serde(skip_serializing_if = "zero")]
    pub label_name_length_limit: u64,
    #[serde(skip_serializing_if = "zero")]
    pub label_value_length_limit: u64,
    #[serde(skip_serializing_if = "zero")]
    pub keep_dropped_targets: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub metric_name_validation_scheme: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub metric_name_escaping_scheme: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scrape_native_histograms: Option<bool>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub convert_classic_histograms_to_nhcb: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub always_scrape_classic_histograms: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra_scrape_metrics: Option<bool>,
}

fn zero(n: &u64) -> bool {
    *n == 0
}

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

impl Default for GlobalConfig {
    fn default() -> Self {
        GlobalConfig {
            scrape_interval: Duration::from_secs(60),
            scrape_timeout: Duration::default(),
            scrape_protocols: Vec::new(),
            evaluation_interval: Duration::from_secs(60),
            rule_query_offset: Duration::default(),
            external_labels: BTreeMap::new(),
            query_log_file: String::new(),
            scrape_failure_log_file: String::new(),
            body_size_limit: Size::default(),
            sample_limit: 0,
            target_limit: 0,
            label_limit: 0,
            label_name_length_limit: 0,
            label_value_length_limit: 0,
            keep_dropped_targets: 0,
            metric_name_validation_scheme: String::new(),
            metric_name_escaping_scheme: String::new(),
            scrape_native_histograms: None,
            convert_classic_histograms_to_nhcb: false,
            always_scrape_classic_histograms: false,
            extra_scrape_metrics: None,
        }
    }
}

impl GlobalConfig {
    pub fn is_legacy_naming(&self) -> bool {
        self.metric_name_validation_scheme == "legacy"
    }
    pub fn external_labels(&self) -> Labels {
        Labels::from_pairs(self.external_labels.iter())
    }

    /// Zero intervals mean the default; the timeout never exceeds the interval unless written so.
    pub(super) fn complete(&mut self) {
        let defaults = GlobalConfig::default();
        if self.scrape_interval.is_zero() {
            self.scrape_interval = defaults.scrape_interval;
        }
        if self.evaluation_interval.is_zero() {
            self.evaluation_interval = defaults.evaluation_interval;
        }
        if self.scrape_timeout.is_zero() {
            self.scrape_timeout = DEFAULT_TIMEOUT.min(self.scrape_interval);
        }
    }

    /// Replaces `$NAME` and `${NAME}` in the values of external labels; `$$` is a dollar sign.
    pub(super) fn expand(&mut self, environment: &dyn Fn(&str) -> Option<String>, warnings: &mut Vec<String>) {
        for value in self.external_labels.values_mut() {
            *value = expand(value, environment, warnings);
        }
    }

    pub(super) fn validate(&self) -> Result<(), Problem> {
        let problem = |field: &str, why: String| Err(Problem::new(format!("global.{field}"), why));
        if self.scrape_timeout > self.scrape_interval {
            return problem("scrape_timeout", "global scrape timeout greater than scrape interval".to_owned());
        }
        match self.metric_name_validation_scheme.as_str() {
            "" | "utf8" | "legacy" => {}
            other => {
                return problem(
                    "metric_name_validation_scheme",
                    format!("unrecognized ValidationScheme: {}", quoted(other)),
                );
            }
        }
        match self.metric_name_escaping_scheme.as_str() {
            "" | "underscores" | "dots" | "values" => {}
            "allow-utf-8" if !self.is_legacy_naming() => {}
            "allow-utf-8" => {
                let why = "utf8 metric names requested but validation scheme is not set to UTF8";
                return problem("metric_name_escaping_scheme", why.to_owned());
            }
            other => {
                let why = format!(
                    "unknown global name escaping method specified, must be one of 'allow-utf-8', 'underscores', 'dots', or 'values', got {}",
                    quoted(other)
                );
                return problem("metric_name_escaping_scheme", why);
            }
        }
        for name in self.external_labels.keys() {
            let is_valid = if self.is_legacy_naming() {
                ferula_model::labels::is_legacy_label_name(name)
            } else {
                !name.is_empty()
            };
            if !is_valid || name == METRIC_NAME {
                return problem("external_labels", format!("{} is not a valid label name", quoted(name)));
            }
        }
        Ok(())
    }
}

fn expand(text: &str, environment: &dyn Fn(&str) -> Option<String>, warnings: &mut Vec<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(rest.get(..at).unwrap_or_default());
        let after = rest.get(at + 1..).unwrap_or_default();
        let (name, len) = if after.starts_with('$') {
            out.push('$');
            rest = after.get(1..).unwrap_or_default();
            continue;
        } else if let Some(braced) = after.strip_prefix('{')
            && let Some(end) = braced.find('}')
        {
            (braced.get(..end).unwrap_or_default(), end + 2)
        } else {
            let len = after.bytes().take_while(|b| b.is_ascii_alphanumeric() || *b == b'_').count();
            (after.get(..len).unwrap_or_default(), len)
        };
        rest = after.get(len..).unwrap_or_default();
        if name.is_empty() {
            out.push('$');
            continue;
        }
        match environment(name) {
            Some(value) if !value.is_empty() => out.push_str(&value),
            _ => warnings.push(format!("Empty environment variable {name} in external_labels")),
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expands_external_labels() {
        let environment = |name: &str| (name == "REGION").then(|| "eu".to_owned());
        let mut warnings = Vec::new();
        for (text, expanded) in [
            ("$REGION", "eu"),
            ("a-${REGION}-b", "a-eu-b"),
            ("$$REGION", "$REGION"),
            ("$", "$"),
            ("$ x", "$ x"),
            ("${", "${"),
            ("x$GONE/", "x/"),
        ] {
            assert_eq!(expand(text, &environment, &mut warnings), expanded, "{text}");
        }
        assert_eq!(warnings, ["Empty environment variable GONE in external_labels"]);
    }
}
