//! Reading the restart index: everything before the last mark that is bound to the log as it is.
use std::path::Path;

use ferula_fs::{Fs, Open};
use ferula_model::Labels;

use super::Mark;
use crate::encoding::{Malformed, Reader, crc, crc_more};
use crate::error::Error;
use crate::format::names;
use crate::format::restart::{BODY_MAX_BYTES, BOUND_BYTES, HEADER, MAGIC, MARK, RECORDS, TABLE, VERSION};
use crate::head::Head;
use crate::record;
use crate::wal::segment;
use crate::wal::writer::{Bound, Position};

/// A valid index: how far it goes, and how many series it named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loaded {
    pub mark: Mark,
    pub series: u64,
}

/// A block whose checksum is right.
struct Block<'a> {
    kind: u8,
    body: &'a [u8],
}

/// Creates the series that the index in `dir` names. `None`, and nothing is created: there is no index, or none that
/// belongs to this log.
pub fn load(fs: &dyn Fs, dir: &Path, wal: &Path, head: &Head) -> Result<Option<Loaded>, Error> {
    let path = dir.join(names::RESTART_INDEX);
    let Ok(bytes) = fs.map(&path) else { return Ok(None) };
    let Some(blocks) = blocks(&bytes) else {
        tracing::warn!(file = %path.display(), "not a restart index of a known version; it is not used");
        return Ok(None);
    };
    let checkpoint = segment::checkpoints(fs, wal)?.last().map(|c| c.0);
    let valid = |b: &Block<'_>| {
        let mark = if b.kind == MARK { mark(b.body).ok() } else { None };
        mark.filter(|m| m.checkpoint == checkpoint && is_bound(fs, wal, &m.bound))
    };
    let Some((end, mark)) = blocks.iter().enumerate().rev().find_map(|(i, b)| Some((i, valid(b)?))) else {
        tracing::info!(file = %path.display(), "the restart index belongs to another state of the log; it is not used");
        return Ok(None);
    };
    // Everything is unpacked before the first series is made: damage must not leave half of them.
    let mut contents = Contents::default();
    for b in blocks.get(..end).unwrap_or(&[]) {
        let result = match b.kind {
            TABLE => unpack(b.body).and_then(|raw| contents.table(&raw)),
            RECORDS => unpack(b.body).and_then(|raw| contents.records(&raw)),
            _ => Ok(()),
        };
        if let Err(m) = result {
            tracing::warn!(file = %path.display(), what = m.0, "the restart index is damaged; it is not used");
            return Ok(None);
        }
    }
    if bytes.is_torn() {
        return Ok(None);
    }
    head.note_ref(mark.last_ref);
    let series = head.insert_known(&contents.strings, &contents.pairs, &contents.series);
    let Some(mut series) = series else {
        return Err(Error::Invalid("there are more series than this program can hold".to_owned()));
    };
    for (series_ref, labels) in &contents.later {
        series += u64::from(head.insert_logged(*series_ref, labels));
    }
    Ok(Some(Loaded { mark, series }))
}

/// Reads an index, or a part of one, and does nothing with it: for the fuzz target.
pub(crate) fn check(bytes: &[u8]) {
    let mut contents = Contents::default();
    for b in blocks(bytes).unwrap_or_default() {
        let _ = match b.kind {
            TABLE => unpack(b.body).and_then(|raw| contents.table(&raw)),
            RECORDS => unpack(b.body).and_then(|raw| contents.records(&raw)),
            _ => mark(b.body).map(|_| ()),
        };
    }
    // Behind checksums and compression damage rarely comes this far.
    let _ = contents.table(bytes);
    let _ = contents.records(bytes);
    let _ = mark(bytes);
}

/// The blocks up to the first torn or damaged one. `None`: a file of another kind.
fn blocks(bytes: &[u8]) -> Option<Vec<Block<'_>>> {
    let mut r = Reader::new(bytes);
    if r.u32() != Ok(MAGIC) || r.u8() != Ok(VERSION) || r.bytes(HEADER - 5).is_err() {
        return None;
    }
    let mut out = Vec::new();
    let mut next = || {
        let len = r.u32()? as usize;
        let kind = r.u8()?;
        let body = r.bytes(len)?;
        if crc_more(crc(&[kind]), body) != r.u32()? {
            return Err(Malformed("checksum of a block differs"));
        }
        Ok(Block { kind, body })
    };
    while let Ok(block) = next() {
        out.push(block);
    }
    Some(out)
}

fn mark(body: &[u8]) -> Result<Mark, Malformed> {
    let mut r = Reader::new(body);
    let checkpoint = u64::try_from(r.i64()?).ok();
    let position = Position { segment: r.u64()?, offset: r.u64()? };
    let bound = Bound { position, len: r.u32()?, sum: r.u32()? };
    Ok(Mark { checkpoint, bound, last_ref: r.u64()? })
}

/// Whether the log has these bytes at this place.
fn is_bound(fs: &dyn Fs, wal: &Path, bound: &Bound) -> bool {
    let path = segment::path(wal, bound.position.segment);
    let Some(from) = bound.position.offset.checked_sub(u64::from(bound.len)) else { return false };
    if bound.len == 0 || u64::from(bound.len) > BOUND_BYTES {
        return false;
    }
    let Ok(file) = fs.open(&path, Open::Read) else { return false };
    let mut bytes = vec![0; bound.len as usize];
    file.read_exact_at(from, &mut bytes).is_ok() && crc(&bytes) == bound.sum
}

fn unpack(body: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut r = Reader::new(body);
    let len = r.u32()? as usize;
    if len > BODY_MAX_BYTES {
        return Err(Malformed("block too large"));
    }
    let raw = zstd::bulk::decompress(r.rest(), len).map_err(|_| Malformed("bad zstd data"))?;
    if raw.len() == len { Ok(raw) } else { Err(Malformed("bad length of a block")) }
}

#[derive(Default)]
struct Contents {
    strings: Vec<String>,
    /// Label pairs of all series of the tables, as ordinals of strings.
    pairs: Vec<(u32, u32)>,
    /// References, and where their pairs end.
    series: Vec<(u64, u32)>,
    /// From records.
    later: Vec<(u64, Labels)>,
    last_ref: u64,
}

impl Contents {
    fn table(&mut self, raw: &[u8]) -> Result<(), Malformed> {
        let mut r = Reader::new(raw);
        for _ in 0..r.count(1)? {
            self.strings.push(r.str()?.to_owned());
        }
        for _ in 0..r.count(2)? {
            self.last_ref = self.last_ref.wrapping_add(r.uvarint()?);
            for _ in 0..r.count(2)? {
                let (name, value) = (r.uvarint_u32()?, r.uvarint_u32()?);
                if name.max(value) as usize >= self.strings.len() {
                    return Err(Malformed("a label names an unknown string"));
                }
                self.pairs.push((name, value));
            }
            let end = u32::try_from(self.pairs.len()).map_err(|_| Malformed("too many labels"))?;
            self.series.push((self.last_ref, end));
        }
        Ok(())
    }
    fn records(&mut self, raw: &[u8]) -> Result<(), Malformed> {
        let mut r = Reader::new(raw);
        while !r.is_empty() {
            record::series::decode(r.prefixed()?, |series_ref, pairs| {
                self.later.push((series_ref, Labels::from_pairs(pairs.iter().copied())));
            })?;
        }
        Ok(())
    }
}
