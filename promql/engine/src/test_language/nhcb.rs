//! Classic histograms of a `load_with_nhcb` block as native histograms with custom buckets.
use std::collections::BTreeMap;
use std::sync::Arc;

use ferula_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use ferula_model::labels::{BUCKET, METRIC_NAME};
use ferula_model::number::parse_go_float;
use ferula_model::{FloatHistogram, Labels, LabelsBuilder, Span, is_stale_nan, stale_nan};
use ferula_promql_parser::series_description::SequenceValue;

use super::script::LoadSeries;

#[derive(Default)]
struct Classic {
    /// Upper bound and cumulative count.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: Option<f64>,
}

pub(super) fn convert(series: &[LoadSeries]) -> Vec<LoadSeries> {
    let mut families: BTreeMap<Labels, BTreeMap<usize, Classic>> = BTreeMap::new();
    for s in series {
        let name = s.labels.metric_name();
        let Some((family, suffix)) =
            ["_bucket", "_count", "_sum"].iter().find_map(|x| name.strip_suffix(x).map(|f| (f, *x)))
        else {
            continue;
        };
        let upper = s.labels.get(BUCKET).and_then(|le| parse_go_float(le).ok()).filter(|le| !le.is_nan());
        if suffix == "_bucket" && upper.is_none() {
            continue;
        }
        let mut b = LabelsBuilder::from_view(&s.labels);
        b.set(METRIC_NAME, family).del(BUCKET);
        let samples = families.entry(b.labels()).or_default();
        for (i, v) in s.values.iter().enumerate() {
            let SequenceValue::Float(v) = v else { continue };
            let c = samples.entry(i).or_default();
            match (suffix, upper) {
                ("_bucket", Some(upper)) => c.buckets.push((upper, *v)),
                ("_count", _) => c.count = Some(*v),
                _ => c.sum = Some(*v),
            }
        }
    }
    families
        .into_iter()
        .map(|(labels, samples)| {
            let n = samples.keys().next_back().map_or(0, |i| i + 1);
            let mut values = vec![SequenceValue::Omitted; n];
            for (i, c) in samples {
                values[i] = native(c);
            }
            LoadSeries { labels, values, start_offsets: Vec::new() }
        })
        .collect()
}

fn native(mut c: Classic) -> SequenceValue {
    if c.buckets.iter().any(|(_, v)| is_stale_nan(*v)) {
        return SequenceValue::Float(stale_nan());
    }
    c.buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    // A bound written in several ways is one bound; the last one counts.
    c.buckets.dedup_by(|later, first| {
        let same = later.0 == first.0;
        if same {
            first.1 = later.1;
        }
        same
    });
    let count = c.count.or(c.buckets.last().map(|b| b.1)).unwrap_or(0.0);
    if c.buckets.last().is_none_or(|b| b.0 != f64::INFINITY) {
        c.buckets.push((f64::INFINITY, count));
    }
    let mut before = 0.0;
    let positive_buckets: Vec<f64> = c.buckets.iter().map(|(_, v)| v - std::mem::replace(&mut before, *v)).collect();
    let mut h = FloatHistogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count,
        sum: c.sum.unwrap_or(0.0),
        positive_spans: vec![Span { offset: 0, length: positive_buckets.len() as u32 }],
        positive_buckets,
        custom_values: c.buckets.iter().map(|b| b.0).filter(|b| *b != f64::INFINITY).collect(),
        ..FloatHistogram::default()
    };
    h.compact(0);
    SequenceValue::Histogram { histogram: Arc::new(h), hint_given: false }
}
