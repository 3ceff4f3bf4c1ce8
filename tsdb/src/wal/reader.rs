//! Reading a segment, over damage: whole records come out, damaged stretches are reported and stepped over.
use crate::encoding::crc;
use crate::format::wal::{FIRST, FRAGMENT_HEADER, FULL, LAST, MIDDLE, PAGE, PAGE_END, SNAPPY, TYPE_MASK, ZSTD};

use super::compress::Decompressor;

/// A stretch of a segment that holds no readable record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub from: usize,
    pub to: usize,
    pub reason: &'static str,
}

/// Walks one segment's bytes.
pub struct SegmentReader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The record being put together, still compressed, and where it began.
    partial: Vec<u8>,
    partial_start: Option<usize>,
    /// After damage: only a first or full fragment makes sense again.
    resync_from: Option<(usize, &'static str)>,
    pub damages: Vec<Damage>,
    unpacker: Decompressor,
}

enum Fragment<'a> {
    Data { kind: u8, flags: u8, data: &'a [u8], start: usize },
    NextPage,
    End,
}

impl<'a> SegmentReader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        SegmentReader {
            bytes,
            at: 0,
            partial: Vec::new(),
            partial_start: None,
            resync_from: None,
            damages: Vec::new(),
            unpacker: Decompressor::default(),
        }
    }

    /// Begins at `offset`, where a record must begin.
    pub fn starting_at(bytes: &'a [u8], offset: usize) -> Self {
        SegmentReader { at: offset, ..SegmentReader::new(bytes) }
    }

    /// Offset behind the last record returned.
    pub fn offset(&self) -> usize {
        self.at
    }

    /// Decompresses the next whole record into `record`; `false` at the end. Look at `damages` then.
    pub fn next(&mut self, record: &mut Vec<u8>) -> bool {
        loop {
            let page_left = PAGE - self.at % PAGE;
            match self.fragment(page_left) {
                Ok(Fragment::End) => {
                    self.finish();
                    return false;
                }
                Ok(Fragment::NextPage) => self.at += page_left,
                Ok(Fragment::Data { kind, flags, data, start }) => {
                    if self.take(kind, flags, data, start, record) {
                        return true;
                    }
                }
                Err(reason) => {
                    self.damaged(self.at, reason);
                    self.at += page_left;
                }
            }
        }
    }

    /// Parses the fragment at `at`. Moves `at` behind it only on success.
    fn fragment(&mut self, page_left: usize) -> Result<Fragment<'a>, &'static str> {
        let start = self.at;
        let rest = self.bytes.get(start..).unwrap_or(&[]);
        if rest.is_empty() {
            return Ok(Fragment::End);
        }
        let page = rest.get(..page_left).unwrap_or(rest);
        if page_left < FRAGMENT_HEADER || page.first() == Some(&PAGE_END) {
            return if page.iter().all(|b| *b == 0) { Ok(Fragment::NextPage) } else { Err("page padding is not zero") };
        }
        let &[first, l0, l1, c0, c1, c2, c3, ref body @ ..] = page else { return Err("fragment header is cut off") };
        let (kind, flags) = (first & TYPE_MASK, first & !TYPE_MASK);
        if !(FULL..=LAST).contains(&kind) || flags & !(SNAPPY | ZSTD) != 0 {
            return Err("unknown fragment type");
        }
        let len = usize::from(u16::from_be_bytes([l0, l1]));
        let Some(data) = body.get(..len) else { return Err("fragment is cut off") };
        if crc(data) != u32::from_be_bytes([c0, c1, c2, c3]) {
            return Err("fragment checksum differs");
        }
        self.at = start + FRAGMENT_HEADER + len;
        Ok(Fragment::Data { kind, flags, data, start })
    }

    /// Adds a good fragment; `true` when it completes a record.
    fn take(&mut self, kind: u8, flags: u8, data: &[u8], start: usize, record: &mut Vec<u8>) -> bool {
        let begins = kind == FULL || kind == FIRST;
        match (begins, self.partial_start) {
            (true, Some(s)) => self.damaged(s, "record lacks its end"),
            (false, None) => {
                if self.resync_from.is_none() {
                    self.resync_from = Some((start, "record lacks its beginning"));
                }
                return false;
            }
            _ => {}
        }
        if begins {
            self.close_damage(start);
            self.partial.clear();
            self.partial_start = Some(start);
        }
        if kind == FULL {
            self.partial_start = None;
            return self.unpack(flags, data, start, record);
        }
        self.partial.extend_from_slice(data);
        if kind == MIDDLE || kind == FIRST {
            return false;
        }
        self.partial_start = None;
        let packed = std::mem::take(&mut self.partial);
        let done = self.unpack(flags, &packed, start, record);
        self.partial = packed;
        done
    }

    fn unpack(&mut self, flags: u8, packed: &[u8], start: usize, record: &mut Vec<u8>) -> bool {
        match self.unpacker.unpack(flags, packed, record) {
            Ok(()) => true,
            Err(m) => {
                self.damages.push(Damage { from: start, to: self.at, reason: m.0 });
                false
            }
        }
    }

    /// Opens a damaged stretch that begins at `from`, or at the record being put together.
    fn damaged(&mut self, from: usize, reason: &'static str) {
        let from = self.partial_start.take().unwrap_or(from);
        self.partial.clear();
        self.resync_from.get_or_insert((from, reason));
    }
    fn close_damage(&mut self, to: usize) {
        if let Some((from, reason)) = self.resync_from.take() {
            self.damages.push(Damage { from, to, reason });
        }
    }
    fn finish(&mut self) {
        if let Some(start) = self.partial_start {
            self.damaged(start, "record is cut off at the end");
        }
        self.close_damage(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::super::page::{frame, room};
    use super::*;
    use proptest::prelude::*;

    fn write(records: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for r in records {
            let at = out.len() as u64;
            frame(&mut out, at, r, 0);
        }
        out
    }
    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, Vec<Damage>) {
        let mut reader = SegmentReader::new(bytes);
        let (mut out, mut record) = (Vec::new(), Vec::new());
        while reader.next(&mut record) {
            out.push(record.clone());
        }
        (out, reader.damages)
    }
    fn records(sizes: &[usize]) -> Vec<Vec<u8>> {
        sizes.iter().enumerate().map(|(i, n)| vec![i as u8 + 1; n + 1]).collect()
    }

    proptest! {
        #[test]
        fn round_trips(sizes in proptest::collection::vec(prop_oneof![0usize..100, 0usize..100_000], 0..30)) {
            let want = records(&sizes);
            prop_assert_eq!(read(&write(&want)), (want, vec![]));
        }
        #[test]
        fn one_flip_loses_few_records_and_invents_none(
            sizes in proptest::collection::vec(0usize..3000, 20..60), place in 0.0..1.0f64, bit in 0u8..8) {
            let want = records(&sizes);
            let mut bytes = write(&want);
            let at = (place * bytes.len() as f64) as usize;
            bytes[at] ^= 1u8 << bit;
            let (got, damages) = read(&bytes);
            prop_assert!(got.iter().all(|r| want.contains(r)));
            prop_assert!(!damages.is_empty() || got == want);
            // All records that lie wholly in other pages than the flipped one survive.
            let lost: usize = want.iter().filter(|r| !got.contains(r)).map(|r| r.len() + FRAGMENT_HEADER).sum();
            prop_assert!(lost <= PAGE + 2 * 3100, "{} bytes lost", lost);
        }
        #[test]
        fn a_cut_keeps_whole_records(sizes in proptest::collection::vec(0usize..3000, 1..40), place in 0.0..1.0f64) {
            let want = records(&sizes);
            let bytes = write(&want);
            let (got, _) = read(&bytes[..(place * bytes.len() as f64) as usize]);
            prop_assert_eq!(&got[..], &want[..got.len()]);
        }
        #[test]
        fn survives_garbage(bytes in proptest::collection::vec(any::<u8>(), 0..70_000)) {
            read(&bytes);
        }
    }

    #[test]
    fn room_is_what_fits() {
        for offset in [0u64, 5, 32_760, 32_768 * 3 + 100, 32_768 * 4 - 3] {
            let fits = room(offset, 4 * PAGE as u64) as usize;
            let mut out = Vec::new();
            frame(&mut out, offset, &vec![1; fits.max(1)], 0);
            if fits > 0 {
                assert_eq!(offset as usize + out.len(), 4 * PAGE);
            }
        }
    }
}
