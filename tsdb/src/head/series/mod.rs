//! One series of the head: its labels as symbols, its open chunk and its full ones.
//!
//! Memory of an active float series with ten labels: 192 bytes here, the newest 44 of the open chunk among them, 80 for the
//! labels, none to 240 for the rest of the chunk, 40 for each full chunk's entry, and some 30 in the indices.
use std::cmp::Ordering;
use std::ops::Deref;
use std::sync::atomic::{self, AtomicBool};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferula_fs::Mapping;
use ferula_model::{LabelView, Labels};

use super::stored::{Files, Stored};
use super::symbols::{Symbols, Texts};
use crate::chunk::{Encoding, xor};

/// Upstream's limits: an XOR chunk is cut before it could exceed 1024 bytes, a histogram chunk aims at that size.
const XOR_MAX_BYTES: usize = 1024 - xor::SAMPLE_MAX_BYTES;
const HISTOGRAM_TARGET_BYTES: usize = 1024;
const HISTOGRAM_MIN_SAMPLES: u16 = 10;

mod histograms;
mod state;

pub use state::State;

#[derive(Debug)]
pub struct MemSeries {
    /// The reference: they fit into 32 bits.
    number: u32,
    pub hash: u64,
    labels: Box<[(u32, u32)]>,
    /// Whether its series record is in the log. Whoever first commits a sample writes it.
    pub logged: AtomicBool,
    state: Mutex<State>,
}

/// Where a full chunk's bytes are.
#[derive(Clone, Debug)]
pub enum ChunkData {
    Memory(Arc<[u8]>),
    /// In a head-chunk file: number in the upper, offset in the lower half.
    File(u64),
}

/// Bytes of a chunk a reader holds: they stay whatever happens to the series and the files.
#[derive(Clone, Debug)]
pub enum Bytes {
    Memory(Arc<[u8]>),
    Mapped(Mapping),
}

impl Bytes {
    /// Whether the file they are of was cut, so that what was read of them is not to be believed.
    pub fn is_torn(&self) -> bool {
        matches!(self, Bytes::Mapped(m) if m.is_torn())
    }
}

impl Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Memory(b) => b,
            Bytes::Mapped(m) => m,
        }
    }
}

/// Where a reader has the bytes of a chunk: see [`Files::bytes`].
#[derive(Clone, Debug)]
pub enum Held {
    Memory(Arc<[u8]>),
    /// A copy of the open chunk.
    Open(Vec<u8>),
    File(Stored),
}

#[derive(Clone, Debug)]
pub struct FullChunk {
    pub mint_ms: i64,
    pub maxt_ms: i64,
    pub samples: u16,
    pub encoding: Encoding,
    pub data: ChunkData,
}

/// Rules of cutting chunks, the same for all series.
#[derive(Clone, Copy, Debug)]
pub struct CutRules {
    pub chunk_range_ms: i64,
    pub samples_per_chunk: u16,
    pub xor2: bool,
    pub histogram_starts: bool,
}

/// What a reader takes away: chunks in time order, the last of which may be a copy of the open one.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub chunks: Vec<ChunkView>,
    pub files: Files,
}

#[derive(Clone, Debug)]
pub struct ChunkView {
    pub encoding: Encoding,
    pub data: Held,
    /// Only so many of its samples are visible.
    pub visible: usize,
    pub mint_ms: i64,
    pub maxt_ms: i64,
}

impl MemSeries {
    pub fn new(series_ref: u32, hash: u64, labels: Box<[(u32, u32)]>) -> MemSeries {
        MemSeries { number: series_ref, hash, labels, logged: AtomicBool::new(false), state: Mutex::default() }
    }
    pub fn series_ref(&self) -> u64 {
        u64::from(self.number)
    }
    /// Reads a little of what an append needs, without waiting for anybody.
    pub(super) fn touch(&self) -> u32 {
        self.number ^ u32::from(self.state.is_poisoned())
    }
    /// Name and value symbols, in name order.
    pub fn symbols(&self) -> &[(u32, u32)] {
        &self.labels
    }
    pub fn is_logged(&self) -> bool {
        self.logged.load(atomic::Ordering::Acquire)
    }
    #[inline]
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Label order. Equal symbols need not be read: series that are sorted have most of theirs in common.
    pub fn compare_labels(&self, other: &MemSeries, texts: &Texts) -> Ordering {
        let text = |a: u32, b: u32| texts.get(a).cmp(texts.get(b));
        for ((n, v), (m, w)) in self.labels.iter().zip(&other.labels) {
            if n != m {
                return text(*n, *m);
            }
            if v != w {
                return text(*v, *w);
            }
        }
        self.labels.len().cmp(&other.labels.len())
    }
    pub fn has_labels(&self, labels: &Labels, symbols: &Symbols) -> bool {
        let texts = symbols.now();
        let mut mine = self.labels.iter();
        labels.iter().all(|(n, v)| mine.next().is_some_and(|(a, b)| texts.get(*a) == n && texts.get(*b) == v))
            && mine.next().is_none()
    }
    /// Its labels, read in `texts`, which was taken after the series.
    pub fn labels<'a>(&'a self, texts: &'a Texts) -> SeriesLabels<&'a MemSeries, &'a Texts> {
        SeriesLabels { series: self, texts }
    }
}

/// The labels of a series, and the strings they are made of.
#[derive(Debug)]
pub struct SeriesLabels<S, T> {
    pub series: S,
    pub texts: T,
}

impl<S: Deref<Target = MemSeries> + Send + Sync, T: Deref<Target = Texts> + Send + Sync> LabelView
    for SeriesLabels<S, T>
{
    fn len(&self) -> usize {
        self.series.labels.len()
    }
    fn pair(&self, i: usize) -> (&str, &str) {
        self.series.labels.get(i).map_or(("", ""), |(n, v)| (self.texts.get(*n), self.texts.get(*v)))
    }
    fn stable_hash(&self) -> u64 {
        self.series.hash
    }
    fn interned(&self) -> Option<(u64, &[(u32, u32)])> {
        Some((self.texts.identity(), &self.series.labels))
    }
}

#[cfg(test)]
mod tests {
    /// With the two counts of its `Arc` a series fills a block of 192 bytes: one field more costs every series 32.
    #[test]
    fn a_series_stays_small() {
        assert!(size_of::<super::State>() <= 136 && size_of::<super::MemSeries>() == 176);
    }
}
