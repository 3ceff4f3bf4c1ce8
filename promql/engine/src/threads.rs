//! The threads of an engine besides those that ask it: they turn series into columns for whichever query is alone enough.
//!
//! As many as the engine may use besides a query's own, started when first needed and parked while idle. Queries that run
//! are counted, so that many at a time use one thread each.
use std::collections::VecDeque;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

type Job = Box<dyn FnOnce() + Send>;

/// The threads of an engine. Dropping it lets them end once idle.
#[derive(Debug)]
pub(crate) struct Threads {
    most: usize,
    /// Threads that nobody uses; below zero when more queries run than there are threads.
    free: AtomicIsize,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    line: Mutex<Line>,
    changed: Condvar,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

#[derive(Default)]
struct Line {
    jobs: VecDeque<Job>,
    started: usize,
    idle: usize,
    is_stopped: bool,
}

impl Shared {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Threads {
    /// `spare`: besides a query's own.
    pub fn new(spare: usize) -> Threads {
        let free = AtomicIsize::new(isize::try_from(spare).unwrap_or(isize::MAX - 1) + 1);
        Threads { most: spare, free, shared: Arc::default() }
    }

    /// Gives `job` to a thread; `false` if there is none and none can be started.
    fn start(&self, job: Job) -> bool {
        let mut line = self.shared.line();
        if line.idle <= line.jobs.len() && line.started < self.most {
            let shared = Arc::clone(&self.shared);
            let thread = std::thread::Builder::new().name(format!("promql-lane-{}", line.started));
            line.started += usize::from(thread.spawn(move || work(&shared)).is_ok());
        }
        if line.started == 0 {
            return false;
        }
        line.jobs.push_back(job);
        drop(line);
        self.shared.changed.notify_one();
        true
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.line().is_stopped = true;
        self.shared.changed.notify_all();
    }
}

fn work(shared: &Shared) {
    let mut line = shared.line();
    loop {
        if let Some(job) = line.jobs.pop_front() {
            drop(line);
            job();
            line = shared.line();
        } else if line.is_stopped {
            return;
        } else {
            line.idle += 1;
            line = shared.changed.wait(line).unwrap_or_else(PoisonError::into_inner);
            line.idle -= 1;
        }
    }
}

/// One running query among the threads; given back when dropped.
#[derive(Debug)]
pub(crate) struct Running(Arc<Threads>);

impl Running {
    pub fn new(threads: Arc<Threads>) -> Running {
        threads.free.fetch_sub(1, Ordering::Relaxed);
        Running(threads)
    }

    /// Threads that there are besides the query's own.
    pub fn most(&self) -> usize {
        self.0.most
    }

    /// A thread, if one is free.
    pub fn spare(&self) -> Option<Spare> {
        let threads = &self.0;
        threads.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| (free > 0).then_some(free - 1)).ok()?;
        Some(Spare(Arc::clone(threads)))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.free.fetch_add(1, Ordering::Relaxed);
    }
}

/// A thread taken for a while; given back when dropped.
#[derive(Debug)]
pub(crate) struct Spare(Arc<Threads>);

impl Spare {
    /// Whether more queries run than there are threads: time to give it back.
    pub fn is_wanted(&self) -> bool {
        self.0.free.load(Ordering::Relaxed) < 0
    }

    /// Has the thread do `job`, which keeps this for as long as it works.
    pub fn start(self, job: impl FnOnce(&Spare) + Send + 'static) -> bool {
        let threads = Arc::clone(&self.0);
        threads.start(Box::new(move || job(&self)))
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.0.free.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn queries_that_run_leave_fewer_threads_to_each_other() {
        let threads = Arc::new(Threads::new(3));
        let free = || threads.free.load(Ordering::Relaxed);
        let one = Running::new(Arc::clone(&threads));
        assert_eq!(free(), 3);
        let spare = one.spare().unwrap();
        assert_eq!((free(), spare.is_wanted()), (2, false));
        let more: Vec<Running> = (0..5).map(|_| Running::new(Arc::clone(&threads))).collect();
        assert_eq!((free(), spare.is_wanted()), (-3, true));
        assert!(one.spare().is_none());
        drop((more, spare));
        assert_eq!(free(), 3);
        drop(one);
        assert_eq!(free(), 4);
    }

    #[test]
    fn threads_are_started_when_needed_and_used_again() {
        let threads = Arc::new(Threads::new(2));
        let one = Running::new(Arc::clone(&threads));
        let (send, receive) = mpsc::channel();
        for _ in 0..50 {
            let (a, b) = (one.spare().unwrap(), one.spare().unwrap());
            assert!(one.spare().is_none());
            for spare in [a, b] {
                let send = send.clone();
                assert!(spare.start(move |_| send.send(std::thread::current().id()).unwrap()));
            }
            receive.recv().unwrap();
            receive.recv().unwrap();
            // The threads give themselves back after they have sent.
            while threads.free.load(Ordering::Relaxed) < 2 {
                std::thread::yield_now();
            }
        }
        assert!((1..=2).contains(&threads.shared.line().started));
    }
}
