//! XOR2 chunks (encoding 4): time and value of a sample share their control bits, and start times may ride along.
//!
//! ```text
//! u16 samples | u8 start times (start_times.rs) | varint t0 | f64 v0 | [start] | uvarint t1-t0 | value v1 | [start] | ...
//! sample 2-: 0 same step, same value | 10 same step + changed value | 110 + 13 bits of dod + value | 1110 + 20 bits + value
//!            | 11110 + 64 bits + value | 11111 same step, stale marker
//! value:         0 same | 10 + bits in the previous window | 110 + new window + bits | 111 stale marker
//! changed value: 0 + bits in the previous window | 1 + new window + bits        new window: 5 bits leading, 6 bits length
//! ```
//! A stale marker leaves the value that later ones are XORed with as it was (0 before the first). dod is two's complement.
//! Source: the head comment of upstream's tsdb/chunkenc/xor2.go.
use ferula_model::STALE_NAN;

use super::start_times;
use super::xor::{Window, put_window, window_bits};
use crate::encoding::bits::{BitReader, put_bits};
use crate::encoding::{Malformed, put_uvarint, put_varint};

/// Sample count and start-time byte.
pub const HEADER: usize = 3;
/// The widest sample: 69 bits of time, 78 of value, 72 of start time.
pub const SAMPLE_MAX_BYTES: usize = 28;

/// What the encoder remembers of the last sample.
#[derive(Clone, Debug, Default)]
pub struct State {
    t_ms: i64,
    delta: u64,
    /// The last value that was not a stale marker.
    base_bits: u64,
    window: Window,
    free: u8,
    starts: start_times::Encoder,
}

/// Appends one sample to `chunk`, which holds what this state wrote so far (empty at first). Times must increase.
pub fn append(chunk: &mut Vec<u8>, state: &mut State, start_ms: i64, t_ms: i64, value_bits: u64) {
    let n = super::sample_count(chunk);
    let delta = t_ms.wrapping_sub(state.t_ms) as u64;
    match n {
        0 => {
            *state = State::default();
            chunk.clear();
            chunk.extend_from_slice(&[0; HEADER]);
            put_varint(chunk, t_ms);
            chunk.extend_from_slice(&value_bits.to_be_bytes());
        }
        1 => {
            put_uvarint(chunk, delta);
            put_value(chunk, state, value_bits);
        }
        _ => put_joint(chunk, state, delta.wrapping_sub(state.delta) as i64, value_bits),
    }
    state.starts.put(chunk, &mut state.free, n, t_ms, state.t_ms, start_ms);
    state.delta = if n == 0 { 0 } else { delta };
    state.t_ms = t_ms;
    if value_bits != STALE_NAN {
        state.base_bits = value_bits;
    }
    let header = state.starts.header();
    if let Some([high, low, starts]) = chunk.first_chunk_mut::<HEADER>() {
        [*high, *low] = (n + 1).to_be_bytes();
        *starts = header;
    }
}

fn put_joint(out: &mut Vec<u8>, s: &mut State, dod: i64, value_bits: u64) {
    let fits = |bits: u32| (-(1i64 << (bits - 1))..1i64 << (bits - 1)).contains(&dod);
    let low = |bits: u32| dod as u64 & ((1 << bits) - 1);
    if dod == 0 {
        let xor = s.base_bits ^ value_bits;
        if value_bits == STALE_NAN {
            put_bits(out, &mut s.free, 0b11111, 5);
        } else if xor == 0 {
            put_bits(out, &mut s.free, 0, 1);
        } else {
            put_bits(out, &mut s.free, 0b10, 2);
            put_window(out, &mut s.free, &mut s.window, xor, (0, 1), (1, 1));
        }
        return;
    }
    if fits(13) {
        put_bits(out, &mut s.free, 0b110 << 13 | low(13), 16);
    } else if fits(20) {
        put_bits(out, &mut s.free, 0b1110 << 20 | low(20), 24);
    } else {
        put_bits(out, &mut s.free, 0b11110, 5);
        put_bits(out, &mut s.free, dod as u64, 64);
    }
    put_value(out, s, value_bits);
}

fn put_value(out: &mut Vec<u8>, s: &mut State, value_bits: u64) {
    let xor = s.base_bits ^ value_bits;
    if value_bits == STALE_NAN {
        put_bits(out, &mut s.free, 0b111, 3);
    } else if xor == 0 {
        put_bits(out, &mut s.free, 0, 1);
    } else {
        put_window(out, &mut s.free, &mut s.window, xor, (0b10, 2), (0b110, 3));
    }
}

/// Appends up to `limit` samples to the columns; `start_ms` stays empty when the chunk has no start times.
pub fn decode(
    chunk: &[u8],
    limit: usize,
    t_ms: &mut Vec<i64>,
    values: &mut Vec<f64>,
    start_ms: &mut Vec<i64>,
) -> Result<(), Malformed> {
    let count = usize::from(super::sample_count(chunk)).min(limit);
    let mut starts = start_times::Decoder::new(chunk.get(HEADER - 1).copied().unwrap_or(0));
    let mut r = BitReader::new(chunk.get(HEADER..).unwrap_or(&[]));
    let (mut t, mut delta, mut base) = (0i64, 0u64, 0u64);
    let mut window = Window::WHOLE;
    for i in 0..count {
        let previous = t;
        let value = match i {
            0 => {
                t = r.varint()?;
                let first = r.bits(64)?;
                base = if first == STALE_NAN { 0 } else { first };
                first
            }
            1 => {
                delta = r.uvarint()?;
                value(&mut r, &mut window, &mut base)?
            }
            _ => match r.unary(5)? {
                0 => base,
                1 => {
                    let fresh = r.bit()?;
                    window_bits(&mut r, fresh, &mut window, &mut base)?;
                    base
                }
                5 => STALE_NAN,
                class => {
                    let width = [13, 20, 64][(class as usize - 2).min(2)];
                    let raw = r.bits(width)? << (64 - width);
                    delta = delta.wrapping_add((raw as i64 >> (64 - width)) as u64);
                    value(&mut r, &mut window, &mut base)?
                }
            },
        };
        t = t.wrapping_add(delta as i64);
        t_ms.push(t);
        values.push(f64::from_bits(value));
        if starts.any() {
            start_ms.push(starts.next(&mut r, i, t, previous)?);
        }
    }
    Ok(())
}

/// Leaves the stale marker out of `base`.
fn value(r: &mut BitReader<'_>, window: &mut Window, base: &mut u64) -> Result<u64, Malformed> {
    match r.unary(3)? {
        0 => {}
        3 => return Ok(STALE_NAN),
        class => window_bits(r, class == 2, window, base)?,
    }
    Ok(*base)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encode(samples: &[(i64, i64, u64)]) -> Vec<u8> {
        let (mut chunk, mut state) = (Vec::new(), State::default());
        for (start, t, v) in samples {
            append(&mut chunk, &mut state, *start, *t, *v);
        }
        chunk
    }
    fn decoded(chunk: &[u8]) -> Result<Vec<(i64, i64, u64)>, Malformed> {
        let (mut t, mut v, mut s) = (Vec::new(), Vec::new(), Vec::new());
        decode(chunk, usize::MAX, &mut t, &mut v, &mut s)?;
        s.resize(t.len(), 0);
        Ok(s.into_iter().zip(t).zip(v).map(|((s, t), v)| (s, t, v.to_bits())).collect())
    }
    fn value() -> impl Strategy<Value = u64> {
        prop_oneof![
            any::<u64>(),
            (0..1000i64).prop_map(|i| (i as f64).to_bits()),
            Just(STALE_NAN),
            Just(1.5f64.to_bits())
        ]
    }

    proptest! {
        #[test]
        fn round_trips(first in any::<i32>(), steps in proptest::collection::vec((prop_oneof![Just(15_000u64),
                14_000..16_000u64, 1..100_000_000u64, 1..(1u64 << 40)], value(),
                prop_oneof![Just(0i64), Just(77i64), any::<i32>().prop_map(i64::from)]), 0..300)) {
            let mut t = i64::from(first);
            let samples: Vec<_> = steps.iter().map(|(d, v, s)| { t += *d as i64; (*s, t, *v) }).collect();
            prop_assert_eq!(decoded(&encode(&samples)), Ok(samples));
        }
        #[test]
        fn survives_garbage(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decoded(&bytes);
        }
    }

    #[test]
    fn bytes_are_upstreams() {
        // Worked out by hand from the byte map: same step and value, a changed value, a jitter of -1 ms, a stale marker.
        let v = 1.0f64.to_bits();
        let chunk = encode(&[
            (0, 1000, v),
            (0, 2000, v),
            (0, 3000, v),
            (0, 4000, 2.0f64.to_bits()),
            (0, 4999, 2.0f64.to_bits()),
            (0, 5998, STALE_NAN),
        ]);
        let mut want = vec![0, 6, 0, 0xd0, 0x0f];
        want.extend(v.to_be_bytes());
        want.extend([0xe8, 0x07]);
        // 0 | 0 | 10 1 00001 001011 11111111111 | 110 1111111111111 0 | 11111
        want.extend([0b0010_1000, 0b0100_1011, 0xff, 0b1111_1011, 0xff, 0b1110_1111, 0b1000_0000]);
        assert_eq!(chunk, want);
        // Start times: known at once (header 0x80, varint 1000-400), a change at sample 2 (varbit 2000-500 = 1110111...).
        let chunk = encode(&[(400, 1000, v), (400, 2000, v), (500, 3000, v)]);
        assert_eq!((chunk[2], &chunk[13..15]), (0x82, &[0xb0, 0x09][..]));
    }
}
