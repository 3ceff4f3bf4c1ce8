//! The remote-write 1.0 receiver: bounded bytes in, one synced batch out, and no 2xx for data that was thrown away.
//!
//! Samples that cannot be stored (out of order, invalid labels, ...) are named in a 400, the first ten of them, while the
//! others are kept: a sender does not repeat a request that was answered with 400.
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use ferula_instrument::{Counter, Registry};
use ferula_model::{
    Clock, CounterResetHint, Exemplar, FloatHistogram, Histogram, Labels, LabelsBuilder, SeriesRef, Span, Value,
};
use ferula_net::listen::body;
use ferula_proto::remote;
use ferula_storage::{AppendError, AppendOptions, Appendable, Appender, Durability, StorageError};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::Semaphore;

use super::wire::{self, WireError};

/// Bounds of one request and of all requests together.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of the compressed body.
    pub body_bytes_max: usize,
    /// Bytes it may say to decompress to. Upstream's number.
    pub decoded_bytes_max: usize,
    /// Series, samples, histograms and exemplars in one request, counted together.
    pub entries_max: usize,
    /// Requests decoded and stored at the same time; the others wait.
    pub concurrency: usize,
    /// How long a client may take to send its body.
    pub body_timeout: Duration,
    /// Samples further ahead of our clock are out of bounds, as upstream has it.
    pub future_max_ms: i64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body_bytes_max: 16 << 20,
            decoded_bytes_max: 32 << 20,
            entries_max: 2_000_000,
            concurrency: 8,
            body_timeout: Duration::from_secs(30),
            future_max_ms: 10 * 60 * 1000,
        }
    }
}

/// How many refused samples an answer names.
const NAMED_MAX: usize = 10;

pub struct RemoteWrite {
    storage: Arc<dyn Appendable>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    permits: Arc<Semaphore>,
    invalid_labels: Counter,
}

/// What was stored and what was not.
#[derive(Debug, Default)]
struct Outcome {
    samples: u64,
    histograms: u64,
    exemplars: u64,
    refused: u64,
    /// Whether some refusal is the storage's state rather than the sample's fault: the sender should come back.
    retry: bool,
    named: Vec<String>,
}

impl Outcome {
    fn refuse(&mut self, labels: &dyn std::fmt::Display, t_ms: Option<i64>, why: &dyn std::fmt::Display) {
        self.refused += 1;
        if self.named.len() < NAMED_MAX {
            let mut text = format!("{why}: {labels}");
            if let Some(t_ms) = t_ms {
                let _ = write!(text, " at {t_ms}"); // a String never fails
            }
            // Labels of a stranger may be megabytes long.
            let end = text.char_indices().nth(1024).map_or(text.len(), |(i, _)| i);
            text.truncate(end);
            self.named.push(text);
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("snappy: corrupt input")]
    Snappy,
    #[error("snappy: decoded block is too large")]
    TooLarge,
    #[error("more than {0} series and samples in one request")]
    TooMany(usize),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl RemoteWrite {
    pub fn new(
        storage: Arc<dyn Appendable>,
        clock: Arc<dyn Clock>,
        limits: Limits,
        registry: &Registry,
    ) -> RemoteWrite {
        RemoteWrite {
            storage,
            clock,
            permits: Arc::new(Semaphore::new(limits.concurrency.max(1))),
            limits,
            invalid_labels: registry.counter(
                "prometheus_api_remote_write_invalid_labels_samples_total",
                "The total number of received remote write samples and histogram samples which were rejected due to \
                 invalid labels.",
            ),
        }
    }

    /// Answers one `POST /api/v1/write`.
    pub async fn handle(self: Arc<Self>, headers: &HeaderMap, request_body: Body) -> Response {
        if let Err(why) = check_headers(headers) {
            return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, &why);
        }
        let compressed = match body::read(request_body, self.limits.body_bytes_max, self.limits.body_timeout).await {
            Ok(bytes) => bytes,
            Err(e) => return plain(e.status(), &e.to_string()),
        };
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "shutting down");
        };
        // A client that goes away while its batch is written leaves it to be finished: it may ask again, and the
        // repetition is accepted.
        let stored = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            self.store(&compressed)
        });
        match stored.await {
            Ok(Ok(outcome)) => answer(&outcome),
            Ok(Err(failure)) => {
                let status = match &failure {
                    Failure::Storage(
                        StorageError::Budget(_) | StorageError::NotReady(_) | StorageError::Poisoned(_),
                    ) => StatusCode::SERVICE_UNAVAILABLE,
                    Failure::Storage(_) => StatusCode::INTERNAL_SERVER_ERROR,
                    _ => StatusCode::BAD_REQUEST,
                };
                tracing::error!(error = %failure, "remote write failed");
                plain(status, &failure.to_string())
            }
            Err(panicked) => {
                tracing::error!(error = %panicked, "remote write failed");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
            }
        }
    }

    fn store(&self, compressed: &[u8]) -> Result<Outcome, Failure> {
        // The length is a claim: checked before anything is allocated for it.
        let claimed = snap::raw::decompress_len(compressed).map_err(|_| Failure::Snappy)?;
        if claimed > self.limits.decoded_bytes_max {
            return Err(Failure::TooLarge);
        }
        let decoded = snap::raw::Decoder::new().decompress_vec(compressed).map_err(|_| Failure::Snappy)?;
        // All of it must be well formed before any of it is appended.
        let mut counted = 0usize;
        let mut labels = Vec::new();
        for series in wire::series(&decoded) {
            let series = series?;
            series.labels(&mut labels)?;
            for ok in std::iter::once(Ok(())).chain(series.entries()) {
                ok?;
                counted += 1;
                if counted > self.limits.entries_max {
                    return Err(Failure::TooMany(self.limits.entries_max));
                }
            }
        }
        let mut appender = self.storage.appender();
        let mut outcome = Outcome::default();
        match self.append_all(&decoded, appender.as_mut(), &mut outcome) {
            Ok(()) => {
                let stats = appender.commit(Durability::Synced)?;
                if stats.out_of_order > 0 {
                    outcome.refused += stats.out_of_order;
                    outcome.named.push(format!("{} samples were out of order", stats.out_of_order));
                }
                Ok(outcome)
            }
            Err(e) => {
                appender.rollback();
                Err(e)
            }
        }
    }

    fn append_all(&self, decoded: &[u8], appender: &mut dyn Appender, outcome: &mut Outcome) -> Result<(), Failure> {
        let newest_ms = self.clock.now_ms().saturating_add(self.limits.future_max_ms);
        let mut pairs = Vec::new();
        let mut builder = LabelsBuilder::new();
        for series in wire::series(decoded) {
            let series = series?;
            series.labels(&mut pairs)?;
            let labels = match valid_labels(&pairs, &mut builder) {
                Ok(labels) => labels,
                Err(why) => {
                    let samples = series.samples().count() + series.histograms().count();
                    self.invalid_labels.add(samples as f64);
                    outcome.refuse(&Labels::from_pairs(pairs.iter().copied()), None, &why);
                    outcome.refused += (samples as u64).saturating_sub(1);
                    continue;
                }
            };
            let mut at = SeriesRef::NONE;
            let mut one = |t_ms: i64, value: Value<'_>, options: &AppendOptions<'_>, outcome: &mut Outcome| {
                let result = if t_ms > newest_ms {
                    Err(AppendError::OutOfBounds)
                } else {
                    appender.append(at, Some(&labels), 0, t_ms, value, options)
                };
                match result {
                    Ok(series) => {
                        at = series;
                        true
                    }
                    Err(e) => {
                        outcome.retry |= matches!(e, AppendError::SeriesBudget | AppendError::ReadOnly);
                        outcome.refuse(&labels, Some(t_ms), &e);
                        false
                    }
                }
            };
            // Exemplars ride on the newest sample of their series.
            let mut exemplars = Vec::new();
            for exemplar in series.exemplars() {
                let (labels, sample) = exemplar?;
                let labels = Labels::from_pairs(labels);
                exemplars.push(Exemplar { labels, value: sample.value, t_ms: Some(sample.t_ms) });
            }
            let mut floats_left = series.samples().count();
            // A series may change from floats to histograms and back: both lists, each in rising time, become one.
            let mut floats = series.samples().peekable();
            let mut histograms = series.histograms().peekable();
            loop {
                let float_is_next = match (floats.peek(), histograms.peek()) {
                    (Some(Ok(f)), Some(Ok(h))) => f.t_ms <= h.timestamp,
                    (float, _) => float.is_some(),
                };
                if float_is_next {
                    let Some(sample) = floats.next().transpose()? else { break };
                    floats_left -= 1;
                    let carried: &[Exemplar] = if floats_left == 0 { &exemplars } else { &[] };
                    let options = AppendOptions { exemplars: carried, ..AppendOptions::default() };
                    if one(sample.t_ms, Value::Float(sample.value), &options, outcome) {
                        outcome.samples += 1;
                        outcome.exemplars += carried.len() as u64;
                    }
                } else {
                    let Some(histogram) = histograms.next().transpose()? else { break };
                    let (t_ms, options) = (histogram.timestamp, AppendOptions::default());
                    let stored = match native(histogram) {
                        Native::Integer(h) => one(t_ms, Value::Histogram(&h), &options, outcome),
                        Native::Float(h) => one(t_ms, Value::FloatHistogram(&h), &options, outcome),
                    };
                    outcome.histograms += u64::from(stored);
                }
            }
        }
        Ok(())
    }
}

/// Why the headers rule the request out, if they do; always a 415.
fn check_headers(headers: &HeaderMap) -> Result<(), String> {
    let of = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok()).unwrap_or("").trim();
    let content_type = of(header::CONTENT_TYPE);
    let mut parts = content_type.split(';').map(str::trim);
    let media = parts.next().unwrap_or("");
    if !media.is_empty() && !media.eq_ignore_ascii_case("application/x-protobuf") {
        return Err(format!(
            "expected application/x-protobuf as the first (media) part, got {content_type} content-type"
        ));
    }
    for part in parts {
        if let Some(message) = part.strip_prefix("proto=")
            && message != "prometheus.WriteRequest"
        {
            return Err(format!(
                "{message} protobuf message is not accepted by this server; only accepts prometheus.WriteRequest"
            ));
        }
    }
    let encoding = of(header::CONTENT_ENCODING);
    if !encoding.is_empty() && encoding != "snappy" {
        return Err(format!(
            "{encoding} encoding (compression) is not accepted by this server; only snappy is acceptable"
        ));
    }
    Ok(())
}

fn plain(status: StatusCode, text: &str) -> Response {
    let mut response = (status, format!("{text}\n")).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

fn answer(outcome: &Outcome) -> Response {
    let mut response = if outcome.refused == 0 {
        StatusCode::NO_CONTENT.into_response()
    } else {
        let status = if outcome.retry { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::BAD_REQUEST };
        let more = outcome.refused.saturating_sub(outcome.named.len() as u64);
        let mut text = outcome.named.join("\n");
        if more > 0 {
            let _ = write!(text, "\nand {more} more"); // a String never fails
        }
        plain(status, &text)
    };
    for (name, n) in [
        ("x-prometheus-remote-write-samples-written", outcome.samples),
        ("x-prometheus-remote-write-histograms-written", outcome.histograms),
        ("x-prometheus-remote-write-exemplars-written", outcome.exemplars),
    ] {
        response.headers_mut().insert(name, HeaderValue::from(n));
    }
    response
}

/// The label set, if it has a metric name, no name twice, and no empty name.
fn valid_labels(pairs: &[(&str, &str)], builder: &mut LabelsBuilder) -> Result<Labels, String> {
    builder.clear();
    let mut seen: BTreeMap<&str, ()> = BTreeMap::new();
    for (name, value) in pairs {
        if name.is_empty() {
            return Err("invalid label name \"\"".to_owned());
        }
        if seen.insert(name, ()).is_some() {
            return Err(format!("duplicate label name {}", ferula_model::labels::quoted(name)));
        }
        builder.set(name, value);
    }
    if builder.get(ferula_model::labels::METRIC_NAME).is_none() {
        return Err("missing metric name".to_owned());
    }
    Ok(builder.labels())
}

enum Native {
    Integer(Histogram),
    Float(FloatHistogram),
}

fn native(h: remote::Histogram) -> Native {
    let spans = |from: Vec<remote::BucketSpan>| -> Vec<Span> {
        from.into_iter().map(|s| Span { offset: s.offset, length: s.length }).collect()
    };
    let counter_reset_hint = match h.reset_hint() {
        remote::histogram::ResetHint::Unknown => CounterResetHint::Unknown,
        remote::histogram::ResetHint::Yes => CounterResetHint::CounterReset,
        remote::histogram::ResetHint::No => CounterResetHint::NotCounterReset,
        remote::histogram::ResetHint::Gauge => CounterResetHint::Gauge,
    };
    let (schema, zero_threshold, sum) = (h.schema, h.zero_threshold, h.sum);
    let (positive_spans, negative_spans) = (spans(h.positive_spans), spans(h.negative_spans));
    if let Some(remote::histogram::Count::CountFloat(count)) = h.count {
        let zero_count = match h.zero_count {
            Some(remote::histogram::ZeroCount::ZeroCountFloat(n)) => n,
            Some(remote::histogram::ZeroCount::ZeroCountInt(n)) => n as f64,
            None => 0.0,
        };
        return Native::Float(FloatHistogram {
            counter_reset_hint,
            schema,
            zero_threshold,
            zero_count,
            count,
            sum,
            positive_spans,
            negative_spans,
            positive_buckets: h.positive_counts,
            negative_buckets: h.negative_counts,
            custom_values: h.custom_values,
        });
    }
    let whole = |count: Option<remote::histogram::Count>| match count {
        Some(remote::histogram::Count::CountInt(n)) => n,
        _ => 0,
    };
    Native::Integer(Histogram {
        counter_reset_hint,
        schema,
        zero_threshold,
        zero_count: match h.zero_count {
            Some(remote::histogram::ZeroCount::ZeroCountInt(n)) => n,
            _ => 0,
        },
        count: whole(h.count),
        sum,
        positive_spans,
        negative_spans,
        positive_buckets: h.positive_deltas,
        negative_buckets: h.negative_deltas,
        custom_values: h.custom_values,
    })
}

/// For fuzzing: reads all of a decoded request, and holds what it finds against prost's reading.
#[doc(hidden)]
pub fn fuzz(request: &[u8]) {
    let mut labels = Vec::new();
    let mut builder = LabelsBuilder::new();
    let mut read = || -> Result<(usize, usize), WireError> {
        let (mut series, mut entries) = (0, 0);
        for one in wire::series(request) {
            let one = one?;
            one.labels(&mut labels)?;
            let _ = valid_labels(&labels, &mut builder); // an answer either way
            for sample in one.samples() {
                sample?;
            }
            for exemplar in one.exemplars() {
                exemplar?;
            }
            for histogram in one.histograms() {
                drop(native(histogram?));
            }
            series += 1;
            entries += one.entries().count();
        }
        Ok((series, entries))
    };
    let theirs = <remote::WriteRequest as ferula_proto::Message>::decode(request);
    if let (Ok((series, entries)), Ok(theirs)) = (read(), theirs) {
        let of = |s: &remote::TimeSeries| s.samples.len() + s.exemplars.len() + s.histograms.len();
        assert_eq!((series, entries), (theirs.timeseries.len(), theirs.timeseries.iter().map(of).sum()));
    }
}

#[cfg(test)]
#[path = "remote_write_tests.rs"]
mod tests;
