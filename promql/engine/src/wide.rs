//! Loops over columns, compiled for the widest vectors the processor has.
//!
//! A build for every x86-64 machine may use two lanes only. What runs over every sample of every series is compiled three
//! times, and the processor is asked once. Lanes compute what one after the other would: nothing is fused or reordered.
#![allow(unsafe_code)]

use ferula_model::is_stale_nan;

use crate::column::{ABSENT, is_present};
use crate::math::Sum;

/// A function whose body is written as loops that vectorise: without branches on the data.
macro_rules! wide {
    ($(#[$doc:meta])* pub(crate) fn $name:ident($($arg:ident: $kind:ty),* $(,)?) $(-> $out:ty)? $body:block) => {
        $(#[$doc])*
        pub(crate) fn $name($($arg: $kind),*) $(-> $out)? {
            #[inline(always)]
            fn plain($($arg: $kind),*) $(-> $out)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw")]
                fn eight($($arg: $kind),*) $(-> $out)? { plain($($arg),*) }
                #[target_feature(enable = "avx2")]
                fn four($($arg: $kind),*) $(-> $out)? { plain($($arg),*) }
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bw")
                {
                    // SAFETY: the processor has what the function is compiled for.
                    return unsafe { eight($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: as above.
                    return unsafe { four($($arg),*) };
                }
            }
            plain($($arg),*)
        }
    };
}

wide! {
    /// Whether a stale marker is among the values: there is none nearly always.
    pub(crate) fn has_stale(values: &[f64]) -> bool {
        values.iter().fold(false, |found, v| found | is_stale_nan(*v))
    }
}

wide! {
    /// Whether any value is less than the one before it: most counters never fall.
    pub(crate) fn ever_falls(values: &[f64]) -> bool {
        values.iter().zip(values.get(1..).unwrap_or(&[])).fold(false, |found, (before, v)| found | (v < before))
    }
}

wide! {
    /// Adds a column to the sums of its group, step by step, with what their roundings lost.
    pub(crate) fn add_to_sums(sums: &mut [f64], lost: &mut [f64], values: &[f64]) {
        for ((v, s), c) in values.iter().zip(sums).zip(lost) {
            let next = Sum { sum: *s, comp: *c }.add_finite(*v);
            let comp = if next.sum.is_infinite() { 0.0 } else { next.comp };
            let (grown, comp) = if is_present(*s) { (next.sum, comp) } else { (*v, 0.0) };
            *c = if is_present(*v) { comp } else { *c };
            *s = if is_present(*v) { grown } else { *s };
        }
    }
}

wide! {
    /// Counts the steps at which a column has a value.
    pub(crate) fn add_to_counts(counts: &mut [f64], values: &[f64]) {
        for (n, v) in counts.iter_mut().zip(values) {
            *n += if is_present(*v) { 1.0 } else { 0.0 };
        }
    }
}

wide! {
    /// The smallest, or largest, value so far at each step; absent and NaN give way to anything.
    pub(crate) fn keep_extremes(kept: &mut [f64], values: &[f64], largest: bool) {
        for (kept, v) in kept.iter_mut().zip(values) {
            let beats = if largest { *kept < *v } else { *kept > *v };
            let takes = is_present(*v) & (beats | kept.is_nan());
            *kept = if takes { *v } else { *kept };
        }
    }
}

wide! {
    /// The values at some places, absent where there is none; how many are there.
    pub(crate) fn take(values: &[f64], places: &[u32], out: &mut [f64]) -> u64 {
        let mut taken = 0;
        for (out, place) in out.iter_mut().zip(places) {
            *out = values.get(*place as usize).copied().unwrap_or(ABSENT);
            taken += u64::from(is_present(*out));
        }
        taken
    }
}

/// Of the windows of all steps what depends on times only.
#[derive(Default)]
pub(crate) struct Edges {
    /// Where the first sample stands, and the last.
    pub first: Vec<u32>,
    pub last: Vec<u32>,
    /// Seconds from the window's start to the first sample, as far as is extrapolated.
    pub to_start: Vec<f64>,
    /// Seconds between the two.
    pub sampled: Vec<f64>,
    /// How much longer than that the extrapolated stretch is; per second if wanted.
    pub factor: Vec<f64>,
}

impl Edges {
    pub fn clear(&mut self) {
        let Edges { first, last, to_start, sampled, factor } = self;
        [first, last].into_iter().for_each(Vec::clear);
        [to_start, sampled, factor].into_iter().for_each(Vec::clear);
    }
}

wide! {
    /// The extrapolated increase at every step of a series without resets whose windows all have two samples. `true` if
    /// a counter's zero may lie in a window: then it is not to be used.
    pub(crate) fn increases(values: &[f64], edges: &Edges, is_counter: bool, out: &mut [f64]) -> bool {
        let mut has_zero = false;
        let places = edges.first.iter().zip(&edges.last);
        let times = edges.to_start.iter().zip(&edges.sampled).zip(&edges.factor);
        for ((out, (first, last)), ((to_start, sampled), factor)) in out.iter_mut().zip(places).zip(times) {
            let first = values.get(*first as usize).copied().unwrap_or(ABSENT);
            let last = values.get(*last as usize).copied().unwrap_or(ABSENT);
            let increase = last - first;
            has_zero |= (increase > 0.0) & (first >= 0.0) & !zero_is_outside(first, increase, *to_start, *sampled);
            *out = increase * factor;
        }
        has_zero & is_counter
    }
}

/// Whether a counter's zero surely lies before the window, which can be told without a division but where it is close.
#[inline(always)]
pub(crate) fn zero_is_outside(first: f64, increase: f64, to_start: f64, sampled: f64) -> bool {
    let (sampled, edge) = (sampled * first, to_start * increase * 1.000_001);
    (sampled > edge) & (sampled > 1e-290) & (sampled < f64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferula_model::stale_nan;

    /// Every pair of values that behave in their own way, at lengths around those of vectors.
    fn columns() -> Vec<(Vec<f64>, Vec<f64>)> {
        let special = [0.0, -0.0, 1.0, -2.5, 1e16, f64::MAX, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, stale_nan()];
        let pairs: Vec<(f64, f64)> = special.iter().flat_map(|a| special.map(|b| (*a, b))).collect();
        [1, 3, 8, 13, 17].iter().flat_map(|n| pairs.chunks(*n)).map(|c| c.iter().copied().unzip()).collect()
    }
    fn bits(v: &[f64]) -> Vec<u64> {
        v.iter().map(|v| if is_present(*v) && v.is_nan() { f64::NAN.to_bits() } else { v.to_bits() }).collect()
    }

    #[test]
    fn as_one_value_after_the_other() {
        for (a, b) in columns() {
            let (mut sums, mut lost, mut counts, mut most, mut least) =
                (vec![ABSENT; a.len()], vec![0.0; a.len()], vec![0.0; a.len()], a.clone(), a.clone());
            add_to_sums(&mut sums, &mut lost, &a);
            add_to_sums(&mut sums, &mut lost, &b);
            add_to_counts(&mut counts, &a);
            add_to_counts(&mut counts, &b);
            keep_extremes(&mut most, &b, true);
            keep_extremes(&mut least, &b, false);
            for i in 0..a.len() {
                let there: Vec<f64> = [a[i], b[i]].into_iter().filter(|v| is_present(*v)).collect();
                let mut sum = there.first().map(|v| Sum::of(*v));
                if let (Some(sum), Some(v)) = (&mut sum, there.get(1)) {
                    sum.add(*v);
                }
                let expected = sum.map_or([ABSENT, 0.0], |s| [s.sum, s.comp]);
                let found = [sums[i], if sums[i].is_finite() { lost[i] } else { expected[1] }];
                assert_eq!(bits(&found), bits(&expected), "{} + {}", a[i], b[i]);
                assert_eq!(counts[i], there.len() as f64);
                let pick = |takes: bool| if is_present(b[i]) && (takes || a[i].is_nan()) { b[i] } else { a[i] };
                assert_eq!(bits(&[most[i], least[i]]), bits(&[pick(a[i] < b[i]), pick(a[i] > b[i])]));
            }
            assert_eq!(has_stale(&a), a.iter().any(|v| is_stale_nan(*v)));
            assert_eq!(ever_falls(&a), a.windows(2).any(|w| w[1] < w[0]));
        }
    }

    #[test]
    fn takes_what_is_there() {
        let values = [1.0, stale_nan(), 3.0];
        let places = [0, 0, 1, 2, u32::MAX, 3, 2, 0, 1];
        let mut out = vec![7.0; places.len()];
        assert_eq!(take(&values, &places, &mut out), 5);
        let none = ABSENT;
        assert_eq!(bits(&out), bits(&[1.0, 1.0, none, 3.0, none, none, 3.0, 1.0, none]));
    }

    #[test]
    fn increases_until_zero_comes_near() {
        let values: Vec<f64> = (0..40).map(|i| 1000.0 + f64::from(i * i)).collect();
        let mut edges = Edges::default();
        for step in 0..19 {
            edges.first.push(2 * step);
            edges.last.push(2 * step + 3);
            [&mut edges.to_start, &mut edges.sampled].into_iter().for_each(|v| v.push(15.0));
            edges.factor.push(0.5);
        }
        let mut out = vec![0.0; 19];
        assert!(!increases(&values, &edges, true, &mut out));
        for (step, v) in out.iter().enumerate() {
            assert_eq!(*v, (values[2 * step + 3] - values[2 * step]) * 0.5);
        }
        let from_zero: Vec<f64> = values.iter().map(|v| v - 1000.0).collect();
        assert!(increases(&from_zero, &edges, true, &mut out) && !increases(&from_zero, &edges, false, &mut out));
    }
}
