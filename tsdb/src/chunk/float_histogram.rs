//! Float histogram chunks (encoding 3; 6 with start times).
//!
//! ```text
//! sample 0:  varbit t | f64 count | f64 zero count | f64 sum | f64 bucket (absolute) ...
//! sample 1-: varbit difference (from the third on: difference of differences) of t | everything else XORed
//! ```
use std::sync::Arc;

use ferula_model::{CounterResetHint, FloatHistogram, Span, is_stale_nan};

use super::histogram::Fit;
use super::histogram_layout::{self as layout, HEADER, Header, Layout, ResetHeader, bucket_count};
use super::start_times;
use super::xor::{Window, put_xor, xor};
use crate::encoding::Malformed;
use crate::encoding::bits::{BitReader, put_bits};
use crate::encoding::varbit;

#[derive(Clone, Copy, Debug)]
struct Xored {
    bits: u64,
    window: Window,
}

impl Xored {
    fn value(self) -> f64 {
        f64::from_bits(self.bits)
    }
    fn put(&mut self, out: &mut Vec<u8>, free: &mut u8, first: bool, v: f64) {
        if first {
            put_bits(out, free, v.to_bits(), 64);
        } else {
            put_xor(out, free, &mut self.window, self.bits, v.to_bits());
        }
        self.bits = v.to_bits();
    }
    fn read(&mut self, r: &mut BitReader<'_>, first: bool) -> Result<(), Malformed> {
        if first {
            self.bits = r.bits(64)?;
            Ok(())
        } else {
            xor(r, &mut self.window, &mut self.bits)
        }
    }
}

#[derive(Clone, Debug)]
struct Running {
    t_ms: i64,
    t_delta: i64,
    count: Xored,
    zero_count: Xored,
    sum: Xored,
    /// Positive, then negative.
    buckets: Vec<Xored>,
}

impl Running {
    fn new(buckets: usize, window: Window) -> Running {
        let zero = Xored { bits: 0, window };
        Running { t_ms: 0, t_delta: 0, count: zero, zero_count: zero, sum: zero, buckets: vec![zero; buckets] }
    }
}

/// An open chunk.
#[derive(Clone, Debug)]
pub struct Open {
    pub chunk: Vec<u8>,
    free: u8,
    layout: Layout,
    running: Running,
    /// Present in a chunk with start times.
    starts: Option<start_times::Encoder>,
}

impl Open {
    /// A chunk with its first sample.
    /// `start_ms`: `None` for a chunk without start times, 0 for none of this sample.
    pub fn new(header: ResetHeader, start_ms: Option<i64>, t_ms: i64, h: &FloatHistogram) -> Open {
        let layout = if h.is_stale() {
            Layout::default()
        } else {
            Layout {
                schema: h.schema,
                zero_threshold: h.zero_threshold,
                positive: h.positive_spans.clone(),
                negative: h.negative_spans.clone(),
                custom_values: h.custom_values.clone(),
            }
        };
        let mut open = Open {
            chunk: vec![0; HEADER],
            starts: start_ms.map(|_| start_times::Encoder::default()),
            free: 0,
            running: Running::new(bucket_count(&layout.positive) + bucket_count(&layout.negative), Window::NONE),
            layout,
        };
        open.header().write(&mut open.chunk, header, 0, 0);
        open.layout.write(&mut open.chunk, &mut open.free);
        open.put(start_ms.unwrap_or(0), t_ms, h);
        open
    }

    /// Which three bytes the chunk begins with.
    pub fn header(&self) -> Header {
        if self.starts.is_some() { Header::Starts } else { Header::Plain }
    }
    pub fn count(&self) -> u16 {
        self.header().count(&self.chunk)
    }

    pub fn first_header(h: &FloatHistogram) -> ResetHeader {
        match h.counter_reset_hint {
            CounterResetHint::Gauge => ResetHeader::Gauge,
            CounterResetHint::CounterReset => ResetHeader::Reset,
            _ => ResetHeader::Unknown,
        }
    }

    /// As [`super::histogram::Open::append`].
    pub fn append(&mut self, start_ms: i64, t_ms: i64, h: &FloatHistogram) -> Fit {
        let gauge = self.header().reset(&self.chunk) == ResetHeader::Gauge;
        if gauge != (h.counter_reset_hint == CounterResetHint::Gauge) {
            return Fit::NewChunk(Open::first_header(h));
        }
        if h.counter_reset_hint == CounterResetHint::CounterReset {
            return Fit::NewChunk(ResetHeader::Reset);
        }
        if h.is_stale() {
            self.put(start_ms, t_ms, h);
            return Fit::Appended;
        }
        let unknown = if gauge { ResetHeader::Gauge } else { ResetHeader::Unknown };
        let reset = Fit::NewChunk(if gauge { ResetHeader::Gauge } else { ResetHeader::Reset });
        if is_stale_nan(self.running.sum.value()) {
            return Fit::NewChunk(unknown);
        }
        if !gauge && h.count < self.running.count.value() {
            return reset;
        }
        if h.schema != self.layout.schema || h.zero_threshold != self.layout.zero_threshold {
            return Fit::NewChunk(unknown);
        }
        if h.custom_values != self.layout.custom_values || (!gauge && h.zero_count < self.running.zero_count.value()) {
            return reset;
        }
        match self.reconcile(h, gauge) {
            None => reset,
            Some(expanded) => {
                self.put(start_ms, t_ms, expanded.as_ref().unwrap_or(h));
                Fit::Appended
            }
        }
    }

    /// Brings chunk and sample to a common layout. `None`: a bucket went down; `Some(None)`: it fits as it is.
    fn reconcile(&mut self, h: &FloatHistogram, gauge: bool) -> Option<Option<FloatHistogram>> {
        let values: Vec<f64> = self.running.buckets.iter().map(|x| x.value()).collect();
        let (positive, negative) = values.split_at_checked(bucket_count(&self.layout.positive)).unwrap_or_default();
        let p = Side::new(&self.layout.positive, positive, &h.positive_spans, &h.positive_buckets, gauge)?;
        let n = Side::new(&self.layout.negative, negative, &h.negative_spans, &h.negative_buckets, gauge)?;
        if h.positive_spans == self.layout.positive && h.negative_spans == self.layout.negative {
            return Some(None);
        }
        let mut expanded = h.clone();
        expanded.positive_buckets.clone_from(&p.new_counts);
        expanded.negative_buckets.clone_from(&n.new_counts);
        if p.all.len() > p.old.len() || n.all.len() > n.old.len() {
            self.recode(&p, &n)?;
        }
        Some(Some(expanded))
    }

    fn recode(&mut self, p: &Side, n: &Side) -> Option<()> {
        let (mut times, mut old, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        decode(&self.chunk, self.header(), usize::MAX, &mut times, &mut old, &mut starts).ok()?;
        starts.resize(times.len(), 0);
        let mut samples = starts.into_iter().zip(times).zip(old.into_iter().map(|h| {
            let mut h = Arc::unwrap_or_clone(h);
            if !h.is_stale() {
                h.positive_buckets = layout::spread(&h.positive_buckets, &p.old, &p.all);
                h.negative_buckets = layout::spread(&h.negative_buckets, &n.old, &n.all);
                h.positive_spans = layout::spans_of(&p.all);
                h.negative_spans = layout::spans_of(&n.all);
            }
            h
        }));
        let header = self.header().reset(&self.chunk);
        let ((start, t), first) = samples.next()?;
        let mut wider = Open::new(header, self.starts.as_ref().map(|_| start), t, &first);
        samples.for_each(|((start, t), h)| wider.put(start, t, &h));
        *self = wider;
        Some(())
    }

    /// The buckets must be those of the layout, whatever the spans say.
    fn put(&mut self, start_ms: i64, t_ms: i64, h: &FloatHistogram) {
        let n = self.count();
        let (header, previous_ms) = (self.header(), self.running.t_ms);
        let reset = header.reset(&self.chunk);
        let (r, out, free) = (&mut self.running, &mut self.chunk, &mut self.free);
        let (first, stale) = (n == 0, h.is_stale());
        let t_delta = t_ms.wrapping_sub(r.t_ms);
        match n {
            0 => varbit::put_int(out, free, t_ms),
            1 => varbit::put_int(out, free, t_delta),
            _ => varbit::put_int(out, free, t_delta.wrapping_sub(r.t_delta)),
        }
        r.count.put(out, free, first, if stale { 0.0 } else { h.count });
        r.zero_count.put(out, free, first, if stale { 0.0 } else { h.zero_count });
        r.sum.put(out, free, first, h.sum);
        if !stale {
            let new = h.positive_buckets.iter().chain(&h.negative_buckets);
            for (bucket, new) in r.buckets.iter_mut().zip(new) {
                bucket.put(out, free, first, *new);
            }
        }
        if !first {
            r.t_delta = t_delta;
        }
        r.t_ms = t_ms;
        let mut starts = 0;
        if let Some(s) = &mut self.starts {
            s.put(&mut self.chunk, &mut self.free, n, t_ms, previous_ms, start_ms);
            starts = s.header();
        }
        header.write(&mut self.chunk, reset, n + 1, starts);
    }
}

struct Side {
    old: Vec<i64>,
    all: Vec<i64>,
    new_counts: Vec<f64>,
}

impl Side {
    fn new(
        old_spans: &[Span],
        old_counts: &[f64],
        new_spans: &[Span],
        new_counts: &[f64],
        gauge: bool,
    ) -> Option<Side> {
        let (old, new) = (layout::indices(old_spans), layout::indices(new_spans));
        let all = layout::union(&old, &new);
        let old_counts = layout::spread(old_counts, &old, &all);
        let new_counts = layout::spread(new_counts, &new, &all);
        if !gauge && old_counts.iter().zip(&new_counts).any(|(old, new)| new < old) {
            return None;
        }
        Some(Side { old, all, new_counts })
    }
}

/// Appends up to `limit` samples; `start_ms` stays empty when the chunk has no start times.
pub fn decode(
    chunk: &[u8],
    header: Header,
    limit: usize,
    t_ms: &mut Vec<i64>,
    out: &mut Vec<Arc<FloatHistogram>>,
    start_ms: &mut Vec<i64>,
) -> Result<(), Malformed> {
    let count = usize::from(header.count(chunk)).min(limit);
    if count == 0 {
        return Ok(());
    }
    let reset = header.reset(chunk);
    let mut starts = start_times::Decoder::new(header.starts(chunk));
    let mut bits = BitReader::new(chunk.get(HEADER..).unwrap_or(&[]));
    let l = Layout::read(&mut bits)?;
    let positive_count = bucket_count(&l.positive);
    let mut r = Running::new(positive_count + bucket_count(&l.negative), Window::WHOLE);
    for i in 0..count {
        let previous_ms = r.t_ms;
        let t = varbit::int(&mut bits)?;
        match i {
            0 => r.t_ms = t,
            1 => r.t_delta = t,
            _ => r.t_delta = r.t_delta.wrapping_add(t),
        }
        r.t_ms = r.t_ms.wrapping_add(r.t_delta);
        r.count.read(&mut bits, i == 0)?;
        r.zero_count.read(&mut bits, i == 0)?;
        r.sum.read(&mut bits, i == 0)?;
        t_ms.push(r.t_ms);
        let stale = is_stale_nan(r.sum.value());
        if !stale {
            for bucket in &mut r.buckets {
                bucket.read(&mut bits, i == 0)?;
            }
        }
        if starts.any() {
            start_ms.push(starts.next(&mut bits, i, r.t_ms, previous_ms)?);
        }
        if stale {
            out.push(Arc::new(FloatHistogram { sum: r.sum.value(), ..FloatHistogram::default() }));
            continue;
        }
        let (positive, negative) = r.buckets.split_at_checked(positive_count).unwrap_or_default();
        out.push(Arc::new(FloatHistogram {
            counter_reset_hint: layout::hint(reset, i),
            schema: l.schema,
            zero_threshold: l.zero_threshold,
            zero_count: r.zero_count.value(),
            count: r.count.value(),
            sum: r.sum.value(),
            positive_spans: l.positive.clone(),
            negative_spans: l.negative.clone(),
            positive_buckets: positive.iter().map(|x| x.value()).collect(),
            negative_buckets: negative.iter().map(|x| x.value()).collect(),
            custom_values: l.custom_values.clone(),
        }));
    }
    Ok(())
}
