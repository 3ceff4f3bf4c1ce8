//! Records of the write-ahead log: one type for each file. Encoders append to a buffer, decoders call back.
//!
//! Lists start with a reference and a time, and their elements hold differences to these.
use ferula_model::MetricType;

use crate::encoding::{Malformed, Reader};
use crate::format::record as kind;

pub mod chunk_snapshot;
pub mod exemplars;
pub mod histograms;
pub mod metadata;
pub mod samples;
pub mod series;
pub mod tombstones;

/// The type byte, or 0 for an empty record.
pub fn kind(record: &[u8]) -> u8 {
    record.first().copied().unwrap_or(0)
}

/// Whether this program reads records of the type.
pub fn is_known(kind: u8) -> bool {
    (kind::SERIES..=kind::MIN_VALID_TIME).contains(&kind)
}

/// Whether a record decodes. One of unknown type does: a newer program may know it.
pub fn check(record: &[u8]) -> Result<(), Malformed> {
    match kind(record) {
        kind::SERIES => series::decode(record, |_, _| {}),
        kind::SAMPLES | kind::SAMPLES_V2 => samples::decode(record, |_| {}),
        kind::TOMBSTONES => tombstones::decode(record, |_| {}),
        kind::EXEMPLARS => exemplars::decode(record, |_| {}),
        kind::METADATA => metadata::decode(record, |_, _| {}),
        k if kind::ALL_HISTOGRAMS.contains(&k) => histograms::decode(record, |_| {}),
        kind::MIN_VALID_TIME => min_valid_time(record).map(|_| ()),
        _ => Ok(()),
    }
}

/// A reader behind the type byte.
fn body(record: &[u8]) -> Result<Reader<'_>, Malformed> {
    let mut r = Reader::new(record);
    r.u8()?;
    Ok(r)
}

/// Reference and time of a list's first element; the list itself may be empty.
struct Base {
    series: u64,
    t_ms: i64,
}

impl Base {
    fn read(r: &mut Reader<'_>) -> Result<Base, Malformed> {
        Ok(Base { series: r.u64()?, t_ms: r.i64()? })
    }
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.series.to_be_bytes());
        out.extend_from_slice(&self.t_ms.to_be_bytes());
    }
    #[inline]
    fn put_next(&self, out: &mut Vec<u8>, series: u64, t_ms: i64) {
        crate::encoding::put_varint(out, series.wrapping_sub(self.series) as i64);
        crate::encoding::put_varint(out, t_ms.wrapping_sub(self.t_ms));
    }
    #[inline]
    fn next(&self, r: &mut Reader<'_>) -> Result<(u64, i64), Malformed> {
        let series = self.series.wrapping_add(r.varint()? as u64);
        Ok((series, self.t_ms.wrapping_add(r.varint()?)))
    }
}

/// Reference, start and time of one element after the other, as the records with start times have them: what begins a list
/// is whole; after that references are differences to the one before, times to the first.
#[derive(Default)]
struct Chain {
    any: bool,
    series: u64,
    start_ms: i64,
    first_ms: i64,
    first_start_ms: i64,
}

const NO_START: u8 = 0;
const SAME_START: u8 = 1;
const OWN_START: u8 = 2;

impl Chain {
    fn begin(&mut self, series: u64, start_ms: i64, t_ms: i64) {
        *self = Chain { any: true, series, start_ms, first_ms: t_ms, first_start_ms: start_ms };
    }
    fn put(&mut self, out: &mut Vec<u8>, series: u64, start_ms: i64, t_ms: i64) {
        use crate::encoding::put_varint;
        if !self.any {
            [series as i64, t_ms, start_ms].iter().for_each(|v| put_varint(out, *v));
            return self.begin(series, start_ms, t_ms);
        }
        put_varint(out, series.wrapping_sub(self.series) as i64);
        put_varint(out, t_ms.wrapping_sub(self.first_ms));
        if start_ms == 0 {
            out.push(NO_START);
        } else if start_ms == self.start_ms {
            out.push(SAME_START);
        } else {
            out.push(OWN_START);
            put_varint(out, start_ms.wrapping_sub(self.first_start_ms));
        }
        (self.series, self.start_ms) = (series, start_ms);
    }
    fn next(&mut self, r: &mut Reader<'_>) -> Result<(u64, i64, i64), Malformed> {
        if !self.any {
            let (series, t_ms, start_ms) = (r.varint()? as u64, r.varint()?, r.varint()?);
            self.begin(series, start_ms, t_ms);
            return Ok((series, start_ms, t_ms));
        }
        self.series = self.series.wrapping_add(r.varint()? as u64);
        let t_ms = self.first_ms.wrapping_add(r.varint()?);
        self.start_ms = match r.u8()? {
            NO_START => 0,
            SAME_START => self.start_ms,
            _ => self.first_start_ms.wrapping_add(r.varint()?),
        };
        Ok((self.series, self.start_ms, t_ms))
    }
}

/// What a record of type 14 says.
pub fn min_valid_time(record: &[u8]) -> Result<i64, Malformed> {
    body(record)?.i64()
}

fn metric_type_byte(t: MetricType) -> u8 {
    match t {
        MetricType::Unknown => 0,
        MetricType::Counter => 1,
        MetricType::Gauge => 2,
        MetricType::Histogram => 3,
        MetricType::GaugeHistogram => 4,
        MetricType::Summary => 5,
        MetricType::Info => 6,
        MetricType::StateSet => 7,
    }
}

fn metric_type(b: u8) -> MetricType {
    match b {
        1 => MetricType::Counter,
        2 => MetricType::Gauge,
        3 => MetricType::Histogram,
        4 => MetricType::GaugeHistogram,
        5 => MetricType::Summary,
        6 => MetricType::Info,
        7 => MetricType::StateSet,
        _ => MetricType::Unknown,
    }
}
