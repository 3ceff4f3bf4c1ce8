//! What the writers write, the parser reads back: same series, same values.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::BTreeMap;

use ferula_exposition::family::{Bucket, Family, Histogram, Metric, MetricValue, Summary, Text};
use ferula_exposition::parse::{Entry, Limits, Parser, Syntax};
use ferula_exposition::write::{Escaping, Exposition, Format};
use ferula_model::{LabelsBuilder, MetricType};
use proptest::prelude::*;

type Series = BTreeMap<String, u64>;

/// Series to the bits of their values; NaNs alike.
fn read(body: &[u8], syntax: Syntax) -> Series {
    let mut parser = Parser::new(body, syntax, Limits::default());
    let mut out = Series::new();
    while let Some(entry) = parser.next() {
        if let Entry::Sample(sample) = entry.unwrap_or_else(|e| panic!("{e}\n{}", String::from_utf8_lossy(body))) {
            let mut labels = LabelsBuilder::new();
            parser.labels(|n, v| _ = labels.set(&n, &v));
            out.insert(labels.labels().to_string(), bits(sample.value));
        }
    }
    out
}

fn bits(v: f64) -> u64 {
    if v.is_nan() { f64::NAN.to_bits() } else { (v + 0.0).to_bits() }
}

/// The samples a family means, in the notation of a scrape.
fn meaning(families: &[Family]) -> Series {
    let mut out = Series::new();
    let mut add = |name: &str, suffix: &str, labels: &[(Text, Text)], extra: Option<(&str, f64)>, v: f64| {
        let mut b = LabelsBuilder::new();
        b.set("__name__", &format!("{name}{suffix}"));
        for (n, v) in labels {
            b.set(n, v);
        }
        if let Some((n, v)) = extra {
            // Readers normalise bounds and quantiles to this form.
            let text = ferula_model::number::format_g(v);
            let is_whole = v.is_finite() && !text.contains(['.', 'e']);
            b.set(n, &if is_whole { format!("{text}.0") } else { text });
        }
        out.insert(b.labels().to_string(), bits(v));
    };
    for f in families {
        for m in &f.metrics {
            match &m.value {
                MetricValue::Number(v) => add(&f.name, "", &m.labels, None, *v),
                MetricValue::Summary(s) => {
                    s.quantiles.iter().for_each(|(q, v)| add(&f.name, "", &m.labels, Some(("quantile", *q)), *v));
                    add(&f.name, "_sum", &m.labels, None, s.sum);
                    add(&f.name, "_count", &m.labels, None, s.count);
                }
                MetricValue::Histogram(h) => {
                    for b in &h.buckets {
                        add(&f.name, "_bucket", &m.labels, Some(("le", b.upper_bound)), b.cumulative_count);
                    }
                    add(&f.name, "_bucket", &m.labels, Some(("le", f64::INFINITY)), h.count);
                    add(&f.name, "_sum", &m.labels, None, h.sum);
                    add(&f.name, "_count", &m.labels, None, h.count);
                }
            }
        }
    }
    out
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), any::<i32>().prop_map(f64::from), Just(f64::NAN), Just(f64::INFINITY), 0.0..1e9f64]
}

fn family(i: usize) -> impl Strategy<Value = Family> {
    let labels = proptest::collection::btree_map("[a-z]{1,3}x|[a-zäß.\"\\\\ ]{1,5}x", "[^\\x00-\\x08]{1,12}", 0..4);
    (".{0,20}", 0..4u8, labels, proptest::collection::vec(value(), 4)).prop_map(move |(help, kind, labels, values)| {
        let labels: Vec<(Text, Text)> = labels.into_iter().map(|(n, v)| (n.into(), v.into())).collect();
        let (name, metric_type, value) = match kind {
            0 => (format!("c{i}_total"), MetricType::Counter, MetricValue::Number(values[0].abs())),
            1 => (format!("gauge.{i}"), MetricType::Gauge, MetricValue::Number(values[0])),
            2 => {
                let quantiles = vec![(0.5, values[0]), (1.0, values[1])];
                let s = Summary { count: 3.0, sum: values[2], quantiles };
                (format!("s{i}"), MetricType::Summary, MetricValue::Summary(s))
            }
            _ => {
                let bucket = |b, c| Bucket { upper_bound: b, cumulative_count: c, exemplar: None };
                let buckets = vec![bucket(-1.5, 1.0), bucket(2.0, 7_000_000.0)];
                let h = Histogram { count: 8_000_000.0, sum: values[3], buckets, native: None };
                (format!("h{i}"), MetricType::Histogram, MetricValue::Histogram(h))
            }
        };
        Family { metrics: vec![Metric::new(labels, value)], ..Family::new(name, help, metric_type) }
    })
}

proptest! {
    #[test]
    fn text_and_openmetrics_come_back(families in (family(0), family(1), family(2), family(3))) {
        let families = [families.0, families.1, families.2, families.3];
        let want = meaning(&families);
        for (exposition, syntax) in
            [(Exposition::Text1_0_0, Syntax::Text), (Exposition::OpenMetrics1_0_0, Syntax::OpenMetrics)]
        {
            let mut body = Vec::new();
            Format { exposition, escaping: Escaping::AllowUtf8 }.write(&families, &mut body);
            prop_assert_eq!(&read(&body, syntax), &want, "{}", String::from_utf8_lossy(&body));
        }
    }
}
