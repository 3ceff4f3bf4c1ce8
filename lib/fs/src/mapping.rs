//! Read-only mappings as cheap owned slices.
#![allow(unsafe_code)]
use std::fmt;
use std::fs::File;
use std::io;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::guard::{self, Region};

/// Shared, immutable bytes: a mapped file or memory. A clone or a slice is one reference count.
#[derive(Clone)]
pub struct Mapping {
    bytes: Bytes,
    start: usize,
    end: usize,
}

#[derive(Clone)]
enum Bytes {
    Mapped(Arc<Guarded>),
    Owned(Arc<[u8]>),
}

struct Guarded {
    map: memmap2::Mmap,
    region: &'static Region,
}

impl Drop for Guarded {
    fn drop(&mut self) {
        guard::release(self.region); // the field is unmapped after this
    }
}

/// The largest page size of the machines this runs on.
const PAGE: usize = 64 * 1024;
/// The smallest.
const PAGE_MIN: usize = 4096;

impl Mapping {
    /// Maps the file's present length.
    pub(crate) fn of_file(file: &File) -> io::Result<Mapping> {
        if file.metadata()?.len() == 0 {
            return Ok(Mapping::from(Vec::new())); // mmap refuses a length of 0
        }
        // SAFETY: the mapping is private to this value, read-only, and outlives every slice handed out (they borrow
        // from it or hold the Arc). Bytes may still change under us if somebody writes to the file or truncates it;
        // the store only maps files that nobody writes any more (sealed segments, blocks) or reads only a prefix that
        // is never rewritten (the current head-chunk file), and checks a CRC before it believes what it reads.
        let map = unsafe { memmap2::Mmap::map(file)? };
        let end = map.len();
        let region = guard::guard(map.as_ptr() as usize, end.next_multiple_of(PAGE_MIN));
        Ok(Mapping { bytes: Bytes::Mapped(Arc::new(Guarded { map, region })), start: 0, end })
    }

    /// Whether the file was cut while it was mapped, and zeros were read in its place. To be asked after reading, before
    /// what was read is believed; it stays so.
    pub fn is_torn(&self) -> bool {
        matches!(&self.bytes, Bytes::Mapped(m) if m.region.is_torn())
    }

    /// Lets go of the memory that reading a part of this took; reading it again brings it back from the file.
    pub fn release(&self, range: Range<usize>) {
        let Bytes::Mapped(guarded) = &self.bytes else { return };
        if self.is_torn() {
            return;
        }
        let start = self.start.saturating_add(range.start).next_multiple_of(PAGE);
        let end = self.start.saturating_add(range.end).min(self.end);
        if start < end {
            // SAFETY: the mapping is read-only and of a file: a page that is dropped comes back with the same bytes.
            let _ =
                unsafe { guarded.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start) };
        }
    }

    /// For a reader that goes from the start to the end once.
    pub fn behind(&self) -> Behind<'_> {
        Behind { mapping: self, released: 0 }
    }

    /// A part of this one; `None` if the range is not within it.
    pub fn slice(&self, range: Range<usize>) -> Option<Mapping> {
        let (start, end) = (self.start.checked_add(range.start)?, self.start.checked_add(range.end)?);
        (start <= end && end <= self.end).then(|| Mapping { bytes: self.bytes.clone(), start, end })
    }
}

/// Lets go of the memory behind a reader, some of it at a time.
#[derive(Debug)]
pub struct Behind<'a> {
    mapping: &'a Mapping,
    released: usize,
}

impl Behind<'_> {
    /// Whatever is before `at` has been read.
    pub fn passed(&mut self, at: usize) {
        const STEP: usize = 4 << 20;
        if at.saturating_sub(self.released) >= STEP {
            self.mapping.release(self.released..at);
            self.released = at;
        }
    }
}

impl Deref for Mapping {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        let all: &[u8] = match &self.bytes {
            Bytes::Mapped(m) => &m.map,
            Bytes::Owned(o) => o,
        };
        all.get(self.start..self.end).unwrap_or(&[])
    }
}

impl AsRef<[u8]> for Mapping {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Vec<u8>> for Mapping {
    fn from(v: Vec<u8>) -> Mapping {
        let end = v.len();
        Mapping { bytes: Bytes::Owned(Arc::from(v)), start: 0, end }
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mapping({} bytes)", self.len())
    }
}
