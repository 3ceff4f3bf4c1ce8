//! The loop that empties one queue.
use std::sync::{Arc, Mutex, PoisonError};

use ferula_model::Clock;

use super::queue::Queue;
use super::spool::Spool;
use super::{Alert, Metrics, NotifierOptions, SendError, Target};

/// A resolved state that could not be delivered for so long tells nobody anything any more: Alertmanager has resolved
/// the alert by itself when its end passed.
const RESOLVED_STALE_MS: i64 = 60 * 60 * 1000;

pub(super) struct Sender {
    pub target: Arc<Mutex<Target>>,
    pub queue: Arc<Queue>,
    pub options: NotifierOptions,
    pub metrics: Metrics,
    pub clock: Arc<dyn Clock>,
    pub spool: Option<Arc<Spool>>,
}

impl Sender {
    /// Never returns; the notifier aborts it.
    pub async fn run(self, url: String) {
        let Sender { target, queue, options, metrics, clock, spool } = self;
        // The disk is told after the queue: a kill in between repeats a state, which says nothing new.
        let settle = |batch: &[Alert]| {
            queue.settle();
            if let Some(spool) = &spool {
                spool.settled(&url, batch);
            }
        };
        let mut random = fastrand::Rng::with_seed(options.seed);
        let (sent, errors) = (metrics.sent.with(&[&url]), metrics.errors.with(&[&url]));
        let (dropped, latency) = (metrics.dropped.with(&[&url]), metrics.latency.with(&[&url]));
        let mut backoff = options.backoff_min;
        loop {
            let batch = queue.take(options.batch_max).await;
            let stale_before = clock.now_ms().saturating_sub(RESOLVED_STALE_MS);
            let is_fresh = |a: &&Alert| a.ends_at_ms == 0 || a.ends_at_ms >= stale_before;
            let fresh: Vec<Alert> = batch.iter().filter(is_fresh).cloned().collect();
            if fresh.len() < batch.len() {
                dropped.add((batch.len() - fresh.len()) as f64);
            }
            let count = fresh.len();
            let n = count as f64;
            if fresh.is_empty() {
                settle(&batch);
                continue;
            }
            let began = clock.monotonic();
            let transport = Arc::clone(&target.lock().unwrap_or_else(PoisonError::into_inner).transport);
            let result = transport.send(fresh).await;
            latency.observe(clock.monotonic().saturating_sub(began).as_secs_f64());
            match result {
                Ok(()) => {
                    sent.add(n);
                    settle(&batch);
                    backoff = options.backoff_min;
                }
                Err(SendError::Rejected(why)) => {
                    tracing::error!(alertmanager = url, count, error = why, "Alertmanager rejected alerts");
                    errors.add(n);
                    dropped.add(n);
                    settle(&batch);
                }
                Err(SendError::Failed(why)) => {
                    tracing::error!(alertmanager = url, count, error = why, "Error sending alerts");
                    errors.add(n);
                    queue.restore();
                    // Between half and all of the back-off, so that many servers do not return at the same moment.
                    let half = backoff / 2;
                    tokio::time::sleep(half + half.mul_f64(random.f64())).await;
                    backoff = (backoff * 2).min(options.backoff_max);
                }
            }
        }
    }
}
