//! Start times beside the samples of a chunk: one byte in its header, and a few bits behind each sample.
//!
//! ```text
//! header byte: bit 7 the first sample has a start time, bits 0-6 the first later sample whose start time differs (0 none)
//! sample 0:    varint t0 - start0, byte by byte, if bit 7 is set
//! sample n:    nothing before the first change; there varbit t(n-1) - start(n); behind it the difference to the last one
//! ```
//! Seven bits hold the place of the first change: at sample 127 a chunk without one begins to write all the same.
//! Sources: the head comments of upstream's tsdb/chunkenc/xor2.go and st.go.
use crate::encoding::bits::{BitReader, put_bits};
use crate::encoding::{Malformed, put_varint, varbit};

const FIRST_KNOWN: u8 = 0x80;
const CHANGE_MAX: u16 = 0x7f;

/// What the encoder remembers between two samples.
#[derive(Clone, Debug, Default)]
pub struct Encoder {
    start_ms: i64,
    /// `t(n-1) - start(n)` of the last sample that wrote one.
    lag: i64,
    header: u8,
}

impl Encoder {
    /// The chunk's header byte as it is to be after the samples so far.
    pub fn header(&self) -> u8 {
        self.header
    }
    /// Behind sample `n` (from 0) of time `t_ms`; `previous_ms` is the time of the sample before. 0 for no start time.
    pub fn put(&mut self, out: &mut Vec<u8>, free: &mut u8, n: u16, t_ms: i64, previous_ms: i64, start_ms: i64) {
        let lag = previous_ms.wrapping_sub(start_ms);
        if n == 0 {
            if start_ms != 0 {
                let mut bytes = Vec::with_capacity(10);
                put_varint(&mut bytes, t_ms.wrapping_sub(start_ms));
                bytes.iter().for_each(|b| put_bits(out, free, u64::from(*b), 8));
                self.header = FIRST_KNOWN;
            }
        } else if self.header & !FIRST_KNOWN != 0 {
            varbit::put_int(out, free, lag.wrapping_sub(self.lag));
            self.lag = lag;
        } else if start_ms != self.start_ms || n == CHANGE_MAX {
            varbit::put_int(out, free, lag);
            self.lag = lag;
            self.header |= n as u8 & !FIRST_KNOWN;
        }
        self.start_ms = start_ms;
    }
}

/// Walks the start times of a chunk.
#[derive(Clone, Debug)]
pub struct Decoder {
    first_known: bool,
    change_at: usize,
    start_ms: i64,
    lag: i64,
}

impl Decoder {
    pub fn new(header: u8) -> Decoder {
        Decoder {
            first_known: header & FIRST_KNOWN != 0,
            change_at: usize::from(header & !FIRST_KNOWN),
            start_ms: 0,
            lag: 0,
        }
    }
    /// Whether any sample of the chunk has a start time.
    pub fn any(&self) -> bool {
        self.first_known || self.change_at > 0
    }
    /// The start time of sample `n`, 0 for none; to be asked in order, behind each sample's own bits.
    #[inline]
    pub fn next(&mut self, r: &mut BitReader<'_>, n: usize, t_ms: i64, previous_ms: i64) -> Result<i64, Malformed> {
        if n == 0 {
            if self.first_known {
                self.start_ms = t_ms.wrapping_sub(r.varint()?);
            }
        } else if self.change_at > 0 && n >= self.change_at {
            let read = varbit::int(r)?;
            self.lag = if n == self.change_at { read } else { self.lag.wrapping_add(read) };
            self.start_ms = previous_ms.wrapping_sub(self.lag);
        }
        Ok(self.start_ms)
    }
}
