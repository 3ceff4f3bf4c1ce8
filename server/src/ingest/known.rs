//! Series of earlier requests, by their labels as sent: who repeats itself costs a fingerprint instead of a label set.
//!
//! Senders write a series the same way each time. Its 128-bit fingerprint (XXH3, with a seed that no sender knows) leads
//! straight to the reference in the store, and the labels are not even read: they were valid when the series was new. A
//! reference that the store gave up is refused there and never means another series, so nothing here has to be told when
//! series go.
//!
//! Cost: 25 to 50 bytes a series. What is not asked for during [`GENERATION`] entries of new ones is forgotten.
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ferula_model::SeriesRef;
use hashbrown::HashMap;
use xxhash_rust::xxh3::{Xxh3, xxh3_128_with_seed};

use super::wire::Pairs;

/// Of a series' labels as sent. Two words, for 16-byte alignment would cost 8 bytes an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Print([u64; 2]);

impl From<u128> for Print {
    fn from(n: u128) -> Print {
        Print([n as u64, (n >> 64) as u64])
    }
}

const STRIPES: usize = 16;
/// Entries of all stripes before the older half may go.
const GENERATION: usize = 1 << 20;

#[derive(Default)]
struct Generations {
    now: HashMap<Print, SeriesRef, foldhash::fast::FixedState>,
    before: HashMap<Print, SeriesRef, foldhash::fast::FixedState>,
}

pub(super) struct Known {
    seed: u64,
    /// Entries of a stripe before the older half may go.
    generation: usize,
    stripes: [Mutex<Generations>; STRIPES],
}

impl Known {
    pub(super) fn new() -> Known {
        Known::with_generation(GENERATION)
    }

    fn with_generation(entries: usize) -> Known {
        let generation = entries / STRIPES;
        Known { seed: RandomState::new().hash_one(0), generation, stripes: std::array::from_fn(|_| Mutex::default()) }
    }

    /// The fingerprint of labels that lie in one piece.
    pub(super) fn of_bytes(&self, labels: &[u8]) -> Print {
        xxh3_128_with_seed(labels, self.seed).into()
    }

    /// The fingerprint of labels put together from parts.
    pub(super) fn of_pairs(&self, pairs: &Pairs<'_>) -> Print {
        let mut hash = Xxh3::with_seed(self.seed);
        for (name, value) in pairs {
            // A byte that UTF-8 does not have keeps the parts apart.
            for part in [name.as_bytes(), b"\xff", value.as_bytes(), b"\xff"] {
                hash.update(part);
            }
        }
        hash.digest128().into()
    }

    fn stripe(&self, print: Print) -> MutexGuard<'_, Generations> {
        let at = (print.0[1] >> 60) as usize % STRIPES;
        self.stripes[at].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// [`SeriesRef::NONE`] for what is not known.
    pub(super) fn find(&self, print: Print) -> SeriesRef {
        let mut stripe = self.stripe(print);
        if let Some(found) = stripe.now.get(&print) {
            return *found;
        }
        let Some(found) = stripe.before.remove(&print) else { return SeriesRef::NONE };
        stripe.now.insert(print, found);
        found
    }

    /// The store took a sample of the series.
    pub(super) fn insert(&self, print: Print, series: SeriesRef) {
        let mut stripe = self.stripe(print);
        if stripe.now.len() >= self.generation {
            stripe.before = std::mem::take(&mut stripe.now);
        }
        stripe.now.insert(print, series);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_found_and_the_rest_forgotten() {
        let known = Known::with_generation(1000);
        let print = |i: u32| known.of_bytes(&i.to_le_bytes());
        let kept = print(0);
        known.insert(kept, SeriesRef(7));
        // Many times what may be held, one series being asked for all along.
        let n = 10_000;
        for i in 1..n {
            known.insert(print(i), SeriesRef(u64::from(i)));
            if i % 100 == 0 {
                assert_eq!(known.find(kept), SeriesRef(7));
            }
        }
        assert_eq!(known.find(print(1)), SeriesRef::NONE);
        assert_eq!(known.find(print(n - 1)), SeriesRef(u64::from(n - 1)));
        let held: usize = known.stripes.iter().map(|s| s.lock().unwrap()).map(|s| s.now.len() + s.before.len()).sum();
        assert!(held <= 2000, "{held}");
    }

    #[test]
    fn parts_do_not_run_together() {
        let known = Known::new();
        assert_ne!(known.of_pairs(&vec![("ab", "c")]), known.of_pairs(&vec![("a", "bc")]));
        assert_ne!(known.of_pairs(&vec![("a", ""), ("b", "c")]), known.of_pairs(&vec![("a", "b"), ("", "c")]));
    }
}
