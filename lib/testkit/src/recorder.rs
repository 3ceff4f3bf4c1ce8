//! A list that other threads fill and a test waits for.
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

pub(crate) struct Recorder<T>(Arc<(Mutex<Vec<T>>, Condvar)>);

impl<T> Clone for Recorder<T> {
    fn clone(&self) -> Self {
        Recorder(Arc::clone(&self.0))
    }
}

impl<T: Clone> Recorder<T> {
    pub fn new() -> Self {
        Recorder(Arc::new((Mutex::new(Vec::new()), Condvar::new())))
    }
    pub fn push(&self, item: T) {
        self.0.0.lock().unwrap().push(item);
        self.0.1.notify_all();
    }
    pub fn all(&self) -> Vec<T> {
        self.0.0.lock().unwrap().clone()
    }
    pub fn clear(&self) {
        self.0.0.lock().unwrap().clear();
    }
    /// Everything recorded as soon as `enough` holds, or `Err` with everything recorded when the deadline has passed.
    pub fn wait_until(&self, deadline: Duration, enough: impl Fn(&[T]) -> bool) -> Result<Vec<T>, Vec<T>> {
        let end = Instant::now() + deadline;
        let mut list = self.0.0.lock().unwrap();
        while !enough(&list) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(list.clone());
            }
            list = self.0.1.wait_timeout(list, left).unwrap().0;
        }
        Ok(list.clone())
    }
}
