//! Words, escapes and numbers inside an entry.
use std::borrow::Cow;

use ferula_model::MetricType;

use super::{Syntax, number};

pub(super) fn metric_type(text: &[u8], syntax: Syntax) -> Option<MetricType> {
    Some(match (text, syntax) {
        (b"counter", _) => MetricType::Counter,
        (b"gauge", _) => MetricType::Gauge,
        (b"histogram", _) => MetricType::Histogram,
        (b"summary", _) => MetricType::Summary,
        (b"untyped", Syntax::Text) => MetricType::Unknown,
        (b"gaugehistogram", Syntax::OpenMetrics) => MetricType::GaugeHistogram,
        (b"info", Syntax::OpenMetrics) => MetricType::Info,
        (b"stateset", Syntax::OpenMetrics) => MetricType::StateSet,
        (b"unknown", Syntax::OpenMetrics) => MetricType::Unknown,
        _ => return None,
    })
}

/// Resolves `\\`, `\n` and, outside text help, `\"`; any other backslash stays.
pub(super) fn unescape(text: &str, quotes_too: bool) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.clone().next() {
            Some('\\') => out.push('\\'),
            Some('n') => out.push('\n'),
            Some('"') if quotes_too => out.push('"'),
            _ => {
                out.push('\\');
                continue;
            }
        }
        chars.next();
    }
    Cow::Owned(out)
}

/// The float form of a bucket's or quantile's text (`1` becomes `1.0`); what is no number stays.
pub(super) fn normalised(value: Cow<'_, str>) -> Cow<'_, str> {
    match number::parse(value.as_bytes()) {
        Ok(v) => Cow::Owned(openmetrics_float(v)),
        Err(_) => value,
    }
}

/// A number as OpenMetrics' canonical form: always with a point or an exponent.
pub(super) fn openmetrics_float(v: f64) -> String {
    let mut text = ferula_model::number::format_g(v);
    if v.is_finite() && !text.contains(['e', '.']) {
        text.push_str(".0");
    }
    text
}
