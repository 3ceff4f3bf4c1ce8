//! Changing a histogram's layout without changing what it says: compaction and coarser resolutions.
use super::bounds::{coarser_index, is_exponential_schema};
use super::buckets::{SpanBuilder, indexed};
use super::{FloatHistogram, Histogram, Span};

fn compact_side(spans: &mut Vec<Span>, counts: &mut Vec<f64>, max_empty: usize) {
    // The usual case, checked without allocating: no empty bucket and no two spans that touch.
    let tidy = counts.iter().all(|c| *c != 0.0)
        && spans.iter().map(|s| s.length as usize).sum::<usize>() == counts.len()
        && spans.iter().all(|s| s.length > 0)
        && spans.iter().skip(1).all(|s| s.offset > 0 && s.offset as usize > max_empty);
    if tidy {
        return;
    }
    let mut b = SpanBuilder::default();
    let mut last: Option<i32> = None;
    for (index, count) in indexed(spans, counts).filter(|(_, c)| *c != 0.0) {
        if let Some(last) = last {
            let gap = index.wrapping_sub(last).wrapping_sub(1);
            if gap > 0 && gap as usize <= max_empty {
                (1..=gap).for_each(|i| b.push(last.wrapping_add(i), 0.0));
            }
        }
        b.push(index, count);
        last = Some(index);
    }
    *spans = b.spans;
    *counts = b.counts;
}

fn coarsen_side(spans: &mut Vec<Span>, counts: &mut Vec<f64>, map: impl Fn(i32) -> i32) {
    let mut b = SpanBuilder::default();
    let mut last = None;
    for (index, count) in indexed(spans, counts) {
        let index = map(index);
        match b.counts.last_mut() {
            Some(c) if last == Some(index) => *c += count,
            _ => b.push(index, count),
        }
        last = Some(index);
    }
    *spans = b.spans;
    *counts = b.counts;
}

impl FloatHistogram {
    /// Drops empty buckets at the ends of spans, and runs of more than `max_empty` of them within; joins spans whose
    /// gap is at most that.
    pub fn compact(&mut self, max_empty: usize) -> &mut Self {
        compact_side(&mut self.positive_spans, &mut self.positive_buckets, max_empty);
        compact_side(&mut self.negative_spans, &mut self.negative_buckets, max_empty);
        self
    }

    /// Merges buckets until the resolution is that of `target`; nothing happens unless both schemas are exponential
    /// and `target` is coarser.
    pub fn reduce_resolution(&mut self, target: i32) {
        let origin = self.schema;
        if !is_exponential_schema(origin) || !is_exponential_schema(target) || target >= origin {
            return;
        }
        let map = |i| coarser_index(i, origin, target);
        coarsen_side(&mut self.positive_spans, &mut self.positive_buckets, map);
        coarsen_side(&mut self.negative_spans, &mut self.negative_buckets, map);
        self.schema = target;
    }

    /// A copy at the coarser `target` schema.
    pub fn copy_to_schema(&self, target: i32) -> FloatHistogram {
        let mut h = self.clone();
        h.reduce_resolution(target);
        h
    }

    /// Maps custom buckets onto the bounds in `kept`, a subset of this histogram's own.
    pub(super) fn map_custom(&mut self, kept: &[f64]) {
        if self.custom_values == kept {
            return;
        }
        let own = std::mem::take(&mut self.custom_values);
        coarsen_side(&mut self.positive_spans, &mut self.positive_buckets, |i| {
            // A bucket goes where its upper bound lies; past the last kept bound that is the overflow bucket.
            let upper = usize::try_from(i).ok().and_then(|i| own.get(i));
            upper.map_or(kept.len(), |u| kept.partition_point(|k| k < u)) as i32
        });
        self.custom_values = kept.to_vec();
    }
}

/// The bounds two sorted lists share.
pub(super) fn shared_bounds(a: &[f64], b: &[f64]) -> Vec<f64> {
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        if x == y {
            out.push(*x);
            (i, j) = (i + 1, j + 1);
        } else if x < y {
            i += 1;
        } else {
            j += 1;
        }
    }
    out
}

impl Histogram {
    /// As [`FloatHistogram::reduce_resolution`], on integer deltas.
    pub fn reduce_resolution(&mut self, target: i32) {
        if !is_exponential_schema(self.schema) || !is_exponential_schema(target) || target >= self.schema {
            return;
        }
        let origin = self.schema;
        for (spans, deltas) in [
            (&mut self.positive_spans, &mut self.positive_buckets),
            (&mut self.negative_spans, &mut self.negative_buckets),
        ] {
            let mut merged: Vec<(i32, i64)> = Vec::new();
            for (index, count) in absolute(spans, deltas) {
                let index = coarser_index(index, origin, target);
                match merged.last_mut() {
                    Some((i, c)) if *i == index => *c = c.wrapping_add(count),
                    _ => merged.push((index, count)),
                }
            }
            (*spans, *deltas) = from_absolute(&merged);
        }
        self.schema = target;
    }

    /// As [`FloatHistogram::compact`], on integer deltas.
    pub fn compact(&mut self, max_empty: usize) -> &mut Self {
        for (spans, deltas) in [
            (&mut self.positive_spans, &mut self.positive_buckets),
            (&mut self.negative_spans, &mut self.negative_buckets),
        ] {
            let mut kept: Vec<(i32, i64)> = Vec::new();
            for (index, count) in absolute(spans, deltas).into_iter().filter(|(_, c)| *c != 0) {
                if let Some((last, _)) = kept.last().copied() {
                    let gap = index.wrapping_sub(last).wrapping_sub(1);
                    if gap > 0 && gap as usize <= max_empty {
                        kept.extend((1..=gap).map(|i| (last.wrapping_add(i), 0)));
                    }
                }
                kept.push((index, count));
            }
            (*spans, *deltas) = from_absolute(&kept);
        }
        self
    }
}

/// Absolute counts with their indices, from spans and deltas.
fn absolute(spans: &[Span], deltas: &[i64]) -> Vec<(i32, i64)> {
    let (mut index, mut count, mut deltas, mut out) = (0i32, 0i64, deltas.iter(), Vec::with_capacity(deltas.len()));
    for span in spans {
        index = index.wrapping_add(span.offset);
        for delta in deltas.by_ref().take(span.length as usize) {
            count = count.wrapping_add(*delta);
            out.push((index, count));
            index = index.wrapping_add(1);
        }
    }
    out
}

fn from_absolute(pairs: &[(i32, i64)]) -> (Vec<Span>, Vec<i64>) {
    let (mut b, mut last, mut deltas) = (SpanBuilder::default(), 0i64, Vec::with_capacity(pairs.len()));
    for (index, count) in pairs {
        b.push(*index, 0.0);
        deltas.push(count.wrapping_sub(last));
        last = *count;
    }
    (b.spans, deltas)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(pairs: &[(i32, f64)]) -> FloatHistogram {
        let mut b = SpanBuilder::default();
        pairs.iter().for_each(|(i, c)| b.push(*i, *c));
        FloatHistogram { positive_spans: b.spans, positive_buckets: b.counts, schema: 2, ..Default::default() }
    }

    #[test]
    fn compacts() {
        let all = side(&[(0, 0.0), (1, 2.0), (2, 0.0), (3, 1.0), (4, 0.0), (5, 0.0), (6, 0.0), (9, 7.0), (10, 0.0)]);
        let pairs = |h: &FloatHistogram| indexed(&h.positive_spans, &h.positive_buckets).collect::<Vec<_>>();
        assert_eq!(pairs(all.clone().compact(0)), [(1, 2.0), (3, 1.0), (9, 7.0)]);
        assert_eq!(pairs(all.clone().compact(1)), [(1, 2.0), (2, 0.0), (3, 1.0), (9, 7.0)]);
        assert_eq!(all.clone().compact(1).positive_spans.len(), 2);
        assert_eq!(all.clone().compact(9).positive_spans.len(), 1);
    }

    #[test]
    fn integer_and_float_agree() {
        let mut int = Histogram {
            schema: 2,
            positive_spans: vec![Span { offset: -3, length: 4 }, Span { offset: 2, length: 3 }],
            positive_buckets: vec![1, 2, -3, 4, 0, -4, 5],
            ..Default::default()
        };
        let mut float = int.to_float();
        int.reduce_resolution(0);
        float.reduce_resolution(0);
        assert_eq!(int.to_float(), float);
        int.compact(0);
        float.compact(0);
        assert_eq!(int.to_float(), float);
    }

    #[test]
    fn maps_custom_buckets() {
        let mut h = side(&[(0, 1.0), (1, 2.0), (2, 4.0), (3, 8.0)]);
        (h.schema, h.custom_values) = (super::super::CUSTOM_BUCKETS_SCHEMA, vec![1.0, 2.0, 3.0]);
        h.map_custom(&shared_bounds(&[0.5, 2.0, 9.0], &[1.0, 2.0, 3.0]));
        assert_eq!((h.custom_values, h.positive_buckets), (vec![2.0], vec![3.0, 12.0]));
    }
}
