//! Decoding XOR chunks, several of a series at a time.
//!
//! Where a sample begins is known only when the one before it has been read: the processor waits for that chain, not for
//! work. So several chunks are walked side by side: eight at a time where there are vectors of eight words
//! ([`eight`]), else two ([`two`]). Their first two samples, which stand in whole bytes, are read here; so are chunks
//! that repeat one value.
//!
//! Whatever is unusual (an interval of 64 bits, a chunk too long for the copy, damage) is left to [`Careful`], sample by
//! sample.
mod eight;
mod two;

use smallvec::SmallVec;

use super::xor::{HEADER, Window, dod, xor};
use crate::encoding::bits::BitReader;
use crate::encoding::{Malformed, Reader};

/// Chunks that are worth decoding together.
pub const AT_ONCE: usize = 8;

/// Chunks are about a kilobyte at most; longer ones are read carefully. A power of two.
const ROOM: usize = 2048;

/// Appends up to `limit` samples to the two columns. On an error those before the damage are there.
/// Cost: 3 to 5 ns a sample.
pub fn decode(chunk: &[u8], limit: usize, t_ms: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), Malformed> {
    decode_all(&[(chunk, limit)], t_ms, values)
}

/// Chunks one after the other, each up to its limit, as as many calls of [`decode`] would. Cost: 2 to 3 ns a sample;
/// with vectors (see [`eight`]) 1.5, and less where values repeat.
pub fn decode_all(chunks: &[(&[u8], usize)], t_ms: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), Malformed> {
    chunks.chunks(AT_ONCE).try_for_each(|group| decode_group(group, t_ms, values))
}

fn decode_group(chunks: &[(&[u8], usize)], t_ms: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), Malformed> {
    let count = |(chunk, limit): &(&[u8], usize)| usize::from(super::sample_count(chunk)).min(*limit);
    let (from, from_value) = (t_ms.len(), values.len());
    let total: usize = chunks.iter().map(count).sum();
    t_ms.resize(from + total, 0);
    values.resize(from_value + total, 0.0);
    let mut places = (t_ms.get_mut(from..).unwrap_or(&mut []), values.get_mut(from_value..).unwrap_or(&mut []));
    let mut walks: SmallVec<[Walk<'_>; AT_ONCE]> = SmallVec::new();
    for chunk in chunks {
        let n = count(chunk);
        let (t, v) = (places.0.split_at_mut(n), places.1.split_at_mut(n));
        places = (t.1, v.1);
        walks.push(Walk::begin(chunk.0.get(HEADER..).unwrap_or(&[]), Out { t_ms: t.0, values: v.0 }));
    }
    eight::walk(&mut walks);
    two::walk(&mut walks);
    let (mut result, mut whole) = (Ok(()), 0);
    for walk in &mut walks {
        if walk.is_whole() {
            whole += walk.out.t_ms.len();
            continue;
        }
        let mut careful = Careful::default();
        result = careful.run(walk.bytes, &mut walk.out);
        whole += careful.done;
        if result.is_err() {
            break;
        }
    }
    drop(walks);
    t_ms.truncate(from + whole);
    values.truncate(from_value + whole);
    result
}

/// The two columns' new places, for the samples of one chunk.
#[derive(Default)]
struct Out<'a> {
    t_ms: &'a mut [i64],
    values: &'a mut [f64],
}

impl Out<'_> {
    /// The places after the first `done`.
    fn after(&mut self, done: usize) -> Out<'_> {
        let t_ms = self.t_ms.get_mut(done..).unwrap_or(&mut []);
        Out { t_ms, values: self.values.get_mut(done..).unwrap_or(&mut []) }
    }
    /// As pairs.
    #[inline]
    fn rest(&mut self, done: usize) -> impl Iterator<Item = (&mut i64, &mut f64)> {
        let out = self.after(done);
        out.t_ms.iter_mut().zip(out.values)
    }
}

/// A chunk that is being read.
struct Walk<'a> {
    bytes: &'a [u8],
    out: Out<'a>,
    at: Place,
    /// Nothing but [`Careful`] shall read it.
    is_unusual: bool,
}

/// The state between two samples, and how many are decoded.
#[derive(Clone, Copy, Default)]
struct Place {
    /// Where the next sample begins, in bits.
    bit: usize,
    t: i64,
    delta: u64,
    value: u64,
    /// The meaningful bits of the last XOR, and how many zeros stand behind them.
    bits: u32,
    trailing: u32,
    done: usize,
}

impl<'a> Walk<'a> {
    /// Reads the first two samples, and all others where they repeat them.
    fn begin(bytes: &'a [u8], out: Out<'a>) -> Walk<'a> {
        let mut walk = Walk { bytes, out, at: Place::default(), is_unusual: false };
        walk.is_unusual = walk.first_two().is_err() || (bytes.len() > ROOM && walk.left() > 0);
        walk
    }

    fn first_two(&mut self) -> Result<(), Malformed> {
        if self.out.t_ms.is_empty() {
            return Ok(());
        }
        let mut r = Reader::new(self.bytes);
        (self.at.t, self.at.value) = (r.varint()?, r.u64()?);
        self.put();
        if self.left() > 0 {
            self.at.delta = r.uvarint()?;
            let begun = (self.bytes.len() - r.len()) * 8;
            self.at.bit = begun + self.first_xor(r.rest())?;
            self.at.t = self.at.t.wrapping_add(self.at.delta as i64);
            self.put();
        }
        self.repeat();
        Ok(())
    }

    /// The XOR of the second value, and how many bits it has.
    fn first_xor(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let word = bytes.first_chunk().map_or(0, |eight| u64::from_be_bytes(*eight));
        let (leading, length) = ((word >> 57) as u32 & 31, (word >> 51) as u32 & 63);
        if word >> 62 == 0b11 && length > 0 && length <= 64 - 13 && leading + length <= 64 {
            (self.at.bits, self.at.trailing) = (length, 64 - leading - length);
            self.at.value ^= word << 13 >> (64 - length) << self.at.trailing;
            return Ok(13 + length as usize);
        }
        let mut r = BitReader::new(bytes);
        let mut window = Window::WHOLE;
        xor(&mut r, &mut window, &mut self.at.value)?;
        self.at.take_window(window);
        Ok(r.position())
    }

    fn left(&self) -> usize {
        self.out.t_ms.len() - self.at.done
    }

    /// Whether all samples have been read, and none from behind the end.
    fn is_whole(&self) -> bool {
        !self.is_unusual && self.left() == 0 && self.at.bit <= self.bytes.len() * 8
    }

    /// Whether most samples repeat the one before: those have two bits, and it does not pay to read them one by one.
    fn is_sparse(&self) -> bool {
        self.bytes.len().saturating_sub(16) * 8 < self.out.t_ms.len() * 3
    }

    fn put(&mut self) {
        if let Some((t, v)) = self.out.rest(self.at.done).next() {
            (*t, *v) = (self.at.t, f64::from_bits(self.at.value));
        }
        self.at.done += 1;
    }

    /// Where only zeros are left, all further samples repeat the last one's value and interval: that is how chunks of
    /// values that never change look.
    fn repeat(&mut self) {
        let (left, bit) = (self.left(), self.at.bit);
        let (words, rest) = self.bytes.get(bit.div_ceil(8)..).unwrap_or(&[]).as_chunks::<8>();
        let begun = if bit % 8 == 0 { 0 } else { self.bytes.get(bit / 8).map_or(0, |b| b << (bit % 8)) };
        if begun != 0
            || left > (self.bytes.len() * 8).saturating_sub(bit) / 2
            || words.iter().any(|w| *w != [0; 8])
            || rest.iter().any(|b| *b != 0)
        {
            return;
        }
        let (mut t, value) = (self.at.t, f64::from_bits(self.at.value));
        for (time, v) in self.out.rest(self.at.done) {
            t = t.wrapping_add(self.at.delta as i64);
            (*time, *v) = (t, value);
        }
        self.at.t = t;
        self.at.bit += 2 * left;
        self.at.done += left;
    }

    /// One sample of whatever kind.
    #[cold]
    fn careful_step(&mut self) -> Result<(), Malformed> {
        let mut r = BitReader::at(self.bytes, self.at.bit)?;
        let leading = (64 - self.at.bits - self.at.trailing) as u8;
        let mut window = Window { leading, trailing: self.at.trailing as u8 };
        self.at.delta = self.at.delta.wrapping_add(dod(&mut r)? as u64);
        self.at.t = self.at.t.wrapping_add(self.at.delta as i64);
        xor(&mut r, &mut window, &mut self.at.value)?;
        self.at.take_window(window);
        self.at.bit = r.position();
        self.put();
        Ok(())
    }
}

impl Place {
    fn take_window(&mut self, window: Window) {
        self.trailing = u32::from(window.trailing);
        self.bits = 64 - u32::from(window.leading) - self.trailing;
    }
}

/// Decodes sample by sample, and knows where damage begins.
struct Careful {
    t: i64,
    delta: u64,
    value: u64,
    window: Window,
    done: usize,
}

impl Default for Careful {
    fn default() -> Self {
        Careful { t: 0, delta: 0, value: 0, window: Window::WHOLE, done: 0 }
    }
}

impl Careful {
    fn run(&mut self, bytes: &[u8], out: &mut Out<'_>) -> Result<(), Malformed> {
        let mut r = BitReader::new(bytes);
        for (t, v) in out.rest(0) {
            match self.done {
                0 => {
                    self.t = r.varint()?;
                    self.value = r.bits(64)?;
                }
                1 => {
                    self.delta = r.uvarint()?;
                    xor(&mut r, &mut self.window, &mut self.value)?;
                }
                _ => {
                    self.delta = self.delta.wrapping_add(dod(&mut r)? as u64);
                    xor(&mut r, &mut self.window, &mut self.value)?;
                }
            }
            self.t = self.t.wrapping_add(self.delta as i64);
            (*t, *v) = (self.t, f64::from_bits(self.value));
            self.done += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::xor::{State, append};
    use super::*;
    use proptest::prelude::*;

    type Decoded = (Result<(), Malformed>, Vec<i64>, Vec<u64>);

    fn carefully(chunk: &[u8], limit: usize) -> Decoded {
        let n = usize::from(crate::chunk::sample_count(chunk)).min(limit);
        let (mut t, mut v) = (vec![0; n], vec![0.0; n]);
        let mut careful = Careful::default();
        let result = careful.run(chunk.get(HEADER..).unwrap_or(&[]), &mut Out { t_ms: &mut t, values: &mut v });
        t.truncate(careful.done);
        v.truncate(careful.done);
        (result, t, v.into_iter().map(f64::to_bits).collect())
    }
    fn together(chunks: &[(&[u8], usize)]) -> Decoded {
        let (mut t, mut v) = (vec![7], vec![7.0]);
        let result = decode_all(chunks, &mut t, &mut v);
        (result, t[1..].to_vec(), v[1..].iter().map(|v| v.to_bits()).collect())
    }
    fn chunk() -> impl Strategy<Value = Vec<u8>> {
        let value = prop_oneof![
            4 => Just(1.5),
            4 => (0..1000i64).prop_map(|i| i as f64),
            2 => any::<f64>(),
            1 => Just(ferula_model::stale_nan()),
        ];
        let step = prop_oneof![8 => Just(15_000u64), 2 => 14_900..15_100u64, 1 => 1..(1u64 << 40)];
        let samples = proptest::collection::vec((step, value), 0..200);
        let written = samples.prop_map(|samples| {
            let (mut chunk, mut state, mut t) = (Vec::new(), State::default(), 1_700_000_000_000);
            for (step, v) in samples {
                t += step as i64;
                append(&mut chunk, &mut state, t, v.to_bits());
            }
            chunk
        });
        let damaged = (written.clone(), any::<prop::sample::Index>(), any::<u8>(), 0usize..30).prop_map(
            |(mut chunk, at, byte, cut)| {
                if !chunk.is_empty() {
                    let at = at.index(chunk.len());
                    chunk[at] ^= byte;
                    chunk.truncate(chunk.len() - cut.min(chunk.len()));
                }
                chunk
            },
        );
        let garbage = proptest::collection::vec(any::<u8>(), 0..3000);
        prop_oneof![4 => written, 4 => damaged, 1 => garbage]
    }

    proptest! {
        #[test]
        fn equals_careful_reading(chunks in proptest::collection::vec((chunk(), 0usize..300), 0..20)) {
            let mut want: Decoded = (Ok(()), Vec::new(), Vec::new());
            for (chunk, limit) in &chunks {
                let (result, t, v) = carefully(chunk, *limit);
                want.1.extend(t);
                want.2.extend(v);
                want.0 = result;
                if want.0.is_err() {
                    break;
                }
            }
            let all: Vec<_> = chunks.iter().map(|(c, limit)| (&c[..], *limit)).collect();
            prop_assert_eq!(together(&all), want.clone());
            // So few that they are not read with vectors.
            let mut pairs: Decoded = (Ok(()), Vec::new(), Vec::new());
            for pair in all.chunks(2) {
                let (result, t, v) = together(pair);
                pairs = (result, [pairs.1, t].concat(), [pairs.2, v].concat());
                if pairs.0.is_err() {
                    break;
                }
            }
            prop_assert_eq!(pairs, want);
        }
    }
}
