//! The series a rule wrote at the last evaluation, beside those of this one.
use std::collections::{HashMap, HashSet};

use ferula_model::{Labels, SeriesRef};

/// Looks up references. Results mostly have the same series in the same order: then nothing is hashed.
pub(crate) struct Previous<'a> {
    series: &'a [(Labels, SeriesRef)],
    /// Series that came again, as long as the order was the same.
    same: usize,
    /// All of them by labels, once the order was another.
    index: Option<HashMap<&'a Labels, SeriesRef>>,
}

impl<'a> Previous<'a> {
    pub fn of(series: &'a [(Labels, SeriesRef)]) -> Previous<'a> {
        Previous { series, same: 0, index: None }
    }
    /// To be asked for each series of the result once, in order.
    pub fn reference(&mut self, labels: &Labels) -> SeriesRef {
        if self.index.is_none()
            && let Some((_, known)) = self.series.get(self.same).filter(|(l, _)| l == labels)
        {
            self.same += 1;
            return *known;
        }
        let index = self.index.get_or_insert_with(|| self.series.iter().map(|(l, r)| (l, *r)).collect());
        index.get(labels).copied().unwrap_or(SeriesRef::NONE)
    }
    /// Series that are not in `written`, which is what was asked for less what was refused.
    pub fn not_in(&self, written: &[(Labels, SeriesRef)]) -> Vec<&'a (Labels, SeriesRef)> {
        if self.index.is_none() && self.same == self.series.len() && written.len() == self.same {
            return Vec::new();
        }
        let written: HashSet<&Labels> = written.iter().map(|(l, _)| l).collect();
        self.series.iter().filter(|(l, _)| !written.contains(l)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_gone_whatever_the_order() {
        let l = |n: u8| Labels::from_pairs([("a", n.to_string())]);
        let series: Vec<_> = (1..=4).map(|n| (l(n), SeriesRef(u64::from(n)))).collect();
        for (result, gone) in [
            (vec![1, 2, 3, 4], vec![]),
            (vec![4, 3, 2, 1], vec![]),
            (vec![1, 2, 3], vec![4]),
            (vec![1, 3, 4], vec![2]),
            (vec![1, 2, 3, 4, 5], vec![]),
            (vec![], vec![1, 2, 3, 4]),
            (vec![9, 1], vec![2, 3, 4]),
        ] {
            let mut previous = Previous::of(&series);
            let refs: Vec<_> = result.iter().map(|n| (l(*n), previous.reference(&l(*n)))).collect();
            let want = |n: u8| if n <= 4 { SeriesRef(u64::from(n)) } else { SeriesRef::NONE };
            assert!(refs.iter().zip(&result).all(|((_, r), n)| *r == want(*n)), "{result:?}");
            let left: Vec<u64> = previous.not_in(&refs).iter().map(|(_, r)| r.0).collect();
            assert_eq!(left, gone, "{result:?}");
        }
    }
}
