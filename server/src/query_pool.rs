//! Threads that evaluate queries, so that no query ever runs on a thread that serves connections.
//!
//! As many threads as `--query.max-concurrency` allows queries; whoever comes later waits in line until its deadline. The
//! thread that has been idle for the shortest time is taken first: as many have memory of their own as queries ran at once.
//! A client that goes away cancels its query, waiting or running.
use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use ferula_storage::{CancelFlag, QueryContext};
use tokio::sync::oneshot;

/// Queries that may wait; beyond that a flood is told so at once instead of piling up.
const WAITING_MAX: usize = 4096;

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const ABANDONED: u8 = 2;

/// Why a query never ran to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    #[error("query timed out in query queue")]
    QueueTimeout,
    #[error("too many queries are waiting")]
    QueueFull,
    #[error("the query failed unexpectedly; the log has the details")]
    Panicked,
    #[error("query was canceled in query queue")]
    Stopped,
}

type Job = Box<dyn FnOnce(Duration) + Send>;

struct Waiting {
    since: Instant,
    state: Arc<AtomicU8>,
    job: Job,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<Waiting>,
    /// Parked threads, the last one to become idle at the end.
    idle: Vec<Thread>,
    is_stopped: bool,
}

struct Shared {
    line: Mutex<Line>,
}

impl Shared {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The pool. Dropping it lets running queries end and forgets those that wait.
pub struct QueryPool {
    shared: Arc<Shared>,
}

struct CancelOnDrop(CancelFlag);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl QueryPool {
    /// Starts `threads` threads (at least one).
    pub fn new(threads: usize) -> std::io::Result<QueryPool> {
        let shared = Arc::new(Shared { line: Mutex::default() });
        let pool = QueryPool { shared: Arc::clone(&shared) };
        for n in 0..threads.max(1) {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(format!("query-{n}")).spawn(move || work(&shared))?;
        }
        Ok(pool)
    }

    /// Runs `query` on a thread of the pool; it is told how long it waited. Dropping the returned future cancels
    /// `context`, and so does reaching the context's deadline while still in line.
    pub async fn run<T: Send + 'static>(
        &self,
        context: &QueryContext,
        query: impl FnOnce(Duration) -> T + Send + 'static,
    ) -> Result<T, PoolError> {
        let _cancel = CancelOnDrop(context.cancel.clone());
        let (send, receive) = oneshot::channel();
        let state = Arc::new(AtomicU8::new(WAITING));
        let job: Job = Box::new(move |waited| {
            let result = std::panic::catch_unwind(AssertUnwindSafe(|| query(waited)));
            let _ = send.send(result.map_err(|_| PoolError::Panicked)); // nobody waits any more
        });
        let idle = {
            let mut line = self.shared.line();
            if line.is_stopped {
                return Err(PoolError::Stopped);
            }
            if line.waiting.len() >= WAITING_MAX {
                return Err(PoolError::QueueFull);
            }
            line.waiting.push_back(Waiting { since: Instant::now(), state: Arc::clone(&state), job });
            line.idle.pop()
        };
        if let Some(thread) = idle {
            thread.unpark();
        }
        // A future dropped while in line leaves its job behind; the thread that takes it finds the cancel flag set.
        let mut receive = receive;
        let Some(deadline) = context.deadline else {
            return receive.await.unwrap_or(Err(PoolError::Stopped));
        };
        tokio::select! {
            done = &mut receive => return done.unwrap_or(Err(PoolError::Stopped)),
            () = tokio::time::sleep_until(deadline.into()) => {}
        }
        if state.compare_exchange(WAITING, ABANDONED, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            return Err(PoolError::QueueTimeout);
        }
        // It runs, knows its deadline, and is about to say so in its own words.
        receive.await.unwrap_or(Err(PoolError::Stopped))
    }
}

impl Drop for QueryPool {
    fn drop(&mut self) {
        let mut line = self.shared.line();
        line.is_stopped = true;
        line.waiting.clear();
        line.idle.drain(..).for_each(|thread| thread.unpark());
    }
}

fn work(shared: &Shared) {
    let this = std::thread::current();
    loop {
        let next = {
            let mut line = shared.line();
            // Whoever wakes a thread takes it out of the list; other reasons to wake do not.
            line.idle.retain(|t| t.id() != this.id());
            let next = line.waiting.pop_front();
            if next.is_none() && line.is_stopped {
                return;
            }
            if next.is_none() {
                line.idle.push(this.clone());
            }
            next
        };
        match next {
            Some(next) => {
                if next.state.compare_exchange(WAITING, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                    (next.job)(next.since.elapsed());
                }
            }
            None => std::thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn context() -> QueryContext {
        QueryContext::background()
    }

    #[tokio::test]
    async fn runs_survives_panics_and_cancels_on_drop() {
        let pool = QueryPool::new(1).unwrap();
        assert_eq!(pool.run(&context(), |_| 7).await, Ok(7));
        assert_eq!(pool.run(&context(), |_| -> i32 { panic!("on purpose") }).await, Err(PoolError::Panicked));
        assert_eq!(pool.run(&context(), |_| 8).await, Ok(8), "the thread is still there");

        let c = context();
        let (cancel, (entered, told)) = (c.cancel.clone(), mpsc::channel());
        let (seen, saw) = oneshot::channel();
        let running = pool.run(&c, move |_| {
            entered.send(()).unwrap();
            while !cancel.is_cancelled() {
                std::thread::yield_now();
            }
            seen.send(()).unwrap();
        });
        let mut running = Box::pin(running);
        assert!(futures::poll!(running.as_mut()).is_pending());
        told.recv().unwrap();
        drop(running);
        saw.await.unwrap();
    }

    #[tokio::test]
    async fn one_client_uses_one_thread() {
        let pool = QueryPool::new(4).unwrap();
        let idle = || pool.shared.line().idle.len();
        while idle() < 4 {
            std::thread::yield_now();
        }
        let (here, other) = (|_| std::thread::current().id(), mpsc::channel());
        let first = pool.run(&context(), here).await;
        for _ in 0..20 {
            while idle() < 4 {
                std::thread::yield_now();
            }
            assert_eq!(pool.run(&context(), here).await, first);
        }
        while idle() < 4 {
            std::thread::yield_now();
        }
        let c = context();
        let (entered, told) = mpsc::channel();
        let mut held = Box::pin(pool.run(&c, move |_| {
            entered.send(()).unwrap();
            other.1.recv().is_ok()
        }));
        assert!(futures::poll!(held.as_mut()).is_pending());
        told.recv().unwrap(); // or the next thread might take this query, and the one woken for it the next query
        let second = pool.run(&context(), here).await;
        assert_ne!(second, first);
        other.0.send(()).unwrap();
        assert_eq!(held.await, Ok(true));
    }

    #[tokio::test]
    async fn a_deadline_passes_in_line() {
        let pool = QueryPool::new(1).unwrap();
        let (release, held) = mpsc::channel::<()>();
        let c = context();
        let mut first = Box::pin(pool.run(&c, move |_| held.recv().is_ok()));
        assert!(futures::poll!(first.as_mut()).is_pending());
        let short = QueryContext { deadline: Some(Instant::now()), ..context() };
        assert_eq!(pool.run(&short, |_| ()).await, Err(PoolError::QueueTimeout));
        release.send(()).unwrap();
        assert_eq!(first.await, Ok(true));
    }

    #[tokio::test]
    async fn a_flood_is_refused() {
        let pool = QueryPool::new(1).unwrap();
        let (release, held) = mpsc::channel::<()>();
        let c = context();
        let mut waiting = vec![Box::pin(pool.run(&c, {
            let held = Mutex::new(held);
            move |_| assert!(held.lock().unwrap().recv().is_err())
        })) as std::pin::Pin<Box<dyn Future<Output = Result<(), PoolError>>>>];
        for _ in 0..=WAITING_MAX {
            waiting.push(Box::pin(pool.run(&c, |_| ())));
        }
        let mut refused = 0;
        for w in &mut waiting {
            if let std::task::Poll::Ready(r) = futures::poll!(w.as_mut()) {
                refused += usize::from(r == Err(PoolError::QueueFull));
            }
        }
        assert!((1..=2).contains(&refused), "{refused}");
        drop(release);
    }
}
