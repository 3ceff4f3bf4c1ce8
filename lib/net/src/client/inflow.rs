//! A body read as it comes: inflated piece by piece, with only what nobody has read yet in memory.
use std::io::{self, Write};

use bytes::{Buf, Bytes};
use ferula_model::Charge;
use flate2::write::MultiGzDecoder;

use super::body::BodyLimits;
use super::error::Error;

/// ```text
///  Response::chunk() -> push -> [inflate] -> bytes() -> consume(n)
/// ```
/// A chunk that finds nothing waiting is not copied.
///
/// Holds at most what was pushed and not consumed; of compressed input, push [`Inflow::PUSH_BYTES`] at a time, so that a
/// bomb (a thousandfold at most) is looked at before it has grown beyond a few MiB.
#[derive(Debug)]
pub struct Inflow {
    form: Form,
    limits: BodyLimits,
    charge: Charge,
    total_bytes: u64,
}

#[derive(Debug)]
enum Form {
    /// One chunk as it came.
    Whole(Bytes),
    /// What was left of one, and what came after it.
    Joined(Vec<u8>),
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
}

impl Inflow {
    /// A good size of pieces for [`Inflow::push`].
    pub const PUSH_BYTES: usize = 4 << 10;

    /// `expected_bytes` is a guess at what will wait at a time, uncompressed.
    pub fn new(limits: BodyLimits, is_gzip: bool, expected_bytes: usize) -> Result<Inflow, Error> {
        let charge = limits.budget.charge(if is_gzip { expected_bytes as u64 } else { 0 })?;
        let form = match is_gzip {
            true => Form::Gzip(Box::new(MultiGzDecoder::new(Vec::with_capacity(expected_bytes)))),
            false => Form::Whole(Bytes::new()),
        };
        Ok(Inflow { form, limits, charge, total_bytes: 0 })
    }

    /// Takes `wire` bytes as sent.
    pub fn push(&mut self, wire: Bytes) -> Result<(), Error> {
        let before = self.bytes().len();
        if !matches!(self.form, Form::Gzip(_)) && before == 0 {
            self.form = Form::Whole(wire);
            return self.count(0);
        }
        if let Form::Whole(bytes) = &self.form {
            self.form = Form::Joined(bytes.to_vec());
        }
        match &mut self.form {
            Form::Whole(_) => {} // was joined just now
            Form::Joined(bytes) => {
                let more = (bytes.len() + wire.len()).saturating_sub(bytes.capacity());
                if more > 0 {
                    // Room for half as much again, so that a long line is not moved at every push.
                    let grown = more.max(bytes.capacity() / 2);
                    self.charge.grow(grown as u64)?;
                    bytes.reserve_exact(bytes.capacity() - bytes.len() + grown);
                }
                bytes.extend_from_slice(&wire);
            }
            Form::Gzip(decoder) => decoder.write_all(&wire).map_err(|e| gzip(&e))?,
        }
        self.count(before)
    }

    /// There are no more bytes: what the decompressor still holds comes out.
    pub fn finish(&mut self) -> Result<(), Error> {
        let before = self.bytes().len();
        if let Form::Gzip(decoder) = &mut self.form {
            decoder.try_finish().map_err(|e| gzip(&e))?;
        }
        self.count(before)
    }

    fn count(&mut self, before: usize) -> Result<(), Error> {
        let (len, capacity) = match &self.form {
            Form::Whole(bytes) => (bytes.len(), bytes.len()),
            Form::Joined(bytes) => (bytes.len(), bytes.capacity()),
            Form::Gzip(decoder) => (decoder.get_ref().len(), decoder.get_ref().capacity()),
        };
        self.charge.grow((capacity as u64).saturating_sub(self.charge.bytes()))?;
        self.total_bytes += (len - before) as u64;
        // As upstream: reaching the limit is already too much.
        if self.limits.bytes_max > 0 && self.total_bytes >= self.limits.bytes_max {
            return Err(Error::BodyTooLarge);
        }
        Ok(())
    }

    /// What waits to be read, uncompressed.
    pub fn bytes(&self) -> &[u8] {
        match &self.form {
            Form::Whole(bytes) => bytes,
            Form::Joined(bytes) => bytes,
            Form::Gzip(decoder) => decoder.get_ref(),
        }
    }

    /// The first `n` bytes are read.
    pub fn consume(&mut self, n: usize) {
        let bytes = match &mut self.form {
            Form::Whole(bytes) => return bytes.advance(n.min(bytes.len())),
            Form::Joined(bytes) => bytes,
            Form::Gzip(decoder) => decoder.get_mut(),
        };
        bytes.drain(..n.min(bytes.len()));
    }

    /// All bytes so far, uncompressed.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }
}

fn gzip(e: &io::Error) -> Error {
    Error::Body(format!("gzip: {e}"))
}

#[cfg(test)]
mod tests {
    use ferula_model::Budget;

    use super::*;

    fn zipped(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_is_consumed_is_not_held() {
        // Hardly compressible, so that no push inflates to more than the budget.
        let text: Vec<u8> = (0..1u32 << 20).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for (wire, is_gzip) in [(text.clone(), false), (zipped(&text), true)] {
            let limits = BodyLimits { bytes_max: 0, budget: Budget::root("body", 256 << 10) };
            let mut inflow = Inflow::new(limits.clone(), is_gzip, 1 << 10).unwrap();
            let mut read = Vec::new();
            for piece in wire.chunks(Inflow::PUSH_BYTES) {
                inflow.push(Bytes::copy_from_slice(piece)).unwrap();
                let n = inflow.bytes().len() / 2;
                read.extend_from_slice(&inflow.bytes()[..n]);
                inflow.consume(n);
            }
            inflow.finish().unwrap();
            read.extend_from_slice(inflow.bytes());
            assert!(read == text);
            assert_eq!(inflow.total_bytes(), text.len() as u64);
            drop(inflow);
            assert_eq!(limits.budget.used_bytes(), 0);
        }
    }

    #[test]
    fn limits_hold_whatever_the_ratio() {
        let bomb = zipped(&vec![0u8; 64 << 20]);
        let limits = BodyLimits { bytes_max: 1 << 20, budget: Budget::unlimited() };
        let mut inflow = Inflow::new(limits, true, 0).unwrap();
        let refused =
            bomb.chunks(Inflow::PUSH_BYTES).find_map(|piece| inflow.push(Bytes::copy_from_slice(piece)).err());
        assert!(matches!(refused, Some(Error::BodyTooLarge)), "{refused:?}");
        assert!(inflow.bytes().len() < 8 << 20);
        let budget = Budget::root("small", 1 << 20);
        let mut inflow = Inflow::new(BodyLimits { bytes_max: 0, budget }, true, 0).unwrap();
        let refused =
            bomb.chunks(Inflow::PUSH_BYTES).find_map(|piece| inflow.push(Bytes::copy_from_slice(piece)).err());
        assert!(refused.unwrap().to_string().contains("memory budget \"small\""));
    }

    #[test]
    fn a_broken_stream_says_so() {
        let mut inflow = Inflow::new(BodyLimits::unlimited(), true, 0).unwrap();
        assert!(inflow.push(Bytes::from_static(b"a 1\nb 2\nc 3\n")).unwrap_err().to_string().starts_with("gzip: "));
        let mut cut = Inflow::new(BodyLimits::unlimited(), true, 0).unwrap();
        let wire = zipped(b"a 1\n");
        cut.push(Bytes::copy_from_slice(&wire[..wire.len() - 6])).unwrap();
        assert!(cut.finish().is_err());
    }
}
