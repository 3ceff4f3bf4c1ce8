//! Reading the protobuf exposition format: length-delimited `MetricFamily` messages, native histograms included.
//!
//! A family is walked field by field and its metrics decoded one at a time, so that the memory a body can claim is that of
//! its largest metric ([`Limits::line_bytes_max`] on the wire), whatever the body's size. Series come out under the names
//! the text formats would give them: `_sum`, `_count`, `_bucket` with `le`, `quantile`.
use ferula_model::{CounterResetHint, Exemplar, FloatHistogram, Histogram, Labels, MetricType, Span, Value};
use ferula_proto::Message;
use ferula_proto::metrics as wire;

use super::text::openmetrics_float;
use super::{Limits, ParseError, Progress, cut};

/// Which of a histogram's two forms are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HistogramForms {
    /// Native ones as histograms; otherwise their classic buckets only.
    pub native: bool,
    /// The classic series beside a native histogram, too.
    pub always_classic: bool,
}

/// One series of a family, borrowed from the metric just decoded.
#[derive(Debug)]
pub struct ProtoSeries<'s> {
    /// Name and labels as sent, in one unambiguous text: the key of a scrape cache.
    pub key: &'s [u8],
    pub name: &'s str,
    labels: &'s [wire::LabelPair],
    extra: Option<(&'static str, &'s str)>,
    pub value: Value<'s>,
    pub t_ms: Option<i64>,
    /// When the counter, summary or histogram began to count, in ms since 1970; 0 if the body does not say.
    pub start_ms: i64,
    pub exemplars: &'s [Exemplar],
}

impl ProtoSeries<'_> {
    /// Name and value of every label, the metric name first; repeated names included.
    pub fn labels<'s>(&'s self, mut f: impl FnMut(&'s str, &'s str)) {
        f(ferula_model::labels::METRIC_NAME, self.name);
        for pair in self.labels {
            f(pair.name(), pair.value());
        }
        if let Some((name, value)) = self.extra {
            f(name, value);
        }
    }
}

/// Takes what a body holds. An error of its own ends the reading.
pub trait FamilySink {
    type Error: From<ParseError>;
    fn family(&mut self, name: &str, metric_type: MetricType, help: &str, unit: &str) -> Result<(), Self::Error>;
    fn series(&mut self, series: &ProtoSeries<'_>) -> Result<(), Self::Error>;
}

/// Reads all families of `body` into `sink`. Errors say the family's number instead of a line's.
pub fn read_families<S: FamilySink>(
    body: &[u8],
    limits: Limits,
    forms: HistogramForms,
    sink: &mut S,
) -> Result<(), S::Error> {
    resume_families(body, limits, forms, &mut Progress::default(), true, sink).map(|_| ())
}

/// Reads the whole families at the front of `piece`, a part of a body that stands where `progress` says. Returns how many
/// bytes they were; unless `is_last`, a family that is not all there yet is left for the next piece.
pub fn resume_families<S: FamilySink>(
    piece: &[u8],
    limits: Limits,
    forms: HistogramForms,
    progress: &mut Progress,
    is_last: bool,
    sink: &mut S,
) -> Result<usize, S::Error> {
    let mut rest = piece;
    while !rest.is_empty() && (is_last || has_whole_message(rest)) {
        progress.before += 1;
        let number = progress.before;
        let at_family =
            |reason: String| ParseError { line: 0, reason: cut(format!("metric family {number}: {reason}")) };
        let message = take_message(&mut rest).map_err(at_family)?;
        let family = Family::read(message).map_err(at_family)?;
        if family.name.is_empty() && family.metrics == 0 {
            continue;
        }
        sink.family(family.name, family.metric_type(), family.help, family.unit)?;
        let mut fields = message;
        while let Some((field, content)) = next_field(&mut fields).map_err(at_family)? {
            let (METRIC, Content::Bytes(bytes)) = (field, content) else { continue };
            if bytes.len() > limits.line_bytes_max {
                let max = limits.line_bytes_max;
                return Err(
                    at_family(format!("metric of {} bytes exceeds the limit of {max} bytes", bytes.len())).into()
                );
            }
            let metric = wire::Metric::decode(bytes).map_err(|e| at_family(e.to_string()))?;
            Emit { family: &family, metric: &metric, forms, sink, key: Vec::new() }.all(&at_family)?;
        }
    }
    Ok(piece.len() - rest.len())
}

/// Whether the first message of `rest` is all there, or so malformed that more bytes do not mend it.
fn has_whole_message(rest: &[u8]) -> bool {
    const VARINT_BYTES_MAX: usize = 10;
    let mut after = rest;
    match varint(&mut after) {
        Ok(n) => n <= after.len() as u64,
        Err(_) => rest.len() >= VARINT_BYTES_MAX,
    }
}

const NAME: u64 = 1;
const HELP: u64 = 2;
const TYPE: u64 = 3;
const METRIC: u64 = 4;
const UNIT: u64 = 5;

struct Family<'a> {
    name: &'a str,
    help: &'a str,
    unit: &'a str,
    kind: u64,
    metrics: usize,
}

impl<'a> Family<'a> {
    /// Everything but the metrics, which may come before what describes them.
    fn read(message: &'a [u8]) -> Result<Family<'a>, String> {
        let mut family = Family { name: "", help: "", unit: "", kind: 0, metrics: 0 };
        let mut rest = message;
        while let Some((field, content)) = next_field(&mut rest)? {
            match (field, content) {
                (NAME, Content::Bytes(b)) => family.name = text(b)?,
                (HELP, Content::Bytes(b)) => family.help = text(b)?,
                (UNIT, Content::Bytes(b)) => family.unit = text(b)?,
                (TYPE, Content::Number(n)) => family.kind = n,
                (METRIC, Content::Bytes(_)) => family.metrics += 1,
                _ => {}
            }
        }
        Ok(family)
    }

    fn metric_type(&self) -> MetricType {
        match self.kind {
            0 => MetricType::Counter,
            1 => MetricType::Gauge,
            2 => MetricType::Summary,
            4 => MetricType::Histogram,
            5 => MetricType::GaugeHistogram,
            _ => MetricType::Unknown,
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "invalid UTF-8 in name, help or unit".to_owned())
}

enum Content<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Other,
}

fn varint(rest: &mut &[u8]) -> Result<u64, String> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let Some((b, tail)) = rest.split_first() else { return Err("unexpected EOF".into()) };
        *rest = tail;
        value |= u64::from(b & 0x7f) << shift;
        if b & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("varint overflows".into())
}

fn take<'a>(rest: &mut &'a [u8], n: u64) -> Result<&'a [u8], String> {
    let taken = usize::try_from(n).ok().and_then(|n| rest.split_at_checked(n));
    let Some((taken, tail)) = taken else { return Err("unexpected EOF".into()) };
    *rest = tail;
    Ok(taken)
}

fn take_message<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], String> {
    let n = varint(rest)?;
    take(rest, n)
}

/// The next field's number and content; groups, long obsolete, are refused.
fn next_field<'a>(rest: &mut &'a [u8]) -> Result<Option<(u64, Content<'a>)>, String> {
    if rest.is_empty() {
        return Ok(None);
    }
    let tag = varint(rest)?;
    let content = match tag & 7 {
        0 => Content::Number(varint(rest)?),
        1 => take(rest, 8).map(|_| Content::Other)?,
        2 => Content::Bytes(take_message(rest)?),
        5 => take(rest, 4).map(|_| Content::Other)?,
        wire_type => return Err(format!("unexpected wire type {wire_type}")),
    };
    Ok(Some((tag >> 3, content)))
}

/// One metric on its way to the sink.
struct Emit<'m, S> {
    family: &'m Family<'m>,
    metric: &'m wire::Metric,
    forms: HistogramForms,
    sink: &'m mut S,
    key: Vec<u8>,
}

impl<S: FamilySink> Emit<'_, S> {
    fn all(mut self, failed: &impl Fn(String) -> ParseError) -> Result<(), S::Error> {
        let metric = self.metric;
        let fail = |what: &str| S::Error::from(failed(format!("expected {what} in metric family of that type")));
        match self.family.metric_type() {
            MetricType::Counter => {
                let counter = metric.counter.as_ref().ok_or_else(|| fail("counter"))?;
                let exemplar = counter.exemplar.as_ref().map(exemplar);
                self.plain(counter.value(), exemplar.as_slice())
            }
            MetricType::Gauge => self.plain(metric.gauge.as_ref().ok_or_else(|| fail("gauge"))?.value(), &[]),
            MetricType::Summary => self.summary(metric.summary.as_ref().ok_or_else(|| fail("summary"))?),
            MetricType::Histogram | MetricType::GaugeHistogram => {
                let h = metric.histogram.as_ref().ok_or_else(|| fail("histogram"))?;
                let native = self.forms.native && is_native(h);
                if native {
                    self.native(h, failed)?;
                }
                if !native || (self.forms.always_classic && !h.bucket.is_empty()) {
                    self.classic(h)?;
                }
                Ok(())
            }
            _ => self.plain(metric.untyped.as_ref().ok_or_else(|| fail("untyped value"))?.value(), &[]),
        }
    }

    fn start_ms(&self) -> i64 {
        let m = self.metric;
        let start = match self.family.metric_type() {
            MetricType::Counter => m.counter.as_ref().and_then(|c| c.start_timestamp.as_ref()),
            MetricType::Summary => m.summary.as_ref().and_then(|s| s.start_timestamp.as_ref()),
            MetricType::Histogram | MetricType::GaugeHistogram => {
                m.histogram.as_ref().and_then(|h| h.start_timestamp.as_ref())
            }
            _ => None,
        };
        start.map_or(0, ms)
    }

    fn send(
        &mut self,
        suffix: &str,
        extra: Option<(&'static str, &str)>,
        value: Value<'_>,
        exemplars: &[Exemplar],
    ) -> Result<(), S::Error> {
        let name = format!("{}{suffix}", self.family.name);
        let key = &mut self.key;
        key.clear();
        let mut part = |text: &str| {
            key.extend_from_slice(text.as_bytes());
            key.push(0xff); // never part of a text
        };
        part(&name);
        for pair in &self.metric.label {
            part(pair.name());
            part(pair.value());
        }
        if let Some((n, v)) = extra {
            part(n);
            part(v);
        }
        let value = match value {
            Value::Float(v) if v.is_nan() => Value::Float(f64::from_bits(NORMAL_NAN)), // none may pose as a stale marker
            other => other,
        };
        self.sink.series(&ProtoSeries {
            key: &self.key,
            name: &name,
            labels: &self.metric.label,
            extra,
            value,
            t_ms: self.metric.timestamp_ms.filter(|t| *t != 0),
            start_ms: self.start_ms(),
            exemplars,
        })
    }

    fn plain(&mut self, value: f64, exemplars: &[Exemplar]) -> Result<(), S::Error> {
        self.send("", None, Value::Float(value), exemplars)
    }

    fn summary(&mut self, s: &wire::Summary) -> Result<(), S::Error> {
        self.send("_count", None, Value::Float(s.sample_count() as f64), &[])?;
        self.send("_sum", None, Value::Float(s.sample_sum()), &[])?;
        for q in &s.quantile {
            let quantile = openmetrics_float(q.quantile());
            self.send("", Some(("quantile", &quantile)), Value::Float(q.value()), &[])?;
        }
        Ok(())
    }

    fn classic(&mut self, h: &wire::Histogram) -> Result<(), S::Error> {
        let count = if is_float(h) { h.sample_count_float() } else { h.sample_count() as f64 };
        self.send("_count", None, Value::Float(count), &[])?;
        self.send("_sum", None, Value::Float(h.sample_sum()), &[])?;
        let mut has_infinity = false;
        for bucket in &h.bucket {
            let le = openmetrics_float(bucket.upper_bound());
            has_infinity |= bucket.upper_bound() == f64::INFINITY;
            let in_bucket = match bucket.cumulative_count_float() {
                float if float > 0.0 => float,
                _ => bucket.cumulative_count() as f64,
            };
            let exemplar = bucket.exemplar.as_ref().map(exemplar);
            self.send("_bucket", Some(("le", &le)), Value::Float(in_bucket), exemplar.as_slice())?;
        }
        if !has_infinity {
            self.send("_bucket", Some(("le", "+Inf")), Value::Float(count), &[])?;
        }
        Ok(())
    }

    fn native(&mut self, h: &wire::Histogram, failed: &impl Fn(String) -> ParseError) -> Result<(), S::Error> {
        let refuse =
            |e: ferula_model::histogram::HistogramError| S::Error::from(failed(format!("invalid histogram: {e}")));
        // Exemplars of a native histogram have a timestamp or are of no use: their order is all that tells them apart.
        let mut exemplars: Vec<Exemplar> = h.exemplars.iter().map(exemplar).collect();
        if exemplars.is_empty() {
            exemplars = h.bucket.iter().filter_map(|b| b.exemplar.as_ref()).map(exemplar).collect();
        }
        exemplars.retain(|e| e.t_ms.is_some());
        exemplars.sort_by_key(|e| e.t_ms);
        let is_gauge = self.family.metric_type() == MetricType::GaugeHistogram;
        let hint = if is_gauge { CounterResetHint::Gauge } else { CounterResetHint::Unknown };
        // Validated before anything walks the spans: their lengths are the sender's claim.
        if is_float(h) {
            let mut float = float_histogram(h, hint);
            float.validate().map_err(refuse)?;
            float.compact(0);
            self.send("", None, Value::FloatHistogram(&float), &exemplars)
        } else {
            let mut integer = integer_histogram(h, hint);
            integer.validate().map_err(refuse)?;
            integer.compact(0);
            self.send("", None, Value::Histogram(&integer), &exemplars)
        }
    }
}

const NORMAL_NAN: u64 = 0x7ff8_0000_0000_0001;

/// Whether the message has a native part at all; a span of no length stands for "native, but nothing observed yet".
fn is_native(h: &wire::Histogram) -> bool {
    !h.positive_span.is_empty()
        || !h.negative_span.is_empty()
        || h.zero_threshold() > 0.0
        || h.zero_count() > 0
        || h.zero_count_float() > 0.0
}

fn is_float(h: &wire::Histogram) -> bool {
    h.sample_count_float() > 0.0 || h.zero_count_float() > 0.0
}

fn spans(list: &[wire::BucketSpan]) -> Vec<Span> {
    list.iter().map(|s| Span { offset: s.offset(), length: s.length() }).collect()
}

fn integer_histogram(h: &wire::Histogram, counter_reset_hint: CounterResetHint) -> Histogram {
    Histogram {
        counter_reset_hint,
        schema: h.schema(),
        zero_threshold: h.zero_threshold(),
        zero_count: h.zero_count(),
        count: h.sample_count(),
        sum: h.sample_sum(),
        positive_spans: spans(&h.positive_span),
        negative_spans: spans(&h.negative_span),
        positive_buckets: h.positive_delta.clone(),
        negative_buckets: h.negative_delta.clone(),
        custom_values: Vec::new(),
    }
}

fn float_histogram(h: &wire::Histogram, counter_reset_hint: CounterResetHint) -> FloatHistogram {
    FloatHistogram {
        counter_reset_hint,
        schema: h.schema(),
        zero_threshold: h.zero_threshold(),
        zero_count: h.zero_count_float(),
        count: h.sample_count_float(),
        sum: h.sample_sum(),
        positive_spans: spans(&h.positive_span),
        negative_spans: spans(&h.negative_span),
        positive_buckets: h.positive_count.clone(),
        negative_buckets: h.negative_count.clone(),
        custom_values: Vec::new(),
    }
}

fn ms(t: &wire::Timestamp) -> i64 {
    t.seconds().saturating_mul(1000).saturating_add(i64::from(t.nanos()) / 1_000_000)
}

fn exemplar(e: &wire::Exemplar) -> Exemplar {
    let t_ms = e.timestamp.as_ref().map(ms);
    Exemplar { labels: Labels::from_pairs(e.label.iter().map(|p| (p.name(), p.value()))), value: e.value(), t_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Lines(Vec<String>);

    impl FamilySink for Lines {
        type Error = ParseError;
        fn family(&mut self, name: &str, kind: MetricType, help: &str, unit: &str) -> Result<(), ParseError> {
            self.0.push(format!("# {name} {} {help} {unit}", kind.as_str()));
            Ok(())
        }
        fn series(&mut self, s: &ProtoSeries<'_>) -> Result<(), ParseError> {
            let mut labels = String::new();
            s.labels(|n, v| labels.push_str(&format!("{n}={v} ")));
            let value = match s.value {
                Value::Float(v) => v.to_string(),
                Value::Histogram(h) => format!("h(count {} schema {} {:?})", h.count, h.schema, h.positive_buckets),
                Value::FloatHistogram(h) => format!("fh(count {})", h.count),
            };
            let start = if s.start_ms == 0 { String::new() } else { format!(" from {}", s.start_ms) };
            self.0.push(format!("{labels}{value} {:?} {}{start}", s.t_ms, s.exemplars.len()));
            Ok(())
        }
    }

    fn read(families: &[wire::MetricFamily], forms: HistogramForms) -> Result<Vec<String>, String> {
        let body: Vec<u8> = families.iter().flat_map(|f| f.encode_length_delimited_to_vec()).collect();
        let mut lines = Lines(Vec::new());
        read_families(&body, Limits::default(), forms, &mut lines).map_err(|e| e.to_string())?;
        assert_eq!(read_byte_by_byte(&body, forms), lines.0);
        Ok(lines.0)
    }

    fn read_byte_by_byte(body: &[u8], forms: HistogramForms) -> Vec<String> {
        let (mut lines, mut progress, mut at) = (Lines(Vec::new()), Progress::default(), 0);
        for end in 0..=body.len() {
            let (piece, is_last) = (&body[at..end], end == body.len());
            at += resume_families(piece, Limits::default(), forms, &mut progress, is_last, &mut lines).unwrap();
        }
        lines.0
    }

    fn family(kind: i32, metric: wire::Metric) -> wire::MetricFamily {
        wire::MetricFamily {
            name: Some("m".into()),
            help: Some("h".into()),
            r#type: Some(kind),
            metric: vec![metric],
            unit: None,
        }
    }

    fn native() -> wire::Histogram {
        wire::Histogram {
            sample_count: Some(3),
            sample_sum: Some(6.0),
            schema: Some(1),
            zero_threshold: Some(0.001),
            positive_span: vec![wire::BucketSpan { offset: Some(0), length: Some(2) }],
            positive_delta: vec![1, 1],
            bucket: vec![wire::Bucket { cumulative_count: Some(2), upper_bound: Some(1.0), ..Default::default() }],
            ..Default::default()
        }
    }

    #[test]
    fn every_kind() {
        let label = vec![wire::LabelPair { name: Some("a".into()), value: Some("b".into()) }];
        let counter = wire::Metric {
            label,
            counter: Some(wire::Counter {
                value: Some(1.5),
                start_timestamp: Some(wire::Timestamp { seconds: Some(7), nanos: Some(5_999_999) }),
                ..Default::default()
            }),
            timestamp_ms: Some(5),
            ..Default::default()
        };
        assert_eq!(
            read(&[family(0, counter)], HistogramForms::default()).unwrap(),
            ["# m counter h ", "__name__=m a=b 1.5 Some(5) 0 from 7005"]
        );
        let quantile = vec![wire::Quantile { quantile: Some(1.0), value: Some(7.0) }];
        let summary = wire::Summary { sample_count: Some(2), sample_sum: Some(3.0), quantile, ..Default::default() };
        let summary = wire::Metric { summary: Some(summary), ..Default::default() };
        assert_eq!(
            read(&[family(2, summary)], HistogramForms::default()).unwrap()[1..],
            ["__name__=m_count 2 None 0", "__name__=m_sum 3 None 0", "__name__=m quantile=1.0 7 None 0"]
        );
        let histogram = || wire::Metric { histogram: Some(native()), ..Default::default() };
        let classic = [
            "__name__=m_count 3 None 0",
            "__name__=m_sum 6 None 0",
            "__name__=m_bucket le=1.0 2 None 0",
            "__name__=m_bucket le=+Inf 3 None 0",
        ];
        let form = HistogramForms { native: true, always_classic: false };
        assert_eq!(read(&[family(4, histogram())], HistogramForms::default()).unwrap()[1..], classic);
        assert_eq!(
            read(&[family(4, histogram())], form).unwrap()[1..],
            ["__name__=m h(count 3 schema 1 [1, 1]) None 0"]
        );
        let both = read(&[family(4, histogram())], HistogramForms { native: true, always_classic: true }).unwrap();
        assert_eq!(both[2..], classic);
    }

    #[test]
    fn hostile_messages_end_quickly() {
        let form = HistogramForms { native: true, always_classic: false };
        let mut lines = Lines(Vec::new());
        assert!(read_families(&vec![0u8; 12 << 20], Limits::default(), form, &mut lines).is_ok(), "empty families");
        assert!(lines.0.is_empty());
        for body in [&[0xff_u8; 11][..], &[5, 1], &[2, 0x0b, 0x0c], &[3, 0x22, 0x7f, 0]] {
            assert!(read_families(body, Limits::default(), form, &mut lines).is_err(), "{body:?}");
        }
        // Spans that claim four billion buckets.
        let mut h = native();
        h.positive_span[0].length = Some(u32::MAX);
        let e = read(&[family(4, wire::Metric { histogram: Some(h), ..Default::default() })], form).unwrap_err();
        assert!(e.contains("spans need 4294967295 buckets, have 2"), "{e}");
    }
}
