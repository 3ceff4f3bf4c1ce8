//! Summaries: count and sum since the start, quantiles over a sliding window of ten minutes.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ferula_exposition::family;
use ferula_model::Clock;

use crate::sketch::{Sketch, Target};

/// The window is this many sketches, begun one `AGE` apart; the oldest answers, so that the answer covers 8 to 10
/// minutes (client_golang's `MaxAge` 10 m and `AgeBuckets` 5).
const SKETCHES: usize = 5;
const AGE: Duration = Duration::from_secs(120);
/// Observations are collected before they are sorted and merged into the sketches.
const PENDING_MAX: usize = 500;

/// Clones share the observations.
#[derive(Clone, Debug)]
pub struct Summary(Arc<Core>);

#[derive(Debug)]
struct Core {
    targets: Box<[Target]>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    count: u64,
    sum: f64,
    pending: Vec<f64>,
    sketches: [Sketch; SKETCHES],
    /// The sketch that holds the longest past and is asked.
    oldest: usize,
    /// When the oldest is emptied and becomes the newest.
    rotate_at: Duration,
}

impl Summary {
    pub(crate) fn new(quantiles: &[f64], clock: Arc<dyn Clock>) -> Summary {
        let targets = quantiles.iter().map(|q| Target::of(*q)).collect();
        let state = State {
            count: 0,
            sum: 0.0,
            pending: Vec::new(),
            sketches: Default::default(),
            oldest: 0,
            rotate_at: clock.monotonic() + AGE,
        };
        Summary(Arc::new(Core { targets, clock, state: Mutex::new(state) }))
    }

    pub fn observe(&self, v: f64) {
        let now = self.0.clock.monotonic();
        let mut state = self.state();
        state.rotate(now, &self.0.targets);
        state.count += 1;
        state.sum += v;
        if !self.0.targets.is_empty() {
            state.pending.push(v);
            if state.pending.len() >= PENDING_MAX {
                state.flush(&self.0.targets);
            }
        }
    }

    /// Seconds.
    pub fn observe_duration(&self, d: Duration) {
        self.observe(d.as_secs_f64());
    }

    pub fn count(&self) -> u64 {
        self.state().count
    }

    pub fn sum(&self) -> f64 {
        self.state().sum
    }

    /// A poisoned lock only means that a thread died between two additions.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn snapshot(&self) -> family::Summary {
        let now = self.0.clock.monotonic();
        let targets = &self.0.targets;
        let mut state = self.state();
        state.rotate(now, targets);
        state.flush(targets);
        let oldest = state.sketches.get(state.oldest);
        let value = |q| oldest.map_or(f64::NAN, |s| s.query(q, targets));
        let quantiles = targets.iter().map(|t| (t.quantile, value(t.quantile))).collect();
        family::Summary { count: state.count as f64, sum: state.sum, quantiles }
    }
}

impl State {
    fn flush(&mut self, targets: &[Target]) {
        self.pending.sort_by(f64::total_cmp);
        for sketch in &mut self.sketches {
            sketch.merge(&self.pending, targets);
        }
        self.pending.clear();
    }

    fn rotate(&mut self, now: Duration, targets: &[Target]) {
        if now < self.rotate_at {
            return;
        }
        self.flush(targets);
        for _ in 0..SKETCHES {
            if now < self.rotate_at {
                return;
            }
            if let Some(s) = self.sketches.get_mut(self.oldest) {
                s.clear();
            }
            self.oldest = (self.oldest + 1) % SKETCHES;
            self.rotate_at += AGE;
        }
        self.rotate_at = self.rotate_at.max(now + AGE); // after a long silence everything is empty: begin anew
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferula_model::ManualClock;

    #[test]
    fn the_window_slides_but_count_and_sum_stay() {
        let clock = Arc::new(ManualClock::at(0));
        let s = Summary::new(&[0.5], Arc::clone(&clock) as Arc<dyn Clock>);
        for i in 1..=1001 {
            s.observe(f64::from(i));
        }
        let median = s.snapshot().quantiles[0].1;
        assert!((450.0..=552.0).contains(&median), "{median}");
        clock.advance(AGE * 4);
        s.observe(7.0);
        assert!(s.snapshot().quantiles[0].1 > 100.0, "eight minutes later the old ones still count");
        clock.advance(AGE);
        assert_eq!(s.snapshot().quantiles, [(0.5, 7.0)]);
        clock.advance(AGE * 400);
        let last = s.snapshot();
        assert!(last.quantiles[0].1.is_nan());
        assert_eq!((last.count, last.sum), (1002.0, 501_501.0 + 7.0));
        s.observe(3.0);
        assert_eq!(s.snapshot().quantiles, [(0.5, 3.0)]);
    }
}
