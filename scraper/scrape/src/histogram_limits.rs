//! `native_histogram_bucket_limit` and `native_histogram_min_bucket_factor`: histograms are made coarser until they fit.
use ferula_model::{FloatHistogram, Histogram, Value};

use crate::config::ScrapeConfig;

const SCHEMA_MIN: i32 = -4;
const SCHEMA_MAX: i32 = 8;

/// A histogram made coarser.
pub(crate) enum Reduced {
    Integer(Histogram),
    Float(FloatHistogram),
}

impl Reduced {
    pub(crate) fn value(&self) -> Value<'_> {
        match self {
            Reduced::Integer(h) => Value::Histogram(h),
            Reduced::Float(h) => Value::FloatHistogram(h),
        }
    }
}

/// `Some(None)`: the value may be stored as it is. `None`: it cannot be made to fit.
pub(crate) fn apply(config: &ScrapeConfig, value: Value<'_>) -> Option<Option<Reduced>> {
    let (limit, factor) = (config.native_histogram_bucket_limit, config.native_histogram_min_bucket_factor);
    let (schema, buckets) = match value {
        Value::Float(_) => return Some(None),
        Value::Histogram(h) => (h.schema, h.positive_buckets.len() + h.negative_buckets.len()),
        Value::FloatHistogram(h) => (h.schema, h.positive_buckets.len() + h.negative_buckets.len()),
    };
    let is_exponential = (SCHEMA_MIN..=SCHEMA_MAX).contains(&schema);
    let mut target = schema;
    if is_exponential {
        target = target.min(coarsest_for(factor));
    }
    let fits = |n: usize| limit == 0 || n as u64 <= limit;
    if fits(buckets) && target == schema {
        return Some(None);
    }
    if !is_exponential {
        return None; // custom bounds are what they are
    }
    let mut reduced = match value {
        Value::Histogram(h) => Reduced::Integer(h.clone()),
        Value::FloatHistogram(h) => Reduced::Float(h.clone()),
        Value::Float(_) => return Some(None),
    };
    loop {
        let left = match &mut reduced {
            Reduced::Integer(h) => {
                h.reduce_resolution(target);
                h.positive_buckets.len() + h.negative_buckets.len()
            }
            Reduced::Float(h) => {
                h.reduce_resolution(target);
                h.positive_buckets.len() + h.negative_buckets.len()
            }
        };
        if fits(left) {
            return Some(Some(reduced));
        }
        if target <= SCHEMA_MIN {
            return None;
        }
        target -= 1;
    }
}

/// The finest schema whose buckets grow by at least `factor`.
fn coarsest_for(factor: f64) -> i32 {
    if factor <= 1.0 {
        return SCHEMA_MAX;
    }
    let schema = (-factor.log2().log2()).floor();
    (schema.clamp(f64::from(SCHEMA_MIN), f64::from(SCHEMA_MAX))) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferula_model::Span;

    #[test]
    fn coarser_until_it_fits() {
        let h = Histogram {
            schema: 3,
            count: 8,
            positive_spans: vec![Span { offset: 0, length: 8 }],
            positive_buckets: vec![1, 0, 0, 0, 0, 0, 0, 0],
            ..Histogram::default()
        };
        let with = |limit, factor| {
            let config = ScrapeConfig {
                native_histogram_bucket_limit: limit,
                native_histogram_min_bucket_factor: factor,
                ..ScrapeConfig::default()
            };
            match apply(&config, Value::Histogram(&h)) {
                None => None,
                Some(None) => Some((3, 8)),
                Some(Some(Reduced::Integer(r))) => Some((r.schema, r.positive_buckets.len())),
                Some(Some(Reduced::Float(_))) => panic!("stays integer"),
            }
        };
        assert_eq!(with(0, 0.0), Some((3, 8)));
        assert_eq!(with(8, 0.0), Some((3, 8)));
        assert_eq!(with(5, 0.0).unwrap().0, 2);
        assert_eq!(with(0, 2.0).unwrap().0, 0);
        let custom = Histogram { schema: ferula_model::histogram::CUSTOM_BUCKETS_SCHEMA, ..h.clone() };
        let tight = ScrapeConfig { native_histogram_bucket_limit: 2, ..ScrapeConfig::default() };
        assert!(apply(&tight, Value::Histogram(&custom)).is_none());
    }
}
