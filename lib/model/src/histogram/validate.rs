//! What makes a histogram acceptable to storage.
use super::bounds::is_exponential_schema;
use super::{FloatHistogram, Histogram, Span};

/// Why a histogram was refused or two could not be combined; upstream's texts.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum HistogramError {
    #[error(
        "histogram's observation count should be at least the number of observations found in the buckets: {in_buckets} observations found in buckets, but the Count field is {count}"
    )]
    CountNotBigEnough { in_buckets: u64, count: u64 },
    #[error(
        "histogram's observation count should equal the number of observations found in the buckets (in absence of NaN): {in_buckets} observations found in buckets, but the Count field is {count}"
    )]
    CountMismatch { in_buckets: u64, count: u64 },
    #[error(
        "{side} side: histogram has a bucket whose observation count is negative: bucket number {number} has observation count of {count}"
    )]
    NegativeBucketCount { side: &'static str, number: usize, count: String },
    #[error("{side} side: histogram has a span whose offset is negative: span number {number} with offset {offset}")]
    SpanNegativeOffset { side: &'static str, number: usize, offset: i32 },
    #[error(
        "{side} side: histogram spans specify different number of buckets than provided: spans need {need} buckets, have {have} buckets"
    )]
    SpansBucketsMismatch { side: &'static str, need: u64, have: usize },
    #[error(
        "histogram has an invalid schema, which must be between -4 and 8 for exponential buckets, or -53 for custom buckets: schema {0}"
    )]
    InvalidSchema(i32),
    #[error(
        "custom buckets: histogram custom bounds are too few: only {bounds} custom bounds defined which is insufficient to cover total span length of {need}"
    )]
    CustomBucketsMismatch { bounds: usize, need: u64 },
    #[error("custom buckets: histogram custom bounds must be in strictly increasing order")]
    CustomBucketsInvalid,
    #[error("custom buckets: histogram custom bounds must be finite")]
    CustomBucketsInfinite,
    #[error("custom buckets: histogram custom bounds must not be NaN")]
    CustomBucketsNaN,
    #[error("custom buckets: must have zero count of 0")]
    CustomZeroCount,
    #[error("custom buckets: must have zero threshold of 0")]
    CustomZeroThreshold,
    #[error("custom buckets: must not have negative spans")]
    CustomNegativeSpans,
    #[error("custom buckets: must not have negative buckets")]
    CustomNegativeBuckets,
    #[error("histogram with exponential schema must not have custom bounds")]
    ExponentialWithBounds,
    #[error("cannot apply this operation on histograms with a mix of exponential and custom bucket schemas")]
    IncompatibleSchema,
}

fn check_spans(side: &'static str, spans: &[Span], have: usize) -> Result<(), HistogramError> {
    let mut need = 0u64;
    for (i, s) in spans.iter().enumerate() {
        if i > 0 && s.offset < 0 {
            return Err(HistogramError::SpanNegativeOffset { side, number: i + 1, offset: s.offset });
        }
        need = need.saturating_add(u64::from(s.length));
    }
    if need != have as u64 {
        return Err(HistogramError::SpansBucketsMismatch { side, need, have });
    }
    Ok(())
}

fn check_custom(bounds: &[f64], spans: &[Span]) -> Result<(), HistogramError> {
    let mut previous = f64::NEG_INFINITY;
    for b in bounds {
        if b.is_nan() {
            return Err(HistogramError::CustomBucketsNaN);
        }
        if *b <= previous {
            return Err(HistogramError::CustomBucketsInvalid);
        }
        previous = *b;
    }
    if previous == f64::INFINITY {
        return Err(HistogramError::CustomBucketsInfinite);
    }
    let mut need = 0u64;
    for s in spans {
        if s.offset < 0 {
            return Err(HistogramError::SpanNegativeOffset { side: "custom", number: 1, offset: s.offset });
        }
        need = need.saturating_add(u64::from(s.length)).saturating_add(s.offset.unsigned_abs().into());
    }
    if need > bounds.len() as u64 + 1 {
        return Err(HistogramError::CustomBucketsMismatch { bounds: bounds.len(), need });
    }
    Ok(())
}

impl Histogram {
    /// Whether counts, spans, schema and bounds fit together.
    pub fn validate(&self) -> Result<(), HistogramError> {
        if self.uses_custom_buckets() {
            check_custom(&self.custom_values, &self.positive_spans)?;
            if self.zero_count != 0 {
                return Err(HistogramError::CustomZeroCount);
            }
            if self.zero_threshold != 0.0 {
                return Err(HistogramError::CustomZeroThreshold);
            }
            if !self.negative_spans.is_empty() {
                return Err(HistogramError::CustomNegativeSpans);
            }
            if !self.negative_buckets.is_empty() {
                return Err(HistogramError::CustomNegativeBuckets);
            }
        } else if !is_exponential_schema(self.schema) {
            return Err(HistogramError::InvalidSchema(self.schema));
        } else {
            if !self.custom_values.is_empty() {
                return Err(HistogramError::ExponentialWithBounds);
            }
            check_spans("negative", &self.negative_spans, self.negative_buckets.len())?;
        }
        check_spans("positive", &self.positive_spans, self.positive_buckets.len())?;
        let side = |side, deltas: &[i64]| -> Result<u64, HistogramError> {
            let (mut count, mut total) = (0i64, 0u64);
            for (i, d) in deltas.iter().enumerate() {
                count = count.wrapping_add(*d);
                let n = u64::try_from(count).map_err(|_| HistogramError::NegativeBucketCount {
                    side,
                    number: i + 1,
                    count: count.to_string(),
                })?;
                total = total.saturating_add(n);
            }
            Ok(total)
        };
        let in_buckets = side("negative", &self.negative_buckets)?
            .saturating_add(side("positive", &self.positive_buckets)?)
            .saturating_add(self.zero_count);
        // Observations of NaN are counted but sit in no bucket, and make the sum NaN.
        if self.sum.is_nan() {
            if in_buckets > self.count {
                return Err(HistogramError::CountNotBigEnough { in_buckets, count: self.count });
            }
        } else if in_buckets != self.count {
            return Err(HistogramError::CountMismatch { in_buckets, count: self.count });
        }
        Ok(())
    }

    pub fn uses_custom_buckets(&self) -> bool {
        self.schema == super::CUSTOM_BUCKETS_SCHEMA
    }
}

impl FloatHistogram {
    /// Whether spans, schema and bounds fit together. Float counts are not compared with their total: rounding makes
    /// equality meaningless.
    pub fn validate(&self) -> Result<(), HistogramError> {
        if self.uses_custom_buckets() {
            check_custom(&self.custom_values, &self.positive_spans)?;
            if self.zero_count != 0.0 {
                return Err(HistogramError::CustomZeroCount);
            }
            if self.zero_threshold != 0.0 {
                return Err(HistogramError::CustomZeroThreshold);
            }
            if !self.negative_spans.is_empty() {
                return Err(HistogramError::CustomNegativeSpans);
            }
            if !self.negative_buckets.is_empty() {
                return Err(HistogramError::CustomNegativeBuckets);
            }
        } else if !is_exponential_schema(self.schema) {
            return Err(HistogramError::InvalidSchema(self.schema));
        } else {
            if !self.custom_values.is_empty() {
                return Err(HistogramError::ExponentialWithBounds);
            }
            check_spans("negative", &self.negative_spans, self.negative_buckets.len())?;
        }
        check_spans("positive", &self.positive_spans, self.positive_buckets.len())?;
        for (side, counts) in [("negative", &self.negative_buckets), ("positive", &self.positive_buckets)] {
            if let Some(i) = counts.iter().position(|c| *c < 0.0) {
                let count = crate::number::format_g(counts[i]);
                return Err(HistogramError::NegativeBucketCount { side, number: i + 1, count });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_does_not_fit() {
        let good = Histogram {
            count: 6,
            sum: 3.0,
            zero_count: 1,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: vec![2, 1],
            ..Default::default()
        };
        assert_eq!(good.validate(), Ok(()));
        assert_eq!(good.to_float().validate(), Ok(()));
        let check = |change: fn(&mut Histogram), want: &str| {
            let mut h = good.clone();
            change(&mut h);
            assert!(h.validate().unwrap_err().to_string().contains(want), "{want}");
        };
        check(|h| h.count = 7, "should equal the number");
        check(|h| (h.sum, h.count) = (f64::NAN, 5), "should be at least");
        check(
            |h| h.positive_buckets = vec![2, -3],
            "positive side: histogram has a bucket whose observation count is negative: bucket number 2 has observation count of -1",
        );
        check(|h| h.positive_spans[0].length = 3, "spans need 3 buckets, have 2 buckets");
        check(|h| h.schema = 9, "invalid schema");
        check(|h| h.custom_values = vec![1.0], "must not have custom bounds");
        check(|h| (h.schema, h.zero_count) = (-53, 1), "too few");
        check(|h| (h.schema, h.custom_values) = (-53, vec![2.0, 1.0]), "strictly increasing");
    }
}
