//! Bit streams, most significant bit first.
use super::Malformed;

/// Appends bits to a byte vector that it does not own. `free` is the number of unused low bits of the last byte.
#[inline]
pub fn put_bits(out: &mut Vec<u8>, free: &mut u8, value: u64, count: u32) {
    let mut left = count;
    if left == 0 {
        return;
    }
    let value = if left < 64 { value & ((1 << left) - 1) } else { value };
    let room = u32::from(*free);
    if room > 0 {
        let take = room.min(left);
        left -= take;
        if let Some(last) = out.last_mut() {
            *last |= ((value >> left) as u8) << (room - take);
        }
        *free = (room - take) as u8;
        if left == 0 {
            return;
        }
    }
    while left >= 8 {
        left -= 8;
        out.push((value >> left) as u8);
    }
    if left > 0 {
        out.push((value << (8 - left)) as u8);
        *free = (8 - left) as u8;
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
