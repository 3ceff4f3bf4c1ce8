//! Comparing what came out with what a script expects.
use ferula_model::{FloatHistogram, Labels};
use ferula_promql_parser::series_description::SequenceValue;

use super::script::{Eval, Expected, When};
use crate::{Sample, SampleValue, SeriesPoints, Value};

/// Relative: expected values are written with few digits.
const TOLERANCE: f64 = 1e-6;

pub(super) fn almost(a: f64, b: f64) -> bool {
    if a == b || (a.is_nan() && b.is_nan()) {
        return true;
    }
    let (sum, diff) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return diff < TOLERANCE * f64::MIN_POSITIVE;
    }
    diff / sum.min(f64::MAX) < TOLERANCE
}

pub(super) fn value(e: &Eval, got: &Value) -> Result<(), String> {
    match (&e.expected, got) {
        (Expected::Scalar(want), Value::Scalar { value, .. }) => scalar(*want, &SampleValue::Float(*value)),
        (Expected::String(want), Value::String { value, .. }) if want == value => Ok(()),
        (Expected::String(want), Value::String { value, .. }) => Err(format!("expected {want:?}, got {value:?}")),
        (Expected::Series(_), Value::Vector(v)) => vector(e, v),
        (Expected::Series(_), Value::Matrix(m)) => {
            let (start, end, step) = match (e.range_vector, e.when) {
                (Some(r), _) => r,
                (None, When::Range(a, b, c)) => (a, b, c),
                (None, When::Instant(_)) => return Err("unexpected range vector".to_owned()),
            };
            matrix(e, m, start, end, step)
        }
        (_, got) => Err(format!("unexpected result of type {}: {got:?}", got.type_name())),
    }
}

pub(super) fn scalar(want: f64, got: &SampleValue) -> Result<(), String> {
    match got {
        SampleValue::Float(v) if almost(want, *v) => Ok(()),
        other => Err(format!("expected {want}, got {other:?}")),
    }
}

fn sample(want: &SequenceValue, got: &SampleValue) -> Result<(), String> {
    match (want, got) {
        (SequenceValue::Float(w), SampleValue::Float(g)) if almost(*w, *g) => Ok(()),
        (SequenceValue::Float(w), SampleValue::Float(g)) => Err(format!("expected {w}, got {g}")),
        (SequenceValue::Histogram { histogram, hint_given }, SampleValue::Histogram(g)) => {
            if *hint_given && histogram.counter_reset_hint != g.counter_reset_hint {
                return Err(format!(
                    "expected hint {:?}, got {:?}",
                    histogram.counter_reset_hint, g.counter_reset_hint
                ));
            }
            if same_histogram(histogram, g) {
                return Ok(());
            }
            Err(format!("expected {}, got {}", histogram.test_expression(), g.test_expression()))
        }
        (w, g) => Err(format!("expected {w:?}, got {g:?}")),
    }
}

fn same_histogram(a: &FloatHistogram, b: &FloatHistogram) -> bool {
    let (mut a, mut b) = (a.clone(), b.clone());
    a.compact(0);
    b.compact(0);
    let all = |x: &[f64], y: &[f64]| x.len() == y.len() && x.iter().zip(y).all(|(x, y)| almost(*x, *y));
    a.schema == b.schema
        && almost(a.count, b.count)
        && almost(a.sum, b.sum)
        && (a.uses_custom_buckets() || (a.zero_threshold == b.zero_threshold && almost(a.zero_count, b.zero_count)))
        && a.custom_values == b.custom_values
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && all(&a.positive_buckets, &b.positive_buckets)
        && all(&a.negative_buckets, &b.negative_buckets)
}

fn expected(e: &Eval) -> &[(Labels, Vec<SequenceValue>)] {
    match &e.expected {
        Expected::Series(s) => s,
        _ => &[],
    }
}

pub(super) fn vector(e: &Eval, got: &[Sample]) -> Result<(), String> {
    let wanted = expected(e);
    let mut seen: Vec<&Labels> = Vec::new();
    for (at, s) in got.iter().enumerate() {
        let Some(position) = wanted.iter().position(|(l, _)| *l == s.labels) else {
            return Err(format!("unexpected {} {:?}", s.labels, s.value));
        };
        if e.ordered && position != at {
            return Err(format!("{} at position {at}, expected {position}", s.labels));
        }
        if seen.contains(&&s.labels) {
            return Err(format!("{} twice", s.labels));
        }
        seen.push(&s.labels);
        let want = wanted[position].1.first().unwrap_or(&SequenceValue::Omitted);
        sample(want, &s.value).map_err(|m| format!("{}: {m}", s.labels))?;
    }
    match wanted.iter().find(|(l, _)| !seen.contains(&l)) {
        Some((missing, _)) => Err(format!("missing {missing}")),
        None => Ok(()),
    }
}

/// The values of all series at one time.
pub(super) fn column(series: &[SeriesPoints], t_ms: i64) -> Vec<Sample> {
    let pick = |s: &SeriesPoints| {
        let float = s.floats.iter().find(|(t, _)| *t == t_ms).map(|(_, v)| SampleValue::Float(*v));
        let value = float.or_else(|| {
            s.histograms.iter().find(|(t, _)| *t == t_ms).map(|(_, h)| SampleValue::Histogram(h.clone()))
        })?;
        Some(Sample { labels: s.labels.clone(), t_ms, value })
    };
    series.iter().filter_map(pick).collect()
}

fn matrix(e: &Eval, got: &[SeriesPoints], start: i64, end: i64, step: i64) -> Result<(), String> {
    let wanted = expected(e);
    for s in got {
        let Some((_, values)) = wanted.iter().find(|(l, _)| *l == s.labels) else {
            return Err(format!("unexpected {} {:?}", s.labels, s.floats));
        };
        let want: Vec<(i64, &SequenceValue)> = values
            .iter()
            .enumerate()
            .map(|(i, v)| (start + step * i as i64, v))
            .filter(|(_, v)| !matches!(v, SequenceValue::Omitted))
            .collect();
        if want.last().is_some_and(|(t, _)| *t > end) {
            return Err(format!("{}: more values expected than the range has steps", s.labels));
        }
        let mut points: Vec<(i64, SampleValue)> = s.floats.iter().map(|(t, v)| (*t, SampleValue::Float(*v))).collect();
        points.extend(s.histograms.iter().map(|(t, h)| (*t, SampleValue::Histogram(h.clone()))));
        points.sort_by_key(|(t, _)| *t);
        let (want_t, got_t): (Vec<i64>, Vec<i64>) =
            (want.iter().map(|w| w.0).collect(), points.iter().map(|p| p.0).collect());
        if want_t != got_t {
            return Err(format!("{}: expected times {want_t:?}, got {got_t:?}", s.labels));
        }
        for ((t, w), (_, g)) in want.iter().zip(&points) {
            sample(w, g).map_err(|m| format!("{} at {t}: {m}", s.labels))?;
        }
    }
    match wanted.iter().find(|(l, _)| !got.iter().any(|s| s.labels == *l)) {
        Some((missing, _)) => Err(format!("missing {missing}")),
        None => Ok(()),
    }
}
