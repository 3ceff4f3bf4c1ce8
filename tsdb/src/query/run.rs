//! Several chunks of a series in one batch: they are decoded side by side, and their reader copies less.
use ferula_storage::SampleBatch;
use smallvec::SmallVec;

use crate::chunk::xor::AT_ONCE;
use crate::chunk::{Encoding, decode, decode_all_xor, sample_count};
use crate::encoding::Malformed;

/// A batch begins no further chunk once it has so many samples: it shall stay in the nearest cache.
pub const SAMPLES_MAX: usize = 960;

/// A chunk to be decoded: only its first `visible` samples.
pub struct Run<'a> {
    pub encoding: Encoding,
    pub data: &'a [u8],
    pub visible: usize,
}

/// Decodes the first chunk and, where they are XOR chunks, as many of those that follow as a batch should hold. `out` is
/// empty. Says how many were decoded.
pub fn decode_run<'a>(chunks: impl Iterator<Item = Run<'a>>, out: &mut SampleBatch) -> Result<usize, Malformed> {
    let mut together: SmallVec<[(&[u8], usize); AT_ONCE]> = SmallVec::new();
    let mut samples = 0;
    for chunk in chunks {
        if chunk.encoding != Encoding::Xor {
            if together.is_empty() {
                decode(chunk.encoding, chunk.data, chunk.visible, out)?;
                return Ok(1);
            }
            break;
        }
        together.push((chunk.data, chunk.visible));
        samples += usize::from(sample_count(chunk.data)).min(chunk.visible);
        if samples >= SAMPLES_MAX || together.len() == AT_ONCE {
            break;
        }
    }
    decode_all_xor(&together, out)?;
    Ok(together.len())
}
