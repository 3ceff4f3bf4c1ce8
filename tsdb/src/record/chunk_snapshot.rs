//! Series records of a chunk snapshot; the byte map is in `format/chunk_snapshot.rs`.
use super::body;
use super::series::labels;
use crate::chunk::Encoding;
use crate::encoding::{Malformed, Reader};
use crate::format::tombstones::VERSION;
use crate::record::tombstones::Tombstone;

/// One series and its open chunk, if it had one.
#[derive(Debug)]
pub struct SnapshotSeries<'a> {
    pub series: u64,
    pub labels: Vec<(&'a str, &'a str)>,
    /// Encoding, newest time and bytes.
    pub chunk: Option<(Encoding, i64, &'a [u8])>,
}

pub fn series(record: &[u8]) -> Result<SnapshotSeries<'_>, Malformed> {
    let mut r = body(record)?;
    let mut out = SnapshotSeries { series: r.u64()?, labels: Vec::new(), chunk: None };
    labels(&mut r, &mut out.labels)?;
    r.i64()?;
    if r.uvarint()? != 0 {
        let (_mint_ms, maxt_ms) = (r.i64()?, r.i64()?);
        let encoding = Encoding::from_byte(r.u8()?).ok_or(Malformed("unknown encoding in a chunk snapshot"))?;
        out.chunk = Some((encoding, maxt_ms, r.prefixed()?));
    }
    Ok(out)
}

/// The record of tombstones: as in the file of a block, without its magic number and checksum.
pub fn tombstones(record: &[u8], mut each: impl FnMut(Tombstone)) -> Result<(), Malformed> {
    let mut r = Reader::new(body(record)?.prefixed()?);
    if r.u8()? != VERSION {
        return Err(Malformed("unknown version of tombstones"));
    }
    while !r.is_empty() {
        each(Tombstone { series: r.uvarint()?, mint_ms: r.varint()?, maxt_ms: r.varint()? });
    }
    Ok(())
}
