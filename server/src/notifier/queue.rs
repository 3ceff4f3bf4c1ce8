//! The latest states of alerts that one Alertmanager has not accepted yet, oldest first.
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ferula_model::Labels;
use tokio::sync::Notify;

use super::Alert;

pub(super) struct Queue {
    capacity: usize,
    waiting: Mutex<Waiting>,
    arrived: Notify,
    emptied: Notify,
}

#[derive(Default)]
struct Waiting {
    states: HashMap<Labels, Alert>,
    /// Every key of `states` once; front is next.
    order: VecDeque<Labels>,
    /// What a send loop has taken and not settled.
    sending: Vec<Alert>,
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Queue {
        Queue { capacity: capacity.max(1), waiting: Mutex::default(), arrived: Notify::new(), emptied: Notify::new() }
    }
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Alerts not accepted yet, those being sent included.
    pub(super) fn len(&self) -> usize {
        let w = self.waiting();
        w.states.len() + w.sending.len()
    }

    /// Every state that is not accepted yet, those being sent first.
    pub(super) fn states(&self) -> Vec<Alert> {
        let w = self.waiting();
        let mut out = w.sending.clone();
        out.extend(w.order.iter().filter_map(|k| w.states.get(k)).cloned());
        out
    }

    /// Adds states; one of a waiting alert replaces the older one in its place. Returns how many had to be dropped.
    pub(super) fn push(&self, alerts: impl Iterator<Item = Alert>) -> usize {
        let mut dropped = 0;
        let mut w = self.waiting();
        for alert in alerts {
            let key = alert.labels.clone();
            if w.states.insert(key.clone(), alert).is_none() {
                w.order.push_back(key);
            }
            if w.order.len() > self.capacity
                && let Some(oldest) = w.order.pop_front()
            {
                w.states.remove(&oldest);
                dropped += 1;
            }
        }
        let some = !w.order.is_empty();
        drop(w);
        if some {
            self.arrived.notify_one();
        }
        dropped
    }

    /// Takes the next alerts, at most `n`; waits for the first. They stay the queue's until [`Queue::settle`] or
    /// [`Queue::restore`].
    pub(super) async fn take(&self, n: usize) -> Vec<Alert> {
        loop {
            {
                let mut w = self.waiting();
                if !w.order.is_empty() {
                    let n = n.min(w.order.len());
                    let keys: Vec<Labels> = w.order.drain(..n).collect();
                    let batch: Vec<Alert> = keys.iter().filter_map(|k| w.states.remove(k)).collect();
                    w.sending.clone_from(&batch);
                    return batch;
                }
            }
            self.arrived.notified().await;
        }
    }

    /// The batch is accepted, or given up.
    pub(super) fn settle(&self) {
        let mut w = self.waiting();
        w.sending.clear();
        if w.order.is_empty() {
            drop(w);
            self.emptied.notify_waiters();
        }
    }

    /// The batch goes back to the front, without those whose newer state has arrived meanwhile.
    pub(super) fn restore(&self) {
        let mut w = self.waiting();
        for alert in std::mem::take(&mut w.sending).into_iter().rev() {
            let key = alert.labels.clone();
            if !w.states.contains_key(&key) {
                w.states.insert(key.clone(), alert);
                w.order.push_front(key);
            }
        }
        drop(w);
        self.arrived.notify_one();
    }

    /// Resolves when nothing is waiting and nothing is being sent.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            let mut emptied = std::pin::pin!(emptied);
            emptied.as_mut().enable(); // from here on no notification is missed
            if self.len() == 0 {
                return;
            }
            emptied.await;
        }
    }
}
