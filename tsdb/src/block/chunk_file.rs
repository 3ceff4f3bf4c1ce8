//! The chunk files of a block, reading and writing.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferula_fs::{File, Fs, Mapping, Open};

use crate::chunk::Encoding;
use crate::encoding::{Malformed, Reader, crc, crc_more, put_uvarint};
use crate::error::Error;
use crate::format::chunks::{HEADER, MAGIC, SEGMENT_BYTES, VERSION};
use crate::format::names;

#[derive(Debug)]
pub struct ChunkFile {
    path: PathBuf,
    bytes: Mapping,
}

impl ChunkFile {
    pub fn open(fs: &dyn Fs, path: &Path) -> Result<ChunkFile, Error> {
        let bytes = fs.map(path).map_err(Error::io("mapping", path))?;
        let mut r = Reader::new(&bytes);
        match (r.u32(), r.u8()) {
            (Ok(MAGIC), Ok(VERSION)) => {}
            (Ok(MAGIC), Ok(version)) => {
                return Err(Error::UnknownVersion { path: path.to_owned(), version: u32::from(version) });
            }
            _ => return Err(Error::corrupt(path, 0, "bad magic number of a chunk file")),
        }
        Ok(ChunkFile { path: path.to_owned(), bytes })
    }
    pub fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
    /// An error when the file was cut while it was in use: then nothing read of it is to be believed.
    pub fn whole(&self) -> Result<(), Error> {
        Error::if_torn(&self.path, &self.bytes)
    }
    /// Lets go of the memory that reading took.
    pub fn release(&self) {
        self.bytes.release(0..self.bytes.len());
    }
    pub fn chunk(&self, offset: usize) -> Result<(Encoding, &[u8]), Error> {
        let (encoding, at) = self.find(offset)?;
        Ok((encoding, self.bytes.get(at).unwrap_or(&[])))
    }
    /// As [`ChunkFile::chunk`], for whoever keeps it longer than the file.
    pub fn mapped_chunk(&self, offset: usize) -> Result<(Encoding, Mapping), Error> {
        let (encoding, at) = self.find(offset)?;
        let data = self.bytes.slice(at).ok_or_else(|| Error::corrupt(&self.path, offset, "chunk is cut off"))?;
        Ok((encoding, data))
    }
    /// Where the bytes of a chunk are, whose checksum is right.
    fn find(&self, offset: usize) -> Result<(Encoding, std::ops::Range<usize>), Error> {
        let read = || {
            let mut r = Reader::at(&self.bytes, offset)?;
            let len = r.uvarint_usize()?;
            let start = self.bytes.len() - r.len() + 1;
            let checked = r.bytes(len.checked_add(1).ok_or(Malformed("chunk too long"))?)?;
            if crc(checked) != r.u32()? {
                return Err(Malformed("checksum of a chunk differs"));
            }
            let encoding = checked.first().copied().and_then(Encoding::from_byte);
            Ok((encoding.ok_or(Malformed("unknown chunk encoding"))?, start..start + len))
        };
        let found = read();
        self.whole()?;
        found.map_err(|m| Error::corrupt(&self.path, offset, m.0))
    }
}

/// Writes a block's chunk files one after the other.
pub struct ChunkWriter<'a> {
    fs: &'a dyn Fs,
    dir: PathBuf,
    segment_bytes: u64,
    file: Option<Arc<dyn File>>,
    /// Number of the current file, from 1.
    number: u64,
    flushed: u64,
    buf: Vec<u8>,
}

const FLUSH_AT: usize = 1 << 20;

impl<'a> ChunkWriter<'a> {
    pub fn create(fs: &'a dyn Fs, dir: &Path) -> Result<ChunkWriter<'a>, Error> {
        fs.create_dir_all(dir).map_err(Error::io("creating", dir))?;
        Ok(ChunkWriter {
            fs,
            dir: dir.to_owned(),
            segment_bytes: SEGMENT_BYTES,
            file: None,
            number: 0,
            flushed: 0,
            buf: Vec::new(),
        })
    }
    fn path(&self) -> PathBuf {
        self.dir.join(names::chunk_file(self.number))
    }
    fn flush(&mut self) -> Result<(), Error> {
        if let Some(file) = &self.file {
            file.append(&self.buf).map_err(Error::io("writing", &self.path()))?;
            self.flushed += self.buf.len() as u64;
            self.buf.clear();
        }
        Ok(())
    }
    fn close(&mut self) -> Result<(), Error> {
        self.flush()?;
        match self.file.take() {
            Some(file) => file.sync_data().map_err(Error::io("syncing", &self.path())),
            None => Ok(()),
        }
    }
    /// Returns the chunk's reference.
    pub fn write(&mut self, encoding: Encoding, data: &[u8]) -> Result<u64, Error> {
        let size = data.len() as u64 + 16;
        if self.file.is_none() || self.flushed + self.buf.len() as u64 + size > self.segment_bytes {
            self.close()?;
            self.number += 1;
            self.flushed = 0;
            let path = self.path();
            self.file = Some(self.fs.open(&path, Open::Truncate).map_err(Error::io("creating", &path))?);
            self.buf.extend_from_slice(&MAGIC.to_be_bytes());
            self.buf.extend_from_slice(&[VERSION, 0, 0, 0]);
        }
        let offset = self.flushed + self.buf.len() as u64;
        put_uvarint(&mut self.buf, data.len() as u64);
        self.buf.push(encoding as u8);
        self.buf.extend_from_slice(data);
        let sum = crc_more(crc(&[encoding as u8]), data);
        self.buf.extend_from_slice(&sum.to_be_bytes());
        if self.buf.len() >= FLUSH_AT {
            self.flush()?;
        }
        Ok((self.number - 1) << 32 | offset)
    }
    /// Syncs files and folder.
    pub fn finish(mut self) -> Result<(), Error> {
        debug_assert_eq!(HEADER, 8);
        self.close()?;
        self.fs.sync_dir(&self.dir).map_err(Error::io("syncing", &self.dir))
    }
}
