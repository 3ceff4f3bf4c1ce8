//! Integer histogram chunks (encoding 2; 5 with start times).
//!
//! ```text
//! sample 0:  varbit t | uvarbit count | uvarbit zero count | f64 sum | varbit bucket (difference to the one before) ...
//! sample 1:  the differences to sample 0 in time, counts and each bucket, all varbit; the sum XORed
//! sample 2-: the differences of the differences; the sum XORed
//! ```
//! A stale marker has zero counts, the stale sum, and no buckets at all.
use std::sync::Arc;

use ferula_model::{CounterResetHint, FloatHistogram, Histogram, is_stale_nan};

use super::histogram_layout::{self as layout, HEADER, Header, Layout, ResetHeader, bucket_count};
use super::start_times;
use super::xor::{Window, put_xor, xor};
use crate::encoding::Malformed;
use crate::encoding::bits::{BitReader, put_bits};
use crate::encoding::varbit;

/// The running numbers of one sample and their last differences.
#[derive(Clone, Debug)]
struct Running {
    t_ms: i64,
    count: i64,
    zero_count: i64,
    sum_bits: u64,
    window: Window,
    t_delta: i64,
    count_delta: i64,
    zero_count_delta: i64,
    /// Positive, then negative; as in [`Histogram`] each is the difference to its neighbour.
    buckets: Vec<i64>,
    bucket_deltas: Vec<i64>,
}

impl Running {
    fn new(buckets: usize, window: Window) -> Running {
        Running {
            t_ms: 0,
            count: 0,
            zero_count: 0,
            sum_bits: 0,
            window,
            t_delta: 0,
            count_delta: 0,
            zero_count_delta: 0,
            buckets: vec![0; buckets],
            bucket_deltas: vec![0; buckets],
        }
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

/// What [`Open::append`] did with a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    Appended,
    /// A new chunk must be opened, with this header.
    NewChunk(ResetHeader),
}

impl Open {
    /// A chunk with its first sample.
    /// `start_ms`: `None` for a chunk without start times, 0 for none of this sample.
    pub fn new(header: ResetHeader, start_ms: Option<i64>, t_ms: i64, h: &Histogram) -> Open {
        let stale = h.is_stale();
        let layout = if stale { Layout::default() } else { layout_of(h) };
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

    /// The header a first chunk of this histogram gets.
    pub fn first_header(h: &Histogram) -> ResetHeader {
        match h.counter_reset_hint {
            CounterResetHint::Gauge => ResetHeader::Gauge,
            CounterResetHint::CounterReset => ResetHeader::Reset,
            _ => ResetHeader::Unknown,
        }
    }

    /// Appends if the chunk can hold the sample, widening the bucket layout of either if that is all it takes.
    pub fn append(&mut self, start_ms: i64, t_ms: i64, h: &Histogram) -> Fit {
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
        if is_stale_nan(f64::from_bits(self.running.sum_bits)) {
            return Fit::NewChunk(unknown);
        }
        let reset = Fit::NewChunk(if gauge { ResetHeader::Gauge } else { ResetHeader::Reset });
        if !gauge && (h.count as i64) < self.running.count {
            return reset;
        }
        if h.schema != self.layout.schema || h.zero_threshold != self.layout.zero_threshold {
            return Fit::NewChunk(unknown);
        }
        if h.custom_values != self.layout.custom_values {
            return reset;
        }
        if !gauge && (h.zero_count as i64) < self.running.zero_count {
            return reset;
        }
        if h.positive_spans == self.layout.positive && h.negative_spans == self.layout.negative {
            if !gauge && self.shrinks(h) {
                return reset;
            }
            self.put(start_ms, t_ms, h);
            return Fit::Appended;
        }
        match self.reconcile(h, gauge) {
            None => reset,
            Some(expanded) => {
                self.put(start_ms, t_ms, &expanded);
                Fit::Appended
            }
        }
    }

    fn sides(&self) -> (&[i64], &[i64]) {
        self.running.buckets.split_at_checked(bucket_count(&self.layout.positive)).unwrap_or_default()
    }

    /// Whether any bucket of the same layout went down.
    fn shrinks(&self, h: &Histogram) -> bool {
        let (positive, negative) = self.sides();
        shrinks(positive, &h.positive_buckets) || shrinks(negative, &h.negative_buckets)
    }

    /// Brings chunk and sample to a common layout; `None` if a bucket went down or a used one vanished.
    fn reconcile(&mut self, h: &Histogram, gauge: bool) -> Option<Histogram> {
        let (positive, negative) = self.sides();
        let p = Side::new(&self.layout.positive, positive, &h.positive_spans, &h.positive_buckets, gauge)?;
        let n = Side::new(&self.layout.negative, negative, &h.negative_spans, &h.negative_buckets, gauge)?;
        let mut expanded = h.clone();
        (expanded.positive_spans, expanded.positive_buckets) = p.sample(&self.layout.positive);
        (expanded.negative_spans, expanded.negative_buckets) = n.sample(&self.layout.negative);
        if p.widens() || n.widens() {
            self.recode(&p, &n)?;
        }
        Some(expanded)
    }

    /// Writes the chunk anew with more buckets. Rare: new buckets appear less and less often.
    fn recode(&mut self, p: &Side, n: &Side) -> Option<()> {
        let (mut times, mut old, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        decode(&self.chunk, self.header(), usize::MAX, &mut times, &mut old, &mut starts).ok()?;
        starts.resize(times.len(), 0);
        let mut samples = starts.into_iter().zip(times).zip(old.into_iter().map(|mut h| {
            if !h.is_stale() {
                h.positive_buckets = p.spread(&h.positive_buckets);
                h.negative_buckets = n.spread(&h.negative_buckets);
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

    fn put(&mut self, start_ms: i64, t_ms: i64, h: &Histogram) {
        let n = self.count();
        let (header, previous_ms) = (self.header(), self.running.t_ms);
        let reset = header.reset(&self.chunk);
        let (r, out, free) = (&mut self.running, &mut self.chunk, &mut self.free);
        let stale = h.is_stale();
        let (count, zero_count) = if stale { (0, 0) } else { (h.count as i64, h.zero_count as i64) };
        let t_delta = t_ms.wrapping_sub(r.t_ms);
        let (count_delta, zero_delta) = (count.wrapping_sub(r.count), zero_count.wrapping_sub(r.zero_count));
        match n {
            0 => {
                varbit::put_int(out, free, t_ms);
                varbit::put_uint(out, free, count as u64);
                varbit::put_uint(out, free, zero_count as u64);
                put_bits(out, free, h.sum.to_bits(), 64);
            }
            1 => {
                varbit::put_int(out, free, t_delta);
                varbit::put_int(out, free, count_delta);
                varbit::put_int(out, free, zero_delta);
                put_xor(out, free, &mut r.window, r.sum_bits, h.sum.to_bits());
            }
            _ => {
                varbit::put_int(out, free, t_delta.wrapping_sub(r.t_delta));
                varbit::put_int(out, free, count_delta.wrapping_sub(r.count_delta));
                varbit::put_int(out, free, zero_delta.wrapping_sub(r.zero_count_delta));
                put_xor(out, free, &mut r.window, r.sum_bits, h.sum.to_bits());
            }
        }
        if !stale {
            let new = h.positive_buckets.iter().chain(&h.negative_buckets);
            for ((old, old_delta), new) in r.buckets.iter_mut().zip(&mut r.bucket_deltas).zip(new) {
                let delta = new.wrapping_sub(*old);
                match n {
                    0 => varbit::put_int(out, free, *new),
                    1 => varbit::put_int(out, free, delta),
                    _ => varbit::put_int(out, free, delta.wrapping_sub(*old_delta)),
                }
                *old_delta = if n == 0 { 0 } else { delta };
                *old = *new;
            }
        }
        if n > 0 {
            (r.t_delta, r.count_delta, r.zero_count_delta) = (t_delta, count_delta, zero_delta);
        }
        (r.t_ms, r.count, r.zero_count, r.sum_bits) = (t_ms, count, zero_count, h.sum.to_bits());
        let mut starts = 0;
        if let Some(s) = &mut self.starts {
            s.put(&mut self.chunk, &mut self.free, n, t_ms, previous_ms, start_ms);
            starts = s.header();
        }
        header.write(&mut self.chunk, reset, n + 1, starts);
    }
}

fn layout_of(h: &Histogram) -> Layout {
    Layout {
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        positive: h.positive_spans.clone(),
        negative: h.negative_spans.clone(),
        custom_values: h.custom_values.clone(),
    }
}

fn absolute(differences: &[i64]) -> impl Iterator<Item = i64> + '_ {
    differences.iter().scan(0i64, |sum, d| {
        *sum = sum.wrapping_add(*d);
        Some(*sum)
    })
}

fn differences(absolute: &[i64]) -> Vec<i64> {
    let mut last = 0;
    absolute.iter().map(|c| c.wrapping_sub(std::mem::replace(&mut last, *c))).collect()
}

fn shrinks(old: &[i64], new: &[i64]) -> bool {
    absolute(old).zip(absolute(new)).any(|(old, new)| new < old)
}

/// One sign's buckets of chunk and sample on their common indices.
struct Side {
    old: Vec<i64>,
    all: Vec<i64>,
    new_counts: Vec<i64>,
}

impl Side {
    fn new(
        old_spans: &[ferula_model::Span],
        old_buckets: &[i64],
        new_spans: &[ferula_model::Span],
        new_buckets: &[i64],
        gauge: bool,
    ) -> Option<Side> {
        let (old, new) = (layout::indices(old_spans), layout::indices(new_spans));
        let all = layout::union(&old, &new);
        let old_counts = layout::spread(&absolute(old_buckets).collect::<Vec<_>>(), &old, &all);
        let new_counts = layout::spread(&absolute(new_buckets).collect::<Vec<_>>(), &new, &all);
        if !gauge && old_counts.iter().zip(&new_counts).any(|(old, new)| new < old) {
            return None;
        }
        Some(Side { old, all, new_counts })
    }
    fn widens(&self) -> bool {
        self.all.len() > self.old.len()
    }
    /// The sample's spans and buckets in the common layout; the chunk's own spans when it does not change.
    fn sample(&self, chunk_spans: &[ferula_model::Span]) -> (Vec<ferula_model::Span>, Vec<i64>) {
        let spans = if self.widens() { layout::spans_of(&self.all) } else { chunk_spans.to_vec() };
        (spans, differences(&self.new_counts))
    }
    fn spread(&self, old_buckets: &[i64]) -> Vec<i64> {
        differences(&layout::spread(&absolute(old_buckets).collect::<Vec<_>>(), &self.old, &self.all))
    }
}

/// Walks a chunk; `each` sees the layout, the sample's number and its values, and whether it is a stale marker.
fn walk(
    chunk: &[u8],
    header: Header,
    limit: usize,
    start_ms: &mut Vec<i64>,
    mut each: impl FnMut(&Layout, usize, &Running, bool),
) -> Result<(), Malformed> {
    let count = usize::from(header.count(chunk)).min(limit);
    if count == 0 {
        return Ok(());
    }
    let mut bits = BitReader::new(chunk.get(HEADER..).unwrap_or(&[]));
    let layout = Layout::read(&mut bits)?;
    let mut r = Running::new(bucket_count(&layout.positive) + bucket_count(&layout.negative), Window::WHOLE);
    let mut starts = start_times::Decoder::new(header.starts(chunk));
    for i in 0..count {
        let previous_ms = r.t_ms;
        if i == 0 {
            r.t_ms = varbit::int(&mut bits)?;
            r.count = varbit::uint(&mut bits)? as i64;
            r.zero_count = varbit::uint(&mut bits)? as i64;
            r.sum_bits = bits.bits(64)?;
        } else {
            let (t, c, z) = (varbit::int(&mut bits)?, varbit::int(&mut bits)?, varbit::int(&mut bits)?);
            if i == 1 {
                (r.t_delta, r.count_delta, r.zero_count_delta) = (t, c, z);
            } else {
                r.t_delta = r.t_delta.wrapping_add(t);
                r.count_delta = r.count_delta.wrapping_add(c);
                r.zero_count_delta = r.zero_count_delta.wrapping_add(z);
            }
            r.t_ms = r.t_ms.wrapping_add(r.t_delta);
            r.count = r.count.wrapping_add(r.count_delta);
            r.zero_count = r.zero_count.wrapping_add(r.zero_count_delta);
            xor(&mut bits, &mut r.window, &mut r.sum_bits)?;
        }
        let stale = is_stale_nan(f64::from_bits(r.sum_bits));
        if !stale {
            for (bucket, delta) in r.buckets.iter_mut().zip(&mut r.bucket_deltas) {
                let read = varbit::int(&mut bits)?;
                match i {
                    0 => *bucket = read,
                    1 => {
                        *delta = read;
                        *bucket = bucket.wrapping_add(read);
                    }
                    _ => {
                        *delta = delta.wrapping_add(read);
                        *bucket = bucket.wrapping_add(*delta);
                    }
                }
            }
        }
        if starts.any() {
            start_ms.push(starts.next(&mut bits, i, r.t_ms, previous_ms)?);
        }
        each(&layout, i, &r, stale);
    }
    Ok(())
}

/// Appends up to `limit` samples as integer histograms; `start_ms` stays empty when the chunk has no start times.
pub fn decode(
    chunk: &[u8],
    header: Header,
    limit: usize,
    t_ms: &mut Vec<i64>,
    out: &mut Vec<Histogram>,
    start_ms: &mut Vec<i64>,
) -> Result<(), Malformed> {
    let reset = header.reset(chunk);
    walk(chunk, header, limit, start_ms, |l, i, r, stale| {
        t_ms.push(r.t_ms);
        let sum = f64::from_bits(r.sum_bits);
        if stale {
            return out.push(Histogram { sum, ..Histogram::default() });
        }
        let (positive, negative) = r.buckets.split_at_checked(bucket_count(&l.positive)).unwrap_or_default();
        out.push(Histogram {
            counter_reset_hint: layout::hint(reset, i),
            schema: l.schema,
            zero_threshold: l.zero_threshold,
            zero_count: r.zero_count as u64,
            count: r.count as u64,
            sum,
            positive_spans: l.positive.clone(),
            negative_spans: l.negative.clone(),
            positive_buckets: positive.to_vec(),
            negative_buckets: negative.to_vec(),
            custom_values: l.custom_values.clone(),
        });
    })
}

/// Appends up to `limit` samples as float histograms: what queries read.
pub fn decode_to_float(
    chunk: &[u8],
    header: Header,
    limit: usize,
    t_ms: &mut Vec<i64>,
    out: &mut Vec<Arc<FloatHistogram>>,
    start_ms: &mut Vec<i64>,
) -> Result<(), Malformed> {
    let reset = header.reset(chunk);
    walk(chunk, header, limit, start_ms, |l, i, r, stale| {
        t_ms.push(r.t_ms);
        let sum = f64::from_bits(r.sum_bits);
        if stale {
            return out.push(Arc::new(FloatHistogram { sum, ..FloatHistogram::default() }));
        }
        let (positive, negative) = r.buckets.split_at_checked(bucket_count(&l.positive)).unwrap_or_default();
        out.push(Arc::new(FloatHistogram {
            counter_reset_hint: layout::hint(reset, i),
            schema: l.schema,
            zero_threshold: l.zero_threshold,
            zero_count: r.zero_count as u64 as f64,
            count: r.count as u64 as f64,
            sum,
            positive_spans: l.positive.clone(),
            negative_spans: l.negative.clone(),
            positive_buckets: absolute(positive).map(|c| c as f64).collect(),
            negative_buckets: absolute(negative).map(|c| c as f64).collect(),
            custom_values: l.custom_values.clone(),
        }));
    })
}
