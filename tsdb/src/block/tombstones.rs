//! Which stretches of which series of a block are deleted.
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;

use ferula_fs::Fs;

use crate::encoding::{Malformed, Reader, crc, put_uvarint, put_varint};
use crate::error::Error;
use crate::format::names;
use crate::format::tombstones::{HEADER, MAGIC, VERSION};
use crate::head::Intervals;
use crate::head::read::add_interval;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tombstones {
    intervals: BTreeMap<u64, Intervals>,
}

impl Tombstones {
    pub fn add(&mut self, series: u64, mint_ms: i64, maxt_ms: i64) {
        add_interval(self.intervals.entry(series).or_default(), mint_ms, maxt_ms);
    }
    pub fn of(&self, series: u64) -> Intervals {
        self.intervals.get(&series).cloned().unwrap_or_default()
    }
    pub fn count(&self) -> u64 {
        self.intervals.values().map(|i| i.len() as u64).sum()
    }
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// A missing file means none.
    pub fn read(fs: &dyn Fs, dir: &Path) -> Result<Tombstones, Error> {
        let path = dir.join(names::TOMBSTONES);
        let bytes = match fs.read(&path) {
            Ok(b) => b,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Tombstones::default()),
            Err(e) => return Err(Error::io("reading", &path)(e)),
        };
        Tombstones::decode(&bytes).map_err(|m| Error::corrupt(&path, 0, m.0))
    }
    pub fn decode(bytes: &[u8]) -> Result<Tombstones, Malformed> {
        let mut r = Reader::new(bytes);
        if r.u32()? != MAGIC {
            return Err(Malformed("bad magic number of tombstones"));
        }
        if r.u8()? != VERSION {
            return Err(Malformed("unknown version of tombstones"));
        }
        let body_len = r.len().checked_sub(4).ok_or(Malformed("tombstones too short"))?;
        let body = r.bytes(body_len)?;
        if crc(body) != r.u32()? {
            return Err(Malformed("checksum of tombstones differs"));
        }
        let mut out = Tombstones::default();
        let mut r = Reader::new(body);
        while !r.is_empty() {
            out.add(r.uvarint()?, r.varint()?, r.varint()?);
        }
        Ok(out)
    }
    pub fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_be_bytes().to_vec();
        out.push(VERSION);
        for (series, intervals) in &self.intervals {
            for (mint, maxt) in intervals {
                put_uvarint(&mut out, *series);
                put_varint(&mut out, *mint);
                put_varint(&mut out, *maxt);
            }
        }
        let sum = crc(out.get(HEADER..).unwrap_or(&[]));
        out.extend_from_slice(&sum.to_be_bytes());
        out
    }
    pub fn write(&self, fs: &dyn Fs, dir: &Path) -> Result<(), Error> {
        let path = dir.join(names::TOMBSTONES);
        fs.write_atomically(&path, &self.encode()).map_err(Error::io("writing", &path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_joins() {
        let mut t = Tombstones::default();
        t.add(7, 10, 20);
        t.add(7, 21, 30);
        t.add(7, -5, -1);
        t.add(9, i64::MIN, i64::MAX);
        assert_eq!(t.of(7), [(-5, -1), (10, 30)]);
        assert_eq!((Tombstones::decode(&t.encode()), t.count()), (Ok(t.clone()), 3));
        assert_eq!(Tombstones::default().encode(), [0x01, 0x30, 0xba, 0x30, 1, 0, 0, 0, 0]);
        let bytes = t.encode();
        for i in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[i] ^= 4;
            assert!(Tombstones::decode(&flipped).is_err());
            assert!(Tombstones::decode(&bytes[..i]).is_err());
        }
    }
}
