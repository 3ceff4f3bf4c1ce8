//! Whether a histogram counter was reset between two samples.
use std::borrow::Cow;

use super::buckets::indexed;
use super::layout::shared_bounds;
use super::{CounterResetHint, FloatHistogram, Span};

impl FloatHistogram {
    /// Whether a counter reset happened between `previous` and this later histogram.
    ///
    /// An explicit hint decides; otherwise any count that fell, a resolution that grew, or a zero bucket that shrank.
    /// Differing custom bounds are compared on the bounds both share.
    pub fn detect_reset(&self, previous: &FloatHistogram) -> bool {
        match self.counter_reset_hint {
            CounterResetHint::CounterReset => return true,
            CounterResetHint::NotCounterReset => return false,
            CounterResetHint::Unknown | CounterResetHint::Gauge => {}
        }
        if self.count < previous.count || !self.is_compatible(previous) {
            return true;
        }
        let (mut now, mut before) = (Cow::Borrowed(self), Cow::Borrowed(previous));
        if self.uses_custom_buckets() {
            if self.custom_values != previous.custom_values {
                let kept = shared_bounds(&self.custom_values, &previous.custom_values);
                now.to_mut().map_custom(&kept);
                before.to_mut().map_custom(&kept);
            }
        } else {
            if self.schema > previous.schema || self.zero_threshold < previous.zero_threshold {
                return true;
            }
            if self.zero_threshold != previous.zero_threshold {
                if previous.zero_threshold_for(self.zero_threshold) != self.zero_threshold {
                    return true; // the new zero bucket ends within a populated bucket of the old histogram
                }
                before.to_mut().widen_zero(self.zero_threshold);
            }
            if self.zero_count < before.zero_count {
                return true;
            }
            if self.schema < previous.schema {
                before.to_mut().reduce_resolution(self.schema);
            }
        }
        fell((&now.positive_spans, &now.positive_buckets), (&before.positive_spans, &before.positive_buckets))
            || fell((&now.negative_spans, &now.negative_buckets), (&before.negative_spans, &before.negative_buckets))
    }
}

/// Whether any bucket holds less than it did.
fn fell(now: (&[Span], &[f64]), before: (&[Span], &[f64])) -> bool {
    if now.0 == before.0 {
        return now.1.iter().zip(before.1).any(|(n, b)| n < b);
    }
    let mut later = indexed(now.0, now.1).peekable();
    for (index, count) in indexed(before.0, before.1) {
        while later.next_if(|(i, _)| *i < index).is_some() {}
        let current = later.peek().filter(|(i, _)| *i == index).map_or(0.0, |(_, c)| *c);
        if current < count {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(offset: i32, counts: &[f64]) -> FloatHistogram {
        FloatHistogram {
            count: counts.iter().sum(),
            positive_spans: vec![Span { offset, length: counts.len() as u32 }],
            positive_buckets: counts.to_vec(),
            ..Default::default()
        }
    }

    #[test]
    fn detects() {
        let a = histogram(0, &[1.0, 2.0, 3.0]);
        assert!(!histogram(0, &[1.0, 2.0, 4.0]).detect_reset(&a));
        assert!(!histogram(-1, &[5.0, 1.0, 2.0, 3.0]).detect_reset(&a));
        assert!(histogram(0, &[1.0, 1.0, 9.0]).detect_reset(&a), "one bucket fell");
        assert!(histogram(1, &[9.0, 9.0]).detect_reset(&a), "one bucket vanished");
        assert!(histogram(0, &[0.0, 0.0]).detect_reset(&a), "the count fell");
        let mut finer = histogram(0, &[1.0, 2.0, 4.0]);
        finer.schema = 1;
        assert!(finer.detect_reset(&a));
        finer.counter_reset_hint = CounterResetHint::NotCounterReset;
        assert!(!finer.detect_reset(&a));
    }
}
