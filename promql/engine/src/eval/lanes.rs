//! Stored series become columns, on as many threads as are free, in the order in which storage gives them.
//!
//! Each thread takes the next piece, a few series, from storage by itself; the query's own thread hands the columns on in
//! the order of pieces, so that results do not depend on how many threads there were. Other threads are at most some
//! pieces ahead, and leave when there is no room for more: nobody ever waits but the query's own thread, for a piece
//! that is being worked on.
use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};

use ferula_storage::{Series, SeriesSet};

use super::selector::next_series;
use crate::column::{Column, SeriesStream, Stream};
use crate::error::QueryError;
use crate::grid::Grid;
use crate::query::{Query, Run};
use crate::turns::Spare;

/// What one thread needs to turn series into columns: its own buffers.
pub(crate) trait Lane: Send + 'static {
    fn column(&mut self, series: Series) -> Result<Option<Column>, QueryError>;
}

/// Makes a lane for another thread.
pub(crate) type MoreLanes<'a, L> = Box<dyn Fn() -> Result<L, QueryError> + 'a>;

/// Series of a piece, and points of its columns, at most.
const PIECE_SERIES: usize = 32;
const PIECE_POINTS: usize = 1 << 16;
/// For each thread: pieces that are worked on or wait to be handed on.
const PIECES: usize = 4;
/// How often to look whether storage is free before sleeping.
const SPINS: usize = 500;
/// Another thread pays off after so many series. Where there is one step only, two threads need a quarter more CPU than
/// one does for the same series: nobody waits for a few thousand so long that it is worth that.
const SERIES_ALONE: usize = 64;
const SERIES_ALONE_INSTANT: usize = 8192;

/// The columns of all series of `set`. Without `more` only one thread works on them.
pub(crate) fn lanes<'a, L: Lane>(
    q: &'a Query<'a>,
    set: Box<dyn SeriesSet>,
    grid: Grid,
    first: L,
    more: Option<MoreLanes<'a, L>>,
) -> Stream<'a> {
    let pieces = Pieces { began: 0, queue: VecDeque::new(), ended: false, lanes: Vec::new() };
    let size = (PIECE_POINTS / grid.n.max(1)).clamp(1, PIECE_SERIES);
    let room = PIECES * (1 + q.threads.as_ref().map_or(0, |t| t.most()));
    let work = Work {
        run: Arc::clone(&q.run),
        size,
        room,
        set: Mutex::new(set),
        pieces: Mutex::new(pieces),
        changed: Condvar::new(),
        is_dropped: AtomicBool::new(false),
    };
    Box::new(Lanes {
        q,
        work: Arc::new(work),
        others: Arc::default(),
        own: first,
        more,
        bytes: 8 * (grid.n * size * room) as u64,
        alone: if grid.n == 1 { SERIES_ALONE_INSTANT } else { SERIES_ALONE },
        taken: 0,
        ready: Vec::new().into_iter(),
        end: None,
    })
}

/// The query's own thread, and what comes out.
struct Lanes<'a, L: Lane> {
    q: &'a Query<'a>,
    work: Arc<Work<L>>,
    others: Arc<Others>,
    own: L,
    more: Option<MoreLanes<'a, L>>,
    /// Of all pieces; 0 once charged.
    bytes: u64,
    /// Series before other threads are asked for.
    alone: usize,
    taken: usize,
    ready: std::vec::IntoIter<Column>,
    end: Option<End>,
}

/// What all threads share that work on one selection.
struct Work<L> {
    run: Arc<Run>,
    /// Series of a piece.
    size: usize,
    /// Pieces in the queue.
    room: usize,
    /// Locked first, where both are.
    set: Mutex<Box<dyn SeriesSet>>,
    /// Never locked for longer than it takes to move a piece.
    pieces: Mutex<Pieces<L>>,
    /// The first piece is done.
    changed: Condvar,
    is_dropped: AtomicBool,
}

struct Pieces<L> {
    /// The number of the first piece in `queue`.
    began: u64,
    /// In storage's order; `None` while worked on.
    queue: VecDeque<Option<Piece>>,
    /// Storage has no more, or somebody failed.
    ended: bool,
    /// Lanes for other threads that are not in use.
    lanes: Vec<L>,
}

/// Other threads at work on a selection: they hold its [`Work`] until they have left.
#[derive(Default)]
struct Others {
    at_work: Mutex<usize>,
    left: Condvar,
}

impl Others {
    fn at_work(&self) -> MutexGuard<'_, usize> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }
    fn leave(&self) {
        *self.at_work() -= 1;
        self.left.notify_one();
    }
}

/// The columns of some series, and why there is nothing behind them.
#[derive(Default)]
struct Piece {
    columns: Vec<Column>,
    end: Option<End>,
}

enum End {
    Error(QueryError),
    Panic(Box<dyn Any + Send>),
}

impl<L: Lane> Work<L> {
    fn pieces(&self) -> MutexGuard<'_, Pieces<L>> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Taking a few series is done before a thread that sleeps would be awake again.
    fn set(&self) -> MutexGuard<'_, Box<dyn SeriesSet>> {
        for _ in 0..SPINS {
            match self.set.try_lock() {
                Ok(set) => return set,
                Err(TryLockError::Poisoned(set)) => return set.into_inner(),
                Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
            }
        }
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the next piece, if storage has one and there is room for it.
    fn step(&self, lane: &mut L) -> bool {
        let mut set = self.set();
        let mut pieces = self.pieces();
        if pieces.ended || pieces.queue.len() >= self.room || self.is_dropped.load(Ordering::Relaxed) {
            return false;
        }
        let number = pieces.began + pieces.queue.len() as u64;
        pieces.queue.push_back(None);
        drop(pieces);
        let (mut series, mut piece) = (Vec::new(), Piece::default());
        let mut part = set.split_off(self.size);
        let mut behind = None;
        if part.is_none() {
            let taken = catch_unwind(AssertUnwindSafe(|| {
                series.reserve_exact(self.size);
                while series.len() < self.size {
                    match next_series(&self.run, &mut set) {
                        Ok(Some(s)) => series.push(s),
                        Ok(None) => return None,
                        Err(e) => return Some(End::Error(e)),
                    }
                }
                None
            }));
            behind = taken.unwrap_or_else(|panic| Some(End::Panic(panic)));
            if series.len() < self.size {
                self.pieces().ended = true;
            }
        }
        drop(set);

        piece.columns.reserve_exact(self.size);
        let done = catch_unwind(AssertUnwindSafe(|| {
            let mut series = series.into_iter();
            let mut next = || match &mut part {
                Some(part) => next_series(&self.run, part),
                None => Ok(series.next()),
            };
            while let Some(s) = next()? {
                if self.is_dropped.load(Ordering::Relaxed) {
                    break;
                }
                if let Some(c) = lane.column(s)? {
                    piece.columns.push(c);
                }
            }
            Ok(())
        }));
        piece.end = match done {
            Ok(Ok(())) => behind,
            Ok(Err(e)) => Some(End::Error(e)),
            Err(panic) => Some(End::Panic(panic)),
        };
        let mut pieces = self.pieces();
        pieces.ended |= piece.end.is_some();
        let at = number.saturating_sub(pieces.began) as usize;
        if let Some(slot) = pieces.queue.get_mut(at) {
            *slot = Some(piece);
        }
        drop(pieces);
        if at == 0 {
            self.changed.notify_one();
        }
        true
    }

    /// Another thread works on pieces until there is nothing to do, or the thread is wanted elsewhere.
    fn help(&self, mut lane: L, spare: &Spare) {
        while !spare.is_wanted() && self.step(&mut lane) {}
        self.pieces().lanes.push(lane);
    }
}

impl<L: Lane> Lanes<'_, L> {
    /// Asks for every thread that is free; whether there was any.
    fn ask(&mut self) -> Result<bool, QueryError> {
        let Some(more) = &self.more else { return Ok(false) };
        if self.taken < self.alone {
            return Ok(false);
        }
        let mut started = false;
        // Not until none is free: one that finds no room is free again at once.
        for _ in 0..self.work.room / PIECES - 1 {
            let Some((threads, spare)) = self.q.spare() else { break };
            let kept = self.work.pieces().lanes.pop();
            let lane = match kept {
                Some(lane) => lane,
                None => {
                    self.q.charge(std::mem::take(&mut self.bytes))?;
                    more()?
                }
            };
            *self.others.at_work() += 1;
            let (work, others) = (Arc::clone(&self.work), Arc::clone(&self.others));
            let help = move || {
                work.help(lane, &spare);
                drop(work);
                others.leave();
            };
            if !threads.start(Box::new(help)) {
                self.others.leave();
                break;
            }
            started = true;
        }
        Ok(started)
    }

    /// The next series becomes a column here and now; `None`: it has none.
    fn single(&mut self) -> Result<Option<Column>, QueryError> {
        let Some(series) = next_series(&self.work.run, &mut self.work.set())? else {
            self.work.pieces().ended = true;
            return Ok(None);
        };
        self.taken += 1;
        self.own.column(series)
    }

    /// Waits for the first piece, which another thread works on.
    fn wait(&self) {
        let pieces = self.work.pieces();
        let is_open = |p: &mut Pieces<L>| matches!(p.queue.front(), Some(None));
        drop(self.work.changed.wait_while(pieces, is_open).unwrap_or_else(PoisonError::into_inner));
    }
}

impl<L: Lane> SeriesStream for Lanes<'_, L> {
    fn next(&mut self) -> Result<Option<Column>, QueryError> {
        loop {
            if let Some(c) = self.ready.next() {
                return Ok(Some(c));
            }
            self.q.turn.look(&self.work.run.ctx)?;
            match self.end.take() {
                Some(End::Error(e)) => return Err(e),
                Some(End::Panic(panic)) => resume_unwind(panic),
                None => {}
            }
            // Looked at before the queue: who has left has left nothing behind that is not seen there.
            let mut is_alone = *self.others.at_work() == 0;
            let mut pieces = self.work.pieces();
            let piece = pieces.queue.front_mut().and_then(Option::take);
            if piece.is_some() {
                pieces.queue.pop_front();
                pieces.began += 1;
            }
            let (waiting, ended) = (pieces.queue.len(), pieces.ended);
            drop(pieces);
            if !ended && waiting <= self.work.room / 2 {
                is_alone &= !self.ask()?;
            }
            if let Some(piece) = piece {
                (self.ready, self.end) = (piece.columns.into_iter(), piece.end);
            } else if waiting == 0 && ended {
                return Ok(None);
            } else if waiting == 0 && is_alone {
                if let Some(c) = self.single()? {
                    return Ok(Some(c));
                }
            } else if !self.work.step(&mut self.own) {
                self.wait();
            }
        }
    }
}

impl<L: Lane> Drop for Lanes<'_, L> {
    /// Nobody works for a query that has ended: what it read is let go with it.
    fn drop(&mut self) {
        self.work.is_dropped.store(true, Ordering::Relaxed);
        let at_work = self.others.at_work();
        drop(self.others.left.wait_while(at_work, |n| *n > 0).unwrap_or_else(PoisonError::into_inner));
    }
}
