//! Stopping a group's thread, and the permits that groups evaluate under.
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use ferula_model::Clock;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Running,
    /// Stop; the series stay.
    Stopped,
    /// Stop; mark the series stale after a while.
    Retired,
    /// The server stops: wait for nothing.
    ShutDown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    Due,
    Stopped,
    /// The due time is further away than it can be: the schedule must start anew.
    ClockSetBack,
}

/// Tells one thread to stop.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    state: Mutex<State>,
    changed: Condvar,
}

/// The clock may be set while a thread waits: it looks again so often.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

impl Stop {
    pub fn stop(&self, retire: bool) {
        self.set(if retire { State::Retired } else { State::Stopped });
    }
    pub fn shut_down(&self) {
        self.set(State::ShutDown);
    }
    fn set(&self, state: State) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
        self.changed.notify_all();
    }
    pub fn retires(&self) -> bool {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) == State::Retired
    }

    /// Waits until the clock shows `due_ms`.
    pub fn wait_until(&self, clock: &dyn Clock, due_ms: i64, interval_ms: i64) -> Woken {
        self.wait(clock, due_ms, State::Running, 2 * interval_ms)
    }
    /// Waits until the clock shows `due_ms`; `false` when the server stops before.
    pub fn wait_to_retire(&self, clock: &dyn Clock, due_ms: i64) -> bool {
        self.wait(clock, due_ms, State::Retired, i64::MAX) == Woken::Due
    }

    fn wait(&self, clock: &dyn Clock, due_ms: i64, while_in: State, far_ms: i64) -> Woken {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if *state != while_in {
                return Woken::Stopped;
            }
            let left_ms = due_ms.saturating_sub(clock.now_ms());
            if left_ms <= 0 {
                return Woken::Due;
            }
            if left_ms > far_ms {
                return Woken::ClockSetBack;
            }
            let timeout = Duration::from_millis(left_ms.unsigned_abs()).min(LOOK_AGAIN);
            state = self.changed.wait_timeout(state, timeout).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A counting semaphore.
#[derive(Debug)]
pub(crate) struct Permits {
    free: Mutex<usize>,
    given_back: Condvar,
}

pub(crate) struct Permit<'a>(&'a Permits);

impl Permits {
    pub fn new(count: usize) -> Permits {
        Permits { free: Mutex::new(count), given_back: Condvar::new() }
    }
    pub fn take(&self) -> Permit<'_> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        while *free == 0 {
            free = self.given_back.wait(free).unwrap_or_else(PoisonError::into_inner);
        }
        *free -= 1;
        Permit(self)
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.0.free.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.given_back.notify_one();
    }
}
