//! Chunks in head-chunk files on their way to a reader: found while their series is locked, checked when they are read.
//!
//! A reader of a series holds each file once, however many of its chunks are there, and checks the chunks it is about to
//! decode four at a time.
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use ferula_fs::Mapping;
use smallvec::SmallVec;

use super::head_chunks::Record;
use super::series::{Bytes, ChunkView, Held};
use crate::encoding::crc::{FOUR, crc_four};
use crate::error::Error;
use crate::format::names;
use crate::soon::soon;

/// How much memory is asked for before it is known how long a record is: most are shorter, or little longer.
const RECORD_BYTES: usize = 256;

/// A head-chunk file from a place on.
#[derive(Clone, Debug)]
pub struct FilePart {
    pub number: u64,
    pub from: usize,
    pub bytes: Mapping,
}

impl FilePart {
    /// Whether the chunk at this place of that file begins in it.
    pub fn has(&self, number: u64, offset: usize) -> bool {
        self.number == number && offset.checked_sub(self.from).is_some_and(|at| at < self.bytes.len())
    }
}

/// A chunk in one of the [`Files`] of its snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    file: u32,
    /// Where its record begins, in the file.
    offset: u32,
    /// Its data in the bytes of the file's part; empty until it has been checked.
    data: (u32, u32),
}

/// The files that a snapshot's chunks are in: nearly always one.
#[derive(Clone, Debug, Default)]
pub struct Files(SmallVec<[Arc<FilePart>; 1]>);

impl Files {
    /// The chunk at a place as series have it; `open` finds files that are not here yet.
    pub fn find(&mut self, at: u64, open: impl FnOnce(u64) -> Result<Arc<FilePart>, Error>) -> Result<Stored, Error> {
        let (number, offset) = (at >> 32, at as u32);
        let known = self.0.iter().position(|f| f.has(number, offset as usize));
        let file = match known {
            Some(i) => i,
            None => {
                self.0.push(open(at)?);
                self.0.len() - 1
            }
        };
        if let Some(part) = self.0.get(file) {
            let start = (offset as usize).saturating_sub(part.from);
            let ahead = part.bytes.get(start..(start + RECORD_BYTES).min(part.bytes.len()));
            soon(ahead.unwrap_or(&[]));
        }
        Ok(Stored { file: file as u32, offset, data: (0, 0) })
    }

    /// Checks those of the chunks that are in files and have not been yet; to be done before their bytes are asked for.
    /// `dir` is for the error.
    pub fn check(&self, chunks: &mut [ChunkView], dir: &Path) -> Result<(), Error> {
        let mut waiting: SmallVec<[(Stored, Record<'_>); FOUR]> = SmallVec::new();
        for chunk in chunks {
            let Held::File(stored) = &mut chunk.data else { continue };
            if stored.data != (0, 0) {
                continue;
            }
            let Some(part) = self.0.get(stored.file as usize) else { continue };
            let start = (stored.offset as usize).saturating_sub(part.from);
            let record = Record::at(&part.bytes, start).map_err(|m| self.damage(stored, dir, m.0))?;
            stored.data = (record.data.start as u32, record.data.end as u32);
            waiting.push((*stored, record));
            if waiting.len() == FOUR {
                self.compare(&mut waiting, dir)?;
            }
        }
        self.compare(&mut waiting, dir)
    }

    fn compare(&self, waiting: &mut SmallVec<[(Stored, Record<'_>); FOUR]>, dir: &Path) -> Result<(), Error> {
        let slice = |i: usize| waiting.get(i).map_or(&[][..], |(_, r)| r.summed);
        let sums = crc_four([slice(0), slice(1), slice(2), slice(3)]);
        for ((stored, record), sum) in waiting.iter().zip(sums) {
            if record.sum != sum {
                return Err(self.damage(stored, dir, "checksum of a head chunk differs"));
            }
        }
        waiting.clear();
        Ok(())
    }

    fn damage(&self, stored: &Stored, dir: &Path, what: &'static str) -> Error {
        let Some(part) = self.0.get(stored.file as usize) else { return Error::Invalid(what.to_owned()) };
        let path = dir.join(names::chunk_file(part.number));
        // A file that was cut reads as zeros.
        Error::if_torn(&path, &part.bytes).err().unwrap_or_else(|| Error::corrupt(&path, stored.offset as usize, what))
    }

    /// An error when a file has been cut: what was read of it is not to be believed.
    pub fn if_torn(&self, dir: &Path) -> Result<(), Error> {
        match self.0.iter().find(|f| f.bytes.is_torn()) {
            Some(f) => Error::if_torn(&dir.join(names::chunk_file(f.number)), &f.bytes),
            None => Ok(()),
        }
    }

    fn range(stored: &Stored) -> Range<usize> {
        stored.data.0 as usize..stored.data.1 as usize
    }

    /// The bytes of a chunk that has been checked; none of one that has not.
    pub fn bytes<'a>(&'a self, held: &'a Held) -> &'a [u8] {
        match held {
            Held::Memory(bytes) => bytes,
            Held::Open(bytes) => bytes,
            Held::File(s) => self.0.get(s.file as usize).and_then(|f| f.bytes.get(Files::range(s))).unwrap_or(&[]),
        }
    }

    /// As [`Files::bytes`], to be kept.
    pub fn keep(&self, held: Held) -> Bytes {
        match held {
            Held::Memory(bytes) => Bytes::Memory(bytes),
            Held::Open(bytes) => Bytes::Memory(bytes.into()),
            Held::File(s) => {
                let slice = self.0.get(s.file as usize).and_then(|f| f.bytes.slice(Files::range(&s)));
                slice.map_or_else(|| Bytes::Memory([].into()), Bytes::Mapped)
            }
        }
    }
}
