//! Chunks: up to a few hundred samples of one series, compressed. One file for each encoding.
//!
//! All begin with the number of samples as a big-endian u16, the two upper bits of which are flags in some.
use ferula_storage::{Column, SampleBatch};

use crate::encoding::Malformed;

pub mod float_histogram;
pub mod histogram;
pub mod histogram_layout;
pub mod open;
pub mod start_times;
pub mod xor;
pub mod xor2;
mod xor_decode;

use histogram_layout::Header;

/// The encoding byte in front of a chunk's data. Start times are in the last three only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    Xor = 1,
    Histogram = 2,
    FloatHistogram = 3,
    Xor2 = 4,
    HistogramStarts = 5,
    FloatHistogramStarts = 6,
}

impl Encoding {
    pub fn from_byte(b: u8) -> Option<Encoding> {
        match b {
            1 => Some(Encoding::Xor),
            2 => Some(Encoding::Histogram),
            3 => Some(Encoding::FloatHistogram),
            4 => Some(Encoding::Xor2),
            5 => Some(Encoding::HistogramStarts),
            6 => Some(Encoding::FloatHistogramStarts),
            _ => None,
        }
    }
    pub fn is_float(self) -> bool {
        matches!(self, Encoding::Xor | Encoding::Xor2)
    }
    /// Number of samples in a chunk of this encoding; 0 if it is too short to say.
    pub fn count(self, data: &[u8]) -> u16 {
        match self {
            Encoding::HistogramStarts | Encoding::FloatHistogramStarts => Header::Starts.count(data),
            _ => sample_count(data),
        }
    }
}

/// The first two bytes, which are the number of samples in most encodings ([`Encoding::count`]); 0 if there are none.
pub fn sample_count(data: &[u8]) -> u16 {
    data.first_chunk::<2>().map_or(0, |b| u16::from_be_bytes(*b))
}

/// As so many calls of [`decode`]; all are XOR chunks. Faster: see `xor_decode/mod.rs`.
pub fn decode_all_xor(chunks: &[(&[u8], usize)], out: &mut SampleBatch) -> Result<(), Malformed> {
    let (t, v) = out.floats_mut();
    xor::decode_all(chunks, t, v)
}

/// Appends the chunk's samples to `out`, which must be empty or hold samples of the same encoding.
/// `limit` stops after so many samples.
pub fn decode(encoding: Encoding, data: &[u8], limit: usize, out: &mut SampleBatch) -> Result<(), Malformed> {
    let header = match encoding {
        Encoding::HistogramStarts | Encoding::FloatHistogramStarts => Header::Starts,
        _ => Header::Plain,
    };
    if encoding.is_float() {
        out.floats_mut();
    } else {
        out.histograms_mut();
    }
    let (t, starts) = (&mut out.t_ms, &mut out.start_ms);
    match (encoding, &mut out.values) {
        (Encoding::Xor, Column::Floats(v)) => xor::decode(data, limit, t, v),
        (Encoding::Xor2, Column::Floats(v)) => xor2::decode(data, limit, t, v, starts),
        (Encoding::Histogram | Encoding::HistogramStarts, Column::Histograms(h)) => {
            histogram::decode_to_float(data, header, limit, t, h, starts)
        }
        (Encoding::FloatHistogram | Encoding::FloatHistogramStarts, Column::Histograms(h)) => {
            float_histogram::decode(data, header, limit, t, h, starts)
        }
        _ => Ok(()), // the column was made of the right kind above
    }
}
