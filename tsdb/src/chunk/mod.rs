//! Chunks: up to a few hundred samples of one series, compressed. One file for each encoding.
//!
//! All begin with the number of samples as a big-endian u16.
use ferula_storage::SampleBatch;

use crate::encoding::Malformed;

pub mod float_histogram;
pub mod histogram;
pub mod histogram_layout;
pub mod xor;

/// The encoding byte in front of a chunk's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    Xor = 1,
    Histogram = 2,
    FloatHistogram = 3,
}

impl Encoding {
    pub fn from_byte(b: u8) -> Option<Encoding> {
        match b {
            1 => Some(Encoding::Xor),
            2 => Some(Encoding::Histogram),
            3 => Some(Encoding::FloatHistogram),
            _ => None,
        }
    }
}

/// Number of samples in a chunk of any encoding; 0 if it is too short to say.
pub fn sample_count(data: &[u8]) -> u16 {
    data.first_chunk::<2>().map_or(0, |b| u16::from_be_bytes(*b))
}

/// Appends the chunk's samples to `out`, whose column must be of the chunk's kind already or empty.
/// `limit` stops after so many samples.
pub fn decode(encoding: Encoding, data: &[u8], limit: usize, out: &mut SampleBatch) -> Result<(), Malformed> {
    match encoding {
        Encoding::Xor => {
            let (t, v) = out.floats_mut();
            xor::decode(data, limit, t, v)
        }
        Encoding::Histogram => {
            let (t, h) = out.histograms_mut();
            histogram::decode_to_float(data, limit, t, h)
        }
        Encoding::FloatHistogram => {
            let (t, h) = out.histograms_mut();
            float_histogram::decode(data, limit, t, h)
        }
    }
}
