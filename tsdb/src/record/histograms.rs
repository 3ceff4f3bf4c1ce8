//! Native histograms: integer (type 7), float (8), and the same with custom buckets (9, 10); with start times all integer
//! ones are of type 12 and all float ones of type 13, each behind what stands before the value in samples of type 11.
//!
//! ```text
//! u8 type | u64 ref0 | u64 t0 | { varint ref-ref0 | varint t-t0 | histogram }
//! histogram: u8 counter-reset hint | varint schema | f64 zero threshold | zero count | count | f64 sum
//!            | uvarint spans { varint offset, uvarint length } positive, then negative
//!            | uvarint buckets { bucket } positive, then negative | custom buckets only: uvarint { f64 bound }
//! integer:   counts uvarint, buckets varint (differences)        float: all f64
//! ```
use ferula_model::histogram::CUSTOM_BUCKETS_SCHEMA;
use ferula_model::{CounterResetHint, FloatHistogram, Histogram, Span};

use super::{Base, Chain, body};
use crate::encoding::{Malformed, Reader, put_uvarint, put_varint};
use crate::format::record as kind;

#[derive(Clone, Debug, PartialEq)]
pub enum Native {
    Integer(Histogram),
    Float(FloatHistogram),
}

#[derive(Clone, Debug, PartialEq)]
pub struct HistogramSample {
    pub series: u64,
    /// 0 for none.
    pub start_ms: i64,
    pub t_ms: i64,
    pub histogram: Native,
}

/// The type of record a histogram belongs into.
pub fn kind_of(h: &Native, with_starts: bool) -> u8 {
    match h {
        Native::Integer(_) if with_starts => kind::HISTOGRAMS_V2,
        Native::Float(_) if with_starts => kind::FLOAT_HISTOGRAMS_V2,
        Native::Integer(h) if h.schema == CUSTOM_BUCKETS_SCHEMA => kind::CUSTOM_HISTOGRAMS,
        Native::Integer(_) => kind::HISTOGRAMS,
        Native::Float(h) if h.schema == CUSTOM_BUCKETS_SCHEMA => kind::CUSTOM_FLOAT_HISTOGRAMS,
        Native::Float(_) => kind::FLOAT_HISTOGRAMS,
    }
}

/// Series, start, time and histogram of samples that must all be of this kind ([`kind_of`]).
pub fn encode<'a>(kind: u8, samples: impl Iterator<Item = (u64, i64, i64, &'a Native)>, out: &mut Vec<u8>) {
    out.push(kind);
    let with_starts = has_starts(kind);
    let (mut base, mut chain): (Option<Base>, _) = (None, Chain::default());
    for (series, start_ms, t_ms, h) in samples {
        if with_starts {
            chain.put(out, series, start_ms, t_ms);
        } else {
            let base = base.get_or_insert_with(|| {
                let b = Base { series, t_ms };
                b.write(out);
                b
            });
            base.put_next(out, series, t_ms);
        }
        match h {
            Native::Integer(h) => put_integer(out, h),
            Native::Float(h) => put_float(out, h),
        }
    }
}

fn has_starts(kind: u8) -> bool {
    matches!(kind, kind::HISTOGRAMS_V2 | kind::FLOAT_HISTOGRAMS_V2)
}

pub fn decode(record: &[u8], mut each: impl FnMut(HistogramSample)) -> Result<(), Malformed> {
    let kind = super::kind(record);
    let is_float = matches!(kind, kind::FLOAT_HISTOGRAMS | kind::CUSTOM_FLOAT_HISTOGRAMS | kind::FLOAT_HISTOGRAMS_V2);
    let mut r = body(record)?;
    if r.is_empty() {
        return Ok(());
    }
    let mut chain = Chain::default();
    let base = if has_starts(kind) { None } else { Some(Base::read(&mut r)?) };
    while !r.is_empty() {
        let (series, start_ms, t_ms) = match &base {
            Some(base) => {
                let (series, t_ms) = base.next(&mut r)?;
                (series, 0, t_ms)
            }
            None => chain.next(&mut r)?,
        };
        let histogram = if is_float { Native::Float(float(&mut r)?) } else { Native::Integer(integer(&mut r)?) };
        each(HistogramSample { series, start_ms, t_ms, histogram });
    }
    Ok(())
}

pub(crate) fn hint_byte(h: CounterResetHint) -> u8 {
    match h {
        CounterResetHint::Unknown => 0,
        CounterResetHint::CounterReset => 1,
        CounterResetHint::NotCounterReset => 2,
        CounterResetHint::Gauge => 3,
    }
}

fn hint(b: u8) -> CounterResetHint {
    match b {
        1 => CounterResetHint::CounterReset,
        2 => CounterResetHint::NotCounterReset,
        3 => CounterResetHint::Gauge,
        _ => CounterResetHint::Unknown,
    }
}

fn put_spans(out: &mut Vec<u8>, spans: &[Span]) {
    put_uvarint(out, spans.len() as u64);
    for s in spans {
        put_varint(out, i64::from(s.offset));
        put_uvarint(out, u64::from(s.length));
    }
}

fn spans(r: &mut Reader<'_>) -> Result<Vec<Span>, Malformed> {
    let n = r.count(2)?;
    let mut spans = Vec::with_capacity(n);
    for _ in 0..n {
        let offset = i32::try_from(r.varint()?).map_err(|_| Malformed("span offset out of range"))?;
        spans.push(Span { offset, length: r.uvarint_u32()? });
    }
    Ok(spans)
}

fn list<T>(
    r: &mut Reader<'_>,
    min_bytes: usize,
    mut one: impl FnMut(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<Vec<T>, Malformed> {
    let n = r.count(min_bytes)?;
    (0..n).map(|_| one(r)).collect()
}

fn put_f64(out: &mut Vec<u8>, v: f64) {
    out.extend_from_slice(&v.to_bits().to_be_bytes());
}

fn put_floats(out: &mut Vec<u8>, floats: &[f64]) {
    put_uvarint(out, floats.len() as u64);
    floats.iter().for_each(|f| put_f64(out, *f));
}

fn put_integer(out: &mut Vec<u8>, h: &Histogram) {
    out.push(hint_byte(h.counter_reset_hint));
    put_varint(out, i64::from(h.schema));
    put_f64(out, h.zero_threshold);
    put_uvarint(out, h.zero_count);
    put_uvarint(out, h.count);
    put_f64(out, h.sum);
    put_spans(out, &h.positive_spans);
    put_spans(out, &h.negative_spans);
    for buckets in [&h.positive_buckets, &h.negative_buckets] {
        put_uvarint(out, buckets.len() as u64);
        buckets.iter().for_each(|b| put_varint(out, *b));
    }
    if h.schema == CUSTOM_BUCKETS_SCHEMA {
        put_floats(out, &h.custom_values);
    }
}

fn put_float(out: &mut Vec<u8>, h: &FloatHistogram) {
    out.push(hint_byte(h.counter_reset_hint));
    put_varint(out, i64::from(h.schema));
    for f in [h.zero_threshold, h.zero_count, h.count, h.sum] {
        put_f64(out, f);
    }
    put_spans(out, &h.positive_spans);
    put_spans(out, &h.negative_spans);
    put_floats(out, &h.positive_buckets);
    put_floats(out, &h.negative_buckets);
    if h.schema == CUSTOM_BUCKETS_SCHEMA {
        put_floats(out, &h.custom_values);
    }
}

fn schema(r: &mut Reader<'_>) -> Result<i32, Malformed> {
    i32::try_from(r.varint()?).map_err(|_| Malformed("schema out of range"))
}

fn integer(r: &mut Reader<'_>) -> Result<Histogram, Malformed> {
    let mut h = Histogram {
        counter_reset_hint: hint(r.u8()?),
        schema: schema(r)?,
        zero_threshold: r.f64()?,
        zero_count: r.uvarint()?,
        count: r.uvarint()?,
        sum: r.f64()?,
        positive_spans: spans(r)?,
        negative_spans: spans(r)?,
        positive_buckets: list(r, 1, |r| r.varint())?,
        negative_buckets: list(r, 1, |r| r.varint())?,
        custom_values: Vec::new(),
    };
    if h.schema == CUSTOM_BUCKETS_SCHEMA {
        h.custom_values = list(r, 8, |r| r.f64())?;
    }
    Ok(h)
}

fn float(r: &mut Reader<'_>) -> Result<FloatHistogram, Malformed> {
    let mut h = FloatHistogram {
        counter_reset_hint: hint(r.u8()?),
        schema: schema(r)?,
        zero_threshold: r.f64()?,
        zero_count: r.f64()?,
        count: r.f64()?,
        sum: r.f64()?,
        positive_spans: spans(r)?,
        negative_spans: spans(r)?,
        positive_buckets: list(r, 8, |r| r.f64())?,
        negative_buckets: list(r, 8, |r| r.f64())?,
        custom_values: Vec::new(),
    };
    if h.schema == CUSTOM_BUCKETS_SCHEMA {
        h.custom_values = list(r, 8, |r| r.f64())?;
    }
    Ok(h)
}
