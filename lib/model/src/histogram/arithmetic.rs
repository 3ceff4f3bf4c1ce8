//! Adding, subtracting and scaling histograms, whatever their layouts.
use super::buckets::{SpanBuilder, indexed};
use super::layout::shared_bounds;
use super::validate::HistogramError;
use super::{CounterResetHint, FloatHistogram, Span};

/// What a caller may want to warn about after merging two histograms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// One side says "counter reset", the other "no counter reset".
    pub counter_reset_collision: bool,
    /// Custom bounds differed and were reduced to those both share.
    pub bounds_reconciled: bool,
}

/// One Neumaier step: adds `x` to `sum`, keeping what rounding lost in `comp`.
#[inline]
pub(crate) fn neumaier(x: f64, sum: &mut f64, comp: &mut f64) {
    let t = *sum + x;
    if t.is_infinite() {
        *comp = 0.0;
    } else if sum.abs() >= x.abs() {
        *comp += (*sum - t) + x;
    } else {
        *comp += (x - t) + *sum;
    }
    *sum = t;
}

/// `a + sign * b` bucket by bucket; `comp`, laid out as `a`, takes the rounding errors when given.
fn merge_side(
    a_spans: &mut Vec<Span>,
    a: &mut Vec<f64>,
    comp: Option<&mut Vec<f64>>,
    b_spans: &[Span],
    b: &[f64],
    sign: f64,
) {
    if b.is_empty() {
        return;
    }
    let mut none = Vec::new();
    let compensated = comp.is_some();
    let comp = comp.unwrap_or(&mut none);
    if a_spans.as_slice() == b_spans && a.len() == b.len() {
        if compensated {
            a.iter_mut().zip(comp.iter_mut()).zip(b).for_each(|((s, c), x)| neumaier(*x * sign, s, c));
        } else if sign < 0.0 {
            a.iter_mut().zip(b).for_each(|(s, x)| *s -= x);
        } else {
            a.iter_mut().zip(b).for_each(|(s, x)| *s += x);
        }
        return;
    }
    let mut out = SpanBuilder::default();
    let mut out_comp = Vec::new();
    let mut old_comp = comp.iter().copied();
    let (mut left, mut right) = (indexed(a_spans, a).peekable(), indexed(b_spans, b).peekable());
    loop {
        let (index, mut sum, mut c, add) = match (left.peek().copied(), right.peek().copied()) {
            (None, None) => break,
            (Some((i, x)), r) if r.is_none_or(|(j, _)| i <= j) => {
                left.next();
                let add = r.filter(|(j, _)| i == *j).map(|(_, y)| y);
                if add.is_some() {
                    right.next();
                }
                (i, x, old_comp.next().unwrap_or(0.0), add)
            }
            (_, Some((j, y))) => {
                right.next();
                (j, 0.0, 0.0, Some(y))
            }
            (Some(_), None) => break, // the guard above took it
        };
        if let Some(y) = add {
            if compensated { neumaier(y * sign, &mut sum, &mut c) } else { sum += y * sign }
        }
        out.push(index, sum);
        if compensated {
            out_comp.push(c);
        }
    }
    *a_spans = out.spans;
    *a = out.counts;
    *comp = out_comp;
}

impl FloatHistogram {
    /// Whether both are exponential, or both have custom buckets.
    pub fn is_compatible(&self, other: &FloatHistogram) -> bool {
        self.uses_custom_buckets() == other.uses_custom_buckets()
    }

    /// Adds `other`, changing its layout or this one's as needed: the wider zero bucket, the coarser schema, the
    /// shared custom bounds. Fails only on a mix of exponential and custom buckets.
    pub fn add(&mut self, other: &FloatHistogram) -> Result<Merged, HistogramError> {
        self.merge(other, 1.0, None)
    }

    /// Subtracts `other`; as [`add`](Self::add). Counts may become negative: the result is a gauge, which the caller marks.
    pub fn sub(&mut self, other: &FloatHistogram) -> Result<Merged, HistogramError> {
        self.merge(other, -1.0, None)
    }

    /// Multiplies everything; a negative factor makes a gauge of it.
    pub fn mul(&mut self, factor: f64) -> &mut Self {
        self.each_count(|x| x * factor);
        if factor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
        self
    }

    /// Divides everything; a negative divisor makes a gauge of it, and a zero one leaves no buckets.
    pub fn div(&mut self, divisor: f64) -> &mut Self {
        self.each_count(|x| x / divisor);
        if divisor < 0.0 {
            self.counter_reset_hint = CounterResetHint::Gauge;
        }
        if divisor == 0.0 {
            self.positive_spans.clear();
            self.positive_buckets.clear();
            self.negative_spans.clear();
            self.negative_buckets.clear();
        }
        self
    }

    pub(super) fn each_count(&mut self, f: impl Fn(f64) -> f64) {
        self.zero_count = f(self.zero_count);
        self.count = f(self.count);
        self.sum = f(self.sum);
        self.positive_buckets.iter_mut().chain(&mut self.negative_buckets).for_each(|c| *c = f(*c));
    }

    /// Whether any count or the sum has become infinite.
    pub fn has_overflow(&self) -> bool {
        self.zero_count.is_infinite()
            || self.count.is_infinite()
            || self.sum.is_infinite()
            || self.positive_buckets.iter().chain(&self.negative_buckets).any(|c| c.is_infinite())
    }

    fn merge(
        &mut self,
        other: &FloatHistogram,
        sign: f64,
        mut comp: Option<&mut FloatHistogram>,
    ) -> Result<Merged, HistogramError> {
        if !self.is_compatible(other) {
            return Err(HistogramError::IncompatibleSchema);
        }
        let mut merged = Merged { counter_reset_collision: self.merge_hint(other), bounds_reconciled: false };
        let mut adapted: Option<FloatHistogram> = None; // a copy of `other`, once its layout has to change
        if self.uses_custom_buckets() {
            if self.custom_values != other.custom_values {
                let kept = shared_bounds(&self.custom_values, &other.custom_values);
                self.map_custom(&kept);
                if let Some(c) = &mut comp {
                    c.map_custom(&kept);
                }
                adapted.get_or_insert_with(|| other.clone()).map_custom(&kept);
                merged.bounds_reconciled = true;
            }
        } else {
            while self.zero_threshold != adapted.as_ref().unwrap_or(other).zero_threshold {
                let o = adapted.get_or_insert_with(|| other.clone());
                if self.zero_threshold > o.zero_threshold {
                    o.widen_zero(o.zero_threshold_for(self.zero_threshold));
                } else {
                    let threshold = self.zero_threshold_for(o.zero_threshold);
                    self.widen_zero(threshold);
                    if let Some(c) = &mut comp {
                        c.widen_zero(threshold);
                    }
                }
            }
            if other.schema < self.schema {
                self.reduce_resolution(other.schema);
                if let Some(c) = &mut comp {
                    c.reduce_resolution(other.schema);
                }
            } else if self.schema < other.schema {
                adapted.get_or_insert_with(|| other.clone()).reduce_resolution(self.schema);
            }
        }
        let o = adapted.as_ref().unwrap_or(other);
        match comp {
            None => {
                self.zero_count += sign * o.zero_count;
                self.count += sign * o.count;
                self.sum += sign * o.sum;
                merge_side(
                    &mut self.positive_spans,
                    &mut self.positive_buckets,
                    None,
                    &o.positive_spans,
                    &o.positive_buckets,
                    sign,
                );
                merge_side(
                    &mut self.negative_spans,
                    &mut self.negative_buckets,
                    None,
                    &o.negative_spans,
                    &o.negative_buckets,
                    sign,
                );
            }
            Some(c) => {
                neumaier(sign * o.zero_count, &mut self.zero_count, &mut c.zero_count);
                neumaier(sign * o.count, &mut self.count, &mut c.count);
                neumaier(sign * o.sum, &mut self.sum, &mut c.sum);
                let c_pos = Some(&mut c.positive_buckets);
                merge_side(
                    &mut self.positive_spans,
                    &mut self.positive_buckets,
                    c_pos,
                    &o.positive_spans,
                    &o.positive_buckets,
                    sign,
                );
                c.positive_spans.clone_from(&self.positive_spans);
                let c_neg = Some(&mut c.negative_buckets);
                merge_side(
                    &mut self.negative_spans,
                    &mut self.negative_buckets,
                    c_neg,
                    &o.negative_spans,
                    &o.negative_buckets,
                    sign,
                );
                c.negative_spans.clone_from(&self.negative_spans);
            }
        }
        Ok(merged)
    }

    /// The hint of a sum. Gauge wins, then unknown; a reset against no reset is a collision, with unknown for an answer.
    fn merge_hint(&mut self, other: &FloatHistogram) -> bool {
        use CounterResetHint::{Gauge, Unknown};
        let (a, b) = (self.counter_reset_hint, other.counter_reset_hint);
        let (hint, collision) = match (a, b) {
            _ if a == b => (a, false),
            (Gauge, _) | (_, Gauge) => (Gauge, false),
            (Unknown, _) | (_, Unknown) => (Unknown, false),
            _ => (Unknown, true),
        };
        self.counter_reset_hint = hint;
        collision
    }

    /// The smallest threshold not below `at_least` that cuts through no populated bucket.
    pub(super) fn zero_threshold_for(&self, at_least: f64) -> f64 {
        let mut threshold = at_least;
        loop {
            let before = threshold;
            for b in self.positive_iter().take_while(|b| b.lower < before) {
                if b.upper > threshold && b.count != 0.0 {
                    threshold = b.upper;
                }
            }
            let now = threshold;
            for b in self.negative_iter().take_while(|b| b.upper > -now) {
                if b.lower < -threshold && b.count != 0.0 {
                    threshold = -b.lower;
                }
            }
            if threshold == before {
                return threshold;
            }
        }
    }

    /// Moves every bucket that begins below `threshold` into the zero bucket.
    pub(super) fn widen_zero(&mut self, threshold: f64) {
        let mut moved = 0.0;
        let schema = self.schema;
        for (spans, counts) in [
            (&mut self.positive_spans, &mut self.positive_buckets),
            (&mut self.negative_spans, &mut self.negative_buckets),
        ] {
            let mut kept = SpanBuilder::default();
            let mut changed = false;
            for (index, count) in indexed(spans, counts) {
                if super::bounds::bound(index.wrapping_sub(1), schema, &[]) < threshold {
                    moved += count;
                    changed = true;
                } else {
                    kept.push(index, count);
                }
            }
            if changed {
                (*spans, *counts) = (kept.spans, kept.counts);
            }
        }
        self.zero_count += moved;
        self.zero_threshold = threshold;
    }
}

/// A running sum of histograms with compensated (Kahan-Babuška-Neumaier) counts.
#[derive(Clone, Debug)]
pub struct HistogramSum {
    sum: FloatHistogram,
    comp: FloatHistogram,
}

impl HistogramSum {
    pub fn new(first: FloatHistogram) -> HistogramSum {
        let mut comp = first.clone();
        comp.each_count(|_| 0.0);
        HistogramSum { sum: first, comp }
    }
    pub fn add(&mut self, h: &FloatHistogram) -> Result<Merged, HistogramError> {
        self.sum.merge(h, 1.0, Some(&mut self.comp))
    }
    /// The uncompensated sum so far.
    pub fn raw(&self) -> &FloatHistogram {
        &self.sum
    }
    pub fn mul(&mut self, factor: f64) {
        self.sum.mul(factor);
        self.comp.mul(factor);
    }
    pub fn hint_mut(&mut self) -> &mut CounterResetHint {
        &mut self.sum.counter_reset_hint
    }
    /// Sum plus compensation.
    pub fn finish(mut self) -> FloatHistogram {
        let s = &mut self.sum;
        s.zero_count += self.comp.zero_count;
        s.count += self.comp.count;
        s.sum += self.comp.sum;
        s.positive_buckets.iter_mut().zip(&self.comp.positive_buckets).for_each(|(s, c)| *s += c);
        s.negative_buckets.iter_mut().zip(&self.comp.negative_buckets).for_each(|(s, c)| *s += c);
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::super::CUSTOM_BUCKETS_SCHEMA;
    use super::*;

    fn histogram(schema: i32, zero: (f64, f64), offset: i32, counts: &[f64]) -> FloatHistogram {
        FloatHistogram {
            schema,
            zero_threshold: zero.0,
            zero_count: zero.1,
            count: counts.iter().sum::<f64>() + zero.1,
            sum: 1.0,
            positive_spans: vec![Span { offset, length: counts.len() as u32 }],
            positive_buckets: counts.to_vec(),
            ..Default::default()
        }
    }

    #[test]
    fn adds_across_schemas_and_zero_buckets() {
        let mut a = histogram(1, (0.001, 1.0), 1, &[1.0, 2.0, 3.0, 4.0]); // (1,1.41] (1.41,2] (2,2.8] (2.8,4]
        let b = histogram(0, (1.5, 2.0), 2, &[10.0]); // zero bucket cuts (1.41,2] of a; (2,4]
        let merged = a.add(&b).unwrap();
        assert_eq!(merged, Merged::default());
        assert_eq!((a.schema, a.zero_threshold, a.zero_count, a.count), (0, 2.0, 6.0, 23.0));
        assert_eq!(
            indexed(&a.positive_spans, &a.positive_buckets).filter(|x| x.1 != 0.0).collect::<Vec<_>>(),
            [(2, 17.0)]
        );
    }

    #[test]
    fn compensated_sum_keeps_small_terms() {
        let mut s = HistogramSum::new(histogram(0, (0.0, 0.0), 0, &[1.0, 1.0]));
        for h in [
            histogram(0, (0.0, 0.0), 0, &[1e100]),
            histogram(0, (0.0, 0.0), 1, &[3.0]),
            histogram(0, (0.0, 0.0), 0, &[-1e100]),
        ] {
            s.add(&h).unwrap();
        }
        assert_eq!(s.finish().positive_buckets, [1.0, 4.0]);
    }

    #[test]
    fn custom_bounds_are_reconciled_and_mixes_refused() {
        let custom = |bounds: &[f64], counts: &[f64]| FloatHistogram {
            custom_values: bounds.to_vec(),
            ..histogram(CUSTOM_BUCKETS_SCHEMA, (0.0, 0.0), 0, counts)
        };
        let mut a = custom(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0, 4.0]);
        assert!(a.add(&custom(&[2.0, 5.0], &[5.0, 6.0, 7.0])).unwrap().bounds_reconciled);
        assert_eq!((a.custom_values.as_slice(), a.positive_buckets.as_slice()), (&[2.0][..], &[8.0, 20.0][..]));
        assert_eq!(a.add(&histogram(0, (0.0, 0.0), 0, &[1.0])), Err(HistogramError::IncompatibleSchema));
    }

    #[test]
    fn hints() {
        use CounterResetHint::*;
        for (a, b, want, collision) in [
            (Gauge, NotCounterReset, Gauge, false),
            (CounterReset, Gauge, Gauge, false),
            (CounterReset, Unknown, Unknown, false),
            (CounterReset, NotCounterReset, Unknown, true),
            (NotCounterReset, NotCounterReset, NotCounterReset, false),
        ] {
            let mut x = FloatHistogram { counter_reset_hint: a, ..Default::default() };
            let y = FloatHistogram { counter_reset_hint: b, ..Default::default() };
            assert_eq!((x.add(&y).unwrap().counter_reset_collision, x.counter_reset_hint), (collision, want));
        }
    }
}
