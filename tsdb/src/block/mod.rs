//! Blocks: immutable folders with all samples of a stretch of time.
pub mod chunk_file;
pub mod meta;
pub mod tombstones;

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use ferula_fs::{Fs, Mapping};

use crate::chunk::Encoding;
use crate::error::Error;
use crate::format::names;
use crate::index::{ChunkMeta, IndexReader};
use crate::query::select::LabelIndex;
use chunk_file::ChunkFile;
pub use meta::Meta;
pub use tombstones::Tombstones;

/// Series whose chunks are compared with the range in `meta.json` when a block is opened.
const SERIES_ASKED: usize = 256;

/// An open block. Everything is mapped when it is opened, so that its folder may go while readers still hold it.
#[derive(Debug)]
pub struct Block {
    pub dir: PathBuf,
    pub meta: Meta,
    pub index: IndexReader,
    chunks: Vec<ChunkFile>,
    tombstones: RwLock<Tombstones>,
    pub size_bytes: u64,
}

impl Block {
    pub fn open(fs: &dyn Fs, dir: &Path) -> Result<Block, Error> {
        let meta = Meta::read(fs, dir)?;
        let path = dir.join(names::INDEX);
        let bytes = fs.map(&path).map_err(Error::io("mapping", &path))?;
        let mut size_bytes = bytes.len() as u64;
        let index = IndexReader::open(&path, bytes)?;
        let mut chunks = Vec::new();
        let chunk_dir = dir.join(names::CHUNKS);
        for e in fs.list(&chunk_dir).map_err(Error::io("listing", &chunk_dir))? {
            if names::number(&e.name).is_some() {
                let file = ChunkFile::open(fs, &chunk_dir.join(&e.name))?;
                size_bytes += file.size_bytes();
                chunks.push(file);
            }
        }
        let tombstones = Tombstones::read(fs, dir)?;
        let block = Block { dir: dir.to_owned(), meta, index, chunks, tombstones: RwLock::new(tombstones), size_bytes };
        block.check_meta()?;
        Ok(block)
    }

    /// `meta.json` has no checksum, and a wrong range would hide samples without a word: so some series are asked.
    fn check_meta(&self) -> Result<(), Error> {
        let path = self.dir.join(names::META);
        let name = self.dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if !name.starts_with(&self.meta.ulid) {
            return Err(Error::corrupt(&path, 0, format!("it is of block {}", self.meta.ulid)));
        }
        let series = self.index.all()?;
        let mut chunks = Vec::new();
        for s in series.iter().step_by((series.len() / SERIES_ASKED).max(1)) {
            // What is wrong with a series itself shows when it is read.
            if self.index.series(*s, &mut chunks).is_err() {
                continue;
            }
            let outside = |c: &ChunkMeta| c.mint_ms < self.meta.min_time_ms || c.maxt_ms >= self.meta.max_time_ms;
            if chunks.iter().any(outside) {
                return Err(Error::corrupt(&path, 0, "chunks lie outside the block's range"));
            }
        }
        Ok(())
    }

    /// Whether any of the inclusive range lies in this block, whose own range is half open.
    pub fn overlaps(&self, mint_ms: i64, maxt_ms: i64) -> bool {
        self.meta.min_time_ms <= maxt_ms && mint_ms < self.meta.max_time_ms
    }

    /// Encoding and data of a chunk, its checksum checked.
    pub fn chunk(&self, chunk_ref: u64) -> Result<(Encoding, &[u8]), Error> {
        let (file, offset) = self.place(chunk_ref)?;
        file.chunk(offset)
    }
    /// As [`Block::chunk`], for whoever keeps it longer than the block.
    pub fn mapped_chunk(&self, chunk_ref: u64) -> Result<(Encoding, Mapping), Error> {
        let (file, offset) = self.place(chunk_ref)?;
        file.mapped_chunk(offset)
    }
    fn place(&self, chunk_ref: u64) -> Result<(&ChunkFile, usize), Error> {
        let (file, offset) = ((chunk_ref >> 32) as usize, chunk_ref as u32 as usize);
        let file = self.chunks.get(file).ok_or_else(|| Error::corrupt(&self.dir, offset, "no such chunk file"))?;
        Ok((file, offset))
    }

    /// To be asked after chunks were decoded: an error when a file was cut meanwhile.
    pub fn whole(&self) -> Result<(), Error> {
        self.chunks.iter().try_for_each(ChunkFile::whole)
    }

    /// Lets go of the memory that reading chunks took.
    pub fn release(&self) {
        self.chunks.iter().for_each(ChunkFile::release);
    }

    /// Deleted stretches of a series.
    pub fn deleted(&self, series: u32) -> crate::head::Intervals {
        let t = self.tombstones.read().unwrap_or_else(PoisonError::into_inner);
        t.of(u64::from(series))
    }
    pub fn tombstone_count(&self) -> u64 {
        self.tombstones.read().unwrap_or_else(PoisonError::into_inner).count()
    }
    /// Marks stretches of series as deleted, durably.
    pub fn delete(&self, fs: &dyn Fs, series: &[u32], mint_ms: i64, maxt_ms: i64) -> Result<(), Error> {
        let mut held = self.tombstones.write().unwrap_or_else(PoisonError::into_inner);
        let mut new = held.clone();
        for s in series {
            new.add(u64::from(*s), mint_ms, maxt_ms);
        }
        new.write(fs, &self.dir)?;
        *held = new;
        Ok(())
    }
}
