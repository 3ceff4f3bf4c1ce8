//! Bit streams, most significant bit first.
use super::Malformed;

/// Appends bits to a byte vector that it does not own. `free` is the number of unused low bits of the last byte.
#[inline]
pub fn put_bits(out: &mut Vec<u8>, free: &mut u8, value: u64, count: u32) {
    put_wide(out, free, u128::from(value), count);
}

/// As [`put_bits`]; `count <= 120`.
#[inline]
pub fn put_wide(out: &mut Vec<u8>, free: &mut u8, value: u128, count: u32) {
    if count == 0 {
        return;
    }
    // The last byte's bits and the new ones, left-aligned.
    let used = if *free == 0 { 0 } else { 8 - u32::from(*free) };
    let mut bits = value << (128 - count) >> used;
    let mut keep = out.len();
    if used > 0 {
        keep -= 1;
        bits |= u128::from(out.last().copied().unwrap_or(0)) << 120;
    }
    let total = used + count;
    let bytes = total.div_ceil(8) as usize;
    reserve(out, bytes);
    out.truncate(keep);
    out.extend_from_slice(bits.to_be_bytes().get(..bytes).unwrap_or(&[]));
    *free = (bytes as u32 * 8 - total) as u8;
}

/// Grows in small steps: doubling would waste a quarter of the memory of all open chunks. The steps are those in which
/// allocators hand out memory.
#[inline]
fn reserve(out: &mut Vec<u8>, bytes: usize) {
    if out.capacity() - out.len() < bytes {
        let wanted = out.len() + bytes;
        let step = if wanted <= 128 { 16 } else { 32 };
        out.reserve_exact(wanted.next_multiple_of(step) - out.len());
    }
}

/// Reads bits through a 64-bit window. Reading past the end fails, it never invents bits.
#[derive(Clone, Debug)]
pub struct BitReader<'a> {
    bytes: &'a [u8],
    /// The next byte to load into the window.
    next: usize,
    /// Unread bits, left-aligned; below them zeros, or bits of `bytes[next..]` that will be loaded again.
    window: u64,
    available: u32,
}

pub const ENDED: Malformed = Malformed("chunk ends too early");

impl<'a> BitReader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        BitReader { bytes, next: 0, window: 0, available: 0 }
    }
    /// From a place on, counted in bits.
    pub fn at(bytes: &'a [u8], bit: usize) -> Result<Self, Malformed> {
        let mut r = BitReader { bytes, next: bit / 8, window: 0, available: 0 };
        r.bits((bit % 8) as u32)?;
        Ok(r)
    }
    /// How many bits have been read.
    pub fn position(&self) -> usize {
        self.next * 8 - self.available as usize
    }
    /// Loads until at least 56 bits are there or the input ends.
    #[inline]
    pub fn refill(&mut self) {
        if self.available >= 56 {
            return;
        }
        if let Some(eight) = self.bytes.get(self.next..).and_then(|b| b.first_chunk::<8>()) {
            self.window |= u64::from_be_bytes(*eight) >> self.available;
            let whole = (63 - self.available) >> 3;
            self.next += whole as usize;
            self.available += whole * 8;
        } else {
            self.refill_tail();
        }
    }
    #[cold]
    fn refill_tail(&mut self) {
        // Bits below `available` may be left from a wide load: they are of the bytes about to be loaded again.
        if self.available < 64 {
            self.window &= !(u64::MAX >> self.available);
        }
        while self.available <= 56 {
            let Some(b) = self.bytes.get(self.next) else { return };
            self.window |= u64::from(*b) << (56 - self.available);
            self.next += 1;
            self.available += 8;
        }
    }
    /// The unread bits, left-aligned; only the first [`BitReader::available`] count.
    #[inline]
    pub fn window(&self) -> u64 {
        self.window
    }
    #[inline]
    pub fn available(&self) -> u32 {
        self.available
    }
    /// Skips bits that are known to be available; `count < 64`.
    #[inline]
    pub fn consume(&mut self, count: u32) -> Result<(), Malformed> {
        if count > self.available {
            return Err(ENDED);
        }
        self.window <<= count;
        self.available -= count;
        Ok(())
    }
    /// `count <= 64`.
    #[inline]
    pub fn bits(&mut self, count: u32) -> Result<u64, Malformed> {
        if count == 0 {
            return Ok(0);
        }
        if count > 56 {
            let high = self.bits(count - 32)?;
            return Ok(high << 32 | self.bits(32)?);
        }
        self.refill();
        let value = self.window >> (64 - count);
        self.consume(count)?;
        Ok(value)
    }
    #[inline]
    pub fn bit(&mut self) -> Result<bool, Malformed> {
        self.bits(1).map(|b| b == 1)
    }
    /// Counts leading ones up to `max`, and skips them and the zero that ends them (there is none after `max`).
    #[inline]
    pub fn unary(&mut self, max: u32) -> Result<u32, Malformed> {
        self.refill();
        let ones = (!self.window).leading_zeros().min(max);
        self.consume(if ones < max { ones + 1 } else { max })?;
        Ok(ones)
    }
    /// A byte-wise varint inside the bit stream, as the first timestamp of a chunk is.
    pub fn uvarint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for i in 0..10 {
            let b = self.bits(8)?;
            if i == 9 && b > 1 {
                break;
            }
            value |= (b & 0x7f) << (7 * i);
            if b < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("varint of more than 64 bits"))
    }
    pub fn varint(&mut self) -> Result<i64, Malformed> {
        let u = self.uvarint()?;
        Ok((u >> 1) as i64 ^ -((u & 1) as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_round_trip(items in proptest::collection::vec((any::<u64>(), 0u32..=64), 0..200)) {
            let (mut out, mut free) = (Vec::new(), 0);
            for (v, n) in &items {
                put_bits(&mut out, &mut free, *v, *n);
            }
            let mut r = BitReader::new(&out);
            for (v, n) in &items {
                let want = if *n == 64 { *v } else { v & ((1 << n) - 1) };
                prop_assert_eq!(r.bits(*n), Ok(want));
            }
            prop_assert!(r.bits(u32::from(free) + 1).is_err());
        }
    }
}
