//! Sends alerts to Alertmanagers: one queue and one send loop for each, so that a slow one delays nobody else.
//!
//! A queue holds the *latest state* of each alert, not events: it is bounded by the number of alerts, a resolved state
//! replaces the firing one it follows, and what a send could not deliver is offered again until it is accepted or
//! superseded, over restarts too (`spool.rs`). The queue of an Alertmanager that disappears is put aside for an hour, as
//! discovery may lose sight of one that is being restarted. (Upstream takes a batch out of its queue and drops it if no
//! Alertmanager accepts it.)
mod alert;
pub(crate) mod discover;
mod http;
mod queue;
mod send;
mod spool;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ferula_instrument::{CounterVec, Registry, SummaryVec};
use ferula_model::{Clock, Labels, LabelsBuilder};
use futures::future::BoxFuture;

pub(crate) use alert::rfc3339;
pub use alert::{Alert, to_json};
pub use discover::LocalTransports;
pub use http::HttpTransport;
use queue::Queue;
pub use spool::Spool;

/// Why a batch was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Sending it again will not help; the batch is dropped and counted.
    #[error("rejected: {0}")]
    Rejected(String),
    /// To be tried again.
    #[error("{0}")]
    Failed(String),
}

/// The way to one Alertmanager: over HTTP, or straight into the same process.
pub trait Transport: Send + Sync {
    /// The URL alerts go to, for metrics and `/api/v1/alertmanagers`.
    fn url(&self) -> &str;
    fn send(&self, batch: Vec<Alert>) -> BoxFuture<'_, Result<(), SendError>>;
}

/// Changes an alert's labels before it is queued; `false` drops the alert.
pub type Relabel = Arc<dyn Fn(&mut LabelsBuilder) -> bool + Send + Sync>;

/// One Alertmanager and what is done to alerts on the way to it alone.
#[derive(Clone)]
pub struct Target {
    pub transport: Arc<dyn Transport>,
    pub relabel: Option<Relabel>,
}

#[derive(Clone, Debug)]
pub struct NotifierOptions {
    /// Alerts a queue may hold. At the limit the oldest is dropped.
    pub queue_capacity: usize,
    pub batch_max: usize,
    pub backoff_min: Duration,
    pub backoff_max: Duration,
    /// Spreads the retries of many servers.
    pub seed: u64,
}

impl Default for NotifierOptions {
    fn default() -> Self {
        NotifierOptions {
            queue_capacity: 10_000,
            batch_max: 256,
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            seed: 0,
        }
    }
}

#[derive(Clone)]
struct Metrics {
    sent: CounterVec,
    errors: CounterVec,
    dropped: CounterVec,
    latency: SummaryVec,
}

/// What is done to every alert: external labels, then `alert_relabel_configs`.
#[derive(Clone, Default)]
struct Outgoing {
    external_labels: Labels,
    relabel: Option<Relabel>,
}

struct Running {
    /// Swapped at a reload; the loop looks at it anew for each batch.
    target: Arc<Mutex<Target>>,
    queue: Arc<Queue>,
    loop_: tokio::task::JoinHandle<()>,
}

struct State {
    outgoing: Outgoing,
    /// By URL.
    running: HashMap<String, Running>,
    /// What waits for Alertmanagers that are not there now, by URL, and since when on the monotonic clock.
    aside: HashMap<String, (Vec<Alert>, Duration)>,
    /// Addresses that relabelling turned down, for those who ask why nobody is told.
    dropped: Vec<String>,
    is_stopped: bool,
}

/// How long states wait for an Alertmanager that discovery has lost sight of, and for how many such at most.
const ASIDE_KEPT: Duration = Duration::from_secs(3600);
const ASIDE_MAX: usize = 32;

const MAINTENANCE: Duration = Duration::from_secs(1);

/// The notifier. Alerts may be handed in from any thread.
pub struct Notifier {
    options: NotifierOptions,
    clock: Arc<dyn Clock>,
    runtime: tokio::runtime::Handle,
    metrics: Metrics,
    state: Arc<Mutex<State>>,
    spool: Option<Arc<Spool>>,
}

impl Drop for Notifier {
    fn drop(&mut self) {
        self.state().running.values().for_each(|r| r.loop_.abort());
    }
}

impl Notifier {
    /// Send loops run on `runtime`. With a spool, what was not accepted survives this process; what an earlier one left
    /// waiting is sent as soon as its Alertmanager is known.
    pub fn new(
        options: NotifierOptions,
        clock: Arc<dyn Clock>,
        runtime: tokio::runtime::Handle,
        registry: &Registry,
        spool: Option<(Spool, HashMap<String, Vec<Alert>>)>,
    ) -> Arc<Notifier> {
        let (spool, left) = spool.map_or((None, HashMap::new()), |(s, left)| (Some(Arc::new(s)), left));
        let began = clock.monotonic();
        let aside = left.into_iter().map(|(url, alerts)| (url, (alerts, began))).collect();
        let state = State {
            outgoing: Outgoing::default(),
            running: HashMap::new(),
            aside,
            dropped: Vec::new(),
            is_stopped: false,
        };
        let state = Arc::new(Mutex::new(state));
        let am = &["alertmanager"];
        let metrics = Metrics {
            sent: registry.counter_vec("prometheus_notifications_sent_total", "Total number of alerts sent.", am),
            errors: registry.counter_vec(
                "prometheus_notifications_errors_total",
                "Total number of sent alerts affected by errors.",
                am,
            ),
            dropped: registry.counter_vec(
                "prometheus_notifications_dropped_total",
                "Total number of alerts dropped due to errors when sending to Alertmanager.",
                am,
            ),
            latency: registry.summary_vec(
                "prometheus_notifications_latency_seconds",
                "Latency quantiles for sending alert notifications.",
                am,
                &[0.5, 0.9, 0.99],
            ),
        };
        let capacity = options.queue_capacity as f64;
        let weak = Arc::downgrade(&state);
        let over_queues = move |of: fn(&State) -> usize| {
            weak.upgrade().map_or(0.0, |s| of(&s.lock().unwrap_or_else(PoisonError::into_inner)) as f64)
        };
        let discovered = over_queues.clone();
        registry.gauge_fn(
            "prometheus_notifications_queue_length",
            "The number of alert notifications in the queue.",
            move || over_queues(|s| s.running.values().map(|r| r.queue.len()).max().unwrap_or(0)),
        );
        registry.gauge_fn(
            "prometheus_notifications_alertmanagers_discovered",
            "The number of alertmanagers discovered and active.",
            move || discovered(|s| s.running.len()),
        );
        registry.gauge_fn(
            "prometheus_notifications_queue_capacity",
            "The capacity of the alert notifications queue.",
            move || capacity,
        );
        let notifier = Arc::new(Notifier { options, clock, runtime, metrics, state, spool });
        if notifier.spool.is_some() {
            notifier.runtime.spawn(maintain(Arc::downgrade(&notifier)));
        }
        notifier
    }

    /// Keeps the spool durable and small.
    fn sync(&self) {
        let Some(spool) = &self.spool else { return };
        if !spool.is_grown() {
            return spool.sync();
        }
        let state = self.state(); // first this lock, then the spool's, as in `send`
        spool.rewrite(|| {
            let running = state.running.iter().map(|(url, r)| (url.clone(), r.queue.states()));
            running.chain(state.aside.iter().map(|(url, (alerts, _))| (url.clone(), alerts.clone()))).collect()
        });
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what all alerts get. `relabel` sees the external labels already.
    pub fn configure(&self, external_labels: Labels, relabel: Option<Relabel>) {
        self.state().outgoing = Outgoing { external_labels, relabel };
    }

    /// Replaces the Alertmanagers. One that stays (by URL) keeps its queue; that of one that goes is put aside.
    pub fn set_targets(&self, targets: Vec<Target>) {
        let mut state = self.state();
        if state.is_stopped {
            return;
        }
        let mut former = std::mem::take(&mut state.running);
        for target in targets {
            let url = target.transport.url().to_owned();
            if state.running.contains_key(&url) {
                continue;
            }
            if let Some(same) = former.remove(&url) {
                *same.target.lock().unwrap_or_else(PoisonError::into_inner) = target;
                state.running.insert(url, same);
                continue;
            }
            let queue = Arc::new(Queue::new(self.options.queue_capacity));
            let target = Arc::new(Mutex::new(target));
            let sender = send::Sender {
                target: Arc::clone(&target),
                queue: Arc::clone(&queue),
                options: self.options.clone(),
                metrics: self.metrics.clone(),
                clock: Arc::clone(&self.clock),
                spool: self.spool.clone(),
            };
            if let Some((left, _)) = state.aside.remove(&url) {
                queue.push(left.into_iter());
            }
            let loop_ = self.runtime.spawn(sender.run(url.clone()));
            state.running.insert(url, Running { target, queue, loop_ });
        }
        let now = self.clock.monotonic();
        for (url, gone) in former {
            gone.loop_.abort();
            let left = gone.queue.states();
            if !left.is_empty() {
                state.aside.insert(url, (left, now));
            }
        }
        state.aside.retain(|_, (_, since)| now.saturating_sub(*since) < ASIDE_KEPT);
        while state.aside.len() > ASIDE_MAX {
            let oldest = state.aside.iter().min_by_key(|(_, (_, since))| *since).map(|(url, _)| url.clone());
            state.aside.remove(&oldest.unwrap_or_default());
        }
    }

    /// URLs of the Alertmanagers, sorted.
    pub fn urls(&self) -> Vec<String> {
        let mut urls: Vec<String> = self.state().running.keys().cloned().collect();
        urls.sort_unstable();
        urls
    }

    pub fn set_dropped(&self, dropped: Vec<String>) {
        self.state().dropped = dropped;
    }

    /// Addresses that discovery found and relabelling turned down.
    pub fn dropped(&self) -> Vec<String> {
        self.state().dropped.clone()
    }

    /// Queues the states of these alerts for every Alertmanager.
    pub fn send(&self, alerts: Vec<Alert>) {
        let state = self.state();
        let outgoing = &state.outgoing;
        let prepared: Vec<Alert> = alerts
            .into_iter()
            .filter_map(|mut alert| {
                let mut builder = LabelsBuilder::from_view(&alert.labels);
                for (name, value) in &outgoing.external_labels {
                    if builder.get(name).is_none() {
                        builder.set(name, value);
                    }
                }
                if let Some(relabel) = &outgoing.relabel
                    && !relabel(&mut builder)
                {
                    return None;
                }
                alert.labels = builder.labels();
                Some(alert)
            })
            .collect();
        for (url, running) in &state.running {
            let relabel = running.target.lock().unwrap_or_else(PoisonError::into_inner).relabel.clone();
            let changed: Vec<Alert>;
            let own = match relabel {
                None => &prepared,
                Some(relabel) => {
                    changed = prepared
                        .iter()
                        .filter_map(|alert| {
                            let mut builder = LabelsBuilder::from_view(&alert.labels);
                            relabel(&mut builder).then(|| Alert { labels: builder.labels(), ..alert.clone() })
                        })
                        .collect();
                    &changed
                }
            };
            if let Some(spool) = &self.spool {
                spool.waiting(url, own); // before the queue: whatever is sent was written
            }
            let dropped = running.queue.push(own.iter().cloned());
            if dropped > 0 {
                tracing::warn!(alertmanager = url, dropped, "alert notification queue full, dropping alerts");
                self.metrics.dropped.with(&[url]).add(dropped as f64);
            }
        }
    }

    /// Ends all send loops: at once, or once the queues are empty but no later than after `drain`.
    pub async fn stop(&self, drain: Option<Duration>) {
        // They stay where they are: what is left in them belongs into the spool.
        let queues: Vec<Arc<Queue>> = {
            let mut state = self.state();
            state.is_stopped = true;
            state.running.values().map(|r| Arc::clone(&r.queue)).collect()
        };
        if let Some(patience) = drain {
            let empty = async {
                for queue in &queues {
                    queue.emptied().await;
                }
            };
            if tokio::time::timeout(patience, empty).await.is_err() {
                let left: usize = queues.iter().map(|q| q.len()).sum();
                tracing::warn!(left, "alerts were not delivered before the shutdown");
            }
        }
        self.state().running.values().for_each(|r| r.loop_.abort());
        if let Some(spool) = self.spool.clone() {
            let _ = self.runtime.spawn_blocking(move || spool.sync()).await;
        }
    }
}

/// Syncs the spool every second, as long as there is a notifier.
async fn maintain(notifier: std::sync::Weak<Notifier>) {
    loop {
        tokio::time::sleep(MAINTENANCE).await;
        let Some(notifier) = notifier.upgrade() else { return };
        if notifier.state().is_stopped {
            return;
        }
        let _ = tokio::task::spawn_blocking(move || notifier.sync()).await;
    }
}

#[cfg(test)]
mod tests;
