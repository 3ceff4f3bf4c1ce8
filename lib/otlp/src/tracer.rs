//! Where spans begin: sampling, ids, and the queue to the collector.
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use ferula_model::Clock;
use ferula_proto::trace::Span as Wire;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::context::SpanContext;
use crate::export::{Error, ExportOptions, Exporter};
use crate::span::{Kind, Span};

/// Spans waiting to be sent.
const QUEUE_MAX: usize = 2_048;
/// How long a stop waits for the collector.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// By how much the wall clock may move before spans follow it.
const CLOCK_STEP_MS: i64 = 100;

/// Begins spans, for one role. Clones are the same tracer. Off until it is configured.
#[derive(Clone)]
pub struct Tracer(Arc<Shared>);

struct Shared {
    service: &'static str,
    version: &'static str,
    clock: Arc<dyn Clock>,
    current: ArcSwapOption<Pipeline>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// A configuration at work.
pub(crate) struct Pipeline {
    options: ExportOptions,
    /// Of 63 bits of a trace id: below it is sampled.
    threshold: u64,
    clock: Arc<dyn Clock>,
    /// Wall time less monotonic time, so that spans have nanoseconds and do not run backwards.
    offset_ns: AtomicI64,
    queue: mpsc::Sender<Wire>,
    pub(crate) dropped: Arc<AtomicU64>,
}

impl Tracer {
    /// `service` and `version` name the role in every batch.
    pub fn new(service: &'static str, version: &'static str, clock: Arc<dyn Clock>) -> Tracer {
        let (current, task) = (ArcSwapOption::empty(), Mutex::new(None));
        Tracer(Arc::new(Shared { service, version, clock, current, task }))
    }

    /// Says what would be refused.
    pub fn check(options: &ExportOptions) -> Result<(), Error> {
        Exporter::new(options, "", "").map(|_| ())
    }

    /// From now on spans go there, or nowhere. To be called on the runtime that is to send them; spans that are queued for
    /// the collector of before are still sent to it.
    pub fn configure(&self, options: Option<&ExportOptions>) -> Result<(), Error> {
        let shared = &*self.0;
        if shared.current.load().as_ref().map(|p| &p.options) == options {
            return Ok(());
        }
        let Some(options) = options else {
            shared.current.store(None);
            return Ok(());
        };
        let exporter = Exporter::new(options, shared.service, shared.version)?;
        let (queue, spans) = mpsc::channel(QUEUE_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let fraction = options.sampling_fraction.clamp(0.0, 1.0);
        shared.current.store(Some(Arc::new(Pipeline {
            options: options.clone(),
            threshold: (fraction * (1u64 << 63) as f64) as u64,
            clock: shared.clock.clone(),
            offset_ns: AtomicI64::new(0),
            queue,
            dropped: dropped.clone(),
        })));
        let task = tokio::spawn(exporter.run(spans, dropped));
        *shared.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
        Ok(())
    }

    /// A span that lasts until it is dropped.
    pub fn start(&self, name: &str, kind: Kind, parent: Option<SpanContext>) -> Span {
        let Some(pipeline) = self.0.current.load_full() else {
            // Not traced here; what is called may still be a part of the caller's trace.
            return parent.map_or_else(Span::none, Span::unsampled);
        };
        let trace_id = parent.map_or_else(random::<16>, |p| p.trace_id);
        let is_sampled = parent.map_or_else(|| pipeline.samples(&trace_id), |p| p.is_sampled);
        let context = SpanContext { trace_id, span_id: random(), is_sampled, is_remote: false };
        if !is_sampled {
            return Span::unsampled(context);
        }
        Span::recorded(pipeline, context, parent, name, kind)
    }

    /// Sends what is queued, for a few seconds at most; nothing is recorded any more.
    pub async fn stop(&self) {
        self.0.current.store(None);
        let task = self.0.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && tokio::time::timeout(STOP_GRACE, task).await.is_err()
        {
            tracing::warn!("The last spans could not be sent in time");
        }
    }
}

impl Pipeline {
    fn samples(&self, trace_id: &[u8; 16]) -> bool {
        let [.., a, b, c, d, e, f, g, h] = *trace_id;
        (u64::from_be_bytes([a, b, c, d, e, f, g, h]) >> 1) < self.threshold
    }

    /// Nanoseconds since 1970.
    pub(crate) fn now_ns(&self) -> u64 {
        let monotonic = i64::try_from(self.clock.monotonic().as_nanos()).unwrap_or(i64::MAX);
        let wall_ms = self.clock.now_ms();
        let mut ns = monotonic.saturating_add(self.offset_ns.load(Relaxed));
        if (ns / 1_000_000 - wall_ms).abs() > CLOCK_STEP_MS {
            let offset = wall_ms.saturating_mul(1_000_000).saturating_sub(monotonic);
            self.offset_ns.store(offset, Relaxed);
            ns = monotonic.saturating_add(offset);
        }
        u64::try_from(ns).unwrap_or(0)
    }

    pub(crate) fn send(&self, span: Wire) {
        if self.queue.try_send(span).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

/// Never all zeros.
fn random<const N: usize>() -> [u8; N] {
    let mut id = [0; N];
    while id == [0; N] {
        fastrand::fill(&mut id);
    }
    id
}
