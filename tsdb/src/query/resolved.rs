//! Selections of the head that are kept between queries ([`Resolved`]): which series the matchers of a rule mean.
//!
//! Whoever asks for many series and keeps nothing (a dashboard, every minute) finds them in [`Recent`].
//!
//! Kept are references, not series: what the head forgets is not held by this. Cost: 4 bytes a series.
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ferula_model::Matcher;
use ferula_storage::{Resolved, StorageError};

use super::select::select;
use crate::head::Head;
use crate::head::series::MemSeries;

/// What all kept selections of a head may hold; what does not fit is found anew by every query.
const BYTES_MAX: u64 = 64 << 20;

/// Selections of so many series are kept for whoever asks the same next, so many of them.
const RECENT_SERIES_MIN: usize = 256;
const RECENT_MAX: usize = 64;
/// Text of matchers that is kept with a selection; a list of a thousand names is not.
const RECENT_TEXT_MAX: usize = 4096;

/// Large selections of the last queries.
#[derive(Debug, Default)]
pub struct Recent {
    /// Bytes that all kept selections hold.
    held: Arc<AtomicU64>,
    slots: Mutex<VecDeque<Slot>>,
}

#[derive(Debug)]
struct Slot {
    matchers: Box<[Matcher]>,
    sorted: bool,
    kept: Arc<Resolved>,
}

impl Recent {
    fn find(&self, matchers: &[Matcher], sorted: bool) -> Option<Arc<Resolved>> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let found = slots.iter().find(|s| s.sorted == sorted && *s.matchers == *matchers)?;
        Some(Arc::clone(&found.kept))
    }
    /// A new place, instead of the oldest.
    fn add(&self, matchers: &[Matcher], sorted: bool) -> Arc<Resolved> {
        let kept = Arc::<Resolved>::default();
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() == RECENT_MAX {
            slots.pop_front();
        }
        slots.push_back(Slot { matchers: matchers.into(), sorted, kept: Arc::clone(&kept) });
        kept
    }
}

#[derive(Debug)]
struct Selection {
    /// Which head, and the version of the series these matchers may mean.
    table: u64,
    version: u64,
    sorted: bool,
    refs: Box<[u32]>,
    held: Arc<AtomicU64>,
}

impl Drop for Selection {
    fn drop(&mut self) {
        self.held.fetch_sub(size_of_val(&*self.refs) as u64, Ordering::Relaxed);
    }
}

impl Selection {
    /// What is kept, if it still is what these matchers mean.
    fn of(kept: &Resolved, now: (u64, u64), sorted: bool) -> Option<Arc<Selection>> {
        kept.get::<Selection>().filter(|s| (s.table, s.version) == now && s.sorted == sorted)
    }
    fn keep(kept: &Resolved, head: &Head, (table, version): (u64, u64), sorted: bool, series: &[Arc<MemSeries>]) {
        kept.clear();
        let bytes = size_of::<u32>() as u64 * series.len() as u64;
        let held = Arc::clone(&head.recent.held);
        if held.fetch_add(bytes, Ordering::Relaxed) + bytes > BYTES_MAX {
            held.fetch_sub(bytes, Ordering::Relaxed);
            return;
        }
        let refs = series.iter().map(|s| s.series_ref() as u32).collect();
        kept.set(Arc::new(Selection { table, version, sorted, refs, held }));
    }
}

/// The series that satisfy all matchers: in order of reference, or of labels if `sorted`. `admit` is told how many there
/// are before they are fetched.
pub fn resolve<C>(
    head: &Head,
    matchers: &[Matcher],
    sorted: bool,
    kept: Option<&Resolved>,
    admit: impl FnOnce(usize) -> Result<C, StorageError>,
) -> Result<(Vec<Arc<MemSeries>>, C), StorageError> {
    let recent = if kept.is_none() { head.recent.find(matchers, sorted) } else { None };
    let kept = kept.or(recent.as_deref());
    let index = head.index();
    // Asked before the series are: what comes meanwhile makes it look older than it is.
    let now = (head.symbols.identity(), index.version(matchers));
    if let Some(s) = kept.and_then(|kept| Selection::of(kept, now, sorted)) {
        drop(index);
        let charge = admit(s.refs.len())?;
        return Ok((head.series_of(&s.refs), charge));
    }
    let refs = select(&index, matchers)?;
    drop(index);
    let charge = admit(refs.len())?;
    let mut series = head.series_of(&refs);
    if sorted {
        let texts = head.symbols.texts();
        series.sort_by(|a, b| a.compare_labels(b, &texts));
    }
    match kept {
        Some(kept) => Selection::keep(kept, head, now, sorted, &series),
        None if series.len() >= RECENT_SERIES_MIN && is_short(matchers) => {
            Selection::keep(&head.recent.add(matchers, sorted), head, now, sorted, &series);
        }
        None => {}
    }
    Ok((series, charge))
}

fn is_short(matchers: &[Matcher]) -> bool {
    matchers.iter().map(|m| m.name.len() + m.value.len()).sum::<usize>() <= RECENT_TEXT_MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use ferula_model::{Labels, MatchOp};

    #[test]
    fn large_selections_are_found_again() {
        let head = Head::new(&Options::default(), None);
        let add = |i: usize| {
            let labels = Labels::from_pairs([("__name__", "a".to_owned()), ("i", i.to_string())]);
            head.get_or_create(&labels, None).unwrap().0
        };
        (0..RECENT_SERIES_MIN - 1).for_each(|i| drop(add(i)));
        let ask = |m: &[Matcher], sorted: bool| resolve(&head, m, sorted, None, |_| Ok(())).unwrap().0.len();
        let of_a = [Matcher::equal("__name__", "a")];
        assert_eq!(ask(&of_a, false), RECENT_SERIES_MIN - 1);
        assert!(head.recent.find(&of_a, false).is_none(), "too few");
        add(9999);
        assert_eq!(ask(&of_a, false), RECENT_SERIES_MIN);
        assert_eq!(head.recent.find(&of_a, false).unwrap().version(), Some(1));
        assert_eq!(ask(&of_a, false), RECENT_SERIES_MIN);
        assert_eq!(head.recent.find(&of_a, false).unwrap().version(), Some(1), "as it was");
        assert!(head.recent.find(&of_a, true).is_none());
        add(10_000);
        assert_eq!(ask(&of_a, false), RECENT_SERIES_MIN + 1);
        assert_eq!(head.recent.find(&of_a, false).unwrap().version(), Some(2));
        for i in 0..2 * RECENT_MAX {
            ask(&[Matcher::equal("__name__", "a"), Matcher::new(MatchOp::NotEqual, "i", i.to_string()).unwrap()], true);
        }
        assert_eq!(head.recent.slots.lock().unwrap().len(), RECENT_MAX);
        assert_eq!(head.recent.held.load(Ordering::Relaxed), 4 * (RECENT_MAX * RECENT_SERIES_MIN) as u64);
    }

    #[test]
    fn holds_until_a_series_comes_or_goes_that_may_be_meant() {
        let head = Head::new(&Options::default(), None);
        let add = |metric: &str, i: u32| {
            let labels = Labels::from_pairs([("__name__", metric), ("i", &i.to_string())]);
            head.get_or_create(&labels, None).unwrap().0
        };
        let found = |kept: &Resolved, m: &[Matcher], sorted: bool| -> Vec<u64> {
            let (series, ()) = resolve(&head, m, sorted, Some(kept), |_| Ok(())).unwrap();
            series.iter().map(|s| s.series_ref()).collect()
        };
        let of_a = [Matcher::equal("__name__", "a")];
        let any = [Matcher::equal("i", "1")];
        let (kept, kept_any, sorted) = (Resolved::default(), Resolved::default(), Resolved::default());
        assert_eq!((found(&kept, &of_a, false), kept.version()), (vec![], Some(1)));
        let _two = add("a", 2);
        let one = add("a", 1);
        assert_eq!((found(&kept, &of_a, false), kept.version()), (vec![1, 2], Some(2)));
        assert_eq!((found(&sorted, &of_a, true), sorted.version()), (vec![2, 1], Some(1)));
        assert_eq!((found(&kept_any, &any, false), kept_any.version()), (vec![2], Some(1)));
        add("b", 1);
        assert_eq!((found(&kept, &of_a, false), kept.version()), (vec![1, 2], Some(2)), "b is none of its business");
        assert_eq!((found(&sorted, &of_a, true), sorted.version()), (vec![2, 1], Some(1)));
        assert_eq!((found(&kept_any, &any, false), kept_any.version()), (vec![2, 3], Some(2)));
        assert_eq!(head.recent.held.load(Ordering::Relaxed), 4 * 6);

        // Nothing that is kept holds a series: who removes it finds no other hand on it.
        drop(one);
        let gone = head.series.by_ref(2).unwrap();
        assert!(head.series.remove_if(&gone, |_| true));
        head.forget_removed(&[gone]);
        assert_eq!((found(&kept, &of_a, false), kept.version()), (vec![1], Some(3)));
        drop((kept, kept_any, sorted));
        assert_eq!(head.recent.held.load(Ordering::Relaxed), 0);
    }
}
