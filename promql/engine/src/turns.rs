//! Whose turn it is to compute: as many threads at a time as there are cores, so that queries come one after the other
//! instead of all half as fast, and fewer hold memory.
//!
//! A query takes a turn when it begins and waits where none is free, in order of arrival. One that has computed for long
//! lets those go first that have not, at the places where it looks at its deadline. Whoever waited for long goes first
//! whatever it has used. Where those who have turns show no sign (they wait for a disk), others begin besides them.
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use ferula_storage::{Interrupted, QueryContext};

/// CPU time that a query uses before others of its kind go first.
const SLICE: Duration = Duration::from_millis(100);
/// Who has waited for so long, the longer the more it has computed, goes first.
const PATIENCE: [Duration; 3] = [Duration::from_millis(200), Duration::from_millis(200), Duration::from_secs(1)];
/// How often one that waits looks for its client, its deadline, and signs of those who compute.
const POLL: Duration = Duration::from_millis(20);
/// How often one that computes looks whether it should let others go first.
const LOOK: Duration = Duration::from_micros(250);

/// What a query has used by now, in decades: the less the sooner its turn.
fn level(used: Duration) -> u8 {
    u8::from(used >= SLICE) + u8::from(used >= 10 * SLICE)
}

/// Time on a clock of the wall would count what other processes took.
fn thread_cpu() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}

/// One that waits. Times count from the engine's start.
#[derive(Clone, Copy, Debug)]
struct Claim {
    level: u8,
    since: Duration,
}

impl Claim {
    fn is_late(&self, now: Duration) -> bool {
        PATIENCE.get(usize::from(self.level)).is_none_or(|patience| now.saturating_sub(self.since) >= *patience)
    }
    /// The smallest goes first.
    fn rank(&self, now: Duration) -> (u8, Duration) {
        (if self.is_late(now) { 0 } else { 1 + self.level }, self.since)
    }
}

/// What one that computes may use before others go first.
#[derive(Clone, Copy, Debug)]
struct Slice {
    until_used: Duration,
    /// It had waited for long: all of this slice is its own.
    is_own: bool,
}

impl Slice {
    fn gives_way(&self, used: Duration, claim: Claim, now: Duration) -> bool {
        let (level, is_over) = (level(used), used >= self.until_used);
        is_over && (claim.is_late(now) || claim.level <= level) || !self.is_own && claim.level < level
    }
}

#[derive(Default)]
struct Line {
    taken: usize,
    next: u64,
    /// In order of arrival; few.
    waiting: Vec<(u64, Claim, Thread)>,
}

impl Line {
    fn first(&self, now: Duration) -> Option<usize> {
        (0..self.waiting.len()).min_by_key(|i| self.waiting.get(*i).map(|(_, claim, _)| claim.rank(now)))
    }
}

/// The turns of an engine.
pub(crate) struct Turns {
    most: usize,
    line: Mutex<Line>,
    /// As in `line`, to be looked at without a lock.
    waiting: AtomicUsize,
    taken: AtomicUsize,
    /// Grows while somebody computes and others wait.
    signs: AtomicU64,
    origin: Instant,
}

impl std::fmt::Debug for Turns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Turns({}/{}, {} waiting)", self.taken.load(Ordering::Relaxed), self.most, self.waiting())
    }
}

impl Turns {
    pub fn new(most: usize) -> Turns {
        Turns {
            most: most.max(1),
            line: Mutex::default(),
            waiting: AtomicUsize::new(0),
            taken: AtomicUsize::new(0),
            signs: AtomicU64::new(0),
            origin: Instant::now(),
        }
    }

    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be called before a changed line is unlocked.
    fn publish(&self, line: &Line) {
        self.waiting.store(line.waiting.len(), Ordering::Relaxed);
        self.taken.store(line.taken, Ordering::Relaxed);
    }

    /// A turn if one is free and nobody waits for it.
    pub fn try_take(self: &Arc<Turns>) -> Option<Spare> {
        if self.waiting() > 0 || self.taken.load(Ordering::Relaxed) >= self.most {
            return None;
        }
        let mut line = self.line();
        if line.taken >= self.most || !line.waiting.is_empty() {
            return None;
        }
        line.taken += 1;
        self.publish(&line);
        Some(Spare(Arc::clone(self)))
    }

    fn give_back(&self) {
        let mut line = self.line();
        line.taken -= 1;
        while line.taken < self.most
            && let Some(first) = line.first(self.now())
        {
            line.taken += 1;
            line.waiting.remove(first).2.unpark();
        }
        self.publish(&line);
    }

    /// Waits until somebody has handed a turn on. An error when the query's client or time is gone.
    fn wait<'t>(&'t self, mut line: MutexGuard<'t, Line>, claim: Claim, ctx: &QueryContext) -> Result<(), Interrupted> {
        let number = line.next;
        line.next += 1;
        line.waiting.push((number, claim, std::thread::current()));
        let (mut signs, mut quiet_since) = (self.signs.load(Ordering::Relaxed), self.now());
        loop {
            let Some(at) = line.waiting.iter().position(|(n, ..)| *n == number) else { return Ok(()) };
            let (seen, now) = (self.signs.load(Ordering::Relaxed), self.now());
            if seen != signs {
                (signs, quiet_since) = (seen, now);
            }
            let checked = ctx.check();
            let is_quiet = now.saturating_sub(quiet_since) >= POLL;
            if checked.is_err() || is_quiet {
                line.waiting.remove(at);
                line.taken += usize::from(checked.is_ok());
                self.publish(&line);
                return checked;
            }
            self.publish(&line);
            drop(line);
            let left = ctx.deadline.map_or(POLL, |d| d.saturating_duration_since(Instant::now()));
            std::thread::park_timeout(left.min(POLL));
            line = self.line();
        }
    }
}

/// One query's turn; given back when dropped.
pub(crate) struct Turn {
    turns: Arc<Turns>,
    /// Rules: they neither wait nor let others go first.
    never_waits: bool,
    is_held: Cell<bool>,
    slice: Cell<Slice>,
    looked: Cell<Duration>,
    /// CPU time of the thread when the query began.
    cpu_before: Duration,
    waited: Cell<Duration>,
}

impl Turn {
    pub fn take(turns: &Arc<Turns>, never_waits: bool, ctx: &QueryContext) -> Result<Turn, Interrupted> {
        let since = turns.now();
        let turn = Turn {
            turns: Arc::clone(turns),
            never_waits,
            is_held: Cell::new(false),
            slice: Cell::new(Slice { until_used: SLICE, is_own: false }),
            looked: Cell::new(since),
            cpu_before: thread_cpu(),
            waited: Cell::default(),
        };
        let mut line = turns.line();
        if never_waits || line.taken < turns.most && line.waiting.is_empty() {
            line.taken += 1;
            turns.publish(&line);
            turn.is_held.set(true);
        } else {
            turn.wait(line, Claim { level: 0, since }, ctx)?;
        }
        Ok(turn)
    }

    fn wait(&self, line: MutexGuard<'_, Line>, claim: Claim, ctx: &QueryContext) -> Result<(), Interrupted> {
        let got = self.turns.wait(line, claim, ctx);
        let now = self.turns.now();
        self.is_held.set(got.is_ok());
        self.waited.set(self.waited.get() + now.saturating_sub(claim.since));
        self.slice.set(Slice { until_used: self.used() + SLICE, is_own: claim.is_late(now) });
        got
    }

    /// A turn for another thread, if one is free and nobody waits for it.
    pub fn spare(&self) -> Option<Spare> {
        self.turns.try_take()
    }

    /// CPU time of the query's own thread.
    fn used(&self) -> Duration {
        thread_cpu().saturating_sub(self.cpu_before)
    }

    /// How long the query has waited, in all.
    pub fn waited(&self) -> Duration {
        self.waited.get()
    }

    /// Lets others go first if it is their turn, and comes back when it is this one's again. To be called where no lock
    /// is held.
    #[inline]
    pub fn look(&self, ctx: &QueryContext) -> Result<(), Interrupted> {
        if self.turns.waiting() == 0 { Ok(()) } else { self.look_closer(ctx) }
    }

    #[cold]
    fn look_closer(&self, ctx: &QueryContext) -> Result<(), Interrupted> {
        let (turns, now) = (&self.turns, self.turns.now());
        if now.saturating_sub(self.looked.get()) < LOOK {
            return Ok(());
        }
        self.looked.set(now);
        turns.signs.fetch_add(1, Ordering::Relaxed);
        let used = self.used();
        let mut line = turns.line();
        let Some(first) = line.first(now) else { return Ok(()) };
        let gives_way = |(_, claim, _): &(u64, Claim, Thread)| self.slice.get().gives_way(used, *claim, now);
        if self.never_waits || !line.waiting.get(first).is_some_and(gives_way) {
            return Ok(());
        }
        line.waiting.remove(first).2.unpark();
        self.wait(line, Claim { level: level(used), since: now }, ctx)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.is_held.get() {
            self.turns.give_back();
        }
    }
}

/// A turn of another thread that works for a query; given back when dropped.
#[derive(Debug)]
pub(crate) struct Spare(Arc<Turns>);

impl Spare {
    /// Whether a query waits: time to give it back.
    pub fn is_wanted(&self) -> bool {
        self.0.waiting() > 0
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }
    fn order(claims: &[(u8, u64)], now: u64) -> Vec<usize> {
        let waiting = |(level, since): &(u8, u64)| Claim { level: *level, since: ms(*since) };
        let mut line = Line::default();
        for (i, c) in claims.iter().enumerate() {
            line.waiting.push((i as u64, waiting(c), std::thread::current()));
        }
        std::iter::from_fn(|| line.first(ms(now)).map(|i| line.waiting.remove(i).0 as usize)).collect()
    }

    #[test]
    fn who_has_used_little_goes_first_then_who_came_first() {
        assert_eq!(order(&[(2, 100), (0, 300), (1, 150), (0, 200)], 340), [3, 1, 2, 0]);
        assert_eq!(order(&[(0, 1_000), (2, 100), (1, 800)], 1_050), [2, 0, 1], "it has waited for long");
        assert_eq!(order(&[(0, 1_050), (2, 100), (1, 1_000)], 1_120), [1, 0, 2], "a second is long enough for any");
        assert_eq!([0, 99, 100, 999, 1_000, 90_000].map(|used| level(ms(used))), [0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn who_computes_gives_way() {
        let slice = Slice { until_used: ms(100), is_own: false };
        let new = |level| Claim { level, since: ms(500) };
        let gives_way = |used, claim, now| slice.gives_way(ms(used), claim, ms(now));
        assert!(!gives_way(99, new(0), 550), "first come, first served");
        assert!(!gives_way(99, new(0), 5_000), "a slice is a slice");
        assert!(gives_way(100, new(0), 550) && gives_way(1_000, new(1), 550), "to less used at once");
        let second = Slice { until_used: ms(200), is_own: false };
        let equal = |used| second.gives_way(ms(used), new(1), ms(550));
        assert!(!equal(199) && equal(200), "to equals after a slice");
        let heavier = |now| slice.gives_way(ms(200), new(2), ms(now));
        assert!(!heavier(1_499) && heavier(1_500), "to heavier ones only late");
        let own = Slice { until_used: ms(200), is_own: true };
        let own = |used| own.gives_way(ms(used), new(0), ms(550));
        assert!(!own(199) && own(200), "long waits are worth a slice");
    }

    fn held(turns: &Arc<Turns>) -> (usize, usize) {
        let line = turns.line();
        (line.taken, line.waiting.len())
    }

    #[test]
    fn turns_are_handed_on_and_given_back() {
        let turns = Arc::new(Turns::new(2));
        let ctx = QueryContext::background();
        let one = Turn::take(&turns, false, &ctx).unwrap();
        let spare = turns.try_take().unwrap();
        assert!(turns.try_take().is_none() && !spare.is_wanted());
        let rule = Turn::take(&turns, true, &ctx).unwrap();
        assert_eq!(held(&turns), (3, 0));
        drop(rule);
        std::thread::scope(|s| {
            let other = s.spawn(|| Turn::take(&turns, false, &ctx).map(|t| t.waited()).unwrap());
            // It waits until this one shows that it has nothing to give.
            while !spare.is_wanted() && held(&turns).0 == 2 && !other.is_finished() {
                std::thread::yield_now();
            }
            one.look(&ctx).unwrap();
            drop(spare);
            other.join().unwrap();
        });
        assert_eq!(held(&turns), (1, 0));
        drop(one);
        assert_eq!(held(&turns), (0, 0));
    }

    #[test]
    fn who_waits_sees_its_deadline_and_its_client_go() {
        let turns = Arc::new(Turns::new(1));
        let ctx = QueryContext::background();
        let _one = Turn::take(&turns, false, &ctx).unwrap();
        let gone = QueryContext::background();
        gone.cancel.cancel();
        assert_eq!(Turn::take(&turns, false, &gone).err(), Some(Interrupted::Cancelled));
        let late = QueryContext { deadline: Some(Instant::now()), ..QueryContext::background() };
        assert_eq!(Turn::take(&turns, false, &late).err(), Some(Interrupted::TimedOut));
        assert_eq!(held(&turns), (1, 0));
        // One that shows no sign is not waited for.
        let other = Turn::take(&turns, false, &ctx).unwrap();
        assert_eq!(held(&turns), (2, 0));
        drop(other);
        assert_eq!(held(&turns), (1, 0));
    }

    #[test]
    fn a_query_that_used_much_lets_a_new_one_pass() {
        let turns = Arc::new(Turns::new(1));
        let ctx = QueryContext::background();
        let heavy = Turn::take(&turns, false, &ctx).unwrap();
        // As if this thread had computed for long.
        heavy.slice.set(Slice { until_used: Duration::ZERO, is_own: false });
        std::thread::scope(|s| {
            let light = s.spawn(|| drop(Turn::take(&turns, false, &ctx).unwrap()));
            while !light.is_finished() {
                heavy.look(&ctx).unwrap();
                std::thread::yield_now();
            }
        });
        assert!(heavy.is_held.get());
        drop(heavy);
        assert_eq!(held(&turns), (0, 0));
    }
}
