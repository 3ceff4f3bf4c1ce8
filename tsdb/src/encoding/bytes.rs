//! Big-endian integers, varints and length-prefixed strings, as Go's encoding/binary writes them.
use super::Malformed;

/// Walks a slice. Every read checks the length; a failed read leaves the position undefined.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

const SHORT: Malformed = Malformed("data ends too early");

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes }
    }
    /// A reader from `offset` on.
    pub fn at(bytes: &'a [u8], offset: usize) -> Result<Self, Malformed> {
        bytes.get(offset..).map(Reader::new).ok_or(SHORT)
    }
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
    pub fn len(&self) -> usize {
        self.rest.len()
    }
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }
    #[inline]
    pub fn bytes(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or(SHORT)?;
        self.rest = tail;
        Ok(head)
    }
    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(SHORT)?;
        self.rest = tail;
        Ok(*head)
    }
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|a| a[0])
    }
    #[inline]
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }
    #[inline]
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }
    #[inline]
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_be_bytes)
    }
    #[inline]
    pub fn i64(&mut self) -> Result<i64, Malformed> {
        self.array().map(i64::from_be_bytes)
    }
    #[inline]
    pub fn f64(&mut self) -> Result<f64, Malformed> {
        self.u64().map(f64::from_bits)
    }
    #[inline]
    pub fn uvarint(&mut self) -> Result<u64, Malformed> {
        if let [b, tail @ ..] = self.rest
            && *b < 0x80
        {
            self.rest = tail;
            return Ok(u64::from(*b));
        }
        if let [a, b, tail @ ..] = self.rest
            && *b < 0x80
        {
            self.rest = tail;
            return Ok(u64::from(*a & 0x7f) | u64::from(*b) << 7);
        }
        self.long_uvarint()
    }
    fn long_uvarint(&mut self) -> Result<u64, Malformed> {
        if let Some(eight) = self.rest.first_chunk() {
            let word = u64::from_le_bytes(*eight);
            let ends = !word & 0x8080_8080_8080_8080;
            if ends != 0 {
                self.rest = self.rest.get(ends.trailing_zeros() as usize / 8 + 1..).unwrap_or(&[]);
                return Ok(squeezed(word & (ends ^ (ends - 1))));
            }
        }
        let mut value = 0u64;
        for (i, b) in self.rest.iter().enumerate().take(10) {
            if i == 9 && *b > 1 {
                return Err(Malformed("varint of more than 64 bits"));
            }
            value |= u64::from(*b & 0x7f) << (7 * i);
            if *b < 0x80 {
                self.rest = self.rest.get(i + 1..).unwrap_or(&[]);
                return Ok(value);
            }
        }
        Err(SHORT)
    }
    #[inline]
    pub fn varint(&mut self) -> Result<i64, Malformed> {
        let u = self.uvarint()?;
        Ok((u >> 1) as i64 ^ -((u & 1) as i64))
    }
    pub fn uvarint_usize(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.uvarint()?).map_err(|_| Malformed("length out of range"))
    }
    pub fn uvarint_u32(&mut self) -> Result<u32, Malformed> {
        u32::try_from(self.uvarint()?).map_err(|_| Malformed("number out of range"))
    }
    /// A number of elements of at least `min_bytes` each, so that a lie cannot make us reserve memory.
    pub fn count(&mut self, min_bytes: usize) -> Result<usize, Malformed> {
        let n = self.uvarint_usize()?;
        if n.saturating_mul(min_bytes) > self.rest.len() {
            return Err(Malformed("count exceeds the data"));
        }
        Ok(n)
    }
    /// Length-prefixed bytes.
    pub fn prefixed(&mut self) -> Result<&'a [u8], Malformed> {
        let n = self.uvarint_usize()?;
        self.bytes(n)
    }
    pub fn str(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.prefixed()?).map_err(|_| Malformed("text is not UTF-8"))
    }
}

/// Seven bits of each byte, without the gaps: in pairs of bytes, of those, and of those.
fn squeezed(bytes: u64) -> u64 {
    let v = bytes & 0x007f_007f_007f_007f | (bytes & 0x7f00_7f00_7f00_7f00) >> 1;
    let v = v & 0x0000_3fff_0000_3fff | (v & 0x3fff_0000_3fff_0000) >> 2;
    v & 0x0fff_ffff | (v & 0x0fff_ffff_0000_0000) >> 4
}

#[inline]
pub fn put_uvarint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

#[inline]
pub fn put_varint(out: &mut Vec<u8>, v: i64) {
    put_uvarint(out, (v << 1) as u64 ^ (v >> 63) as u64);
}

pub fn put_str(out: &mut Vec<u8>, s: &str) {
    put_uvarint(out, s.len() as u64);
    out.extend_from_slice(s.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_round_trip(u: u64, i: i64) {
            let mut b = Vec::new();
            put_uvarint(&mut b, u);
            put_varint(&mut b, i);
            let mut r = Reader::new(&b);
            prop_assert_eq!((r.uvarint(), r.varint()), (Ok(u), Ok(i)));
            prop_assert!(r.is_empty());
            for cut in 0..b.len() {
                let mut r = Reader::new(&b[..cut]);
                prop_assert!(r.uvarint().is_err() || r.varint().is_err());
            }
        }
    }

    #[test]
    fn a_count_is_bounded_by_the_data() {
        let mut b = Vec::new();
        put_uvarint(&mut b, 1 << 40);
        assert!(Reader::new(&b).count(1).is_err());
        assert!(Reader::new(&[0x80; 11]).uvarint().is_err());
    }
}
