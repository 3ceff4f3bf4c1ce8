//! The threads that scrape, apart from those that answer requests: a query never waits behind a body, nor a scrape behind
//! a query.
//!
//! Each has a runtime of its own. A target's loop, its connection and the reading of its bodies stay on one thread, so a
//! scrape wakes nobody: with a shared runtime, handing each body to a blocking thread and back cost a tenth of the whole.
//! What a loop does between two awaits holds up the other targets of its thread, hence bodies are read in steps.
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Runs until dropped; tasks that are not finished then end where they wait.
pub(crate) struct Threads {
    handles: Vec<Handle>,
    /// Dropped, they end the threads.
    _running: Vec<oneshot::Sender<()>>,
}

impl Threads {
    /// Starts `number` threads, or as many as there are cores if it is 0.
    pub(crate) fn start(number: usize) -> std::io::Result<Threads> {
        let number = match number {
            0 => std::thread::available_parallelism().map_or(1, |n| n.get()),
            n => n,
        };
        let mut threads = Threads { handles: Vec::new(), _running: Vec::new() };
        for i in 0..number {
            let runtime = Builder::new_current_thread().enable_all().thread_name("scrape-blocking").build()?;
            let (running, end) = oneshot::channel::<()>();
            threads.handles.push(runtime.handle().clone());
            threads._running.push(running);
            std::thread::Builder::new().name(format!("scrape-{i}")).spawn(move || {
                let _ = runtime.block_on(end); // an error is the sender's end, which is what is waited for
                runtime.shutdown_background();
            })?;
        }
        Ok(threads)
    }

    pub(crate) fn handles(&self) -> &[Handle] {
        &self.handles
    }
}
