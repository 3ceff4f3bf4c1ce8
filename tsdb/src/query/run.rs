//! Several chunks of a series in one batch: they are decoded two at a time, and their reader copies less.
use ferula_storage::SampleBatch;

use crate::chunk::{Encoding, decode, decode_two_xor};
use crate::encoding::Malformed;

/// A batch begins no further chunk once it has so many samples: it shall stay in the nearest cache.
const SAMPLES_MAX: usize = 960;

/// A chunk to be decoded: only its first `visible` samples.
pub struct Run<'a> {
    pub encoding: Encoding,
    pub data: &'a [u8],
    pub visible: usize,
}

/// Decodes the first chunk and, where they are XOR chunks, as many of those that follow as a batch should hold. `out` is
/// empty. Says how many were decoded.
pub fn decode_run<'a>(chunks: impl Iterator<Item = Run<'a>>, out: &mut SampleBatch) -> Result<usize, Malformed> {
    let mut n = 0;
    let mut waiting: Option<Run<'a>> = None;
    for chunk in chunks {
        if chunk.encoding != Encoding::Xor {
            if n == 0 {
                decode(chunk.encoding, chunk.data, chunk.visible, out)?;
                return Ok(1);
            }
            break;
        }
        n += 1;
        match waiting.take() {
            None => waiting = Some(chunk),
            Some(first) => decode_two_xor([(first.data, first.visible), (chunk.data, chunk.visible)], out)?,
        }
        if out.t_ms.len() >= SAMPLES_MAX {
            break;
        }
    }
    if let Some(last) = waiting {
        decode(last.encoding, last.data, last.visible, out)?;
    }
    Ok(n)
}
