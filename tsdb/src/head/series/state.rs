//! The changing part of a series: its open chunk, its full ones, and what few series have besides.
use std::sync::Arc;

use ferula_storage::AppendError;

use super::{ChunkData, ChunkView, CutRules, FullChunk, Held, Snapshot, XOR_MAX_BYTES, histograms};
use crate::Error;
use crate::chunk::histogram_layout::Header;
use crate::chunk::open::OpenChunk;
use crate::chunk::{Encoding, float_histogram, histogram, sample_count, xor, xor2};
use crate::head::isolation::{Older, Reader, Trail};
use crate::head::out_of_order::{LateSample, OutOfOrder};
use crate::head::stored::FilePart;
use crate::record::histograms::Native;

#[derive(Debug)]
pub(super) enum OpenHistogram {
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
    pub fn bytes(&self) -> &[u8] {
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
    pub fn count(&self) -> (u16, u16) {
        match self {
            OpenHistogram::Integer(o) => (o.count(), o.header().count_max()),
            OpenHistogram::Float(o) => (o.count(), o.header().count_max()),
        }
    }
}

/// What float series do not need.
#[derive(Debug)]
pub(super) struct HistogramPart {
    pub open: Option<OpenHistogram>,
    pub mint_ms: i64,
    /// Whether the chunk's end was predicted from its size already.
    pub has_end: bool,
    pub last: Native,
}

/// Empty: no sample yet. 136 bytes, 44 of which are the newest of the open chunk.
#[derive(Debug)]
pub struct State {
    /// The open float chunk, empty if there is none or it is an XOR2 one.
    chunk: OpenChunk,
    pub full: Box<[FullChunk]>,
    extra: Option<Box<Extra>>,
    /// The open chunk takes no sample from here on.
    pub(super) next_cut_ms: i64,
    /// Encoder state; also time and value of the newest sample, of whatever kind. No sample has the smallest time.
    pub(super) last: xor::State,
    trail: Trail,
}

/// What few series have.
#[derive(Debug, Default)]
struct Extra {
    /// The open float chunk if it is an XOR2 one.
    xor2: Option<Box<Xor2>>,
    histogram: Option<Box<HistogramPart>>,
    out_of_order: Option<Box<OutOfOrder>>,
    older: Older,
}

#[derive(Debug, Default)]
struct Xor2 {
    state: xor2::State,
    chunk: Vec<u8>,
}

impl Default for State {
    fn default() -> State {
        State {
            chunk: OpenChunk::default(),
            full: Box::default(),
            extra: None,
            next_cut_ms: i64::MIN,
            last: xor::State::default(),
            trail: Trail::default(),
        }
    }
}

pub(super) fn range_end(t_ms: i64, width: i64) -> i64 {
    t_ms.div_euclid(width).saturating_mul(width).saturating_add(width)
}

/// Spreads the rest of a chunk range evenly over the chunks it will need, as seen when a chunk is partly full.
pub(super) fn predicted_end(start: i64, current: i64, end: i64, ratio_to_full: f64) -> i64 {
    let n = (end - start) as f64 / ((current - start + 1) as f64 * ratio_to_full);
    if n <= 1.0 { end } else { (start as f64 + (end - start) as f64 / n.floor()) as i64 }
}

impl State {
    /// Time of the newest in-order sample.
    pub fn max_time(&self) -> Option<i64> {
        self.has_samples().then_some(self.last.t_ms)
    }
    fn has_samples(&self) -> bool {
        self.last.t_ms != i64::MIN
    }
    fn extra(&mut self) -> &mut Extra {
        self.extra.get_or_insert_default()
    }
    fn xor2(&self) -> Option<&Xor2> {
        self.extra.as_ref()?.xor2.as_deref()
    }
    pub(super) fn histogram(&self) -> Option<&HistogramPart> {
        self.extra.as_ref()?.histogram.as_deref()
    }
    pub(super) fn histogram_mut(&mut self) -> Option<&mut HistogramPart> {
        self.extra.as_mut()?.histogram.as_deref_mut()
    }
    pub(super) fn set_histogram(&mut self, part: HistogramPart) {
        self.extra().histogram = Some(Box::new(part));
    }
    /// Samples that came out of order.
    pub fn out_of_order(&self) -> Option<&OutOfOrder> {
        self.extra.as_ref()?.out_of_order.as_deref()
    }
    /// Gives the memory back when there is nothing in it.
    fn trim_extra(&mut self) {
        let is_empty =
            |x: &Extra| x.xor2.is_none() && x.histogram.is_none() && x.out_of_order.is_none() && x.older.is_empty();
        if self.extra.as_deref().is_some_and(is_empty) {
            self.extra = None;
        }
    }
    /// Notes one sample of a commit, and forgets what everybody sees. `commit`: its number, and the low watermark.
    #[inline]
    pub(super) fn note(&mut self, commit: (u64, u64)) {
        if let Some(before) = self.trail.note(commit.0, commit.1) {
            self.extra().older.push(before);
        }
        if let Some(extra) = &mut self.extra
            && !extra.older.is_empty()
        {
            extra.older.retain(|(id, _)| *id > commit.1);
            self.trim_extra();
        }
    }

    pub fn min_time(&self) -> Option<i64> {
        match (self.full.first(), self.histogram()) {
            (Some(c), _) => Some(c.mint_ms),
            (None, Some(h)) if h.open.is_some() => Some(h.mint_ms),
            _ => self.first_float_time(),
        }
    }
    /// Number of samples and bytes of the open float chunk.
    fn open_floats(&self) -> (u16, usize) {
        match self.xor2() {
            Some(x) => (sample_count(&x.chunk), x.chunk.len()),
            None => (self.chunk.count(), self.chunk.len()),
        }
    }
    pub(super) fn has_open_floats(&self) -> bool {
        self.open_floats().0 > 0
    }
    /// Time of the first sample of the open float chunk.
    fn first_float_time(&self) -> Option<i64> {
        match self.xor2() {
            Some(x) => crate::encoding::Reader::new(x.chunk.get(xor2::HEADER..)?).varint().ok(),
            None => self.chunk.first_time().ok(),
        }
    }
    fn has_open(&self) -> bool {
        self.has_open_floats() || self.is_histogram()
    }
    pub fn is_empty(&self) -> bool {
        self.full.is_empty() && !self.has_open() && self.out_of_order().is_none()
    }
    /// Whether the newest sample is a histogram.
    pub fn is_histogram(&self) -> bool {
        self.histogram().is_some_and(|h| h.open.is_some())
    }
    /// The newest histogram, when the newest sample is one.
    pub fn last_histogram(&self) -> Option<&Native> {
        self.histogram().filter(|h| h.open.is_some()).map(|h| &h.last)
    }
    pub fn is_stale(&self) -> bool {
        match self.last_histogram() {
            Some(Native::Integer(h)) => h.is_stale(),
            Some(Native::Float(h)) => h.is_stale(),
            None => self.has_samples() && self.last.value_bits == ferula_model::STALE_NAN,
        }
    }

    /// Time of the newest sample if that is a stale marker, and all samples are in chunks.
    pub fn stale_since(&self) -> Option<i64> {
        let has_chunks = !self.full.is_empty() || self.has_open();
        (has_chunks && self.out_of_order().is_none() && self.is_stale()).then_some(self.last.t_ms)
    }
    /// A series that comes back: it goes on behind its stale marker, which is in a block. To be called while it is empty.
    pub fn begin_behind(&mut self, last_ms: i64) {
        (self.last.t_ms, self.last.value_bits) = (last_ms, ferula_model::STALE_NAN);
    }

    /// Upstream's rules for a sample that is not older than the head takes: newer than the newest, or the very same.
    #[inline]
    pub fn check_float(&self, t_ms: i64, bits: u64) -> Result<(), AppendError> {
        if !self.has_samples() || t_ms > self.last.t_ms {
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
        if !self.has_samples() || t_ms > self.last.t_ms {
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
        if self.has_samples() && t_ms == self.last.t_ms {
            return Ok(false);
        }
        if self.is_histogram() {
            self.cut(store);
        }
        let (n, bytes) = self.open_floats();
        let mut is_new = n == 0;
        if is_new {
            self.next_cut_ms = range_end(t_ms, rules.chunk_range_ms);
        } else {
            if n == rules.samples_per_chunk / 4 {
                let start = self.first_float_time().unwrap_or(t_ms);
                self.next_cut_ms = predicted_end(start, self.last.t_ms, self.next_cut_ms, 4.0);
            }
            // Twice the wanted number: then the prediction was wrong because samples come faster now.
            let full = n >= rules.samples_per_chunk.saturating_mul(2) || bytes > XOR_MAX_BYTES;
            if full || t_ms >= self.next_cut_ms {
                self.cut(store);
                self.next_cut_ms = range_end(t_ms, rules.chunk_range_ms);
                is_new = true;
            }
        }
        if is_new && rules.xor2 {
            self.extra().xor2 = Some(Box::default());
        }
        match self.extra.as_mut().and_then(|x| x.xor2.as_mut()) {
            None => xor::append(&mut self.chunk, &mut self.last, t_ms, bits),
            Some(x) => {
                xor2::append(&mut x.chunk, &mut x.state, start_ms, t_ms, bits);
                (self.last.t_ms, self.last.value_bits) = (t_ms, bits);
            }
        }
        self.note(commit);
        Ok(true)
    }

    /// Closes the open chunk, if any.
    pub fn cut(&mut self, store: &mut dyn FnMut(FullChunk) -> FullChunk) {
        let Some(view) = self.take_open() else { return };
        let mut full = std::mem::take(&mut self.full).into_vec();
        full.reserve_exact(1);
        full.push(store(view));
        self.full = full.into_boxed_slice();
    }

    fn take_open(&mut self) -> Option<FullChunk> {
        let maxt_ms = self.last.t_ms;
        if self.has_open_floats() {
            let mint_ms = self.first_float_time().unwrap_or(maxt_ms);
            let (encoding, chunk) = match self.extra.as_mut().and_then(|x| x.xor2.take()) {
                Some(x) => (Encoding::Xor2, x.chunk),
                None => (Encoding::Xor, std::mem::take(&mut self.chunk).to_bytes()),
            };
            self.trim_extra();
            return Some(FullChunk {
                mint_ms,
                maxt_ms,
                samples: sample_count(&chunk),
                encoding,
                data: ChunkData::Memory(Arc::from(chunk)),
            });
        }
        let part = self.histogram_mut()?;
        let open = part.open.take()?;
        let encoding = open.encoding();
        let chunk = open.into_bytes();
        let mint_ms = part.mint_ms;
        if let Some(extra) = &mut self.extra {
            extra.histogram = None;
            self.trim_extra();
        }
        Some(FullChunk {
            mint_ms,
            maxt_ms,
            samples: encoding.count(&chunk),
            encoding,
            data: ChunkData::Memory(Arc::from(chunk)),
        })
    }

    /// Encoding, first time and a copy of the open chunk.
    fn open_view(&self) -> Option<(Encoding, i64, Vec<u8>)> {
        if let Some(x) = self.xor2() {
            return Some((Encoding::Xor2, self.first_float_time()?, x.chunk.clone()));
        }
        if !self.chunk.is_empty() {
            return Some((Encoding::Xor, self.first_float_time()?, self.chunk.to_bytes()));
        }
        let part = self.histogram()?;
        let open = part.open.as_ref()?;
        Some((open.encoding(), part.mint_ms, open.bytes().to_vec()))
    }

    /// Chunks that overlap the inclusive range, without what the reader must not see. `None`: no reader, everything.
    /// `file` finds the file that a chunk is in; while this series is locked, no file it needs goes away. Nothing of the
    /// files has been checked: [`Files::check`](crate::head::stored::Files::check).
    pub fn snapshot(
        &self,
        mint_ms: i64,
        maxt_ms: i64,
        reader: Option<&Reader>,
        mut file: impl FnMut(u64) -> Result<Arc<FilePart>, Error>,
    ) -> Result<Snapshot, Error> {
        let older = self.extra.as_ref().map_or(&[][..], |x| &x.older);
        let mut hidden = reader.map_or(0, |r| self.trail.hidden(older, r));
        let mut open = None;
        if let Some((encoding, first, bytes)) = self.open_view() {
            let samples = usize::from(encoding.count(&bytes));
            let visible = samples.saturating_sub(hidden);
            hidden = hidden.saturating_sub(samples);
            if visible > 0 && first <= maxt_ms && self.last.t_ms >= mint_ms {
                let data = Held::Open(bytes);
                open = Some(ChunkView { encoding, data, visible, mint_ms: first, maxt_ms: self.last.t_ms });
            }
        }
        let mut end = self.full.len();
        while let Some(c) = end.checked_sub(1).and_then(|last| self.full.get(last))
            && hidden >= usize::from(c.samples)
        {
            hidden -= usize::from(c.samples);
            end -= 1;
        }
        // Mostly all of them are wanted: a search would wait for memory at every step.
        let from = match self.full.first() {
            Some(c) if c.maxt_ms >= mint_ms => 0,
            _ => self.full.partition_point(|c| c.maxt_ms < mint_ms),
        };
        let wanted = self.full.get(from..end).unwrap_or(&[]);
        let mut found = Snapshot::default();
        found.chunks.reserve_exact(wanted.len() + usize::from(open.is_some()));
        for (i, c) in wanted.iter().enumerate() {
            if c.mint_ms > maxt_ms {
                break;
            }
            let newest = i + 1 == wanted.len();
            let visible = usize::from(c.samples) - if newest { hidden } else { 0 };
            let data = match &c.data {
                ChunkData::Memory(b) => Held::Memory(Arc::clone(b)),
                ChunkData::File(at) => Held::File(found.files.find(*at, &mut file)?),
            };
            let (encoding, mint_ms, maxt_ms) = (c.encoding, c.mint_ms, c.maxt_ms);
            found.chunks.push(ChunkView { encoding, data, visible, mint_ms, maxt_ms });
        }
        found.chunks.extend(open);
        Ok(found)
    }

    /// Whether it has a chunk that overlaps the inclusive range. `None` where that is not told at a glance: something came
    /// out of order, or something is hidden from the reader.
    pub fn overlaps(&self, mint_ms: i64, maxt_ms: i64, reader: &Reader) -> Option<bool> {
        let older = self.extra.as_ref().map_or(&[][..], |x| &x.older);
        if self.out_of_order().is_some() || self.trail.hidden(older, reader) > 0 {
            return None;
        }
        let from = self.full.partition_point(|c| c.maxt_ms < mint_ms);
        if self.full.get(from).is_some_and(|c| c.mint_ms <= maxt_ms) {
            return Some(true);
        }
        let open = self.histogram().filter(|h| h.open.is_some()).map(|h| h.mint_ms);
        let first_ms = if self.has_open_floats() { Some(self.first_float_time()?) } else { open };
        Some(self.last.t_ms >= mint_ms && first_ms.is_some_and(|first_ms| first_ms <= maxt_ms))
    }

    /// The newest sample, when it is a float, not after `maxt_ms` and visible to `reader`, and nothing came out of order.
    pub fn newest_float(&self, maxt_ms: i64, reader: &Reader) -> Option<(i64, f64)> {
        let older = self.extra.as_ref().map_or(&[][..], |x| &x.older);
        let is_plain = !self.chunk.is_empty() && self.out_of_order().is_none();
        let is_seen = is_plain && self.last.t_ms <= maxt_ms && self.trail.hidden(older, reader) == 0;
        is_seen.then(|| (self.last.t_ms, f64::from_bits(self.last.value_bits)))
    }

    /// Keeps a sample beside the chunks; `false` if one of its time is there. `commit` as in [`OutOfOrder::insert`].
    pub fn insert_out_of_order(&mut self, sample: LateSample, commit: (u64, u64)) -> bool {
        self.extra().out_of_order.get_or_insert_default().insert(sample, commit)
    }
    pub fn remove_out_of_order(&mut self, times: &[i64]) {
        let Some(extra) = &mut self.extra else { return };
        if let Some(o) = &mut extra.out_of_order {
            o.remove(times);
            if o.is_empty() {
                extra.out_of_order = None;
                self.trim_extra();
            }
        }
    }

    /// Drops full chunks that end before `mint_ms`. Returns how many.
    pub fn truncate(&mut self, mint_ms: i64) -> usize {
        let keep = self.full.partition_point(|c| c.maxt_ms < mint_ms);
        if keep > 0 {
            self.full = self.full.get(keep..).unwrap_or(&[]).into();
        }
        let open_is_old = self.has_samples() && self.last.t_ms < mint_ms;
        let mut dropped = keep;
        if open_is_old && self.take_open().is_some() {
            dropped += 1;
        }
        dropped
    }

    /// After a restart: full chunks found in files. The newest sample's value is not known, so that a repetition of it
    /// in the log counts as a duplicate.
    pub fn adopt(&mut self, chunks: Box<[FullChunk]>) {
        if let (Some(last), false) = (chunks.last(), self.has_samples()) {
            self.last.t_ms = last.maxt_ms;
            self.full = chunks;
            // Unused while no chunk is open: how far the log has been read.
            self.next_cut_ms = i64::MIN;
        }
    }

    /// During replay: whether a sample of the log is in an adopted chunk. The log is the truth: a sample that goes on in
    /// order but falls between two chunks shows that one is missing, and the chunks after the gap are given up.
    pub fn is_covered(&mut self, t_ms: i64) -> bool {
        if !self.has_samples() || t_ms > self.last.t_ms || self.has_open() {
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
        self.full = self.full.get(..at).unwrap_or(&[]).into();
        self.last.t_ms = self.full.last().map_or(i64::MIN, |c| c.maxt_ms);
        false
    }
    /// As [`State::is_covered`]; bounds of the full chunk that the sample is in.
    pub fn covering(&mut self, t_ms: i64) -> Option<(i64, i64)> {
        if !self.is_covered(t_ms) {
            return None;
        }
        let at = self.full.partition_point(|c| c.maxt_ms < t_ms);
        self.full.get(at).filter(|c| c.mint_ms <= t_ms).map(|c| (c.mint_ms, c.maxt_ms))
    }
    pub fn chunk_count(&self) -> usize {
        self.full.len() + usize::from(self.has_open())
    }
}
