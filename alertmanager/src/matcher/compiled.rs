//! Compiled expressions, shared by all matchers of this process that have the same pattern.
//!
//! A hundred thousand silences are written by a few programs with a few patterns, and an automaton is thousands of
//! times the size of its pattern. Only what some matcher still holds is kept: there is nothing to bound or to expire.
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use ferula_regex::{Error, Regex};

static SHARED: LazyLock<Mutex<Shared>> = LazyLock::new(Mutex::default);

/// Below this many entries the dropped ones are not worth looking for.
const SWEEP_MIN: usize = 64;

#[derive(Default)]
struct Shared {
    by_pattern: HashMap<Box<str>, Weak<Regex>>,
    /// The entries after the last sweep: at twice as many the next is due, so that an insertion costs O(1) on average.
    live: usize,
}

impl Shared {
    fn get(&self, pattern: &str) -> Option<Arc<Regex>> {
        self.by_pattern.get(pattern)?.upgrade()
    }
    /// Answers what another thread kept meanwhile, else keeps `regex`.
    fn keep(&mut self, pattern: &str, regex: Regex) -> Arc<Regex> {
        if let Some(known) = self.get(pattern) {
            return known;
        }
        if self.by_pattern.len() >= SWEEP_MIN.max(2 * self.live) {
            self.by_pattern.retain(|_, r| r.strong_count() > 0);
            self.live = self.by_pattern.len();
        }
        let regex = Arc::new(regex);
        self.by_pattern.insert(pattern.into(), Arc::downgrade(&regex));
        regex
    }
}

/// The expression that must match a whole text. A pattern that another matcher holds is not compiled again.
pub(super) fn compiled(pattern: &str) -> Result<Arc<Regex>, Error> {
    let lock = || SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = lock().get(pattern) {
        return Ok(known);
    }
    // Compiled without the lock: a big pattern holds nobody up.
    let regex = Regex::plain(&format!("^(?:{pattern})$"))?;
    Ok(lock().keep(pattern, regex))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_pattern_is_compiled_once_and_forgotten_with_its_last_holder() {
        let first = compiled("only-here-(a|b).*").unwrap();
        assert!(Arc::ptr_eq(&first, &compiled("only-here-(a|b).*").unwrap()));
        let weak = Arc::downgrade(&first);
        drop(first);
        assert!(weak.upgrade().is_none());
        assert!(compiled("only-here-(a|b).*").unwrap().is_match("only-here-a1"));
        assert!(compiled("(").is_err());
    }

    #[test]
    fn dropped_patterns_do_not_pile_up() {
        let mut shared = Shared::default();
        let held = shared.keep("held", Regex::plain("held").unwrap());
        for i in 0..10 * SWEEP_MIN {
            shared.keep(&format!("p{i}"), Regex::plain("p").unwrap());
        }
        assert!(shared.by_pattern.len() <= SWEEP_MIN, "{}", shared.by_pattern.len());
        assert!(Arc::ptr_eq(&held, &shared.get("held").unwrap()));
    }
}
