//! Decoding XOR chunks, two at a time.
//!
//! Where a sample begins is known only when the one before it has been read: the processor waits for that chain, not for
//! work. So two chunks are walked side by side, and within a sample nothing branches on the data but what is rare. A
//! walk reads whole words at any bit; a copy of the chunk with room behind it makes that safe without asking.
//!
//! Whatever is unusual (an interval of 64 bits, a chunk too long for the copy, damage) is left to [`Careful`], sample by
//! sample.
use std::cell::RefCell;

use super::xor::{HEADER, Window, dod, xor};
use crate::encoding::bits::BitReader;
use crate::encoding::varbit::sign_extend;
use crate::encoding::{Malformed, Reader};

/// Chunks are about a kilobyte at most; longer ones are read carefully. A power of two.
const ROOM: usize = 2048;

/// A chunk's bytes, and zeros behind them for any word that begins in them.
struct Padded([u8; ROOM + 16]);

thread_local! {
    static COPIES: RefCell<[Padded; 2]> = const { RefCell::new([Padded([0; ROOM + 16]), Padded([0; ROOM + 16])]) };
}

impl Padded {
    /// `false` if it does not fit.
    fn fill(&mut self, bytes: &[u8]) -> bool {
        let Some(rest) = self.0.get_mut(bytes.len()..bytes.len() + 16) else { return false };
        rest.fill(0);
        if let Some(to) = self.0.get_mut(..bytes.len()) {
            to.copy_from_slice(bytes);
        }
        true
    }
    /// 57 bits and more from a place on, left-aligned. Behind the end it is anything.
    #[inline(always)]
    fn word(&self, bit: usize) -> u64 {
        let at = (bit >> 3) & (ROOM - 1);
        let eight = self.0.get(at..at + 8).and_then(|b| b.first_chunk::<8>());
        u64::from_be_bytes(eight.copied().unwrap_or_default()) << (bit & 7)
    }
    /// All 64 bits.
    #[inline(always)]
    fn wide_word(&self, bit: usize) -> u64 {
        let next = self.0.get(((bit >> 3) & (ROOM - 1)) + 8).copied().unwrap_or_default();
        self.word(bit) | u64::from(next) >> (8 - (bit & 7))
    }
}

/// The two columns' new places, for the samples of one chunk.
struct Out<'a> {
    t_ms: &'a mut [i64],
    values: &'a mut [f64],
}

/// Appends up to `limit` samples to the two columns. On an error those before the damage are there.
/// Cost: 3 to 5 ns a sample.
pub fn decode(chunk: &[u8], limit: usize, t_ms: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), Malformed> {
    decode_two([(chunk, limit), (&[], 0)], t_ms, values)
}

/// Two chunks one after the other, each up to its limit, as two calls of [`decode`] would. Cost: 2 to 3 ns a sample.
pub fn decode_two(chunks: [(&[u8], usize); 2], t_ms: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), Malformed> {
    let count = |(chunk, limit): (&[u8], usize)| usize::from(super::sample_count(chunk)).min(limit);
    let [first, second] = chunks.map(count);
    let (from, from_value) = (t_ms.len(), values.len());
    t_ms.resize(from + first + second, 0);
    values.resize(from_value + first + second, 0.0);
    let (t1, t2) = t_ms.get_mut(from..).unwrap_or(&mut []).split_at_mut(first);
    let (v1, v2) = values.get_mut(from_value..).unwrap_or(&mut []).split_at_mut(first);
    let bytes = chunks.map(|(c, _)| c.get(HEADER..).unwrap_or(&[]));
    let mut outs = [Out { t_ms: t1, values: v1 }, Out { t_ms: t2, values: v2 }];
    let done = COPIES.with(|copies| match copies.try_borrow_mut() {
        Ok(mut copies) => walk_two(bytes, &mut copies, &mut outs),
        Err(_) => [false; 2],
    });
    let mut damaged = None;
    for ((bytes, out), (is_done, before)) in bytes.into_iter().zip(outs).zip(done.into_iter().zip([0, first])) {
        if is_done || out.t_ms.is_empty() || damaged.is_some() {
            continue;
        }
        let mut careful = Careful::default();
        damaged = careful.run(bytes, out).err().map(|e| (e, before + careful.done));
    }
    let Some((error, whole)) = damaged else { return Ok(()) };
    t_ms.truncate(from + whole);
    values.truncate(from_value + whole);
    Err(error)
}

/// Which of the two could be read to their ends. Alone, because the loop wants every register: inside its caller it is slower.
#[inline(never)]
fn walk_two(bytes: [&[u8]; 2], copies: &mut [Padded; 2], outs: &mut [Out<'_>; 2]) -> [bool; 2] {
    let ([first, second], [copy, other], [out, other_out]) = (bytes, copies, outs);
    let mut a = Walk::begin(first, copy, out);
    let mut b = Walk::begin(second, other, other_out);
    for (walk, bytes, copy, out) in [(&mut a, first, &*copy, &mut *out), (&mut b, second, &*other, &mut *other_out)] {
        if let Some(walk) = walk
            && is_sparse(bytes, out)
        {
            walk.runs(copy, out);
        }
    }
    if let (Some(a), Some(b)) = (&mut a, &mut b) {
        together((a, copy, out), (b, other, other_out));
    }
    [a.is_some_and(|a| a.finish(first, copy, out)), b.is_some_and(|b| b.finish(second, other, other_out))]
}

/// Whether most samples repeat the one before: those have two bits, and it does not pay to read them one by one.
fn is_sparse(bytes: &[u8], out: &Out<'_>) -> bool {
    bytes.len().saturating_sub(16) * 8 < out.t_ms.len() * 5
}

/// Steps two walks by turns, until one of them ends or finds something unusual.
fn together(
    (a, copy, out): (&mut Walk, &Padded, &mut Out<'_>),
    (b, other, other_out): (&mut Walk, &Padded, &mut Out<'_>),
) {
    let (mut x, mut y) = (*a, *b);
    let columns = out.rest(x.done).zip(other_out.rest(y.done));
    for ((t, v), (other_t, other_v)) in columns {
        if !x.step(copy) {
            break;
        }
        (*t, *v) = (x.t, f64::from_bits(x.value));
        if !y.step(other) {
            break;
        }
        (*other_t, *other_v) = (y.t, f64::from_bits(y.value));
    }
    (*a, *b) = (x, y);
}

impl Out<'_> {
    /// The places after the first `done`.
    #[inline]
    fn rest(&mut self, done: usize) -> impl Iterator<Item = (&mut i64, &mut f64)> {
        let t = self.t_ms.get_mut(done..).unwrap_or(&mut []);
        t.iter_mut().zip(self.values.get_mut(done..).unwrap_or(&mut []))
    }
}

/// The state between two samples, and how many are decoded.
#[derive(Clone, Copy)]
struct Walk {
    /// Where the next sample begins, in bits.
    at: usize,
    t: i64,
    delta: u64,
    value: u64,
    /// The meaningful bits of the last XOR, and how many zeros stand behind them.
    bits: u32,
    trailing: u32,
    done: usize,
}

impl Walk {
    /// Reads what stands in whole bytes, the first sample and the second one's time, and that one's value. `None`: to be
    /// read carefully.
    fn begin(bytes: &[u8], copy: &mut Padded, out: &mut Out<'_>) -> Option<Walk> {
        if out.t_ms.is_empty() || !copy.fill(bytes) {
            return None;
        }
        let mut r = Reader::new(bytes);
        let (t, value) = (r.varint().ok()?, r.u64().ok()?);
        let mut walk = Walk { at: 0, t, delta: 0, value, bits: 64, trailing: 0, done: 0 };
        walk.put(out);
        if out.t_ms.len() > 1 {
            walk.delta = r.uvarint().ok()?;
            let at = (bytes.len() - r.len()) * 8;
            if !walk.value(copy, copy.word(at), at) {
                return None;
            }
            walk.t = walk.t.wrapping_add(walk.delta as i64);
            walk.put(out);
        }
        walk.repeat(bytes, out);
        Some(walk)
    }

    fn put(&mut self, out: &mut Out<'_>) {
        if let (Some(t), Some(v)) = (out.t_ms.get_mut(self.done), out.values.get_mut(self.done)) {
            (*t, *v) = (self.t, f64::from_bits(self.value));
        }
        self.done += 1;
    }

    /// Where only zeros are left, all further samples repeat the last one's value and interval: that is how chunks of
    /// values that never change look.
    fn repeat(&mut self, bytes: &[u8], out: &mut Out<'_>) {
        let left = out.t_ms.len() - self.done;
        let (whole, begun) = (self.at.div_ceil(8), self.at % 8);
        let rest = bytes.get(whole..).unwrap_or(&[]);
        let begun = if begun == 0 { 0 } else { bytes.get(self.at / 8).map_or(0, |b| b << begun) };
        if begun != 0 || left > (bytes.len() * 8).saturating_sub(self.at) / 2 || rest.iter().any(|b| *b != 0) {
            return;
        }
        for (t, v) in out.rest(self.done) {
            self.t = self.t.wrapping_add(self.delta as i64);
            (*t, *v) = (self.t, f64::from_bits(self.value));
        }
        self.at += 2 * left;
        self.done += left;
    }

    /// Decodes what is left, samples that repeat the one before as many at a time as a word holds. Stops before what is
    /// unusual.
    fn runs(&mut self, copy: &Padded, out: &mut Out<'_>) {
        while self.done < out.t_ms.len() {
            let run = copy.word(self.at).leading_zeros().min(56) as usize / 2;
            let (mut t, before) = (self.t, self.done);
            for (time, value) in out.rest(self.done).take(run) {
                t = t.wrapping_add(self.delta as i64);
                (*time, *value) = (t, f64::from_bits(self.value));
                self.done += 1;
            }
            self.t = t;
            self.at += 2 * (self.done - before);
            if self.done == out.t_ms.len() || !self.step(copy) {
                return;
            }
            self.done -= 1;
            self.put(out);
        }
    }

    /// Decodes one sample. `false`: it is unusual, and nothing has changed.
    #[inline(always)]
    fn step(&mut self, copy: &Padded) -> bool {
        let w = copy.word(self.at);
        let (mut value, mut at, mut delta) = (w << 1, self.at + 1, self.delta);
        if w >> 63 != 0 {
            let width = match (!w).leading_zeros() {
                1 => 14,
                2 => 17,
                3 => 20,
                _ => return false, // 64 bits: rare
            };
            let prefix = (!w).leading_zeros() + 1;
            delta = delta.wrapping_add(sign_extend(w << prefix >> (64 - width), width) as u64);
            at = self.at + (prefix + width) as usize;
            value = copy.word(at);
        }
        if !self.value(copy, value, at) {
            return false;
        }
        self.delta = delta;
        self.t = self.t.wrapping_add(delta as i64);
        self.done += 1;
        true
    }

    /// Decodes the value that begins at `at`; `w` holds at least 56 bits from there on.
    #[inline(always)]
    fn value(&mut self, copy: &Padded, w: u64, at: usize) -> bool {
        let changed = (w >> 63) as u32;
        let fresh = w >> 62 == 0b11;
        let leading = (w >> 57) as u32 & 31;
        let length = ((w >> 51) as u32).wrapping_sub(1) & 63; // 0 stands for 64
        let bits = if fresh { length + 1 } else { self.bits };
        let trailing = if fresh { 63u32.wrapping_sub(leading + length) } else { self.trailing };
        let skip = if fresh { 13 } else { 1 + changed };
        // None for a value that is equal.
        let meaningful = bits & changed.wrapping_neg();
        if trailing > 63 {
            return false;
        }
        let at = at + skip as usize;
        let w = if meaningful > 43 { copy.wide_word(at) } else { w << skip };
        let xor = w >> ((64 - meaningful) & 63) & u64::from(changed).wrapping_neg();
        self.value ^= xor << trailing;
        (self.bits, self.trailing) = (bits, trailing);
        self.at = at + meaningful as usize;
        true
    }

    /// Decodes what is left. `false`: the chunk is damaged, or ends too early.
    fn finish(self, bytes: &[u8], copy: &Padded, out: &mut Out<'_>) -> bool {
        let mut walk = self;
        while walk.done < out.t_ms.len() {
            for (t, v) in out.rest(walk.done) {
                if !walk.step(copy) {
                    break;
                }
                (*t, *v) = (walk.t, f64::from_bits(walk.value));
            }
            if walk.done < out.t_ms.len() && walk.careful_step(bytes, out).is_err() {
                return false;
            }
        }
        walk.at <= bytes.len() * 8
    }

    #[cold]
    fn careful_step(&mut self, bytes: &[u8], out: &mut Out<'_>) -> Result<(), Malformed> {
        let mut r = BitReader::at(bytes, self.at)?;
        let leading = (64 - self.bits - self.trailing) as u8;
        let mut window = Window { leading, trailing: self.trailing as u8 };
        self.delta = self.delta.wrapping_add(dod(&mut r)? as u64);
        self.t = self.t.wrapping_add(self.delta as i64);
        xor(&mut r, &mut window, &mut self.value)?;
        self.trailing = u32::from(window.trailing);
        self.bits = 64 - u32::from(window.leading) - self.trailing;
        self.at = r.position();
        self.put(out);
        Ok(())
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
    fn run(&mut self, bytes: &[u8], out: Out<'_>) -> Result<(), Malformed> {
        let mut r = BitReader::new(bytes);
        for (t, v) in out.t_ms.iter_mut().zip(out.values) {
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
        let result = careful.run(chunk.get(HEADER..).unwrap_or(&[]), Out { t_ms: &mut t, values: &mut v });
        t.truncate(careful.done);
        v.truncate(careful.done);
        (result, t, v.into_iter().map(f64::to_bits).collect())
    }
    fn both(chunks: [(&[u8], usize); 2]) -> Decoded {
        let (mut t, mut v) = (vec![7], vec![7.0]);
        let result = decode_two(chunks, &mut t, &mut v);
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
        fn equals_careful_reading(a in chunk(), b in chunk(), limits in (0usize..300, 0usize..300)) {
            let (first, second) = (carefully(&a, limits.0), carefully(&b, limits.1));
            let mut want = first.clone();
            if want.0.is_ok() {
                want.0 = second.0;
                want.1.extend(&second.1);
                want.2.extend(&second.2);
            }
            prop_assert_eq!(both([(&a, limits.0), (&b, limits.1)]), want);
            prop_assert_eq!(both([(&a, limits.0), (&[], 0)]), first);
        }
    }
}
