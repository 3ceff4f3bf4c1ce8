//! XOR chunks (encoding 1): Gorilla's delta-of-delta timestamps and XORed floats, in Prometheus's layout.
//!
//! ```text
//! u16 samples | varint t0 | f64 v0 | uvarint t1-t0 | xor v1 | dod t2 | xor v2 | ...
//! dod:  0 | 10 + 14 bits | 110 + 17 | 1110 + 20 | 1111 + 64
//! xor:  0 = same | 10 + bits in the previous window | 11 + 5 bits leading zeros + 6 bits length (0 = 64) + bits
//! ```
//! Source: Prometheus 3.5 tsdb/docs/format/chunks.md and the golden files.
use crate::encoding::Malformed;
use crate::encoding::bits::{BitReader, put_wide};
use crate::encoding::varbit::sign_extend;

pub use super::xor_decode::{AT_ONCE, decode, decode_all};

/// Bytes of an empty chunk: its sample count.
pub const HEADER: usize = 2;
/// The widest sample: 68 bits of time and 77 of value.
pub const SAMPLE_MAX_BYTES: usize = 19;

/// What the encoder remembers of the last sample, without its bytes. Packed, because every series has one: 28 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed(4))]
pub struct State {
    pub t_ms: i64,
    pub value_bits: u64,
    /// `t - previous t`.
    delta: u64,
    window: Window,
    /// Unused low bits of the last byte.
    free: u8,
}

/// Where the meaningful bits of the last XOR lay.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub(super) leading: u8,
    pub(super) trailing: u8,
}

impl Window {
    /// An encoder's before the first: nothing fits in it.
    pub const NONE: Window = Window { leading: 0xff, trailing: 0 };
    /// A decoder's before the first. Upstream's encoders take it up when they go on with a chunk they read from a file.
    pub const WHOLE: Window = Window { leading: 0, trailing: 0 };
}

impl Default for Window {
    fn default() -> Self {
        Window::NONE
    }
}

impl Default for State {
    fn default() -> Self {
        State { t_ms: i64::MIN, value_bits: 0, delta: 0, window: Window::NONE, free: 0 }
    }
}

/// Where an encoder writes to: a buffer, or the open chunk of a series.
pub trait Target {
    /// Samples so far.
    fn count(&self) -> u16;
    /// Forgets everything.
    fn begin(&mut self);
    fn set_count(&mut self, count: u16);
    fn put_bytes(&mut self, bytes: &[u8]);
    /// Sets bits of the last byte.
    fn or_into_last(&mut self, bits: u8);
}

impl Target for Vec<u8> {
    fn count(&self) -> u16 {
        super::sample_count(self)
    }
    fn begin(&mut self) {
        self.clear();
        self.extend_from_slice(&[0; HEADER]);
    }
    fn set_count(&mut self, count: u16) {
        if let Some(header) = self.first_chunk_mut() {
            *header = count.to_be_bytes();
        }
    }
    #[inline]
    fn put_bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
    #[inline]
    fn or_into_last(&mut self, bits: u8) {
        if let Some(last) = self.last_mut() {
            *last |= bits;
        }
    }
}

/// Appends one sample to `chunk`, which holds what this state wrote so far (empty at first). Times must increase.
/// Cost: about 10 ns.
pub fn append(chunk: &mut impl Target, state: &mut State, t_ms: i64, value_bits: u64) {
    let count = chunk.count();
    let mut delta = 0u64;
    if count == 0 {
        chunk.begin();
        varint((t_ms << 1) as u64 ^ (t_ms >> 63) as u64, |bytes| chunk.put_bytes(bytes));
        chunk.put_bytes(&value_bits.to_be_bytes());
        state.free = 0;
        state.window = Window::NONE;
    } else {
        delta = t_ms.wrapping_sub(state.t_ms) as u64;
        let (mut time, mut width) = (0, 0);
        if count == 1 {
            varint(delta, |bytes| chunk.put_bytes(bytes));
        } else {
            (time, width) = dod_bits(delta.wrapping_sub(state.delta) as i64);
            if width > 40 {
                put(chunk, &mut state.free, time, width);
                width = 0;
            }
        }
        let (value, bits) = xor_bits(&mut state.window, state.value_bits ^ value_bits);
        put(chunk, &mut state.free, time << bits | value, width + bits);
    }
    (state.t_ms, state.value_bits, state.delta) = (t_ms, value_bits, delta);
    chunk.set_count(count + 1);
}

/// Hands over `v` in groups of seven bits, the lowest first.
fn varint(mut v: u64, mut put: impl FnMut(&[u8])) {
    let (mut bytes, mut n) = ([0u8; 10], 0);
    for byte in &mut bytes {
        n += 1;
        *byte = v as u8 & 0x7f | u8::from(v >= 0x80) << 7;
        v >>= 7;
        if v == 0 {
            break;
        }
    }
    put(bytes.get(..n).unwrap_or(&bytes));
}

/// Writes the lowest `count <= 120` bits of `value`, from the highest on, behind `free` unused ones of the last byte.
#[inline]
fn put(chunk: &mut impl Target, free: &mut u8, value: u128, count: u32) {
    if count == 0 {
        return;
    }
    // The bits left-aligned, behind those that the last byte has.
    let used = if *free == 0 { 0 } else { 8 - u32::from(*free) };
    let total = used + count;
    let bytes = total.div_ceil(8);
    let aligned = (value << (128 - count) >> used).to_be_bytes();
    let mut new = aligned.get(..bytes as usize).unwrap_or(&aligned);
    if let (true, Some((first, rest))) = (used > 0, new.split_first()) {
        chunk.or_into_last(*first);
        new = rest;
    }
    chunk.put_bytes(new);
    *free = (bytes * 8 - total) as u8;
}

/// The code of a difference of differences, and how many bits it has: at most 68.
#[inline]
fn dod_bits(dod: i64) -> (u128, u32) {
    let fits = |bits: u32| dod > -(1i64 << (bits - 1)) && dod <= 1i64 << (bits - 1);
    let low = |bits: u32| u128::from(dod as u64 & ((1 << bits) - 1));
    if dod == 0 {
        (0, 1)
    } else if fits(14) {
        (0b10 << 14 | low(14), 16)
    } else if fits(17) {
        (0b110 << 17 | low(17), 20)
    } else if fits(20) {
        (0b1110 << 20 | low(20), 24)
    } else {
        (0b1111 << 64 | u128::from(dod as u64), 68)
    }
}

/// The code of an XOR, and how many bits it has: at most 77.
#[inline]
fn xor_bits(window: &mut Window, xor: u64) -> (u128, u32) {
    if xor == 0 { (0, 1) } else { window_code(window, xor, (0b10, 2), (0b11, 2)) }
}

/// Also the code of sums and float buckets in histogram chunks.
pub fn put_xor(out: &mut Vec<u8>, free: &mut u8, window: &mut Window, old: u64, new: u64) {
    let (code, bits) = xor_bits(window, old ^ new);
    put_wide(out, free, code, bits);
}

/// Writes the meaningful bits of an XOR that is not zero, behind one of two prefixes (bits and their number): for bits in
/// the window as it is, or for a new window.
pub fn put_window(
    out: &mut Vec<u8>,
    free: &mut u8,
    window: &mut Window,
    xor: u64,
    reuse: (u64, u32),
    fresh: (u64, u32),
) {
    let (code, bits) = window_code(window, xor, reuse, fresh);
    put_wide(out, free, code, bits);
}

#[inline]
fn window_code(window: &mut Window, xor: u64, reuse: (u64, u32), fresh: (u64, u32)) -> (u128, u32) {
    // Five bits hold the leading zeros: more than 31 are written as 31.
    let leading = (xor.leading_zeros() as u8).min(31);
    let trailing = xor.trailing_zeros() as u8;
    if window.leading != 0xff && leading >= window.leading && trailing >= window.trailing {
        let bits = 64 - u32::from(window.leading) - u32::from(window.trailing);
        return (u128::from(reuse.0) << bits | u128::from(xor >> window.trailing), reuse.1 + bits);
    }
    *window = Window { leading, trailing };
    let bits = 64 - u32::from(leading) - u32::from(trailing);
    // 64 does not fit into six bits and 0 is never needed: 0 means 64.
    let prefix = fresh.0 << 11 | u64::from(leading) << 6 | u64::from(bits & 63);
    (u128::from(prefix) << bits | u128::from(xor >> trailing), fresh.1 + 11 + bits)
}

/// Reads what [`put_window`] wrote behind the prefix; `fresh`: a new window comes first.
#[inline]
pub fn window_bits(r: &mut BitReader<'_>, fresh: bool, window: &mut Window, value: &mut u64) -> Result<(), Malformed> {
    if fresh {
        let raw = r.bits(11)?;
        *window = new_window(raw)?;
    }
    let bits = 64 - u32::from(window.leading) - u32::from(window.trailing);
    *value ^= r.bits(bits)? << window.trailing;
    Ok(())
}

/// From five bits of leading zeros and six of length.
#[inline]
fn new_window(raw: u64) -> Result<Window, Malformed> {
    let leading = (raw >> 6) as u8 & 31;
    let bits = match raw as u8 & 63 {
        0 => 64,
        b => b,
    };
    if leading + bits > 64 {
        return Err(Malformed("XOR window exceeds 64 bits"));
    }
    Ok(Window { leading, trailing: 64 - leading - bits })
}

/// Reads what [`put_xor`] wrote: changes `value` in place.
#[inline]
pub fn xor(r: &mut BitReader<'_>, window: &mut Window, value: &mut u64) -> Result<(), Malformed> {
    r.refill();
    let w = r.window();
    if w >> 63 == 0 {
        return r.consume(1);
    }
    if w >> 62 == 0b11 {
        r.consume(13)?;
        *window = new_window(w >> 51)?;
    } else {
        r.consume(2)?;
    }
    let bits = 64 - u32::from(window.leading) - u32::from(window.trailing);
    *value ^= r.bits(bits)? << window.trailing;
    Ok(())
}

/// A difference of differences.
#[inline]
pub(super) fn dod(r: &mut BitReader<'_>) -> Result<i64, Malformed> {
    r.refill();
    let ones = (!r.window()).leading_zeros();
    match ones {
        0 => r.consume(1).map(|()| 0),
        1 => field(r, 2, 14),
        2 => field(r, 3, 17),
        3 => field(r, 4, 20),
        _ => {
            r.consume(4)?;
            r.bits(64).map(|raw| raw as i64)
        }
    }
}

#[inline]
fn field(r: &mut BitReader<'_>, prefix: u32, width: u32) -> Result<i64, Malformed> {
    let raw = r.window() << prefix >> (64 - width);
    r.consume(prefix + width)?;
    Ok(sign_extend(raw, width))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(samples: &[(i64, f64)]) -> Vec<u8> {
        let (mut chunk, mut state) = (Vec::new(), State::default());
        for (t, v) in samples {
            append(&mut chunk, &mut state, *t, v.to_bits());
        }
        chunk
    }
    fn decoded(chunk: &[u8]) -> Result<Vec<(i64, u64)>, Malformed> {
        let (mut t, mut v) = (Vec::new(), Vec::new());
        decode(chunk, usize::MAX, &mut t, &mut v)?;
        Ok(t.into_iter().zip(v.into_iter().map(f64::to_bits)).collect())
    }
    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![any::<f64>(), (0..1000i64).prop_map(|i| i as f64), Just(ferula_model::stale_nan()), Just(1.5)]
    }

    proptest! {
        #[test]
        fn round_trips(start in any::<i32>(), steps in proptest::collection::vec((prop_oneof![Just(15_000u64),
                14_900..15_100u64, 1..100_000_000u64, 1..(1u64 << 40)], value()), 0..300)) {
            let mut t = i64::from(start);
            let samples: Vec<_> = steps.iter().map(|(d, v)| { t += *d as i64; (t, *v) }).collect();
            let chunk = encode(&samples);
            let want: Vec<_> = samples.iter().map(|(t, v)| (*t, v.to_bits())).collect();
            prop_assert_eq!(decoded(&chunk), Ok(want));
            }
        #[test]
        fn survives_garbage(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decoded(&bytes);
        }
        #[test]
        fn a_cut_chunk_is_an_error(n in 3usize..100, cut in 1usize..20) {
            let samples: Vec<_> = (0..n).map(|i| (i as i64 * 15_000, (i * i) as f64)).collect();
            let chunk = encode(&samples);
            prop_assert!(decoded(&chunk[..chunk.len() - cut.min(chunk.len() - 2)]).is_err());
        }
    }

    #[test]
    fn the_whole_width_is_the_first_window() {
        // An encoder of upstream that goes on with a chunk of equal values it has read writes 10 and 64 bits.
        let (mut chunk, mut state) = (Vec::new(), State::default());
        append(&mut chunk, &mut state, 1000, 5);
        append(&mut chunk, &mut state, 2000, 5);
        state.window = Window::WHOLE;
        append(&mut chunk, &mut state, 3000, 6);
        assert_eq!(decoded(&chunk), Ok(vec![(1000, 5), (2000, 5), (3000, 6)]));
    }

    #[test]
    fn bytes_are_upstreams() {
        // Worked out by hand from chunks.md: three samples, 1000 ms apart.
        let chunk = encode(&[(1000, 1.0), (2000, 1.0), (3000, 2.0)]);
        let mut want = vec![0, 3];
        want.extend([0xd0, 0x0f]); // zigzag 2000
        want.extend(1.0f64.to_bits().to_be_bytes());
        want.extend([0xe8, 0x07]); // 1000
        // same value: 0 | dod 0: 0 | xor 0x7ff0..: 11, leading 00001, length 001011, eleven ones; padding
        want.extend([0b0011_0000, 0b1001_0111, 0b1111_1111, 0b1100_0000]);
        assert_eq!(chunk, want);
    }
}
