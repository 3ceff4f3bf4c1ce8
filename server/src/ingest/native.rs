//! Native histograms from the wire.
//!
//! Version 2's message has every field of version 1's under the same number, and a start time: one reading serves both.
use ferula_model::{CounterResetHint, FloatHistogram, Histogram, Span, Value};
use ferula_proto::remote_v2::histogram::{Count, ResetHint, ZeroCount};
use ferula_proto::remote_v2::{self, BucketSpan};

pub(super) enum Native {
    Integer(Histogram),
    Float(FloatHistogram),
}

impl Native {
    pub(super) fn value(&self) -> Value<'_> {
        match self {
            Native::Integer(h) => Value::Histogram(h),
            Native::Float(h) => Value::FloatHistogram(h),
        }
    }
    /// What is wrong with it, for the answer to its sender.
    pub(super) fn fault(&self) -> Option<String> {
        match self {
            Native::Integer(h) => h.validate(),
            Native::Float(h) => h.validate(),
        }
        .err()
        .map(|e| e.to_string())
    }
}

impl From<remote_v2::Histogram> for Native {
    fn from(h: remote_v2::Histogram) -> Native {
        let spans = |from: Vec<BucketSpan>| -> Vec<Span> {
            from.into_iter().map(|s| Span { offset: s.offset, length: s.length }).collect()
        };
        let counter_reset_hint = match h.reset_hint() {
            ResetHint::Unspecified => CounterResetHint::Unknown,
            ResetHint::Yes => CounterResetHint::CounterReset,
            ResetHint::No => CounterResetHint::NotCounterReset,
            ResetHint::Gauge => CounterResetHint::Gauge,
        };
        let (schema, zero_threshold, sum) = (h.schema, h.zero_threshold, h.sum);
        let (positive_spans, negative_spans) = (spans(h.positive_spans), spans(h.negative_spans));
        if let Some(Count::CountFloat(count)) = h.count {
            let zero_count = match h.zero_count {
                Some(ZeroCount::ZeroCountFloat(n)) => n,
                Some(ZeroCount::ZeroCountInt(n)) => n as f64,
                None => 0.0,
            };
            return Native::Float(FloatHistogram {
                counter_reset_hint,
                schema,
                zero_threshold,
                zero_count,
                count,
                sum,
                positive_spans,
                negative_spans,
                positive_buckets: h.positive_counts,
                negative_buckets: h.negative_counts,
                custom_values: h.custom_values,
            });
        }
        Native::Integer(Histogram {
            counter_reset_hint,
            schema,
            zero_threshold,
            zero_count: match h.zero_count {
                Some(ZeroCount::ZeroCountInt(n)) => n,
                _ => 0,
            },
            count: match h.count {
                Some(Count::CountInt(n)) => n,
                _ => 0,
            },
            sum,
            positive_spans,
            negative_spans,
            positive_buckets: h.positive_deltas,
            negative_buckets: h.negative_deltas,
            custom_values: h.custom_values,
        })
    }
}
