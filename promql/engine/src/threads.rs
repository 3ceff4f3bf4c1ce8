//! The threads of an engine besides those that ask it: they turn series into columns for whichever query is alone enough.
//!
//! As many as the engine may use besides a query's own, started when first needed and parked while idle. Each needs a turn
//! to work ([`crate::turns`]), so that of many queries at a time each uses one thread.
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

pub(crate) type Job = Box<dyn FnOnce() + Send>;

/// The threads of an engine. Dropping it lets them end once idle.
#[derive(Debug)]
pub(crate) struct Threads {
    most: usize,
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
        Threads { most: spare, shared: Arc::default() }
    }

    pub fn most(&self) -> usize {
        self.most
    }

    /// Gives `job` to a thread; `false` if there is none and none can be started.
    pub fn start(&self, job: Job) -> bool {
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn threads_are_started_when_needed_and_used_again() {
        let threads = Threads::new(2);
        let (send, receive) = mpsc::channel();
        for _ in 0..50 {
            for _ in 0..2 {
                let send = send.clone();
                assert!(threads.start(Box::new(move || send.send(std::thread::current().id()).unwrap())));
            }
            receive.recv().unwrap();
            receive.recv().unwrap();
        }
        assert!((1..=2).contains(&threads.shared.line().started));
        assert!(!Threads::new(0).start(Box::new(|| {})));
    }
}
