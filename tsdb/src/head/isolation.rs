//! Half a commit is never seen: commits have numbers, readers remember which were finished when they began.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub struct Isolation {
    state: Mutex<State>,
    /// Every commit up to here is finished and seen by every reader: series forget their numbers.
    low: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    last: u64,
    running: Vec<u64>,
    /// How many readers see everything up to the key.
    readers: BTreeMap<u64, usize>,
    /// Number of the newest reader, and the earliest time each living one may ask for.
    last_reader: u64,
    wanted: BTreeMap<u64, Wanted>,
}

#[derive(Debug)]
struct Wanted {
    mint_ms: i64,
    low: u64,
    expired: Arc<AtomicBool>,
}

impl State {
    fn forget_reader(&mut self, number: u64) {
        let Some(gone) = self.wanted.remove(&number) else { return };
        if let Some(n) = self.readers.get_mut(&gone.low) {
            *n -= 1;
            if *n == 0 {
                self.readers.remove(&gone.low);
            }
        }
    }
    fn finished_upto(&self) -> u64 {
        self.running.iter().min().map_or(self.last, |oldest| oldest - 1)
    }
}

impl Isolation {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn update_low(&self, s: &State) {
        let readers = s.readers.keys().next().copied().unwrap_or(u64::MAX);
        self.low.store(s.finished_upto().min(readers), Ordering::Release);
    }
    pub fn low_watermark(&self) -> u64 {
        self.low.load(Ordering::Acquire)
    }
    /// Begins to apply a commit; its samples stay hidden until the answer is dropped.
    pub fn begin(&self) -> Commit<'_> {
        let mut s = self.state();
        s.last += 1;
        let id = s.last;
        s.running.push(id);
        Commit { isolation: self, id }
    }
    /// A reader of samples from `mint_ms` on.
    pub fn reader(self: &Arc<Self>, mint_ms: i64) -> Reader {
        let mut s = self.state();
        s.last_reader += 1;
        let number = s.last_reader;
        let low = s.finished_upto();
        let expired = Arc::<AtomicBool>::default();
        s.wanted.insert(number, Wanted { mint_ms, low, expired: Arc::clone(&expired) });
        *s.readers.entry(low).or_insert(0) += 1;
        self.update_low(&s);
        Reader { isolation: Arc::clone(self), max: s.last, running: s.running.clone(), low, number, expired }
    }
    /// A mark for [`Isolation::has_passed`]: commits begun and readers made so far.
    pub fn now(&self) -> Moment {
        let s = self.state();
        Moment { commit: s.last, reader: s.last_reader }
    }
    /// Whether all commits begun before `moment` are finished, and all readers made before it that may ask for samples
    /// before `mint_ms` are gone.
    pub fn has_passed(&self, moment: Moment, mint_ms: i64) -> bool {
        let s = self.state();
        s.finished_upto() >= moment.commit && !s.wanted.range(..=moment.reader).any(|(_, w)| w.mint_ms < mint_ms)
    }
    /// Gives up on the readers made before `moment` that may ask for samples before `mint_ms`: from here on they get an
    /// error instead of what may be missing. Returns how many there were.
    pub fn expire(&self, moment: Moment, mint_ms: i64) -> usize {
        let mut s = self.state();
        let old: Vec<u64> =
            s.wanted.range(..=moment.reader).filter(|(_, w)| w.mint_ms < mint_ms).map(|(number, _)| *number).collect();
        for number in &old {
            if let Some(w) = s.wanted.get(number) {
                w.expired.store(true, Ordering::Release);
            }
            s.forget_reader(*number);
        }
        self.update_low(&s);
        old.len()
    }
}

/// A point in the order of commits and readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    commit: u64,
    reader: u64,
}

/// A commit being applied.
#[derive(Debug)]
pub struct Commit<'a> {
    isolation: &'a Isolation,
    pub id: u64,
}

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        let mut s = self.isolation.state();
        s.running.retain(|id| *id != self.id);
        self.isolation.update_low(&s);
    }
}

/// What one reader may see.
#[derive(Debug)]
pub struct Reader {
    isolation: Arc<Isolation>,
    max: u64,
    running: Vec<u64>,
    low: u64,
    number: u64,
    expired: Arc<AtomicBool>,
}

impl Reader {
    /// Whether samples that this reader should see may be gone. To be asked after reading, before what was read is
    /// believed.
    pub fn is_expired(&self) -> bool {
        self.expired.load(Ordering::Acquire)
    }
    #[inline]
    pub fn sees(&self, commit: u64) -> bool {
        commit <= self.low || (commit <= self.max && !self.running.contains(&commit))
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut s = self.isolation.state();
        s.forget_reader(self.number);
        self.isolation.update_low(&s);
    }
}

/// Which commits wrote a series' newest samples; empty in the steady state but for the last one: 24 bytes.
#[derive(Debug, Default)]
pub struct Trail {
    last: u64,
    last_count: u32,
    #[allow(clippy::box_collection)] // 8 bytes instead of 24 in every series, for what is nearly always empty
    older: Option<Box<Vec<(u64, u32)>>>,
}

impl Trail {
    /// Notes one sample of `commit`, and forgets what everybody sees.
    #[inline]
    pub fn note(&mut self, commit: u64, low_watermark: u64) {
        if commit == self.last {
            self.last_count += 1;
            return;
        }
        if self.last > low_watermark {
            self.older.get_or_insert_default().push((self.last, self.last_count));
        }
        (self.last, self.last_count) = (commit, 1);
        if let Some(older) = &mut self.older {
            older.retain(|(id, _)| *id > low_watermark);
            if older.is_empty() {
                self.older = None;
            }
        }
    }
    /// How many of the newest samples `reader` must not see.
    pub fn hidden(&self, reader: &Reader) -> usize {
        let mut hidden = 0;
        for (id, count) in self.older.iter().flat_map(|o| o.iter()).chain([&(self.last, self.last_count)]) {
            if hidden > 0 || !reader.sees(*id) {
                hidden += *count as usize;
            }
        }
        hidden
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_whole_commits_only() {
        let iso = Arc::new(Isolation::default());
        let mut trail = Trail::default();
        let early = iso.reader(0);
        let a = iso.begin();
        trail.note(a.id, iso.low_watermark());
        trail.note(a.id, iso.low_watermark());
        let during = iso.reader(0);
        assert_eq!((trail.hidden(&early), trail.hidden(&during)), (2, 2));
        drop(a);
        let after = iso.reader(0);
        assert_eq!((trail.hidden(&during), trail.hidden(&after)), (2, 0));
        let b = iso.begin();
        trail.note(b.id, iso.low_watermark());
        drop(b);
        assert_eq!((trail.hidden(&early), trail.hidden(&after), trail.hidden(&iso.reader(0))), (3, 1, 0));
        let moment = iso.now();
        assert!(iso.has_passed(moment, 0) && !iso.has_passed(moment, 1), "readers from 0 on are in the way of 1");
        drop((early, during, after));
        assert!(iso.has_passed(moment, 1));
        let c = iso.begin();
        trail.note(c.id, iso.low_watermark());
        assert!(trail.older.is_none(), "nobody needs the old numbers");
    }
}
