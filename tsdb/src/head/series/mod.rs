//! One series of the head: its labels as symbols, its open chunk and its full ones.
//!
//! Memory of an active float series with ten labels: about 176 bytes here, 80 for the labels, 50 to 230 for the open
//! chunk, 24 for each full chunk's entry, and some 60 in the indices.
use std::cmp::Ordering;
use std::sync::atomic::{self, AtomicBool};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferula_fs::Mapping;
use ferula_model::{LabelView, Labels};
use ferula_storage::AppendError;

use super::isolation::{Reader, Trail};
use super::out_of_order::{LateSample, OutOfOrder};
use super::symbols::Symbols;
use crate::Error;
use crate::chunk::histogram_layout::Header;
use crate::chunk::{Encoding, float_histogram, histogram, sample_count, xor, xor2};
use crate::record::histograms::Native;

/// Upstream's limits: an XOR chunk is cut before it could exceed 1024 bytes, a histogram chunk aims at that size.
const XOR_MAX_BYTES: usize = 1024 - xor::SAMPLE_MAX_BYTES;
const HISTOGRAM_TARGET_BYTES: usize = 1024;
const HISTOGRAM_MIN_SAMPLES: u16 = 10;

mod histograms;

#[derive(Debug)]
pub struct MemSeries {
    pub series_ref: u64,
    pub hash: u64,
    symbols: Arc<Symbols>,
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

impl std::ops::Deref for Bytes {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Bytes::Memory(b) => b,
            Bytes::Mapped(m) => m,
        }
    }
}

#[derive(Clone, Debug)]
pub struct FullChunk {
    pub mint_ms: i64,
    pub maxt_ms: i64,
    pub samples: u16,
    pub encoding: Encoding,
    pub data: ChunkData,
}

#[derive(Debug)]
enum OpenHistogram {
    Integer(histogram::Open),
    Float(float_histogram::Open),
}

impl OpenHistogram {
    fn encoding(&self) -> Encoding {
        match self {
            OpenHistogram::Integer(o) if o.header() == Header::Starts => Encoding::HistogramStarts,
            OpenHistogram::Integer(_) => Encoding::Histogram,
            OpenHistogram::Float(o) if o.header() == Header::Starts => Encoding::FloatHistogramStarts,
            OpenHistogram::Float(_) => Encoding::FloatHistogram,
        }
    }
    fn bytes(&self) -> &[u8] {
        match self {
            OpenHistogram::Integer(o) => &o.chunk,
            OpenHistogram::Float(o) => &o.chunk,
        }
    }
    fn into_bytes(self) -> Vec<u8> {
        match self {
            OpenHistogram::Integer(o) => o.chunk,
            OpenHistogram::Float(o) => o.chunk,
        }
    }
    /// Number of samples, and how many there may be.
    fn count(&self) -> (u16, u16) {
        match self {
            OpenHistogram::Integer(o) => (o.count(), o.header().count_max()),
            OpenHistogram::Float(o) => (o.count(), o.header().count_max()),
        }
    }
}

/// What float series do not need.
#[derive(Debug)]
struct HistogramPart {
    open: Option<OpenHistogram>,
    mint_ms: i64,
    /// Whether the chunk's end was predicted from its size already.
    has_end: bool,
    last: Native,
}

#[derive(Debug, Default)]
pub struct State {
    /// The open float chunk, empty if there is none.
    chunk: Vec<u8>,
    /// The encoder's state if that chunk is an XOR2 one.
    xor2: Option<Box<xor2::State>>,
    /// Encoder state; also time and value of the newest sample, of whatever kind.
    last: xor::State,
    /// The open chunk takes no sample from here on.
    next_cut_ms: i64,
    trail: Trail,
    pub full: Vec<FullChunk>,
    histogram: Option<Box<HistogramPart>>,
    pub(crate) out_of_order: Option<Box<OutOfOrder>>,
    has_samples: bool,
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
#[derive(Debug, Default)]
pub struct Snapshot {
    pub chunks: Vec<ChunkView>,
}

#[derive(Clone, Debug)]
pub struct ChunkView {
    pub encoding: Encoding,
    pub data: Bytes,
    /// Only so many of its samples are visible.
    pub visible: usize,
    pub mint_ms: i64,
    pub maxt_ms: i64,
}

impl MemSeries {
    pub fn new(series_ref: u64, hash: u64, symbols: Arc<Symbols>, labels: Box<[(u32, u32)]>) -> MemSeries {
        MemSeries {
            series_ref,
            hash,
            symbols,
            labels,
            logged: AtomicBool::new(false),
            state: Mutex::new(State { next_cut_ms: i64::MIN, ..State::default() }),
        }
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
    pub fn compare_labels(&self, other: &MemSeries) -> Ordering {
        let text = |a: u32, b: u32| self.symbols.get(a).cmp(other.symbols.get(b));
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
    pub fn has_labels(&self, labels: &Labels) -> bool {
        let mut mine = self.labels.iter();
        labels
            .iter()
            .all(|(n, v)| mine.next().is_some_and(|(a, b)| self.symbols.get(*a) == n && self.symbols.get(*b) == v))
            && mine.next().is_none()
    }
}

impl LabelView for MemSeries {
    fn len(&self) -> usize {
        self.labels.len()
    }
    fn pair(&self, i: usize) -> (&str, &str) {
        self.labels.get(i).map_or(("", ""), |(n, v)| (self.symbols.get(*n), self.symbols.get(*v)))
    }
    fn stable_hash(&self) -> u64 {
        self.hash
    }
    fn interned(&self) -> Option<(u64, &[(u32, u32)])> {
        Some((self.symbols.identity(), &self.labels))
    }
}

fn range_end(t_ms: i64, width: i64) -> i64 {
    t_ms.div_euclid(width).saturating_mul(width).saturating_add(width)
}

/// Spreads the rest of a chunk range evenly over the chunks it will need, as seen when a chunk is partly full.
fn predicted_end(start: i64, current: i64, end: i64, ratio_to_full: f64) -> i64 {
    let n = (end - start) as f64 / ((current - start + 1) as f64 * ratio_to_full);
    if n <= 1.0 { end } else { (start as f64 + (end - start) as f64 / n.floor()) as i64 }
}

impl State {
    /// Time of the newest in-order sample.
    pub fn max_time(&self) -> Option<i64> {
        self.has_samples.then_some(self.last.t_ms)
    }
    pub fn min_time(&self) -> Option<i64> {
        match (self.full.first(), &self.histogram) {
            (Some(c), _) => Some(c.mint_ms),
            (None, Some(h)) if h.open.is_some() => Some(h.mint_ms),
            _ => self.first_float_time(),
        }
    }
    fn float_encoding(&self) -> Encoding {
        if self.xor2.is_some() { Encoding::Xor2 } else { Encoding::Xor }
    }
    /// Time of the first sample of the open float chunk.
    fn first_float_time(&self) -> Option<i64> {
        let header = if self.xor2.is_some() { xor2::HEADER } else { xor::HEADER };
        crate::encoding::Reader::new(self.chunk.get(header..)?).varint().ok()
    }
    pub fn is_empty(&self) -> bool {
        self.full.is_empty() && self.open_view().is_none() && self.out_of_order.is_none()
    }
    /// Whether the newest sample is a histogram.
    pub fn is_histogram(&self) -> bool {
        self.histogram.as_ref().is_some_and(|h| h.open.is_some())
    }
    /// The newest histogram, when the newest sample is one.
    pub fn last_histogram(&self) -> Option<&Native> {
        self.histogram.as_ref().filter(|h| h.open.is_some()).map(|h| &h.last)
    }
    pub fn is_stale(&self) -> bool {
        match self.last_histogram() {
            Some(Native::Integer(h)) => h.is_stale(),
            Some(Native::Float(h)) => h.is_stale(),
            None => self.has_samples && self.last.value_bits == ferula_model::STALE_NAN,
        }
    }

    /// Upstream's rules for a sample that is not older than the head takes: newer than the newest, or the very same.
    #[inline]
    pub fn check_float(&self, t_ms: i64, bits: u64) -> Result<(), AppendError> {
        if !self.has_samples || t_ms > self.last.t_ms {
            return Ok(());
        }
        if t_ms < self.last.t_ms {
            return Err(AppendError::OutOfOrder);
        }
        if self.is_histogram() || bits != self.last.value_bits {
            return Err(AppendError::DuplicateTimestamp);
        }
        Ok(())
    }
    pub fn check_histogram(&self, t_ms: i64, h: &Native) -> Result<(), AppendError> {
        if !self.has_samples || t_ms > self.last.t_ms {
            return Ok(());
        }
        if t_ms < self.last.t_ms {
            return Err(AppendError::OutOfOrder);
        }
        if self.last_histogram().is_some_and(|last| histograms::same(last, h)) {
            Ok(())
        } else {
            Err(AppendError::DuplicateTimestamp)
        }
    }

    /// Stores a float. `Ok(false)`: it is there already. Full chunks are handed to `store`. `start_ms`: 0 for none; an XOR
    /// chunk does not keep it.
    pub fn append_float(
        &mut self,
        start_ms: i64,
        t_ms: i64,
        bits: u64,
        commit: (u64, u64),
        rules: CutRules,
        store: &mut dyn FnMut(FullChunk) -> FullChunk,
    ) -> Result<bool, AppendError> {
        self.check_float(t_ms, bits)?;
        if self.has_samples && t_ms == self.last.t_ms {
            return Ok(false);
        }
        if self.is_histogram() {
            self.cut(store);
        }
        let n = sample_count(&self.chunk);
        if n == 0 {
            self.next_cut_ms = range_end(t_ms, rules.chunk_range_ms);
        } else {
            if n == rules.samples_per_chunk / 4 {
                let start = self.first_float_time().unwrap_or(t_ms);
                self.next_cut_ms = predicted_end(start, self.last.t_ms, self.next_cut_ms, 4.0);
            }
            // Twice the wanted number: then the prediction was wrong because samples come faster now.
            let full = n >= rules.samples_per_chunk.saturating_mul(2) || self.chunk.len() > XOR_MAX_BYTES;
            if full || t_ms >= self.next_cut_ms {
                self.cut(store);
                self.next_cut_ms = range_end(t_ms, rules.chunk_range_ms);
            }
        }
        if self.chunk.is_empty() && rules.xor2 {
            self.xor2 = Some(Box::default());
        }
        // Doubling would waste a quarter of the memory of all open chunks.
        if self.chunk.capacity() - self.chunk.len() < xor2::SAMPLE_MAX_BYTES + 1 {
            self.chunk.reserve_exact(48);
        }
        match &mut self.xor2 {
            None => xor::append(&mut self.chunk, &mut self.last, t_ms, bits),
            Some(state) => {
                xor2::append(&mut self.chunk, state, start_ms, t_ms, bits);
                (self.last.t_ms, self.last.value_bits) = (t_ms, bits);
            }
        }
        self.has_samples = true;
        self.trail.note(commit.0, commit.1);
        Ok(true)
    }

    /// Closes the open chunk, if any.
    pub fn cut(&mut self, store: &mut dyn FnMut(FullChunk) -> FullChunk) {
        let Some(view) = self.take_open() else { return };
        self.full.reserve_exact(1);
        self.full.push(store(view));
    }

    fn take_open(&mut self) -> Option<FullChunk> {
        let maxt_ms = self.last.t_ms;
        if !self.chunk.is_empty() {
            let (mint_ms, encoding) = (self.first_float_time().unwrap_or(maxt_ms), self.float_encoding());
            let chunk = std::mem::take(&mut self.chunk);
            self.xor2 = None;
            return Some(FullChunk {
                mint_ms,
                maxt_ms,
                samples: sample_count(&chunk),
                encoding,
                data: ChunkData::Memory(Arc::from(chunk)),
            });
        }
        let part = self.histogram.as_mut()?;
        let open = part.open.take()?;
        let encoding = open.encoding();
        let chunk = open.into_bytes();
        let mint_ms = part.mint_ms;
        self.histogram = None;
        Some(FullChunk {
            mint_ms,
            maxt_ms,
            samples: encoding.count(&chunk),
            encoding,
            data: ChunkData::Memory(Arc::from(chunk)),
        })
    }

    /// Encoding, first time and bytes of the open chunk.
    fn open_view(&self) -> Option<(Encoding, i64, &[u8])> {
        if !self.chunk.is_empty() {
            return Some((self.float_encoding(), self.first_float_time()?, &self.chunk));
        }
        let part = self.histogram.as_ref()?;
        let open = part.open.as_ref()?;
        Some((open.encoding(), part.mint_ms, open.bytes()))
    }

    /// Chunks that overlap the inclusive range, without what the reader must not see. `None`: no reader, everything.
    /// `read` fetches a chunk from its file; while this series is locked, no file it needs goes away.
    pub fn snapshot(
        &self,
        mint_ms: i64,
        maxt_ms: i64,
        reader: Option<&Reader>,
        read: impl Fn(u64) -> Result<Mapping, Error>,
    ) -> Result<Snapshot, Error> {
        let mut hidden = reader.map_or(0, |r| self.trail.hidden(r));
        let mut chunks = Vec::new();
        if let Some((encoding, first, bytes)) = self.open_view() {
            let samples = usize::from(encoding.count(bytes));
            let visible = samples.saturating_sub(hidden);
            hidden = hidden.saturating_sub(samples);
            if visible > 0 && first <= maxt_ms && self.last.t_ms >= mint_ms {
                let data = Bytes::Memory(Arc::from(bytes));
                chunks.push(ChunkView { encoding, data, visible, mint_ms: first, maxt_ms: self.last.t_ms });
            }
        }
        for c in self.full.iter().rev() {
            let visible = usize::from(c.samples).saturating_sub(hidden);
            hidden = hidden.saturating_sub(usize::from(c.samples));
            if c.maxt_ms < mint_ms {
                break;
            }
            if visible > 0 && c.mint_ms <= maxt_ms {
                let data = match &c.data {
                    ChunkData::Memory(b) => Bytes::Memory(Arc::clone(b)),
                    ChunkData::File(at) => Bytes::Mapped(read(*at)?),
                };
                let encoding = c.encoding;
                chunks.push(ChunkView { encoding, data, visible, mint_ms: c.mint_ms, maxt_ms: c.maxt_ms });
            }
        }
        chunks.reverse();
        Ok(Snapshot { chunks })
    }

    /// Keeps a sample beside the chunks; `false` if one of its time is there. `commit` as in [`OutOfOrder::insert`].
    pub fn insert_out_of_order(&mut self, sample: LateSample, commit: (u64, u64)) -> bool {
        self.out_of_order.get_or_insert_default().insert(sample, commit)
    }
    pub fn remove_out_of_order(&mut self, times: &[i64]) {
        if let Some(o) = &mut self.out_of_order {
            o.remove(times);
            if o.is_empty() {
                self.out_of_order = None;
            }
        }
    }

    /// Drops full chunks that end before `mint_ms`. Returns how many.
    pub fn truncate(&mut self, mint_ms: i64) -> usize {
        let keep = self.full.partition_point(|c| c.maxt_ms < mint_ms);
        self.full.drain(..keep);
        self.full.shrink_to_fit();
        let open_is_old = self.has_samples && self.last.t_ms < mint_ms;
        let mut dropped = keep;
        if open_is_old && self.take_open().is_some() {
            dropped += 1;
        }
        dropped
    }

    /// After a restart: full chunks found in files. The newest sample's value is not known, so that a repetition of it
    /// in the log counts as a duplicate.
    pub fn adopt(&mut self, chunks: Vec<FullChunk>) {
        if let (Some(last), false) = (chunks.last(), self.has_samples) {
            self.last.t_ms = last.maxt_ms;
            self.has_samples = true;
            self.full = chunks;
            // Unused while no chunk is open: how far the log has been read.
            self.next_cut_ms = i64::MIN;
        }
    }

    /// During replay: whether a sample of the log is in an adopted chunk. The log is the truth: a sample that goes on in
    /// order but falls between two chunks shows that one is missing, and the chunks after the gap are given up.
    pub fn is_covered(&mut self, t_ms: i64) -> bool {
        if !self.has_samples || t_ms > self.last.t_ms || self.open_view().is_some() {
            return false;
        }
        if t_ms <= self.next_cut_ms {
            return true; // out of order in the log: refused when it came, refused again
        }
        self.next_cut_ms = t_ms;
        let at = self.full.partition_point(|c| c.maxt_ms < t_ms);
        if self.full.get(at).is_some_and(|c| c.mint_ms <= t_ms) {
            return true;
        }
        self.full.truncate(at);
        self.has_samples = !self.full.is_empty();
        self.last.t_ms = self.full.last().map_or(i64::MIN, |c| c.maxt_ms);
        false
    }
    pub fn chunk_count(&self) -> usize {
        self.full.len() + usize::from(self.open_view().is_some())
    }
}
