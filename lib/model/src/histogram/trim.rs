//! Cutting a histogram at a value: PromQL's `</` (keep what is at most) and `>/` (keep what is above).
use super::buckets::SpanBuilder;
use super::{Bucket, FloatHistogram};

/// What is left of one bucket: its count and the value that stands for all of it in the new sum.
struct Kept {
    count: f64,
    middle: f64,
}

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    /// Observations spread evenly over the logarithm: exponential buckets.
    Exponential,
    /// Spread evenly: custom buckets and the zero bucket.
    Linear,
}

fn middle(lower: f64, upper: f64, shape: Shape) -> f64 {
    if lower == f64::NEG_INFINITY {
        return upper;
    }
    if upper == f64::INFINITY {
        return lower;
    }
    match shape {
        Shape::Linear => (lower + upper) / 2.0,
        Shape::Exponential if lower < 0.0 => -(lower.abs() * upper.abs()).sqrt(),
        Shape::Exponential => (lower * upper).sqrt(),
    }
}

/// The share of a bucket that lies below `at`, `lower < at < upper`, all finite.
fn share_below(lower: f64, upper: f64, at: f64, shape: Shape) -> f64 {
    match shape {
        Shape::Linear => (at - lower) / (upper - lower),
        Shape::Exponential if lower < 0.0 => 1.0 - (at.abs() / upper.abs()).log2() / (lower.abs() / upper.abs()).log2(),
        Shape::Exponential => (at / lower).log2() / (upper / lower).log2(),
    }
}

/// `keep_below`: keep what is at most `at`, else what is above. Buckets open to one side cannot be divided: they go
/// whole to the side they are open to.
fn cut(b: &Bucket, at: f64, keep_below: bool, shape: Shape) -> Kept {
    let Bucket { lower, upper, count, .. } = *b;
    if upper <= at || lower >= at {
        let kept = if (upper <= at) == keep_below { count } else { 0.0 };
        return Kept { count: kept, middle: middle(lower, upper, shape) };
    }
    if upper == f64::INFINITY || lower == f64::NEG_INFINITY {
        let belongs_below = upper != f64::INFINITY;
        return Kept { count: if belongs_below == keep_below { count } else { 0.0 }, middle: at };
    }
    let below = share_below(lower, upper, at, shape);
    if keep_below {
        Kept { count: count * below, middle: middle(lower, at, shape) }
    } else {
        Kept { count: count * (1.0 - below), middle: middle(at, upper, shape) }
    }
}

impl FloatHistogram {
    /// Keeps the observations at most `at` (`keep_below`) or those above, interpolating within the bucket that holds
    /// `at` as quantiles do. Count and sum are estimated anew from the buckets, unless nothing is cut.
    pub fn trim(&mut self, at: f64, keep_below: bool) {
        if at.is_nan() {
            return;
        }
        let custom = self.uses_custom_buckets();
        let shape = if custom { Shape::Linear } else { Shape::Exponential };
        let (mut count, mut sum, mut changed) = (0.0, 0.0, false);
        let mut side = |buckets: Vec<Bucket>| {
            let mut out = SpanBuilder::default();
            for mut b in buckets {
                // The lowest custom bucket counts as starting at zero where that makes sense, as it does for quantiles.
                if custom && b.index == 0 && b.upper > 0.0 && at >= 0.0 && b.upper != f64::INFINITY {
                    b.lower = 0.0;
                }
                let kept = cut(&b, at, keep_below, shape);
                changed |= kept.count != b.count;
                if kept.count != 0.0 {
                    count += kept.count;
                    sum += kept.count * kept.middle;
                }
                out.push(b.index, kept.count);
            }
            (out.spans, out.counts)
        };
        let positive = side(self.positive_iter().collect());
        let negative = side(self.negative_iter().collect());
        let mut zero_count = self.zero_count;
        if self.zero_count != 0.0 && !custom {
            let mut zero = self.zero_bucket();
            let (has_negative, has_positive) =
                (self.negative_buckets.iter().any(|c| *c > 0.0), self.positive_buckets.iter().any(|c| *c > 0.0));
            if has_positive && !has_negative {
                zero.lower = 0.0;
            } else if has_negative && !has_positive {
                zero.upper = 0.0;
            }
            let kept = cut(&zero, at, keep_below, Shape::Linear);
            changed |= kept.count != zero.count;
            if kept.count != 0.0 {
                count += kept.count;
                sum += kept.count * kept.middle;
            }
            zero_count = kept.count;
        }
        if !changed {
            return;
        }
        (self.positive_spans, self.positive_buckets) = positive;
        (self.negative_spans, self.negative_buckets) = negative;
        (self.zero_count, self.count, self.sum) = (zero_count, count, sum);
        self.compact(0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CUSTOM_BUCKETS_SCHEMA, Span};
    use super::*;

    #[test]
    fn cuts_custom_buckets() {
        let h = FloatHistogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            sum: 172.5,
            count: 15.0,
            custom_values: vec![5.0, 10.0, 15.0, 20.0],
            positive_spans: vec![Span { offset: 0, length: 5 }],
            positive_buckets: vec![1.0, 6.0, 4.0, 3.0, 1.0],
            ..Default::default()
        };
        for (at, below, count, sum) in [
            (15.0, true, 11.0, 97.5),
            (15.0, false, 4.0, 72.5),
            (7.5, true, 4.0, 21.25),
            (50.0, true, 14.0, 150.0),
            (f64::INFINITY, true, 15.0, 172.5),
            (f64::NEG_INFINITY, true, 0.0, 0.0),
            (0.0, true, 0.0, 0.0),
        ] {
            let mut t = h.clone();
            t.trim(at, below);
            assert_eq!((t.count, t.sum), (count, sum), "at {at} below {below}");
        }
    }
}
