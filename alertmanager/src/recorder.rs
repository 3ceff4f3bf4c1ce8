//! The event recorder: what happens to alerts, silences and notifications, told to files, webhooks and standard output as
//! it happens. Behind `--enable-feature=event-recorder`.
//!
//! ```text
//!  core, shell ── record(t, event) ──▶ bounded queue ──▶ one thread: JSON once ──▶ file, stdout
//!                   never waits                                              └──▶ queue per webhook ──▶ requests
//! ```
//!
//! Invariants: recording never waits and never fails; a full queue costs the event and is counted. Whoever is slow holds
//! up nobody but itself: each webhook has a queue of its own. Cost: nothing where it is off, not even the event; where it is
//! on, an event holds counted references until the thread has written it.
//!
//! The history (`history.rs`) answers people's questions from this machine's disk; this is for other programs.
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use ferula_instrument::{CounterVec, Registry};
use ferula_model::Clock;

use crate::config::EventRecorder;

pub(crate) mod event;
mod file;
mod output;
mod webhook;

pub(crate) use event::{Event, FlushRecord, GroupInfo, RuleInfo};
use output::Output;

/// Events waiting for the thread.
const QUEUE_MAX: usize = 8_192;
/// How long a stop waits for what is queued.
const STOP_GRACE: Duration = Duration::from_secs(5);

enum Message {
    Record(i64, Event),
    Configure(Box<EventRecorder>),
    Stop(tokio::sync::oneshot::Sender<()>),
}

/// A handle; clones record into the same queue. The default one is off.
#[derive(Clone, Default)]
pub struct Recorder(Option<Arc<Inner>>);

struct Inner {
    queue: SyncSender<Message>,
    /// Taken by the thread.
    receiver: Mutex<Option<Receiver<Message>>>,
    length: Arc<AtomicUsize>,
    position: AtomicI64,
    instance: String,
    metrics: EventMetrics,
    /// The last configuration, so that a reload that changes nothing here closes nothing.
    config: Mutex<EventRecorder>,
    clock: Arc<dyn Clock>,
    runtime: OnceLock<tokio::runtime::Handle>,
}

#[derive(Clone)]
struct EventMetrics {
    recorded: CounterVec,
    bytes: CounterVec,
    dropped: CounterVec,
    output_drops: CounterVec,
}

impl EventMetrics {
    fn new(r: &Registry) -> EventMetrics {
        r.counter_vec(
            "alertmanager_event_serialize_errors_total",
            "The total number of events that failed to serialize.",
            &["event_type"],
        );
        EventMetrics {
            recorded: r.counter_vec(
                "alertmanager_events_recorded_total",
                "The total number of events recorded by the event recorder.",
                &["event_type", "output", "result"],
            ),
            bytes: r.counter_vec(
                "alertmanager_event_recorder_bytes_written_total",
                "The total number of bytes written to the event recorder.",
                &["event_type", "output"],
            ),
            dropped: r.counter_vec(
                "alertmanager_events_dropped_total",
                "The total number of events dropped due to a full queue.",
                &["event_type"],
            ),
            output_drops: r.counter_vec(
                "alertmanager_event_output_drops_total",
                "The total number of events dropped by an output due to a full local buffer.",
                &["output"],
            ),
        }
    }
}

impl Recorder {
    /// A recorder that is on; `instance` names this process in every event.
    pub fn new(registry: &Registry, instance: &str, config: &EventRecorder, clock: Arc<dyn Clock>) -> Recorder {
        let (queue, receiver) = sync_channel(QUEUE_MAX);
        let length = Arc::new(AtomicUsize::new(0));
        let shown = length.clone();
        registry.gauge_fn(
            "alertmanager_event_recorder_queue_length",
            "Current number of events waiting in the event recorder write queue.",
            move || shown.load(Relaxed) as f64,
        );
        let recorder = Recorder(Some(Arc::new(Inner {
            queue,
            receiver: Mutex::new(Some(receiver)),
            length,
            position: AtomicI64::new(0),
            instance: instance.to_owned(),
            metrics: EventMetrics::new(registry),
            config: Mutex::new(config.clone()),
            clock,
            runtime: OnceLock::new(),
        })));
        recorder.record(|| Event::Startup);
        recorder
    }

    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Records what `make` answers, as of now.
    pub(crate) fn record(&self, make: impl FnOnce() -> Event) {
        let Some(inner) = &self.0 else { return };
        let event = make();
        let kind = event.kind();
        inner.length.fetch_add(1, Relaxed);
        if inner.queue.try_send(Message::Record(inner.clock.now_ms(), event)).is_err() {
            inner.length.fetch_sub(1, Relaxed);
            inner.metrics.dropped.with(&[kind]).inc();
        }
    }

    /// Where this member stands in its cluster from now on.
    pub(crate) fn set_position(&self, position: usize) {
        if let Some(inner) = &self.0 {
            inner.position.store(i64::try_from(position).unwrap_or(0), Relaxed);
        }
    }

    /// A reload: outputs are opened anew only if something changed.
    pub(crate) fn configure(&self, config: &EventRecorder) {
        let Some(inner) = &self.0 else { return };
        let mut current = inner.config.lock().unwrap_or_else(PoisonError::into_inner);
        if *current != *config {
            current.clone_from(config);
            if inner.queue.try_send(Message::Configure(Box::new(config.clone()))).is_err() {
                tracing::error!("The event recorder is too busy to take its new configuration: reload again");
                *current = EventRecorder::default(); // so that the next reload is taken for a change
            }
        }
    }

    /// Begins writing; webhooks are called on this runtime.
    pub(crate) fn start(&self) {
        let Some(inner) = &self.0 else { return };
        let _ = inner.runtime.set(tokio::runtime::Handle::current());
        let Some(receiver) = inner.receiver.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let writing = inner.clone();
        let spawned = std::thread::Builder::new().name("events".to_owned()).spawn(move || writing.write(receiver));
        if let Err(error) = spawned {
            tracing::error!(%error, "The event recorder could not be started");
        }
    }

    /// Records the end, and waits a moment until all is out.
    pub(crate) async fn stop(&self) {
        self.record(|| Event::Shutdown);
        let Some(inner) = &self.0 else { return };
        let (done, is_done) = tokio::sync::oneshot::channel();
        if inner.queue.try_send(Message::Stop(done)).is_err() {
            return;
        }
        if tokio::time::timeout(STOP_GRACE, is_done).await.is_err() {
            tracing::warn!("Events were still on their way when the event recorder had to stop");
        }
    }
}

impl Inner {
    /// The thread.
    fn write(&self, receiver: Receiver<Message>) {
        let config = self.config.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut outputs = self.open(&config);
        while let Ok(message) = receiver.recv() {
            match message {
                Message::Configure(config) => outputs = self.open(&config),
                Message::Stop(done) => {
                    if let Some(runtime) = self.runtime.get() {
                        let ends = outputs.drain(..).filter_map(Output::close);
                        let ends: Vec<_> = ends.collect();
                        runtime.spawn(async move {
                            for end in ends {
                                let _ = end.await;
                            }
                            let _ = done.send(());
                        });
                    }
                    return;
                }
                Message::Record(t_ms, event) => {
                    self.length.fetch_sub(1, Relaxed);
                    if outputs.is_empty() {
                        continue;
                    }
                    let line = event.to_json(t_ms, &self.instance, self.position.load(Relaxed));
                    outputs.iter_mut().for_each(|o| self.write_to(o, event.kind(), &line));
                }
            }
        }
    }

    fn write_to(&self, output: &mut Output, kind: &'static str, line: &[u8]) {
        let result = match output.write(line) {
            Ok(written) => {
                self.metrics.bytes.with(&[kind, output.name()]).inc_by(written as u64);
                "success"
            }
            Err(error) => {
                tracing::debug!(output = output.name(), error, "An event could not be recorded");
                "error"
            }
        };
        self.metrics.recorded.with(&[kind, output.name(), result]).inc();
    }

    fn open(&self, config: &EventRecorder) -> Vec<Output> {
        let Some(runtime) = self.runtime.get() else { return Vec::new() };
        let files = config.file_outputs.iter().map(|f| Output::file(&f.path));
        let stdouts = config.stdout_outputs.iter().map(|_| Output::stdout());
        let webhooks = config.webhook_outputs.iter().filter_map(|w| {
            webhook::open(w, &self.metrics.output_drops, runtime)
                .inspect_err(|error| tracing::error!(error, "A webhook of the event recorder cannot be opened"))
                .ok()
        });
        files.chain(webhooks).chain(stdouts).collect()
    }
}
