//! Full chunks on disk instead of on the heap: written through a buffer, read through mappings.
//!
//! The files are a help, not a store: nothing is synced, a chunk that cannot be written stays in memory, and at a restart
//! whatever follows damage is rebuilt from the log.
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferula_fs::{File, Fs, Mapping, Open};
use hashbrown::HashMap;

use super::series::{ChunkData, FullChunk};
use super::stored::FilePart;
use crate::chunk::Encoding;
use crate::encoding::{Malformed, Reader, crc, put_uvarint};
use crate::error::{CUT, Error};
use crate::format::head_chunks::{FILE_BYTES, HEADER, MAGIC, OUT_OF_ORDER, VERSION};
use crate::format::names;

const FLUSH_AT: usize = 64 * 1024;
/// While the disk refuses, so much is kept for another try; later chunks stay with their series.
const BUFFER_MAX: usize = 1 << 20;

#[derive(Debug)]
pub struct HeadChunks {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Closed files by number, and the newest time in each.
    closed: HashMap<u64, (Mapping, i64)>,
    number: u64,
    file: Option<Arc<dyn File>>,
    /// Of the current file: how much is written, what is not, what of it is mapped, its newest time.
    flushed: u64,
    buf: Vec<u8>,
    mapped: Option<Mapping>,
    max_time: i64,
}

/// Bytes of a record before the length of its data.
const FIXED: usize = 8 + 8 + 8 + 1;

/// Chunks found in the files, sorted by series; those of one in the order they were written. One list for all: a list for
/// each series would take four times the memory, at the moment when there is least.
#[derive(Debug, Default)]
pub struct Loaded {
    chunks: Vec<(u64, FullChunk)>,
    /// Behind the series that was asked for last: they mostly come in order.
    next: usize,
}

impl Loaded {
    fn new(mut chunks: Vec<(u64, FullChunk)>) -> Loaded {
        chunks.sort_by_key(|(series, _)| *series);
        // A chunk that does not follow those before it, as after a start that could not read all of them, does not count.
        chunks.dedup_by(|later, kept| later.0 == kept.0 && later.1.mint_ms <= kept.1.maxt_ms);
        Loaded { chunks, next: 0 }
    }
    pub fn len(&self) -> usize {
        self.chunks.len()
    }
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
    /// The lowest and the highest reference.
    pub fn bounds(&self) -> Option<(u64, u64)> {
        Some((self.chunks.first()?.0, self.chunks.last()?.0))
    }
    /// Forgets those of the other series.
    pub fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        self.chunks.retain(|(series, _)| keep(*series));
        self.chunks.shrink_to_fit();
        self.next = 0;
    }
    /// The chunks of a series.
    pub fn of(&mut self, series: u64) -> &[(u64, FullChunk)] {
        if self.chunks.get(self.next).is_none_or(|c| c.0 != series) {
            self.next = self.chunks.partition_point(|c| c.0 < series);
        }
        let from = self.chunks.get(self.next..).unwrap_or(&[]);
        let n = from.iter().take_while(|c| c.0 == series).count();
        self.next += n;
        from.get(..n).unwrap_or(&[])
    }
}

impl HeadChunks {
    /// Chunks go into a file after those that are there.
    pub fn open(fs: Arc<dyn Fs>, dir: &Path) -> Result<HeadChunks, Error> {
        fs.create_dir_all(dir).map_err(Error::io("creating", dir))?;
        let number = numbers(&*fs, dir)?.last().copied().unwrap_or(0);
        let state = State { max_time: i64::MIN, number, ..State::default() };
        Ok(HeadChunks { fs, dir: dir.to_owned(), state: Mutex::new(state) })
    }

    /// Reads what is in the folder; to be called before the first chunk is stored. From the first damage on everything is
    /// moved aside by `discard` (called with the paths).
    pub fn load(&self, mut discard: impl FnMut(&Path, &'static str) -> Result<(), Error>) -> Result<Loaded, Error> {
        let mut loaded = Vec::new();
        let mut damaged = None;
        for n in numbers(&*self.fs, &self.dir)? {
            let path = self.dir.join(names::chunk_file(n));
            if let Some(why) = damaged {
                discard(&path, why)?;
                continue;
            }
            let bytes = self.fs.map(&path).map_err(Error::io("mapping", &path))?;
            let mut max_time = i64::MIN;
            let result = read_file(n, &bytes, |series, chunk| {
                max_time = max_time.max(chunk.maxt_ms);
                loaded.push((series, chunk));
            });
            let result = if bytes.is_torn() { Err(Malformed(CUT)) } else { result };
            if let Err(m) = result {
                // Good chunks before the damage stay in use through the mapping.
                damaged = Some(m.0);
                discard(&path, m.0)?;
            }
            bytes.release(0..bytes.len());
            self.state().closed.insert(n, (bytes, max_time));
        }
        Ok(Loaded::new(loaded))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves a full chunk from memory to the file; gives it back as it was if that is not possible.
    pub fn store(&self, series: u64, chunk: FullChunk) -> FullChunk {
        let ChunkData::Memory(data) = &chunk.data else { return chunk };
        let mut s = self.state();
        let at = match self.append(&mut s, series, &chunk, data) {
            Some(at) => at,
            None => return chunk,
        };
        FullChunk { data: ChunkData::File(at), ..chunk }
    }

    fn append(&self, s: &mut State, series: u64, chunk: &FullChunk, data: &[u8]) -> Option<u64> {
        if s.file.is_none() || s.flushed + (s.buf.len() + data.len()) as u64 > FILE_BYTES {
            self.next_file(s)?;
        }
        if s.buf.len() >= BUFFER_MAX {
            self.flush(s)?;
        }
        let start = s.buf.len();
        let at = s.number << 32 | (s.flushed + start as u64);
        s.buf.extend_from_slice(&series.to_be_bytes());
        s.buf.extend_from_slice(&chunk.mint_ms.to_be_bytes());
        s.buf.extend_from_slice(&chunk.maxt_ms.to_be_bytes());
        s.buf.push(chunk.encoding as u8);
        put_uvarint(&mut s.buf, data.len() as u64);
        s.buf.extend_from_slice(data);
        let sum = crc(s.buf.get(start..).unwrap_or(&[]));
        s.buf.extend_from_slice(&sum.to_be_bytes());
        s.max_time = s.max_time.max(chunk.maxt_ms);
        if s.buf.len() >= FLUSH_AT && s.buf.len() < BUFFER_MAX {
            let _ = self.flush(s); // the buffer keeps it for the next try
        }
        Some(at)
    }

    fn flush(&self, s: &mut State) -> Option<()> {
        let file = s.file.as_ref()?;
        if let Err(error) = file.append(&s.buf) {
            let _ = file.truncate(s.flushed);
            tracing::warn!(%error, "head chunks cannot be written; they stay in memory");
            return None;
        }
        s.flushed += s.buf.len() as u64;
        s.buf.clear();
        Some(())
    }

    fn next_file(&self, s: &mut State) -> Option<()> {
        if s.file.is_some() {
            self.flush(s)?;
            let mapping = s.file.as_ref()?.map().ok()?;
            let (number, max_time) = (s.number, s.max_time);
            s.closed.insert(number, (mapping, max_time));
            (s.file, s.mapped, s.max_time) = (None, None, i64::MIN);
        }
        let path = self.dir.join(names::chunk_file(s.number + 1));
        let file = self.fs.open(&path, Open::Truncate).ok()?;
        s.number += 1;
        s.file = Some(file);
        s.flushed = 0;
        s.buf.clear();
        s.buf.extend_from_slice(&MAGIC.to_be_bytes());
        s.buf.extend_from_slice(&[VERSION, 0, 0, 0]);
        Some(())
    }

    /// The file that a stored chunk is in. What waits to be written stands for itself.
    pub fn part(&self, at: u64) -> Result<FilePart, Error> {
        let (number, offset) = (at >> 32, at as u32 as usize);
        let mut s = self.state();
        if let Some((bytes, _)) = s.closed.get(&number) {
            return Ok(FilePart { number, from: 0, bytes: bytes.clone() });
        }
        let path = self.dir.join(names::chunk_file(number));
        let missing = || Error::corrupt(&path, offset, "no such head chunk file");
        if number != s.number {
            return Err(missing());
        }
        if let Some(buffered) = (offset as u64).checked_sub(s.flushed) {
            let record = Record::at(&s.buf, buffered as usize).map_err(|m| Error::corrupt(&path, offset, m.0))?;
            let bytes = s.buf.get(buffered as usize..record.end).unwrap_or(&[]);
            return Ok(FilePart { number, from: offset, bytes: Mapping::from(bytes.to_vec()) });
        }
        if s.mapped.as_ref().is_none_or(|m| m.len() <= offset) {
            let file = s.file.as_ref().ok_or_else(missing)?;
            s.mapped = Some(file.map().map_err(Error::io("mapping", &path))?);
        }
        let bytes = s.mapped.clone().ok_or_else(missing)?;
        Ok(FilePart { number, from: 0, bytes })
    }

    /// Where the files are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Lets go of the memory that reading took: for whoever has read a lot of them, and will not again.
    pub fn release(&self) {
        let s = self.state();
        let mappings: Vec<Mapping> = s.closed.values().map(|(m, _)| m).chain(&s.mapped).cloned().collect();
        drop(s);
        mappings.iter().for_each(|m| m.release(0..m.len()));
    }

    /// Removes the oldest files as far as they hold nothing from `mint_ms` on.
    pub fn truncate(&self, mint_ms: i64) -> Result<(), Error> {
        let mut s = self.state();
        let mut numbers: Vec<u64> = s.closed.keys().copied().collect();
        numbers.sort_unstable();
        for n in numbers {
            if s.closed.get(&n).is_some_and(|(_, max)| *max >= mint_ms) {
                break; // without a gap, or upstream calls the folder corrupt
            }
            s.closed.remove(&n);
            let path = self.dir.join(names::chunk_file(n));
            if self.fs.exists(&path) {
                self.fs.remove_file(&path).map_err(Error::io("removing", &path))?;
            }
        }
        Ok(())
    }

    /// Writes out what is buffered, so that a restart finds it.
    pub fn close(&self) {
        let mut s = self.state();
        if s.file.is_some() {
            let _ = self.flush(&mut s);
        }
    }

    pub fn size_bytes(&self) -> u64 {
        let s = self.state();
        s.closed.values().map(|(m, _)| m.len() as u64).sum::<u64>() + s.flushed + s.buf.len() as u64
    }
}

/// Where the parts of a chunk's record lie.
pub struct Record<'a> {
    pub data: Range<usize>,
    /// What the checksum is of, and the checksum.
    pub summed: &'a [u8],
    pub sum: u32,
    /// Behind the checksum.
    pub end: usize,
}

impl<'a> Record<'a> {
    /// Of the record that begins at `start`. Nothing has been checked but that it is whole.
    pub fn at(bytes: &'a [u8], start: usize) -> Result<Record<'a>, Malformed> {
        let mut r = Reader::at(bytes, start)?;
        r.bytes(FIXED)?;
        let len = r.uvarint_usize()?;
        let from = bytes.len() - r.len();
        r.bytes(len)?;
        let sum = r.u32()?;
        let (data, end) = (from..from + len, from + len + 4);
        let summed = bytes.get(start..data.end).unwrap_or(&[]);
        Ok(Record { data, summed, sum, end })
    }
}

fn numbers(fs: &dyn Fs, dir: &Path) -> Result<Vec<u64>, Error> {
    let found = fs.list(dir).map_err(Error::io("listing", dir))?;
    let mut numbers: Vec<u64> = found.iter().filter_map(|e| names::number(&e.name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Series (0: out of order) and chunk, without its place; leaves the reader behind the checksum.
fn read_chunk(r: &mut Reader<'_>) -> Result<(u64, FullChunk), Malformed> {
    let mut inner = *r;
    let series = inner.u64()?;
    let (mint_ms, maxt_ms) = (inner.i64()?, inner.i64()?);
    let encoding = inner.u8()?;
    let len = inner.uvarint_usize()?;
    let data = inner.bytes(len)?;
    let size = r.len() - inner.len();
    if crc(r.bytes(size)?) != r.u32()? {
        return Err(Malformed("checksum of a head chunk differs"));
    }
    let known = Encoding::from_byte(encoding & !OUT_OF_ORDER).ok_or(Malformed("unknown encoding of a head chunk"))?;
    let chunk = FullChunk { mint_ms, maxt_ms, samples: known.count(data), encoding: known, data: ChunkData::File(0) };
    let is_out_of_order = encoding & OUT_OF_ORDER != 0;
    Ok((if is_out_of_order { 0 } else { series }, chunk))
}

fn read_file(number: u64, bytes: &[u8], mut each: impl FnMut(u64, FullChunk)) -> Result<(), Malformed> {
    if bytes.iter().all(|b| *b == 0) {
        return Ok(()); // created, never written
    }
    let mut r = Reader::new(bytes);
    if r.u32()? != MAGIC {
        return Err(Malformed("bad magic number of a head chunk file"));
    }
    if r.u8()? != VERSION {
        return Err(Malformed("unknown version of a head chunk file"));
    }
    r.bytes(HEADER - 5)?;
    while !r.is_empty() {
        if r.rest().iter().take(64).all(|b| *b == 0) {
            return if r.rest().iter().all(|b| *b == 0) { Ok(()) } else { Err(Malformed("data behind the end")) };
        }
        let offset = (bytes.len() - r.len()) as u64;
        let (series, mut chunk) = read_chunk(&mut r)?;
        chunk.data = ChunkData::File(number << 32 | offset);
        if series != 0 {
            each(series, chunk); // out-of-order chunks come back from their own log
        }
    }
    Ok(())
}
