//! The remote-write receiver, versions 1.0 and 2.0: bounded bytes in, one synced batch out, and no 2xx for data that was thrown away.
//!
//! Samples that cannot be stored (out of order, invalid labels, ...) are named in a 400, the first ten of them, while the
//! others are kept: a sender does not repeat a request that was answered with 400. The headers count what was kept. A
//! request that cannot be understood as a whole, such as one with a reference outside its symbols, leaves nothing behind.
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use ferula_instrument::{Counter, Registry};
use ferula_model::{
    Budget, BudgetExceeded, Charge, Clock, Exemplar, Labels, LabelsBuilder, Metadata, SeriesRef, Value,
};
use ferula_net::listen::body;
use ferula_proto::remote;
use ferula_storage::{AppendError, AppendOptions, Appendable, Appender, Durability, StorageError};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::Semaphore;

use super::known::{Known, Print};
pub use super::message::Message;
use super::message::announced;
use super::native::Native;
use super::wire::{self, Incoming, WireError};
use super::wire_v2;

/// Which messages are taken, and the bounds of one request and of all requests together.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `--web.remote-write-receiver.accepted-protobuf-messages`; any other is answered with 415.
    pub accepted: Vec<Message>,
    /// Bytes of the compressed body.
    pub body_bytes_max: usize,
    /// Bytes it may say to decompress to. Upstream's number.
    pub decoded_bytes_max: usize,
    /// What one request may hold: its bytes, compressed and not, its entries, and its labels and descriptions once references
    /// are replaced by strings. A request that needs more is answered with 400.
    pub request_bytes_max: u64,
    /// What all requests may hold; one that finds it spent is answered with 503, and comes again.
    pub budget: Budget,
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
            accepted: Message::ALL.to_vec(),
            // What 32 MiB that do not compress come to.
            body_bytes_max: 38 << 20,
            decoded_bytes_max: 32 << 20,
            request_bytes_max: 256 << 20,
            budget: Budget::root("remote write", 512 << 20),
            concurrency: 8,
            body_timeout: Duration::from_secs(30),
            future_max_ms: 10 * 60 * 1000,
        }
    }
}

/// Characters of an exemplar's labels, names and values together; longer ones are not kept. OpenMetrics' number.
const EXEMPLAR_CHARS_MAX: usize = 128;

/// What a symbol, sample, histogram or exemplar holds while its request is worked on.
const ENTRY_BYTES: u64 = 48;

/// How many refused samples an answer names.
const NAMED_MAX: usize = 10;

pub struct RemoteWrite {
    storage: Arc<dyn Appendable>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    permits: Arc<Semaphore>,
    invalid_labels: Counter,
    known: Known,
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
    /// One sample, or one series without samples, is not stored.
    fn refuse(&mut self, labels: &Labels, t_ms: Option<i64>, why: &dyn std::fmt::Display) {
        let at = t_ms.map(|t| format!(" at {t}")).unwrap_or_default();
        self.name(1, || format!("{why} for series {labels}{at}"));
    }
    /// `n` things are not stored, for one reason.
    fn name(&mut self, n: u64, text: impl FnOnce() -> String) {
        self.refused += n;
        if self.named.len() < NAMED_MAX {
            let mut text = text();
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
    Wire(WireError),
    #[error("snappy: corrupt input")]
    Snappy,
    #[error("snappy: decoded block is too large")]
    TooLarge,
    #[error(transparent)]
    Budget(#[from] BudgetExceeded),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<WireError> for Failure {
    fn from(e: WireError) -> Failure {
        match e {
            WireError::Budget(e) => Failure::Budget(e),
            e => Failure::Wire(e),
        }
    }
}

/// Where to look for a series, and what was found there.
#[derive(Clone, Copy)]
struct Place {
    print: Option<Print>,
    series: SeriesRef,
}

/// Reads all of `all`, which must be well formed, and charges what it will hold, before any of that is allocated. Looks up
/// each series on the way; the labels of those that are known have been read before.
fn check<'a, S: Incoming<'a>>(
    charge: &mut Charge,
    known: &Known,
    all: impl Iterator<Item = Result<S, WireError>>,
) -> Result<Vec<Place>, Failure> {
    let mut labels = Vec::new();
    let mut places = Vec::new();
    let size = |pairs: &[(&str, &str)]| pairs.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>();
    for series in all {
        let series = series?;
        let print = series.print(known, &mut labels)?;
        let place = Place { print, series: print.map_or(SeriesRef::NONE, |p| known.find(p)) };
        let (mut bytes, mut entries) = (size_of::<Place>(), 1);
        if place.series.is_none() {
            series.labels(&mut labels)?;
            bytes += size(&labels);
        }
        for ok in series.entries() {
            ok?;
            entries += 1;
        }
        for exemplar in series.exemplars() {
            bytes = bytes.saturating_add(size(&exemplar?.0));
        }
        if let Some(m) = series.metadata()? {
            bytes = bytes.saturating_add(m.help.len() + m.unit.len());
        }
        charge.grow(bytes as u64 + entries * ENTRY_BYTES)?;
        places.push(place);
    }
    Ok(places)
}

/// The name of one request's budget.
const REQUEST: &str = "remote write request";

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
            known: Known::new(),
            invalid_labels: registry.counter(
                "prometheus_api_remote_write_invalid_labels_samples_total",
                "The total number of received remote write samples and histogram samples which were rejected due to \
                 invalid labels.",
            ),
        }
    }

    /// Answers one `POST /api/v1/write`.
    pub async fn handle(self: Arc<Self>, headers: &HeaderMap, request_body: Body) -> Response {
        let message = match announced(headers, &self.limits.accepted) {
            Ok(message) => message,
            Err(why) => return plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, &why),
        };
        let budget = self.limits.budget.child(REQUEST, self.limits.request_bytes_max);
        let (bytes_max, timeout) = (self.limits.body_bytes_max, self.limits.body_timeout);
        let (compressed, mut charge) = match body::read_charged(request_body, bytes_max, timeout, &budget).await {
            Ok(read) => read,
            Err(e) => return plain(e.status(), &e.to_string()),
        };
        let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "shutting down");
        };
        // A client that goes away while its batch is written leaves it to be finished: it may ask again, and the
        // repetition is accepted.
        let stored = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            self.store(message, &compressed, &mut charge)
        });
        match stored.await {
            Ok(Ok(outcome)) => answer(&outcome),
            Ok(Err(failure)) => {
                let status = match &failure {
                    Failure::Storage(
                        StorageError::Budget(_) | StorageError::NotReady(_) | StorageError::Poisoned(_),
                    ) => StatusCode::SERVICE_UNAVAILABLE,
                    Failure::Budget(e) if e.name != REQUEST => StatusCode::SERVICE_UNAVAILABLE,
                    Failure::Storage(_) => StatusCode::INTERNAL_SERVER_ERROR,
                    _ => StatusCode::BAD_REQUEST,
                };
                tracing::error!(error = %failure, "remote write failed");
                counted(plain(status, &failure.to_string()), &Outcome::default())
            }
            Err(panicked) => {
                tracing::error!(error = %panicked, "remote write failed");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "internal error")
            }
        }
    }

    fn store(&self, message: Message, compressed: &[u8], charge: &mut Charge) -> Result<Outcome, Failure> {
        // The length is a claim: checked before anything is allocated for it.
        let claimed = snap::raw::decompress_len(compressed).map_err(|_| Failure::Snappy)?;
        if claimed > self.limits.decoded_bytes_max {
            return Err(Failure::TooLarge);
        }
        charge.grow(claimed as u64)?;
        let decoded = snap::raw::Decoder::new().decompress_vec(compressed).map_err(|_| Failure::Snappy)?;
        match message {
            Message::V1 => self.take(message, charge, || wire::series(&decoded)),
            Message::V2 => {
                let symbols = wire_v2::Symbols::read(&decoded, charge)?;
                self.take(message, charge, || wire_v2::series(&decoded, &symbols))
            }
        }
    }

    /// Checks all series, charging what they will hold, and then stores them.
    fn take<'a, S: Incoming<'a>, I: Iterator<Item = Result<S, WireError>>>(
        &self,
        message: Message,
        charge: &mut Charge,
        all: impl Fn() -> I,
    ) -> Result<Outcome, Failure> {
        // All of it must be well formed before any of it is appended.
        let places = check(charge, &self.known, all())?;
        let mut appender = self.storage.appender();
        let mut outcome = Outcome::default();
        match self.append_all(message, all().zip(places), appender.as_mut(), &mut outcome) {
            Ok(()) => {
                let stats = appender.commit(Durability::Synced)?;
                if stats.out_of_order > 0 {
                    outcome.refused += stats.out_of_order;
                    outcome.named.push(format!("{} samples were out of order", stats.out_of_order));
                    // The storage does not say of which kind they were.
                    let floats = outcome.samples.min(stats.out_of_order);
                    outcome.samples -= floats;
                    outcome.histograms = outcome.histograms.saturating_sub(stats.out_of_order - floats);
                }
                Ok(outcome)
            }
            Err(e) => {
                appender.rollback();
                Err(e)
            }
        }
    }

    fn append_all<'a, S: Incoming<'a>>(
        &self,
        message: Message,
        all: impl Iterator<Item = (Result<S, WireError>, Place)>,
        appender: &mut dyn Appender,
        outcome: &mut Outcome,
    ) -> Result<(), Failure> {
        let newest_ms = self.clock.now_ms().saturating_add(self.limits.future_max_ms);
        let mut pairs = Vec::new();
        let mut builder = LabelsBuilder::new();
        for (series, place) in all {
            let series = series?;
            let mut labels = None;
            if place.series.is_none() {
                series.labels(&mut pairs)?;
                labels = match valid_labels(&pairs, &mut builder) {
                    Ok(labels) => Some(labels),
                    Err(why) => {
                        let points = series.points();
                        self.invalid_labels.add(points as f64);
                        outcome.name(points.max(1) as u64, || why.text(&Labels::from_pairs(pairs.iter().copied())));
                        continue;
                    }
                };
            }
            // Those of a known series are read when somebody asks for them.
            let mut labels = || -> Result<Labels, WireError> {
                if labels.is_none() {
                    series.labels(&mut pairs)?;
                    labels = Some(Labels::from_pairs(pairs.iter().copied()));
                }
                Ok(labels.clone().unwrap_or_default())
            };
            if message == Message::V2 && series.points() == 0 {
                outcome.refuse(&labels()?, None, &"TimeSeries must contain at least one sample or histogram");
                continue;
            }
            let metadata = series.metadata()?.map(|m| Metadata {
                metric_type: m.metric_type,
                help: m.help.to_owned(),
                unit: m.unit.to_owned(),
            });
            let mut exemplars = Vec::new();
            for exemplar in series.exemplars() {
                let (pairs, sample) = exemplar?;
                let chars = pairs.iter().map(|(n, v)| n.chars().count() + v.chars().count()).sum::<usize>();
                if chars <= EXEMPLAR_CHARS_MAX && sample.t_ms <= newest_ms {
                    let t_ms = (sample.t_ms != 0).then_some(sample.t_ms);
                    exemplars.push(Exemplar { labels: Labels::from_pairs(pairs), value: sample.value, t_ms });
                }
            }
            let mut at = place.series;
            // Says whether the entry was stored.
            let mut one =
                |start_ms: i64, t_ms: i64, value: Value<'_>, native: Option<&Native>, outcome: &mut Outcome| {
                    let options = AppendOptions { metadata: metadata.as_ref(), ..AppendOptions::default() };
                    if t_ms > newest_ms {
                        outcome.refuse(&labels()?, Some(t_ms), &"out of bounds: timestamp is too far in the future");
                        return Ok(false);
                    }
                    let mut result = match at.is_none() {
                        true => Err(AppendError::UnknownSeries),
                        false => appender.append(at, None, start_ms, t_ms, value, &options),
                    };
                    if result == Err(AppendError::UnknownSeries) {
                        result = appender.append(SeriesRef::NONE, Some(&labels()?), start_ms, t_ms, value, &options);
                    }
                    match result {
                        Ok(series) => {
                            if let Some(print) = place.print.filter(|_| series != at) {
                                self.known.insert(print, series);
                            }
                            at = series;
                            Ok::<_, WireError>(true)
                        }
                        Err(e) => {
                            outcome.retry |= matches!(e, AppendError::SeriesBudget | AppendError::ReadOnly);
                            let fault = native.filter(|_| e == AppendError::InvalidHistogram).and_then(Native::fault);
                            match fault {
                                Some(why) => outcome.refuse(&labels()?, Some(t_ms), &why),
                                None => outcome.refuse(&labels()?, Some(t_ms), &e),
                            }
                            Ok(false)
                        }
                    }
                };
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
                    let stored = one(sample.start_ms, sample.t_ms, Value::Float(sample.value), None, outcome)?;
                    outcome.samples += u64::from(stored);
                } else {
                    let Some(histogram) = histograms.next().transpose()? else { break };
                    let (start_ms, t_ms) = (histogram.start_timestamp, histogram.timestamp);
                    let native = Native::from(histogram);
                    let stored = one(start_ms, t_ms, native.value(), Some(&native), outcome)?;
                    outcome.histograms += u64::from(stored);
                }
            }
            // Behind the samples, which may have made the series; one of a series nobody knows, or one that comes too late,
            // is dropped without an error, as upstream does: exemplars are no reason to send everything again.
            for exemplar in &exemplars {
                let labels = labels()?;
                match appender.append_exemplar(at, Some(&labels), exemplar) {
                    Ok(_) => outcome.exemplars += 1,
                    Err(error) => tracing::debug!(%error, series = %labels, "an exemplar is not stored"),
                }
            }
        }
        Ok(())
    }
}

fn plain(status: StatusCode, text: &str) -> Response {
    let mut response = (status, format!("{text}\n")).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

fn answer(outcome: &Outcome) -> Response {
    let response = if outcome.refused == 0 {
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
    counted(response, outcome)
}

/// With the headers that say what was stored, which version 2 demands of every answer.
fn counted(mut response: Response, outcome: &Outcome) -> Response {
    for (name, n) in [
        ("x-prometheus-remote-write-samples-written", outcome.samples),
        ("x-prometheus-remote-write-histograms-written", outcome.histograms),
        ("x-prometheus-remote-write-exemplars-written", outcome.exemplars),
    ] {
        response.headers_mut().insert(name, HeaderValue::from(n));
    }
    response
}

enum BadLabels<'a> {
    Invalid,
    Twice(&'a str),
}

impl BadLabels<'_> {
    fn text(&self, labels: &Labels) -> String {
        match self {
            BadLabels::Invalid => format!("invalid metric name or labels, got {labels}"),
            BadLabels::Twice(name) => format!("invalid labels for series, labels {labels}, duplicated label {name}"),
        }
    }
}

/// The label set, if it has a metric name, no name twice, and no empty name.
fn valid_labels<'a>(pairs: &[(&'a str, &'a str)], builder: &mut LabelsBuilder) -> Result<Labels, BadLabels<'a>> {
    builder.clear();
    let mut seen = BTreeSet::new();
    for (name, value) in pairs {
        if name.is_empty() {
            return Err(BadLabels::Invalid);
        }
        if !seen.insert(name) {
            return Err(BadLabels::Twice(name));
        }
        builder.set(name, value);
    }
    if builder.get(ferula_model::labels::METRIC_NAME).is_none() {
        return Err(BadLabels::Invalid);
    }
    Ok(builder.labels())
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
                drop(Native::from(histogram?));
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
#[cfg(test)]
#[path = "remote_write_v2_tests.rs"]
mod v2_tests;
