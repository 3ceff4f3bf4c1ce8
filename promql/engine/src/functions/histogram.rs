//! Kernels on native histograms, and the functions that look at one native histogram alone.
use ferula_model::FloatHistogram;
use ferula_model::histogram::Bucket;

use super::{Args, unsupported};
use crate::column::{ABSENT, Stream, map};
use crate::error::QueryError;
use crate::eval::merge::{Duplicates, unique};
use crate::grid::Grid;
use crate::math::Sum;
use crate::query::Query;

pub(super) fn eval<'a>(q: &'a Query<'a>, args: &Args<'a>, grid: Grid) -> Result<Stream<'a>, QueryError> {
    let f: fn(&FloatHistogram) -> f64 = match args.call.func.name {
        "histogram_avg" => |h| h.sum / h.count,
        "histogram_count" => |h| h.count,
        "histogram_sum" => |h| h.sum,
        "histogram_stdvar" => variance,
        "histogram_stddev" => |h| variance(h).sqrt(),
        name => return Err(unsupported(name)),
    };
    let expr = args.expr(0)?;
    let out = map(args.vector(q, 0, grid)?, move |c| {
        c.floats.fill(ABSENT);
        for (step, h) in std::mem::take(&mut c.histograms) {
            c.floats[step as usize] = f(&h);
        }
        q.drop_name(c);
        Ok(())
    });
    Ok(unique(q, expr, out, Duplicates::Merge))
}

/// The value that stands for all observations of a bucket.
fn representative(h: &FloatHistogram, b: &Bucket) -> f64 {
    if h.uses_custom_buckets() {
        if b.lower == f64::NEG_INFINITY {
            return if b.upper > 0.0 && b.upper.is_finite() { b.upper / 2.0 } else { b.upper };
        }
        if b.upper == f64::INFINITY {
            return b.lower;
        }
        return (b.upper + b.lower) / 2.0;
    }
    if b.lower <= 0.0 && b.upper >= 0.0 {
        return 0.0;
    }
    let middle = (b.upper * b.lower).sqrt();
    if b.upper < 0.0 { -middle } else { middle }
}

fn variance(h: &FloatHistogram) -> f64 {
    let mean = h.sum / h.count;
    let mut s = Sum::default();
    for b in h.buckets().iter().filter(|b| b.count != 0.0) {
        let delta = representative(h, b) - mean;
        s.add(b.count * delta * delta);
    }
    s.value() / h.count
}

/// The zero bucket of a histogram with buckets on one side only reaches to zero only.
fn bias(h: &FloatHistogram, b: &mut Bucket) {
    if h.uses_custom_buckets() {
        return;
    }
    if h.negative_buckets.is_empty() && !h.positive_buckets.is_empty() {
        b.lower = 0.0;
    } else if h.positive_buckets.is_empty() && !h.negative_buckets.is_empty() {
        b.upper = 0.0;
    }
}

/// What NaN observations do to a quantile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NanEffect {
    None,
    Result,
    Skewed,
}

/// The `q`-quantile of a native histogram: linear within custom and zero buckets, exponential within the others.
pub(super) fn quantile(q: f64, h: &FloatHistogram) -> (f64, NanEffect) {
    if q < 0.0 {
        return (f64::NEG_INFINITY, NanEffect::None);
    }
    if q > 1.0 {
        return (f64::INFINITY, NanEffect::None);
    }
    if h.count == 0.0 || q.is_nan() {
        return (f64::NAN, NanEffect::None);
    }
    // Observations of NaN are in the count but in no bucket: then only counting from below finds the right one.
    let has_nan = h.sum.is_nan();
    let forward = has_nan || q < 0.5;
    let rank = if forward { q * h.count } else { (1.0 - q) * h.count };
    let mut buckets = h.buckets();
    if !forward {
        buckets.reverse();
    }
    let (mut count, mut found) = (0.0, None);
    for b in buckets.iter().filter(|b| b.count != 0.0) {
        count += b.count;
        found = Some(*b);
        if count >= rank {
            break;
        }
    }
    let Some(mut b) = found.or(buckets.last().copied()) else {
        // Nothing but NaN was observed.
        return (f64::NAN, if has_nan { NanEffect::Result } else { NanEffect::None });
    };
    if !h.uses_custom_buckets() {
        if b.lower < 0.0 && b.upper > 0.0 {
            bias(h, &mut b);
        }
    } else if b.lower == f64::NEG_INFINITY {
        if b.upper <= 0.0 {
            return (b.upper, NanEffect::None);
        }
        b.lower = 0.0;
    }
    if h.uses_custom_buckets() && b.upper == f64::INFINITY {
        return (b.lower, NanEffect::None);
    }
    count = count.min(h.count);
    if count < rank {
        if has_nan {
            return (f64::NAN, NanEffect::Result);
        }
        return (b.upper, NanEffect::None);
    }
    let effect = if has_nan { NanEffect::Skewed } else { NanEffect::None };
    let within = if forward { rank - (count - b.count) } else { count - rank };
    let fraction = within / b.count;
    if h.uses_custom_buckets() || (b.lower <= 0.0 && b.upper >= 0.0) {
        return (b.lower + (b.upper - b.lower) * fraction, effect);
    }
    let (lower, upper) = (b.lower.abs().log2(), b.upper.abs().log2());
    let value = if b.lower > 0.0 {
        (lower + (upper - lower) * fraction).exp2()
    } else {
        -(upper + (lower - upper) * (1.0 - fraction)).exp2()
    };
    (value, effect)
}

/// The share of observations between two values; NaN observations are in no share.
pub(super) fn fraction(lower: f64, upper: f64, h: &FloatHistogram) -> (f64, bool) {
    if h.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, false);
    }
    if lower >= upper {
        return (0.0, false);
    }
    let buckets = h.buckets();
    let has_nan = h.sum.is_nan() && buckets.iter().map(|b| b.count).sum::<f64>() < h.count;
    let total: f64 = if h.sum.is_nan() { buckets.iter().map(|b| b.count).sum() } else { h.count };
    let rank_of = |at: f64| {
        let mut rank = 0.0;
        for b in &buckets {
            let mut b = *b;
            let linear = h.uses_custom_buckets() || (b.lower <= 0.0 && b.upper >= 0.0);
            if linear {
                bias(h, &mut b);
            }
            if h.uses_custom_buckets() && b.lower == f64::NEG_INFINITY && b.upper > 0.0 && at >= 0.0 {
                b.lower = 0.0;
            }
            if b.lower >= at {
                return rank;
            }
            if b.upper > at {
                if b.lower == f64::NEG_INFINITY {
                    return rank + b.count;
                }
                if b.upper == f64::INFINITY {
                    return rank;
                }
                let share = if linear {
                    (at - b.lower) / (b.upper - b.lower)
                } else {
                    let (lo, up, at_log) = (b.lower.abs().log2(), b.upper.abs().log2(), at.abs().log2());
                    if at > 0.0 { (at_log - lo) / (up - lo) } else { 1.0 - (at_log - up) / (lo - up) }
                };
                return rank + b.count * share;
            }
            rank += b.count;
        }
        total
    };
    let (low, high) = (rank_of(lower).min(total), rank_of(upper).min(total));
    ((high - low) / h.count, has_nan)
}
