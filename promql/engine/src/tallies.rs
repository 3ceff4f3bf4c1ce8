//! What the threads of a query count for every series, each in a place of its own: in one place they would wait for each
//! other's caches.
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

const PLACES: usize = 8;

/// Sums over all threads.
#[derive(Debug, Default)]
pub(crate) struct Tallies([Place; PLACES]);

/// As large as what processors exchange.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Place {
    /// Units of work.
    pub ticks: AtomicU64,
    /// Samples as steps saw them: one counts at every step that used it.
    pub read: AtomicU64,
    /// As `read`, but of windows only what the window before did not hold.
    pub fresh: AtomicU64,
    /// Samples as storage delivered them.
    pub decoded: AtomicU64,
}

thread_local! {
    /// Threads take places by turns; where there are more threads than places some share one.
    static OWN: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % PLACES
    };
}

impl Tallies {
    /// This thread's.
    pub fn own(&self) -> &Place {
        let [first, ..] = &self.0;
        OWN.with(|own| self.0.get(*own)).unwrap_or(first)
    }
    pub fn sum(&self, of: impl Fn(&Place) -> &AtomicU64) -> u64 {
        self.0.iter().map(|place| of(place).load(Ordering::Relaxed)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_between_threads() {
        let tallies = Tallies::default();
        std::thread::scope(|scope| {
            for _ in 0..PLACES + 3 {
                scope.spawn(|| {
                    for n in 0..1000 {
                        tallies.own().read.fetch_add(n, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(tallies.sum(|place| &place.read), (PLACES as u64 + 3) * 499_500);
        assert_eq!(tallies.sum(|place| &place.ticks), 0);
    }
}
