//! What came out against what was expected, and upstream's way to show the difference.
use std::fmt::Write;

use ferula_model::labels::ALERT_NAME;
use ferula_model::{Labels, LabelsBuilder};
use ferula_promql_parser::series_description::{self, SequenceValue};

use super::yaml::{AlertYaml, ExpectedSampleYaml};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GotAlert {
    pub labels: Labels,
    pub annotations: Labels,
}

#[derive(Clone, Debug)]
pub(super) struct GotSample {
    pub labels: Labels,
    pub value: f64,
    /// In the notation of tests; empty for a float.
    pub histogram: String,
}

/// Compares the firing alerts of one name.
pub(super) fn alerts(
    test_name: &str,
    t: &AlertYaml,
    mut got: Vec<GotAlert>,
    as_difference: bool,
) -> Result<(), String> {
    let mut expected: Vec<GotAlert> = t
        .exp_alerts
        .iter()
        .map(|e| {
            let mut labels = LabelsBuilder::from_view(&Labels::from_pairs(e.exp_labels.iter()));
            labels.set(ALERT_NAME, &t.alertname);
            GotAlert { labels: labels.labels(), annotations: Labels::from_pairs(e.exp_annotations.iter()) }
        })
        .collect();
    expected.sort();
    got.sort();
    if expected == got {
        return Ok(());
    }
    let name = if test_name.is_empty() { String::new() } else { format!("    name: {test_name},\n") };
    let head = format!("{name}    alertname: {}, time: {}, \n", t.alertname, t.eval_time);
    if as_difference {
        return Err(format!("{head}        diff: {}", super::difference::shown(&expected, &got)));
    }
    let show = |alerts: &[GotAlert]| indented(&listed(alerts), "            ");
    Err(format!("{head}        exp:{}, \n        got:{}", show(&expected), show(&got)))
}

fn listed(alerts: &[GotAlert]) -> String {
    if alerts.is_empty() {
        return "[]".to_owned();
    }
    let mut out = "[".to_owned();
    for (i, a) in alerts.iter().enumerate() {
        let one = format!("\nLabels:{}\nAnnotations:{}", a.labels, a.annotations);
        let _ = write!(out, "{}\n{i}:{}", if i > 0 { "," } else { "" }, indented(&one, "  "));
    }
    out + "\n]"
}

/// Every line but the first moved to the right.
fn indented(text: &str, by: &str) -> String {
    text.replace('\n', &format!("\n{by}"))
}

pub(super) fn expected(s: &ExpectedSampleYaml) -> Result<GotSample, String> {
    let labels = if s.labels.is_empty() {
        Labels::empty()
    } else {
        series_description::parse_metric(&s.labels).map_err(|e| e.to_string())?
    };
    let mut histogram = String::new();
    if !s.histogram.is_empty() {
        let described = series_description::parse(&format!("{{}} {}", s.histogram)).map_err(|e| e.to_string())?;
        histogram = match described.values.as_slice() {
            [SequenceValue::Histogram { histogram, .. }] => histogram.test_expression(),
            [_] => return Err("expected histogram, got a number".to_owned()),
            values => return Err(format!("expected 1 value, got {}", values.len())),
        };
    }
    Ok(GotSample { labels, value: s.value, histogram })
}

/// Sorts and compares; answers both as upstream prints them if they differ.
pub(super) fn samples(expected: &mut [GotSample], got: &mut [GotSample], fuzzy: bool) -> Result<(), (String, String)> {
    expected.sort_by(|a, b| a.labels.cmp(&b.labels));
    got.sort_by(|a, b| a.labels.cmp(&b.labels));
    let same = expected.len() == got.len()
        && expected
            .iter()
            .zip(got.iter())
            .all(|(e, g)| e.labels == g.labels && e.histogram == g.histogram && is_same(e.value, g.value, fuzzy));
    if same { Ok(()) } else { Err((shown(expected), shown(got))) }
}

fn is_same(a: f64, b: f64, fuzzy: bool) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (fuzzy && (a.next_up() == b || a.next_down() == b))
}

fn shown(samples: &[GotSample]) -> String {
    if samples.is_empty() {
        return "nil".to_owned();
    }
    let one = |s: &GotSample| {
        if s.histogram.is_empty() {
            format!("{} {}", s.labels, exponential(s.value))
        } else {
            format!("{} {}", s.labels, s.histogram)
        }
    };
    samples.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Go's `FormatFloat(v, 'E', -1, 64)`.
fn exponential(v: f64) -> String {
    if v.is_finite() { ferula_model::number::format_e(v).to_uppercase() } else { ferula_model::number::format_f(v) }
}

/// Go's `Duration.String()` of whole milliseconds.
pub(super) fn go_duration(ms: i64) -> String {
    ferula_template::time::duration_text(ms.saturating_mul(1_000_000))
}
