//! Exemplars: the newest of all series in one ring of fixed size.
use std::collections::VecDeque;

use ferula_model::Labels;
use hashbrown::HashMap;

use crate::record::exemplars::ExemplarRecord;

#[derive(Debug, Default)]
pub struct Exemplars {
    capacity: usize,
    ring: VecDeque<ExemplarRecord>,
    /// Newest exemplar of each series in the ring, and how many the series has there.
    newest: HashMap<u64, (i64, u64, Labels, usize)>,
}

/// What becomes of an exemplar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    New,
    /// The very same is there, or exemplars are off: ignored without an error.
    Known,
    OutOfOrder,
}

impl Exemplars {
    pub fn new(capacity: usize) -> Exemplars {
        Exemplars { capacity, ..Exemplars::default() }
    }
    pub fn is_enabled(&self) -> bool {
        self.capacity > 0
    }
    pub fn len(&self) -> usize {
        self.ring.len()
    }
    /// Number of series that have any.
    pub fn series(&self) -> usize {
        self.newest.len()
    }
    pub fn has_series(&self, series: u64) -> bool {
        self.newest.contains_key(&series)
    }
    /// Time of the oldest in the ring.
    pub fn oldest_ms(&self) -> Option<i64> {
        self.ring.front().map(|e| e.t_ms)
    }
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }
    pub fn capacity(&self) -> usize {
        self.capacity
    }
    /// Changes how many are kept; 0 switches them off. Of too many the oldest go.
    pub fn resize(&mut self, capacity: usize) {
        self.capacity = capacity;
        while self.ring.len() > capacity {
            self.drop_oldest();
        }
        self.ring.shrink_to(capacity);
    }
    fn drop_oldest(&mut self) {
        if let Some(old) = self.ring.pop_front()
            && let Some(entry) = self.newest.get_mut(&old.series)
        {
            entry.3 -= 1;
            if entry.3 == 0 {
                self.newest.remove(&old.series);
            }
        }
    }
    pub fn check(&self, e: &ExemplarRecord) -> Verdict {
        if self.capacity == 0 {
            return Verdict::Known;
        }
        match self.newest.get(&e.series) {
            Some((t, v, labels, _)) if *t == e.t_ms && *v == e.value.to_bits() && *labels == e.labels => Verdict::Known,
            // Several exemplars of one time (of different buckets) come in order of their values.
            Some((t, v, ..)) if e.t_ms < *t || (e.t_ms == *t && e.value < f64::from_bits(*v)) => Verdict::OutOfOrder,
            _ => Verdict::New,
        }
    }
    /// Adds what [`Exemplars::check`] calls new, dropping the oldest if the ring is full.
    pub fn add(&mut self, e: ExemplarRecord) -> Verdict {
        let verdict = self.check(&e);
        if verdict != Verdict::New {
            return verdict;
        }
        if self.ring.len() >= self.capacity {
            self.drop_oldest();
        }
        let entry = self.newest.entry(e.series).or_insert_with(|| (e.t_ms, 0, Labels::empty(), 0));
        *entry = (e.t_ms, e.value.to_bits(), e.labels.clone(), entry.3 + 1);
        self.ring.push_back(e);
        Verdict::New
    }
    pub fn iter(&self) -> impl Iterator<Item = &ExemplarRecord> {
        self.ring.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_forgets_the_oldest() {
        let mut ring = Exemplars::new(2);
        let e = |series, t_ms| ExemplarRecord { series, t_ms, value: 1.0, labels: Labels::empty() };
        assert_eq!(
            (ring.add(e(1, 10)), ring.add(e(1, 10)), ring.add(e(1, 9))),
            (Verdict::New, Verdict::Known, Verdict::OutOfOrder)
        );
        assert_eq!((ring.add(e(2, 5)), ring.add(e(2, 6))), (Verdict::New, Verdict::New));
        assert_eq!(ring.iter().map(|e| (e.series, e.t_ms)).collect::<Vec<_>>(), [(2, 5), (2, 6)]);
        assert_eq!(ring.add(e(1, 1)), Verdict::New, "series 1 is forgotten");
        ring.resize(1);
        assert_eq!((ring.len(), ring.series(), ring.has_series(1)), (1, 1, true));
        ring.resize(0);
        assert_eq!((ring.add(e(1, 20)), ring.series()), (Verdict::Known, 0));
        ring.resize(2);
        assert_eq!(ring.add(e(1, 20)), Verdict::New);
        assert_eq!(Exemplars::new(0).add(e(1, 1)), Verdict::Known);
    }
}
