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
    pub fn high_watermark(&self) -> u64 {
        self.state().last
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

/// Which commit wrote a series' newest samples, and how many. What earlier commits wrote that some reader may not see is
/// kept elsewhere, oldest first: in the steady state there is none. Packed, because every series has one: 12 bytes.
#[derive(Clone, Copy, Debug, Default)]
#[repr(Rust, packed(4))]
pub struct Trail {
    last: u64,
    count: u32,
}

/// Commits before the last one, and how many samples each wrote.
pub type Older = Vec<(u64, u32)>;

impl Trail {
    /// Notes one sample of `commit`. Returns the commit before when not everybody sees that one yet.
    #[inline]
    pub fn note(&mut self, commit: u64, low_watermark: u64) -> Option<(u64, u32)> {
        if commit == self.last {
            self.count += 1;
            return None;
        }
        let before = (self.last, self.count);
        (self.last, self.count) = (commit, 1);
        (before.0 > low_watermark).then_some(before)
    }
    /// How many of the newest samples `reader` must not see.
    pub fn hidden(&self, older: &[(u64, u32)], reader: &Reader) -> usize {
        let mut hidden = 0;
        for (id, count) in older.iter().copied().chain([(self.last, self.count)]) {
            if hidden > 0 || !reader.sees(id) {
                hidden += count as usize;
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
        let (mut trail, mut older) = (Trail::default(), Older::new());
        let note = |commit: &Commit<'_>, trail: &mut Trail, older: &mut Older| {
            older.extend(trail.note(commit.id, iso.low_watermark()));
        };
        let early = iso.reader(0);
        let a = iso.begin();
        note(&a, &mut trail, &mut older);
        note(&a, &mut trail, &mut older);
        let during = iso.reader(0);
        assert_eq!((trail.hidden(&older, &early), trail.hidden(&older, &during)), (2, 2));
        drop(a);
        let after = iso.reader(0);
        assert_eq!((trail.hidden(&older, &during), trail.hidden(&older, &after)), (2, 0));
        let b = iso.begin();
        note(&b, &mut trail, &mut older);
        drop(b);
        let now = iso.reader(0);
        let hidden = [&early, &after, &now].map(|r| trail.hidden(&older, r));
        assert_eq!(hidden, [3, 1, 0]);
        let moment = iso.now();
        assert!(iso.has_passed(moment, 0) && !iso.has_passed(moment, 1), "readers from 0 on are in the way of 1");
        drop((early, during, after, now));
        assert!(iso.has_passed(moment, 1));
        let c = iso.begin();
        assert_eq!(trail.note(c.id, iso.low_watermark()), None, "nobody needs the old numbers");
    }
}
