//! The bytes of an XOR chunk that is being written: the newest beside their encoder, the others in pieces of two sizes.
//!
//! ```text
//! OpenChunk { count, len, tail: the newest 44 bytes }   first: bytes 0..44   later: 44..132 <- 132..220 <- ...
//! ```
//! A buffer that grows in small steps wanders through all size classes of the allocator and leaves a half empty page in each:
//! of 300,000 series that cost a quarter of what was in use. Pieces stay where they are until the chunk is cut, and most
//! samples touch no memory but that of their series. A series that does not change needs no piece at all.
use super::xor::{HEADER, Target};
use crate::encoding::{Malformed, Reader};

/// What fits into a series without making it larger than the allocator's class (`series/mod.rs`).
const TAIL: usize = 44;
const HALVES: usize = 2;

/// Empty: no sample yet. Without the count of samples that a chunk begins with: that is kept apart.
#[derive(Debug)]
pub struct OpenChunk {
    first: Option<Box<[u8; TAIL]>>,
    later: Option<Box<Later>>,
    count: u16,
    /// Bytes in all. The last ones, at least one, are in the tail.
    len: u16,
    tail: [u8; TAIL],
}

/// A piece, behind the ones before it. A chunk of 1 KiB has twelve: dropping them does not go deep.
#[derive(Debug)]
struct Later {
    before: Option<Box<Later>>,
    bytes: [u8; HALVES * TAIL],
}

impl Default for OpenChunk {
    fn default() -> Self {
        OpenChunk { first: None, later: None, count: 0, len: 0, tail: [0; TAIL] }
    }
}

impl OpenChunk {
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
    /// Number of samples.
    pub fn count(&self) -> u16 {
        self.count
    }
    /// Bytes of the chunk, its header included.
    pub fn len(&self) -> usize {
        HEADER + usize::from(self.len)
    }
    /// Time of the first sample.
    pub fn first_time(&self) -> Result<i64, Malformed> {
        let tail = self.tail.get(..usize::from(self.len).min(TAIL)).unwrap_or(&[]);
        Reader::new(self.first.as_ref().map_or(tail, |f| &f[..])).varint()
    }
    /// Full tails that lie in pieces.
    fn sealed(&self) -> usize {
        usize::from(self.len).saturating_sub(1) / TAIL
    }
    /// The chunk as it is written to disk.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![0; self.len()];
        let sealed = self.sealed();
        let mut put = |at: usize, bytes: &[u8]| {
            if let Some(place) = out.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        put(0, &self.count.to_be_bytes());
        let mut end = HEADER + sealed * TAIL;
        let rest = usize::from(self.len) - sealed * TAIL;
        put(end, self.tail.get(..rest).unwrap_or(&[]));
        if let Some(first) = &self.first {
            put(HEADER, &first[..]);
        }
        let mut halves = if sealed.is_multiple_of(HALVES) { 1 } else { HALVES };
        let mut piece = &self.later;
        while let Some(p) = piece {
            end -= halves * TAIL;
            put(end, p.bytes.get(..halves * TAIL).unwrap_or(&[]));
            (halves, piece) = (HALVES, &p.before);
        }
        out
    }

    /// Moves the tail, which is full, into a piece.
    fn seal(&mut self) {
        // Before this one; the tail itself counts as not sealed as long as nothing is behind it.
        let sealed = self.sealed();
        if sealed == 0 {
            self.first = Some(Box::new(self.tail));
        } else if sealed.is_multiple_of(HALVES) {
            let half = self.later.as_mut().and_then(|l| l.bytes.get_mut(TAIL..));
            if let Some(half) = half {
                half.copy_from_slice(&self.tail);
            }
        } else {
            let mut bytes = [0; HALVES * TAIL];
            if let Some(half) = bytes.get_mut(..TAIL) {
                half.copy_from_slice(&self.tail);
            }
            self.later = Some(Box::new(Later { before: self.later.take(), bytes }));
        }
    }
}

impl Target for OpenChunk {
    fn count(&self) -> u16 {
        self.count
    }
    fn begin(&mut self) {
        *self = OpenChunk::default();
    }
    fn set_count(&mut self, count: u16) {
        self.count = count;
    }
    #[inline]
    fn put_bytes(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let at = usize::from(self.len) % TAIL;
            if at == 0 && self.len > 0 {
                self.seal();
            }
            let Some(room) = self.tail.get_mut(at..) else { return };
            let n = room.len().min(bytes.len());
            let (Some(room), Some((now, later))) = (room.get_mut(..n), bytes.split_at_checked(n)) else { return };
            room.copy_from_slice(now);
            self.len += n as u16;
            bytes = later;
        }
    }
    #[inline]
    fn or_into_last(&mut self, bits: u8) {
        let last = usize::from(self.len).checked_sub(1).map(|l| l % TAIL);
        if let Some(byte) = last.and_then(|l| self.tail.get_mut(l)) {
            *byte |= bits;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::xor;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn as_in_one_buffer(steps in proptest::collection::vec((1i64..100_000, prop_oneof![Just(0u64), 0..5000u64, any::<u64>()]), 1..120)) {
            let (mut one, mut open) = (Vec::new(), OpenChunk::default());
            let mut states = [xor::State::default(); 2];
            let (mut t, first) = (1_700_000_000_000, steps[0].0 + 1_700_000_000_000);
            for (n, (step, bits)) in steps.into_iter().enumerate() {
                t += step;
                xor::append(&mut one, &mut states[0], t, bits);
                xor::append(&mut open, &mut states[1], t, bits);
                prop_assert_eq!((open.len(), usize::from(open.count())), (one.len(), n + 1));
                prop_assert_eq!(open.to_bytes(), one.clone());
                prop_assert_eq!(open.first_time().unwrap(), first);
            }
        }
    }

    #[test]
    fn pieces_fill_their_size_classes() {
        assert_eq!((size_of::<OpenChunk>(), size_of::<Later>()), (64, 96));
    }
}
