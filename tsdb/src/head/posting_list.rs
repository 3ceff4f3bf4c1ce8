//! One ascending list of references: the newest plain, the others in packed blocks.
//!
//! A block is the differences of up to 128 references as varints, but the lowest bit of each says what follows:
//! ```text
//! first reference beside the block | { varint 2*(difference-1), or 2*n+1 for n further references one apart }
//! ```
//! The series of one target come one after the other, so that a run is the usual case: two bytes for 128 references.
use smallvec::SmallVec;

use super::postings::{overlap, skip_to};
use crate::encoding::{Reader, put_uvarint};

const BLOCK: usize = 128;
/// Plain references behind the blocks: two threads may add their new series in the other order.
const TAIL_MAX: usize = BLOCK + 16;

#[derive(Debug, Default)]
pub struct List {
    blocks: Option<Box<Blocks>>,
    /// Four references fit beside the header without an allocation.
    tail: SmallVec<[u32; 4]>,
}

#[derive(Debug, Default)]
struct Blocks {
    blocks: Vec<Block>,
    len: usize,
}

#[derive(Debug)]
struct Block {
    first: u32,
    last: u32,
    bytes: Box<[u8]>,
}

impl Block {
    fn pack(refs: &[u32]) -> Option<Block> {
        let (first, last) = (*refs.first()?, *refs.last()?);
        let mut bytes = Vec::with_capacity(8);
        let (mut before, mut run) = (first, 0u64);
        let flush = |run: &mut u64, bytes: &mut Vec<u8>| {
            if *run > 0 {
                put_uvarint(bytes, *run * 2 + 1);
                *run = 0;
            }
        };
        for r in refs.iter().skip(1) {
            match r.wrapping_sub(before) {
                1 => run += 1,
                difference => {
                    flush(&mut run, &mut bytes);
                    put_uvarint(&mut bytes, u64::from(difference.wrapping_sub(1)) * 2);
                }
            }
            before = *r;
        }
        flush(&mut run, &mut bytes);
        Some(Block { first, last, bytes: bytes.into_boxed_slice() })
    }
    fn unpack(&self, out: &mut Vec<u32>) {
        let mut at = self.first;
        out.push(at);
        let mut r = Reader::new(&self.bytes);
        while let Ok(code) = r.uvarint() {
            if code & 1 == 1 {
                out.extend((1..=(code >> 1) as u32).map(|i| at.wrapping_add(i)));
                at = at.wrapping_add((code >> 1) as u32);
            } else {
                at = at.wrapping_add((code >> 1) as u32 + 1);
                out.push(at);
            }
        }
    }
}

impl List {
    pub fn len(&self) -> usize {
        self.tail.len() + self.blocks.as_ref().map_or(0, |b| b.len)
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    fn blocks(&self) -> &[Block] {
        self.blocks.as_ref().map_or(&[], |b| &b.blocks)
    }

    /// Adds a reference, usually the largest so far.
    pub fn add(&mut self, series: u32) {
        if let Some(blocks) = &mut self.blocks
            && blocks.blocks.last().is_some_and(|b| series <= b.last)
        {
            return blocks.insert(series);
        }
        match self.tail.last() {
            Some(last) if *last >= series => {
                if let Err(at) = self.tail.binary_search(&series) {
                    self.tail.insert(at, series);
                }
            }
            _ => {
                if self.tail.len() == self.tail.capacity() {
                    // By a half, not to the double: most lists end somewhere.
                    self.tail.reserve_exact((self.tail.len() / 2).clamp(2, 32));
                }
                self.tail.push(series);
            }
        }
        if self.tail.len() >= TAIL_MAX
            && let Some(block) = Block::pack(self.tail.get(..BLOCK).unwrap_or(&[]))
        {
            let blocks = self.blocks.get_or_insert_default();
            blocks.blocks.push(block);
            blocks.len += BLOCK;
            self.tail = SmallVec::from_slice(self.tail.get(BLOCK..).unwrap_or(&[]));
        }
    }
    /// Keeps what `keep` accepts.
    pub fn retain(&mut self, mut keep: impl FnMut(u32) -> bool) {
        let mut all = self.to_vec();
        all.retain(|r| keep(*r));
        *self = List::from(&all[..]);
    }
    pub fn to_vec(&self) -> Vec<u32> {
        let mut out = Vec::with_capacity(self.len());
        self.blocks().iter().for_each(|b| b.unpack(&mut out));
        out.extend_from_slice(&self.tail);
        out
    }
    /// Those of `wanted`, which ascends, that are (or are not) in the list. Blocks that cannot matter are not unpacked.
    pub fn filter(&self, wanted: &[u32], present: bool) -> Vec<u32> {
        let mut out = Vec::with_capacity(if present { wanted.len().min(self.len()) } else { wanted.len() });
        let mut rest = wanted;
        let blocks = self.blocks();
        let mut at = 0;
        let mut unpacked = Vec::with_capacity(BLOCK);
        while let Some(first) = rest.first() {
            at += blocks.get(at..).unwrap_or(&[]).partition_point(|b| b.last < *first);
            let (part, upto) = match blocks.get(at) {
                Some(b) => {
                    unpacked.clear();
                    // A block that begins behind the reference has none of it: only its end counts.
                    if b.first <= rest.last().copied().unwrap_or(0) {
                        b.unpack(&mut unpacked);
                    }
                    (&unpacked[..], b.last)
                }
                None => (&self.tail[..], u32::MAX),
            };
            let n = rest.partition_point(|r| *r <= upto).max(1);
            let (here, later) = rest.split_at_checked(n).unwrap_or((rest, &[]));
            let found =
                if present { super::postings::intersect(here, part) } else { super::postings::subtract(here, part) };
            out.extend_from_slice(&found);
            rest = later;
        }
        out
    }
    /// Whether the list has any of `wanted`, which ascends. Only blocks are unpacked that may have one.
    pub fn has_any(&self, wanted: &[u32]) -> bool {
        let Some(first) = wanted.first() else { return false };
        let (mut rest, mut unpacked) = (wanted, Vec::with_capacity(BLOCK));
        let blocks = self.blocks();
        for b in blocks.iter().skip(blocks.partition_point(|b| b.last < *first)) {
            rest = skip_to(rest, b.first);
            match rest.first() {
                None => return false,
                Some(next) if *next > b.last => continue,
                Some(_) => {}
            }
            unpacked.clear();
            b.unpack(&mut unpacked);
            if overlap(&unpacked, rest) {
                return true;
            }
        }
        overlap(&self.tail, rest)
    }
}

impl From<&[u32]> for List {
    /// Of an ascending slice.
    fn from(refs: &[u32]) -> List {
        let packed = if refs.len() >= TAIL_MAX { refs.len() / BLOCK * BLOCK } else { 0 };
        let (head, tail) = refs.split_at_checked(packed).unwrap_or((&[], refs));
        let blocks: Vec<Block> = head.chunks(BLOCK).filter_map(Block::pack).collect();
        let blocks = (!blocks.is_empty()).then(|| Box::new(Blocks { blocks, len: head.len() }));
        List { blocks, tail: SmallVec::from_slice(tail) }
    }
}

impl Blocks {
    /// A reference that belongs before the end of the last block: rare.
    fn insert(&mut self, series: u32) {
        let at = self.blocks.partition_point(|b| b.last < series);
        let Some(block) = self.blocks.get(at) else { return };
        let mut refs = Vec::with_capacity(BLOCK + 1);
        block.unpack(&mut refs);
        if let Err(place) = refs.binary_search(&series) {
            refs.insert(place, series);
            self.len += 1;
            let halves = if refs.len() > 2 * BLOCK { refs.len() / 2 } else { refs.len() };
            self.blocks.splice(at..=at, refs.chunks(halves).filter_map(Block::pack));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn as_a_set(steps in proptest::collection::vec((prop_oneof![Just(1u32), Just(1u32), 1..5u32, 1..100_000u32], any::<u8>()), 0..900),
                wanted in proptest::collection::btree_set(0u32..3000, 0..300)) {
            let (mut list, mut want, mut at) = (List::default(), BTreeSet::new(), 0u32);
            for (step, late) in steps {
                at += step;
                // Now and then one comes that belongs before the others.
                let r = if late < 8 { at.saturating_sub(u32::from(late) * 97) } else { at };
                list.add(r);
                want.insert(r);
            }
            let all: Vec<u32> = want.iter().copied().collect();
            prop_assert_eq!(list.to_vec(), all.clone());
            prop_assert_eq!(list.len(), all.len());
            prop_assert_eq!(List::from(&all[..]).to_vec(), all);
            let asked: Vec<u32> = wanted.iter().copied().collect();
            let both: Vec<u32> = want.intersection(&wanted).copied().collect();
            prop_assert_eq!(list.filter(&asked, true), both.clone());
            prop_assert_eq!(list.filter(&asked, false), wanted.difference(&want).copied().collect::<Vec<_>>());
            prop_assert_eq!(list.has_any(&asked), !both.is_empty());
            list.retain(|r| r % 3 == 0);
            want.retain(|r| r % 3 == 0);
            prop_assert_eq!(list.to_vec(), want.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn runs_cost_next_to_nothing() {
        let all: Vec<u32> = (7..100_007).collect();
        let list = List::from(&all[..]);
        let bytes: usize = list.blocks().iter().map(|b| b.bytes.len() + size_of::<Block>()).sum();
        assert!(bytes < all.len() / 3, "{bytes}");
    }
}
