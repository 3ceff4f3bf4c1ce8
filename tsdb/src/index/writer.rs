//! Writing an index in one pass: symbols first, then series in label order, then everything derived from them.
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferula_fs::{File, Fs, Open};
use ferula_model::LabelView;
use hashbrown::HashMap;

use super::ChunkMeta;
use crate::encoding::{crc, put_str, put_uvarint, put_varint};
use crate::error::Error;
use crate::format::index::{HEADER, MAGIC, POSTINGS_ALIGN, SERIES_ALIGN, V2};

const FLUSH_AT: usize = 1 << 20;

/// Cost: 4 bytes for each series and label until `finish`, besides the symbols.
pub struct IndexWriter {
    file: Arc<dyn File>,
    path: PathBuf,
    buf: Vec<u8>,
    flushed: u64,
    ordinals: HashMap<Box<str>, u32>,
    /// Strings by ordinal, for the tables at the end.
    symbols: Vec<Box<str>>,
    postings: HashMap<(u32, u32), Vec<u32>>,
    all: Vec<u32>,
    symbols_at: u64,
    series_at: u64,
}

impl IndexWriter {
    /// `symbols` must hold every string of every series to come; more does no harm.
    pub fn create(fs: &dyn Fs, path: &Path, symbols: BTreeSet<Box<str>>) -> Result<IndexWriter, Error> {
        let file = fs.open(path, Open::Truncate).map_err(Error::io("creating", path))?;
        let mut w = IndexWriter {
            file,
            path: path.to_owned(),
            buf: Vec::new(),
            flushed: 0,
            ordinals: HashMap::with_capacity(symbols.len()),
            symbols: Vec::with_capacity(symbols.len()),
            postings: HashMap::new(),
            all: Vec::new(),
            symbols_at: HEADER as u64,
            series_at: 0,
        };
        w.buf.extend_from_slice(&MAGIC.to_be_bytes());
        w.buf.push(V2);
        let mut body = (symbols.len() as u32).to_be_bytes().to_vec();
        for (i, s) in symbols.into_iter().enumerate() {
            put_str(&mut body, &s);
            w.ordinals.insert(s.clone(), i as u32);
            w.symbols.push(s);
        }
        w.section(&body)?;
        w.align(SERIES_ALIGN);
        w.series_at = w.at();
        Ok(w)
    }

    fn at(&self) -> u64 {
        self.flushed + self.buf.len() as u64
    }
    fn flush(&mut self) -> Result<(), Error> {
        self.file.append(&self.buf).map_err(Error::io("writing", &self.path))?;
        self.flushed += self.buf.len() as u64;
        self.buf.clear();
        Ok(())
    }
    fn align(&mut self, to: usize) {
        let pad = (to - (self.at() % to as u64) as usize) % to;
        self.buf.resize(self.buf.len() + pad, 0);
    }
    /// `u32 len | body | crc`.
    fn section(&mut self, body: &[u8]) -> Result<(), Error> {
        let len = u32::try_from(body.len())
            .map_err(|_| Error::Invalid(format!("{}: a section exceeds 4 GiB", self.path.display())))?;
        self.buf.extend_from_slice(&len.to_be_bytes());
        self.buf.extend_from_slice(body);
        self.buf.extend_from_slice(&crc(body).to_be_bytes());
        if self.buf.len() >= FLUSH_AT { self.flush() } else { Ok(()) }
    }

    /// Adds a series; label sets must ascend, chunks too.
    pub fn series(&mut self, labels: &dyn LabelView, chunks: &[ChunkMeta]) -> Result<(), Error> {
        self.align(SERIES_ALIGN);
        let series = u32::try_from(self.at() / SERIES_ALIGN as u64)
            .map_err(|_| Error::Invalid(format!("{}: the index exceeds 64 GiB", self.path.display())))?;
        let mut body = Vec::with_capacity(64 + chunks.len() * 8);
        put_uvarint(&mut body, labels.len() as u64);
        let mut unknown = false;
        labels.each(&mut |name, value| match (self.ordinals.get(name), self.ordinals.get(value)) {
            (Some(n), Some(v)) => {
                put_uvarint(&mut body, u64::from(*n));
                put_uvarint(&mut body, u64::from(*v));
                self.postings.entry((*n, *v)).or_default().push(series);
            }
            _ => unknown = true,
        });
        if unknown {
            return Err(Error::Invalid(format!("{}: a label is not among the symbols", self.path.display())));
        }
        self.all.push(series);
        put_uvarint(&mut body, chunks.len() as u64);
        let mut previous: Option<&ChunkMeta> = None;
        for c in chunks {
            match previous {
                None => {
                    put_varint(&mut body, c.mint_ms);
                    put_uvarint(&mut body, c.maxt_ms.wrapping_sub(c.mint_ms) as u64);
                    put_uvarint(&mut body, c.chunk_ref);
                }
                Some(p) => {
                    put_uvarint(&mut body, c.mint_ms.wrapping_sub(p.maxt_ms) as u64);
                    put_uvarint(&mut body, c.maxt_ms.wrapping_sub(c.mint_ms) as u64);
                    put_varint(&mut body, c.chunk_ref.wrapping_sub(p.chunk_ref) as i64);
                }
            }
            previous = Some(c);
        }
        put_uvarint(&mut self.buf, body.len() as u64);
        self.buf.extend_from_slice(&body);
        self.buf.extend_from_slice(&crc(&body).to_be_bytes());
        if self.buf.len() >= FLUSH_AT { self.flush() } else { Ok(()) }
    }

    /// Writes postings, tables and TOC, and syncs.
    pub fn finish(mut self) -> Result<(), Error> {
        self.align(4);
        let label_indices_at = self.at();
        let label_table_at = self.at();
        self.section(&0u32.to_be_bytes())?;
        self.align(POSTINGS_ALIGN);
        let postings_at = self.at();
        let mut table = Vec::new();
        let all = std::mem::take(&mut self.all);
        let mut pairs: Vec<((u32, u32), Vec<u32>)> = self.postings.drain().collect();
        pairs.sort_unstable_by_key(|(pair, _)| *pair);
        let count = pairs.len() as u32 + 1;
        self.list("", "", &all, &mut table)?;
        let symbols = std::mem::take(&mut self.symbols);
        for ((n, v), list) in pairs {
            let text = |i: u32| symbols.get(i as usize).map_or("", |s| &**s);
            self.list(text(n), text(v), &list, &mut table)?;
        }
        self.align(4);
        let postings_table_at = self.at();
        let mut body = count.to_be_bytes().to_vec();
        body.append(&mut table);
        self.section(&body)?;
        let offsets =
            [self.symbols_at, self.series_at, label_indices_at, label_table_at, postings_at, postings_table_at];
        let mut toc: Vec<u8> = offsets.iter().flat_map(|o| o.to_be_bytes()).collect();
        let sum = crc(&toc);
        toc.extend_from_slice(&sum.to_be_bytes());
        self.buf.extend_from_slice(&toc);
        self.flush()?;
        self.file.sync_data().map_err(Error::io("syncing", &self.path))
    }

    fn list(&mut self, name: &str, value: &str, series: &[u32], table: &mut Vec<u8>) -> Result<(), Error> {
        self.align(POSTINGS_ALIGN);
        table.push(2);
        put_str(table, name);
        put_str(table, value);
        put_uvarint(table, self.at());
        let mut body = Vec::with_capacity(series.len() * 4 + 4);
        body.extend_from_slice(&(series.len() as u32).to_be_bytes());
        series.iter().for_each(|s| body.extend_from_slice(&s.to_be_bytes()));
        self.section(&body)
    }
}
