//! What the two histogram chunk encodings share: header, bucket layout, and bringing two layouts together.
//!
//! ```text
//! u16 samples | u8 flags | zero threshold | varbit schema | positive spans | negative spans | [custom bounds] | samples
//! flags: top two bits 10 counter reset before this chunk, 01 none, 00 unknown, 11 gauge
//! zero threshold: 0 | 1..=254 for 2^(b-244) | 255 + f64
//! spans: varbit count { varbit length, varbit offset }
//! custom bounds (schema -53 only): varbit count { varbit 1000*bound + 1, or bit 0 + f64 }
//! ```
//! With start times (encodings 5 and 6) the three header bytes are: two bits of flags and 14 of sample count, and the byte
//! of start_times.rs; each sample's start time lies behind it.
//! Sources: Prometheus 3.5 tsdb/docs/format/chunks.md; the head comment of tsdb/chunkenc/histogram_st.go.
use ferula_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use ferula_model::{CounterResetHint, Span};

use crate::encoding::Malformed;
use crate::encoding::bits::{BitReader, put_bits};
use crate::encoding::varbit;

/// Sample count and flags.
pub const HEADER: usize = 3;
const MASK: u8 = 0b1100_0000;
/// More buckets than this in one chunk are damage: upstream's limits stop far below.
const BUCKETS_MAX: usize = 1 << 20;

/// Whether a counter reset lies between the previous chunk and this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ResetHeader {
    Unknown = 0,
    NotReset = 0b0100_0000,
    Reset = 0b1000_0000,
    Gauge = 0b1100_0000,
}

/// The three bytes in front of the layout, which differ between chunks with start times and without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    Plain,
    Starts,
}

impl Header {
    /// The largest number of samples that can be written.
    pub fn count_max(self) -> u16 {
        match self {
            Header::Plain => u16::MAX - 1,
            Header::Starts => 0x3fff,
        }
    }
    pub fn count(self, chunk: &[u8]) -> u16 {
        let raw = super::sample_count(chunk);
        match self {
            Header::Plain => raw,
            Header::Starts => raw & 0x3fff,
        }
    }
    pub fn reset(self, chunk: &[u8]) -> ResetHeader {
        reset_header(chunk.get(if self == Header::Plain { 2 } else { 0 }).copied().unwrap_or(0))
    }
    /// The byte of start times; 0 where there is none.
    pub fn starts(self, chunk: &[u8]) -> u8 {
        if self == Header::Plain { 0 } else { chunk.get(2).copied().unwrap_or(0) }
    }
    /// `chunk` has at least these three bytes.
    pub fn write(self, chunk: &mut [u8], reset: ResetHeader, count: u16, starts: u8) {
        let Some([a, b, c]) = chunk.first_chunk_mut::<HEADER>() else { return };
        [*a, *b] = count.to_be_bytes();
        match self {
            Header::Plain => *c = reset as u8,
            Header::Starts => {
                *a |= reset as u8;
                *c = starts;
            }
        }
    }
}

fn reset_header(flags: u8) -> ResetHeader {
    match flags & MASK {
        0b0100_0000 => ResetHeader::NotReset,
        0b1000_0000 => ResetHeader::Reset,
        0b1100_0000 => ResetHeader::Gauge,
        _ => ResetHeader::Unknown,
    }
}

/// The hint of the `i`-th sample: inside a chunk there is no reset by construction; what lies before the first
/// depends on which chunk a reader saw last, so it stays unknown.
pub fn hint(header: ResetHeader, i: usize) -> CounterResetHint {
    match (header, i) {
        (ResetHeader::Gauge, _) => CounterResetHint::Gauge,
        (_, 0) => CounterResetHint::Unknown,
        _ => CounterResetHint::NotCounterReset,
    }
}

/// The buckets all samples of a chunk share.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    pub schema: i32,
    pub zero_threshold: f64,
    pub positive: Vec<Span>,
    pub negative: Vec<Span>,
    pub custom_values: Vec<f64>,
}

pub fn bucket_count(spans: &[Span]) -> usize {
    spans.iter().map(|s| s.length as usize).sum()
}

impl Layout {
    pub fn write(&self, out: &mut Vec<u8>, free: &mut u8) {
        put_zero_threshold(out, free, self.zero_threshold);
        varbit::put_int(out, free, i64::from(self.schema));
        for spans in [&self.positive, &self.negative] {
            varbit::put_uint(out, free, spans.len() as u64);
            for s in spans {
                varbit::put_uint(out, free, u64::from(s.length));
                varbit::put_int(out, free, i64::from(s.offset));
            }
        }
        if self.schema == CUSTOM_BUCKETS_SCHEMA {
            varbit::put_uint(out, free, self.custom_values.len() as u64);
            self.custom_values.iter().for_each(|v| put_bound(out, free, *v));
        }
    }

    pub fn read(r: &mut BitReader<'_>) -> Result<Layout, Malformed> {
        let mut layout = Layout {
            zero_threshold: zero_threshold(r)?,
            schema: i32::try_from(varbit::int(r)?).map_err(|_| Malformed("schema out of range"))?,
            positive: spans(r)?,
            negative: spans(r)?,
            custom_values: Vec::new(),
        };
        if bucket_count(&layout.positive) + bucket_count(&layout.negative) > BUCKETS_MAX {
            return Err(Malformed("too many buckets"));
        }
        if layout.schema == CUSTOM_BUCKETS_SCHEMA {
            for _ in 0..count(r)? {
                layout.custom_values.push(bound(r)?);
            }
        }
        Ok(layout)
    }
}

fn count(r: &mut BitReader<'_>) -> Result<usize, Malformed> {
    match usize::try_from(varbit::uint(r)?) {
        Ok(n) if n <= BUCKETS_MAX => Ok(n),
        _ => Err(Malformed("count out of range")),
    }
}

fn spans(r: &mut BitReader<'_>) -> Result<Vec<Span>, Malformed> {
    let mut spans = Vec::new();
    for _ in 0..count(r)? {
        let length = u32::try_from(varbit::uint(r)?).map_err(|_| Malformed("span length out of range"))?;
        let offset = i32::try_from(varbit::int(r)?).map_err(|_| Malformed("span offset out of range"))?;
        spans.push(Span { offset, length });
    }
    Ok(spans)
}

fn put_zero_threshold(out: &mut Vec<u8>, free: &mut u8, threshold: f64) {
    let bits = threshold.to_bits();
    // A positive power of two has no fraction bits; the byte counts from 2^-243 = 1 to 2^10 = 254.
    let (exponent, fraction) = ((bits >> 52) as i64 & 0x7ff, bits & ((1 << 52) - 1));
    let byte = exponent - 1023 + 244;
    if bits == 0 {
        put_bits(out, free, 0, 8);
    } else if bits >> 63 == 0 && fraction == 0 && (1..=254).contains(&byte) {
        put_bits(out, free, byte as u64, 8);
    } else {
        put_bits(out, free, 255, 8);
        put_bits(out, free, bits, 64);
    }
}

fn zero_threshold(r: &mut BitReader<'_>) -> Result<f64, Malformed> {
    match r.bits(8)? {
        0 => Ok(0.0),
        255 => r.bits(64).map(f64::from_bits),
        byte => Ok(f64::from_bits((byte + 1023 - 244) << 52)),
    }
}

fn put_bound(out: &mut Vec<u8>, free: &mut u8, v: f64) {
    let thousandths = (v * 1000.0).round();
    if (0.0..=33_554_430.0).contains(&(v * 1000.0)) && thousandths / 1000.0 == v {
        varbit::put_uint(out, free, thousandths as u64 + 1);
    } else {
        put_bits(out, free, 0, 1);
        put_bits(out, free, v.to_bits(), 64);
    }
}

fn bound(r: &mut BitReader<'_>) -> Result<f64, Malformed> {
    match varbit::uint(r)? {
        0 => r.bits(64).map(f64::from_bits),
        n => Ok((n - 1) as f64 / 1000.0),
    }
}

/// Bucket indices of the spans, in order.
pub fn indices(spans: &[Span]) -> Vec<i64> {
    let mut out = Vec::with_capacity(bucket_count(spans).min(BUCKETS_MAX));
    let mut next = 0i64;
    for s in spans {
        next += i64::from(s.offset);
        for _ in 0..s.length {
            out.push(next);
            next += 1;
        }
    }
    out
}

/// The fewest spans that hold exactly these ascending indices.
pub fn spans_of(indices: &[i64]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut next = 0i64;
    for i in indices {
        match spans.last_mut() {
            Some(last) if *i == next => last.length += 1,
            _ => spans.push(Span { offset: (*i - next) as i32, length: 1 }),
        }
        next = i + 1;
    }
    spans
}

/// Both index lists, merged.
pub fn union(a: &[i64], b: &[i64]) -> Vec<i64> {
    let mut out = Vec::with_capacity(a.len().max(b.len()));
    let (mut a, mut b) = (a.iter().copied().peekable(), b.iter().copied().peekable());
    loop {
        match (a.peek().copied(), b.peek().copied()) {
            (Some(x), Some(y)) => {
                out.push(x.min(y));
                if x <= y {
                    a.next();
                }
                if y <= x {
                    b.next();
                }
            }
            (Some(x), None) => {
                out.push(x);
                a.next();
            }
            (None, Some(y)) => {
                out.push(y);
                b.next();
            }
            (None, None) => return out,
        }
    }
}

/// Absolute counts at `from` indices, spread over the superset `to`; new places hold the default.
pub fn spread<T: Copy + Default>(counts: &[T], from: &[i64], to: &[i64]) -> Vec<T> {
    let mut have = from.iter().zip(counts).peekable();
    to.iter()
        .map(|i| match have.peek() {
            Some((at, count)) if *at == i => {
                let count = **count;
                have.next();
                count
            }
            _ => T::default(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_round_trip() {
        let span = |offset, length| Span { offset, length };
        for (schema, threshold, custom) in [
            (3, 0.0, vec![]),
            (-4, 2f64.powi(-128), vec![]),
            (8, 0.001, vec![]),
            (0, 2f64.powi(10), vec![]),
            (0, 2f64.powi(-243), vec![]),
            (0, 2f64.powi(11), vec![]),
            (-53, 0.0, vec![0.005, 0.1, 1.0, 33554.43, 1e9, -3.0]),
        ] {
            let layout = Layout {
                schema,
                zero_threshold: threshold,
                positive: vec![span(-3, 2), span(7, 400)],
                negative: vec![span(0, 1)],
                custom_values: custom,
            };
            let (mut out, mut free) = (Vec::new(), 0);
            layout.write(&mut out, &mut free);
            assert_eq!(Layout::read(&mut BitReader::new(&out)), Ok(layout));
        }
        let (mut out, mut free) = (Vec::new(), 0);
        put_zero_threshold(&mut out, &mut free, 2f64.powi(-128));
        assert_eq!(out, [116], "upstream's example");
    }

    #[test]
    fn indices_and_spans_are_inverse() {
        let spans = [Span { offset: -2, length: 2 }, Span { offset: 3, length: 1 }];
        assert_eq!(indices(&spans), [-2, -1, 3]);
        assert_eq!(spans_of(&[-2, -1, 3]), spans);
        assert_eq!(union(&[1, 3, 5], &[2, 3, 9]), [1, 2, 3, 5, 9]);
        assert_eq!(spread(&[7, 8], &[1, 5], &[1, 2, 5]), [7, 0, 8]);
    }
}
