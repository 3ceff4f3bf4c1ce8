//! Stored series become columns, on as many threads as are free, in the order in which storage gives them.
//!
//! Series are taken from storage in waves. A wave of some size is shared out in small pieces among the query's own thread
//! and spare ones; its columns are handed on in their order, so that results do not depend on how many threads there
//! were. Spare threads are counted for the whole engine: many queries at a time run on one thread each.
use std::collections::VecDeque;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ferula_storage::{Series, SeriesSet};

use super::selector::next_series;
use crate::column::{Column, Stream, stream};
use crate::error::QueryError;
use crate::grid::Grid;
use crate::query::Query;

/// What one thread needs to turn series into columns: its own buffers.
pub(crate) trait Lane: Send {
    fn column(&mut self, series: Series) -> Result<Option<Column>, QueryError>;
}

/// Makes a lane for another thread.
pub(crate) type MoreLanes<'a, L> = Box<dyn Fn() -> Result<L, QueryError> + 'a>;

/// Most series of a wave, and most points of its columns.
const WAVE_SERIES: usize = 1024;
const WAVE_POINTS: usize = 1 << 19;
/// Starting a thread takes as long as some dozens of series, or some hundred where there is one step only.
const SERIES_PER_THREAD: usize = 64;
const SERIES_PER_THREAD_INSTANT: usize = 512;
/// Series that a thread takes at a time.
const PIECE: usize = 16;

enum Slot {
    Series(Series),
    Column(Result<Option<Column>, QueryError>),
    Taken,
}

/// The columns of all series of `set`. Without `more` only one thread works on them.
pub(crate) fn lanes<'a, L: Lane + 'a>(
    q: &'a Query<'a>,
    mut set: Box<dyn SeriesSet>,
    grid: Grid,
    first: L,
    more: Option<MoreLanes<'a, L>>,
) -> Stream<'a> {
    let wave = match &more {
        Some(_) if q.has_threads => (WAVE_POINTS / grid.n.max(1)).clamp(SERIES_PER_THREAD, WAVE_SERIES),
        _ => 1,
    };
    let per_thread = if grid.n == 1 { SERIES_PER_THREAD_INSTANT } else { SERIES_PER_THREAD };
    let mut lanes = vec![first];
    let mut pending: VecDeque<Slot> = VecDeque::new();
    let mut ended = false;
    stream(move || {
        loop {
            match pending.pop_front() {
                Some(Slot::Series(series)) => {
                    let Some(lane) = lanes.first_mut() else { return Ok(None) };
                    if let Some(c) = lane.column(series)? {
                        return Ok(Some(c));
                    }
                }
                Some(Slot::Column(c)) => {
                    if let Some(c) = c? {
                        return Ok(Some(c));
                    }
                }
                Some(Slot::Taken) => {}
                None if ended => return Ok(None),
                None => {
                    while pending.len() < wave && !ended {
                        match next_series(q, &mut set)? {
                            Some(series) => pending.push_back(Slot::Series(series)),
                            None => ended = true,
                        }
                    }
                    let spare = Spare::take(q, (pending.len() / per_thread).saturating_sub(1));
                    if let (Some(more), true) = (&more, spare.n > 0) {
                        while lanes.len() < 1 + spare.n {
                            q.charge(8 * (grid.n * wave) as u64)?;
                            lanes.push(more()?);
                        }
                        work(pending.make_contiguous(), lanes.iter_mut().take(1 + spare.n));
                    }
                }
            }
        }
    })
}

/// Has every lane work on pieces of the wave until there are no more.
fn work<'l, L: Lane + 'l>(wave: &mut [Slot], lanes: impl Iterator<Item = &'l mut L>) {
    let pieces = Mutex::new(wave.chunks_mut(PIECE));
    let run = |lane: &mut L| {
        loop {
            let next = pieces.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(piece) = next else { return };
            for slot in piece {
                if let Slot::Series(series) = std::mem::replace(slot, Slot::Taken) {
                    *slot = Slot::Column(lane.column(series));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let mut lanes = lanes;
        let own = lanes.next();
        for lane in lanes {
            let thread = std::thread::Builder::new().name("promql-lane".to_owned());
            // Where no thread can be started, the others do the work.
            let _ = thread.spawn_scoped(scope, || run(lane));
        }
        if let Some(lane) = own {
            run(lane);
        }
    });
}

/// The threads of an engine that nobody uses. Queries that run take one each, also when there is none: their number is
/// not bounded here, and where there are as many as cores none has another thread work for it.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    free: AtomicIsize,
}

impl Threads {
    /// `spare`: besides a query's own.
    pub fn new(spare: usize) -> Threads {
        Threads { free: AtomicIsize::new(isize::try_from(spare).unwrap_or(isize::MAX - 1) + 1) }
    }
}

/// One running query among the threads; given back when dropped.
#[derive(Debug, Default)]
pub(crate) struct Running(Option<Arc<Threads>>);

impl Running {
    pub fn new(threads: Arc<Threads>) -> Running {
        threads.free.fetch_sub(1, Ordering::Relaxed);
        Running(Some(threads))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(threads) = &self.0 {
            threads.free.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Threads taken for a while; given back when dropped.
struct Spare<'a> {
    q: &'a Query<'a>,
    n: usize,
}

impl<'a> Spare<'a> {
    fn take(q: &'a Query<'a>, wanted: usize) -> Spare<'a> {
        let mut n = 0;
        if let Some(threads) = &q.threads.0 {
            let _ = threads.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| {
                n = wanted.min(usize::try_from(free).unwrap_or(0));
                Some(free - n as isize)
            });
        }
        Spare { q, n }
    }
}

impl Drop for Spare<'_> {
    fn drop(&mut self) {
        if let Some(threads) = &self.q.threads.0 {
            threads.free.fetch_add(self.n as isize, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_that_run_leave_fewer_threads_to_each_other() {
        let threads = Arc::new(Threads::new(3));
        let free = || threads.free.load(Ordering::Relaxed);
        let one = Running::new(Arc::clone(&threads));
        assert_eq!(free(), 3);
        let more: Vec<Running> = (0..5).map(|_| Running::new(Arc::clone(&threads))).collect();
        assert_eq!(free(), -2);
        drop(more);
        assert_eq!(free(), 3);
        drop(one);
        assert_eq!(free(), 4);
    }
}
