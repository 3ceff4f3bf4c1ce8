//! The file format.
use std::collections::BTreeMap;

use ferula_yaml::Duration;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileYaml {
    pub rule_files: Vec<String>,
    pub evaluation_interval: Option<Duration>,
    pub group_eval_order: Vec<String>,
    pub fuzzy_compare: bool,
    pub tests: Vec<TestYaml>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TestYaml {
    pub interval: Option<Duration>,
    pub input_series: Vec<SeriesYaml>,
    pub alert_rule_test: Vec<AlertYaml>,
    pub promql_expr_test: Vec<ExpressionYaml>,
    pub external_labels: BTreeMap<String, String>,
    pub external_url: String,
    pub name: String,
    /// RFC 3339 or seconds since 1970.
    pub start_timestamp: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct SeriesYaml {
    pub series: String,
    pub values: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AlertYaml {
    pub eval_time: Duration,
    pub alertname: String,
    pub exp_alerts: Vec<ExpectedAlertYaml>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ExpectedAlertYaml {
    pub exp_labels: BTreeMap<String, String>,
    pub exp_annotations: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ExpressionYaml {
    pub expr: String,
    pub eval_time: Duration,
    pub exp_samples: Vec<ExpectedSampleYaml>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ExpectedSampleYaml {
    pub labels: String,
    pub value: f64,
    pub histogram: String,
}

impl TestYaml {
    /// The test's time zero.
    pub fn start_ms(&self) -> Result<i64, String> {
        let text = self.start_timestamp.as_str();
        if text.is_empty() {
            return Ok(0);
        }
        if let Ok(seconds) = text.parse::<f64>() {
            return Ok((seconds * 1000.0) as i64);
        }
        text.parse::<jiff::Timestamp>()
            .map(|t| t.as_millisecond())
            .map_err(|_| format!("cannot parse {} to a valid timestamp", ferula_model::labels::quoted(text)))
    }
    /// The last time any of the tests asks for.
    pub fn last_eval_ms(&self) -> i64 {
        let alerts = self.alert_rule_test.iter().map(|t| t.eval_time.ms());
        alerts.chain(self.promql_expr_test.iter().map(|t| t.eval_time.ms())).max().unwrap_or(0)
    }
}
