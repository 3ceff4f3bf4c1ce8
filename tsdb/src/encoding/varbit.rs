//! Integers in 1 to 72 bits, the code of histogram chunks: a unary class, then as many bits as the class says.
use super::Malformed;
use super::bits::{BitReader, put_bits};

/// Bits of the payload by number of leading ones; the last class has no terminating zero.
const WIDTHS: [u32; 9] = [0, 3, 6, 9, 12, 18, 25, 56, 64];

fn put_class(out: &mut Vec<u8>, free: &mut u8, class: usize, value: u64) {
    let (ones, zero) = (class as u32, u32::from(class < 8));
    put_bits(out, free, ((1u64 << ones) - 1) << zero, ones + zero);
    put_bits(out, free, value, WIDTHS.get(class).copied().unwrap_or(64));
}

/// A class of n bits holds `-2^(n-1)+1 ..= 2^(n-1)`.
pub fn put_int(out: &mut Vec<u8>, free: &mut u8, v: i64) {
    let class = WIDTHS
        .iter()
        .position(|w| match *w {
            0 => v == 0,
            64 => true,
            w => v > -(1i64 << (w - 1)) && v <= 1i64 << (w - 1),
        })
        .unwrap_or(8);
    put_class(out, free, class, v as u64);
}

pub fn put_uint(out: &mut Vec<u8>, free: &mut u8, v: u64) {
    let class = WIDTHS.iter().position(|w| *w == 64 || v < 1u64 << w).unwrap_or(8);
    put_class(out, free, class, v);
}

#[inline]
pub fn int(r: &mut BitReader<'_>) -> Result<i64, Malformed> {
    let width = WIDTHS.get(r.unary(8)? as usize).copied().unwrap_or(64);
    let raw = r.bits(width)?;
    Ok(sign_extend(raw, width))
}

/// Undoes the code of a class: the largest value of the class stands for itself, not for its negative.
#[inline]
pub fn sign_extend(raw: u64, width: u32) -> i64 {
    if width == 0 || width == 64 {
        raw as i64
    } else if raw > 1 << (width - 1) {
        (raw as i64) - (1i64 << width)
    } else {
        raw as i64
    }
}

#[inline]
pub fn uint(r: &mut BitReader<'_>) -> Result<u64, Malformed> {
    let width = WIDTHS.get(r.unary(8)? as usize).copied().unwrap_or(64);
    r.bits(width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_at_every_border() {
        let mut ints: Vec<i64> = vec![0, 1, -1, i64::MAX, i64::MIN];
        for w in WIDTHS {
            for d in -2..=2i64 {
                let edge = 1i64.checked_shl(w.saturating_sub(1)).unwrap_or(0);
                ints.extend([edge.wrapping_add(d), edge.wrapping_neg().wrapping_add(d)]);
            }
        }
        let (mut out, mut free) = (Vec::new(), 0);
        for i in &ints {
            put_int(&mut out, &mut free, *i);
            put_uint(&mut out, &mut free, *i as u64);
        }
        let mut r = BitReader::new(&out);
        for i in &ints {
            assert_eq!((int(&mut r), uint(&mut r)), (Ok(*i), Ok(*i as u64)));
        }
    }
}
