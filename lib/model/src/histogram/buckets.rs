//! Walking buckets: sparse spans as `(index, count)` pairs, and buckets with their boundaries.
use super::bounds::bound;
use super::{FloatHistogram, Span};

/// One bucket with its boundaries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    pub lower: f64,
    pub upper: f64,
    pub lower_inclusive: bool,
    pub upper_inclusive: bool,
    pub count: f64,
    /// Index within its side; 0 for the zero bucket.
    pub index: i32,
}

/// Indices and counts of one side, in rising order, empty buckets included. Buckets without a span are left out, so
/// that a malformed histogram reads short instead of wrong.
pub(super) fn indexed<'a>(spans: &'a [Span], counts: &'a [f64]) -> Indexed<'a> {
    Indexed { spans, counts, next_index: 0, left_in_span: 0 }
}

#[derive(Clone)]
pub(super) struct Indexed<'a> {
    spans: &'a [Span],
    counts: &'a [f64],
    next_index: i32,
    left_in_span: u32,
}

impl Iterator for Indexed<'_> {
    type Item = (i32, f64);
    fn next(&mut self) -> Option<(i32, f64)> {
        while self.left_in_span == 0 {
            let (span, rest) = self.spans.split_first()?;
            self.spans = rest;
            self.next_index = self.next_index.wrapping_add(span.offset);
            self.left_in_span = span.length;
        }
        let (count, rest) = self.counts.split_first()?;
        self.counts = rest;
        self.left_in_span -= 1;
        let index = self.next_index;
        self.next_index = index.wrapping_add(1);
        Some((index, *count))
    }
}

/// Builds spans and counts from pairs in rising index order.
#[derive(Default)]
pub(super) struct SpanBuilder {
    pub spans: Vec<Span>,
    pub counts: Vec<f64>,
    next_index: i32,
}

impl SpanBuilder {
    pub fn push(&mut self, index: i32, count: f64) {
        match self.spans.last_mut() {
            Some(last) if index == self.next_index => last.length += 1,
            _ => self.spans.push(Span { offset: index.wrapping_sub(self.next_index), length: 1 }),
        }
        self.counts.push(count);
        self.next_index = index.wrapping_add(1);
    }
}

impl FloatHistogram {
    /// The zero bucket, whether or not it holds anything; both ends inclusive.
    pub fn zero_bucket(&self) -> Bucket {
        Bucket {
            lower: -self.zero_threshold,
            upper: self.zero_threshold,
            lower_inclusive: true,
            upper_inclusive: true,
            count: self.zero_count,
            index: 0,
        }
    }

    /// Positive (or custom) buckets from low to high.
    pub fn positive_iter(&self) -> impl Iterator<Item = Bucket> + '_ {
        indexed(&self.positive_spans, &self.positive_buckets).map(move |(index, count)| {
            let upper = bound(index, self.schema, &self.custom_values);
            let lower = bound(index.wrapping_sub(1), self.schema, &self.custom_values);
            let custom = self.uses_custom_buckets();
            Bucket {
                lower,
                upper,
                lower_inclusive: if custom { index == 0 } else { lower < 0.0 },
                upper_inclusive: custom || upper > 0.0,
                count,
                index,
            }
        })
    }

    /// Negative buckets from zero downwards.
    pub fn negative_iter(&self) -> impl Iterator<Item = Bucket> + '_ {
        indexed(&self.negative_spans, &self.negative_buckets).map(move |(index, count)| {
            let lower = -bound(index, self.schema, &self.custom_values);
            let upper = -bound(index.wrapping_sub(1), self.schema, &self.custom_values);
            Bucket { lower, upper, lower_inclusive: lower < 0.0, upper_inclusive: upper > 0.0, count, index }
        })
    }

    /// All buckets from low to high. The zero bucket appears only when populated; a regular bucket that reaches into
    /// it is cut at the zero threshold, so that no two overlap.
    pub fn buckets(&self) -> Vec<Bucket> {
        let mut out: Vec<Bucket> = self.negative_iter().collect();
        out.reverse();
        if self.zero_count > 0.0 {
            out.push(self.zero_bucket());
        }
        out.extend(self.positive_iter());
        let zero = self.zero_threshold;
        for b in &mut out {
            if b.upper < 0.0 && b.upper > -zero {
                b.upper = -zero;
            } else if b.lower > 0.0 && b.lower < zero {
                b.lower = zero;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_round_trip() {
        let spans = [Span { offset: -2, length: 2 }, Span { offset: 3, length: 1 }];
        let counts = [1.0, 2.0, 3.0];
        let pairs: Vec<_> = indexed(&spans, &counts).collect();
        assert_eq!(pairs, [(-2, 1.0), (-1, 2.0), (3, 3.0)]);
        let mut b = SpanBuilder::default();
        for (i, c) in pairs {
            b.push(i, c);
        }
        assert_eq!((b.spans.as_slice(), b.counts.as_slice()), (&spans[..], &counts[..]));
    }

    #[test]
    fn malformed_spans_read_short() {
        assert_eq!(indexed(&[Span { offset: 0, length: 9 }], &[1.0]).count(), 1);
        assert_eq!(indexed(&[Span { offset: 0, length: 1 }], &[1.0, 2.0]).count(), 1);
    }

    #[test]
    fn all_buckets_rise() {
        let h = FloatHistogram {
            zero_threshold: 0.6,
            zero_count: 2.0,
            positive_spans: vec![Span { offset: 0, length: 2 }],
            positive_buckets: vec![1.0, 4.0],
            negative_spans: vec![Span { offset: 0, length: 2 }],
            negative_buckets: vec![3.0, 5.0],
            ..Default::default()
        };
        let all: Vec<_> = h.buckets().iter().map(|b| (b.lower, b.upper, b.count)).collect();
        assert_eq!(all, [(-2.0, -1.0, 5.0), (-1.0, -0.6, 3.0), (-0.6, 0.6, 2.0), (0.6, 1.0, 1.0), (1.0, 2.0, 4.0)]);
    }
}
