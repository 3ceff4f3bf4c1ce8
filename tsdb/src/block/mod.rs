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
use crate::index::IndexReader;
use chunk_file::ChunkFile;
pub use meta::Meta;
pub use tombstones::Tombstones;

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
        Ok(Block { dir: dir.to_owned(), meta, index, chunks, tombstones: RwLock::new(tombstones), size_bytes })
    }

    /// Whether any of the inclusive range lies in this block, whose own range is half open.
    pub fn overlaps(&self, mint_ms: i64, maxt_ms: i64) -> bool {
        self.meta.min_time_ms <= maxt_ms && mint_ms < self.meta.max_time_ms
    }

    /// Encoding and data of a chunk, its checksum checked.
    pub fn chunk(&self, chunk_ref: u64) -> Result<(Encoding, Mapping), Error> {
        let (file, offset) = ((chunk_ref >> 32) as usize, chunk_ref as u32 as usize);
        let file = self.chunks.get(file).ok_or_else(|| Error::corrupt(&self.dir, offset, "no such chunk file"))?;
        file.chunk(offset)
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
