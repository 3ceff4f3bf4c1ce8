//! Reading an index over a mapping. Sections are checked when the file is opened, series and postings when they are read.
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ferula_fs::Mapping;
use ferula_model::Labels;
use hashbrown::{HashMap, HashSet};

use super::ChunkMeta;
use crate::encoding::{Malformed, Reader, crc};
use crate::error::{CUT, Error};
use crate::format::index::{HEADER, MAGIC, SERIES_ALIGN, TOC, V1, V2};
use crate::head::postings::{overlap, union};
use crate::query::select::LabelIndex;

/// Of the postings table only every so many entries of a name are kept in memory.
const STEP: usize = 32;

/// Cost in memory: 4 bytes a symbol, and one entry in 32 of the postings table.
#[derive(Debug)]
pub struct IndexReader {
    path: PathBuf,
    bytes: Mapping,
    version: u8,
    /// Offsets of the strings, in order.
    symbols: Vec<u32>,
    names: BTreeMap<String, Values>,
    series_at: usize,
    series_end: usize,
}

/// Where the entries of one label name are in the postings table.
#[derive(Debug, Default)]
struct Values {
    count: usize,
    /// Offset of every [`STEP`]-th entry (version 1: of every entry, sorted by value).
    entries: Vec<u32>,
}

impl IndexReader {
    pub fn open(path: &Path, bytes: Mapping) -> Result<IndexReader, Error> {
        let damaged = |offset: usize, what: &str| Error::corrupt(path, offset, what);
        let mut header = Reader::new(&bytes);
        let (Ok(magic), Ok(version)) = (header.u32(), header.u8()) else { return Err(damaged(0, "file too short")) };
        if magic != MAGIC {
            return Err(damaged(0, "bad magic number of an index"));
        }
        if version != V1 && version != V2 {
            return Err(Error::UnknownVersion { path: path.to_owned(), version: u32::from(version) });
        }
        let toc_at = bytes.len().checked_sub(TOC).ok_or_else(|| damaged(0, "file too short"))?;
        let toc = bytes.get(toc_at..).unwrap_or(&[]);
        let (numbers, sum) = toc.split_at_checked(TOC - 4).unwrap_or_default();
        if sum != crc(numbers).to_be_bytes() {
            return Err(damaged(toc_at, "checksum of the table of contents differs"));
        }
        let mut r = Reader::new(numbers);
        let mut offset = || r.u64().ok().and_then(|o| usize::try_from(o).ok()).unwrap_or(usize::MAX);
        let (symbols_at, series_at, label_indices_at, _, postings_at, table_at) =
            (offset(), offset(), offset(), offset(), offset(), offset());
        let series_end = if label_indices_at > 0 { label_indices_at } else { postings_at };
        let mut reader = IndexReader {
            path: path.to_owned(),
            version,
            symbols: Vec::new(),
            names: BTreeMap::new(),
            series_at: series_at.max(HEADER),
            series_end: series_end.min(toc_at),
            bytes,
        };
        reader.read_symbols(symbols_at).map_err(|m| damaged(symbols_at, m.0))?;
        reader.read_table(table_at).map_err(|m| damaged(table_at, m.0))?;
        reader.whole().map_err(|m| damaged(0, m.0))?;
        Ok(reader)
    }

    /// The body of a section `u32 len | body | crc`, and where it begins.
    fn section(&self, at: usize) -> Result<(usize, &[u8]), Malformed> {
        let mut r = Reader::at(&self.bytes, at)?;
        let len = r.u32()? as usize;
        let body = r.bytes(len)?;
        if crc(body) != r.u32()? {
            return Err(Malformed("checksum of a section differs"));
        }
        Ok((at + 4, body))
    }

    fn read_symbols(&mut self, at: usize) -> Result<(), Malformed> {
        let (start, body) = self.section(at)?;
        let mut r = Reader::new(body);
        let count = r.u32()? as usize;
        if count > r.len() {
            return Err(Malformed("symbol count exceeds the section"));
        }
        let mut symbols = Vec::with_capacity(count);
        for _ in 0..count {
            let offset = start + body.len() - r.len();
            symbols.push(u32::try_from(offset).map_err(|_| Malformed("symbol table too large"))?);
            r.str()?;
        }
        self.symbols = symbols;
        Ok(())
    }

    fn read_table(&mut self, at: usize) -> Result<(), Malformed> {
        let (start, body) = self.section(at)?;
        let mut r = Reader::new(body);
        let count = r.u32()?;
        let mut names: BTreeMap<String, Values> = BTreeMap::new();
        let mut sorted: Vec<(&str, &str, u32)> = Vec::new();
        let mut current: Option<(&str, Values)> = None;
        for _ in 0..count {
            let offset = u32::try_from(start + body.len() - r.len()).map_err(|_| Malformed("index too large"))?;
            if r.u8()? != 2 {
                return Err(Malformed("postings entry does not have two strings"));
            }
            let (name, value) = (r.str()?, r.str()?);
            r.uvarint()?;
            if self.version == V1 {
                sorted.push((name, value, offset));
                continue;
            }
            if current.as_ref().is_none_or(|(n, _)| *n != name)
                && let Some((n, v)) = current.replace((name, Values::default()))
            {
                names.insert(n.to_owned(), v);
            }
            if let Some((_, values)) = &mut current {
                if values.count.is_multiple_of(STEP) {
                    values.entries.push(offset);
                }
                values.count += 1;
            }
        }
        if let Some((n, v)) = current {
            names.insert(n.to_owned(), v);
        }
        // Version 1 did not promise an order.
        sorted.sort_unstable();
        for (name, _, offset) in sorted {
            let values = names.entry(name.to_owned()).or_default();
            values.count += 1;
            values.entries.push(offset);
        }
        self.names = names;
        Ok(())
    }

    fn step(&self) -> usize {
        if self.version == V1 { 1 } else { STEP }
    }

    /// Value and postings offset of the table entry at `offset`.
    fn entry<'a>(&self, r: &mut Reader<'a>) -> Result<(&'a str, usize), Malformed> {
        r.u8()?;
        r.str()?;
        Ok((r.str()?, r.uvarint_usize()?))
    }

    /// Calls `each` with value and postings offset of the name's values in order, from the last entry kept in memory
    /// that is not behind `from`, until it answers `false`.
    fn walk(&self, name: &str, from: &str, mut each: impl FnMut(&str, usize) -> bool) -> Result<(), Malformed> {
        let Some(values) = self.names.get(name) else { return Ok(()) };
        let value_at = |offset: &u32| {
            Reader::at(&self.bytes, *offset as usize).and_then(|mut r| self.entry(&mut r)).map_or("", |e| e.0)
        };
        let first = values.entries.partition_point(|o| value_at(o) <= from).saturating_sub(1);
        let mut left = values.count.saturating_sub(first * self.step());
        for (i, offset) in values.entries.iter().enumerate().skip(first) {
            let mut r = Reader::at(&self.bytes, *offset as usize)?;
            let _ = i;
            for _ in 0..self.step().min(left) {
                let (value, postings) = self.entry(&mut r)?;
                if !each(value, postings) {
                    return self.whole();
                }
                left -= 1;
            }
        }
        self.whole()
    }

    /// To be asked after reading.
    fn whole(&self) -> Result<(), Malformed> {
        if self.bytes.is_torn() { Err(Malformed(CUT)) } else { Ok(()) }
    }

    fn postings_at(&self, offset: usize) -> Result<Vec<u32>, Error> {
        let read = || {
            let (_, body) = self.section(offset)?;
            let (count, refs) = body.split_first_chunk::<4>().ok_or(Malformed("postings too short"))?;
            if refs.len() != u32::from_be_bytes(*count) as usize * 4 {
                return Err(Malformed("postings count differs from their length"));
            }
            let refs = refs.as_chunks::<4>().0.iter().map(|r| u32::from_be_bytes(*r)).collect();
            self.whole().map(|()| refs)
        };
        read().map_err(|m: Malformed| Error::corrupt(&self.path, offset, m.0))
    }

    fn damaged(&self, at: usize) -> impl Fn(Malformed) -> Error + '_ {
        move |m| Error::corrupt(&self.path, at, m.0)
    }

    pub fn symbol(&self, reference: u64) -> Result<&str, Malformed> {
        let offset = match self.version {
            V1 => usize::try_from(reference).map_err(|_| Malformed("symbol out of range"))?,
            _ => {
                let i = usize::try_from(reference).map_err(|_| Malformed("symbol out of range"))?;
                *self.symbols.get(i).ok_or(Malformed("symbol out of range"))? as usize
            }
        };
        Reader::at(&self.bytes, offset)?.str()
    }
    /// Memory of what is kept to find symbols.
    pub fn symbol_table_bytes(&self) -> u64 {
        size_of_val(&self.symbols[..]) as u64
    }
    pub fn symbols(&self) -> impl Iterator<Item = &str> {
        self.symbols.iter().filter_map(|o| Reader::at(&self.bytes, *o as usize).ok()?.str().ok())
    }

    fn series_body(&self, series: u32) -> Result<&[u8], Malformed> {
        let at = match self.version {
            V1 => series as usize,
            _ => series as usize * SERIES_ALIGN,
        };
        if at < self.series_at || at >= self.series_end {
            return Err(Malformed("series reference out of range"));
        }
        let mut r = Reader::at(&self.bytes, at)?;
        let body = r.prefixed()?;
        if crc(body) != r.u32()? {
            return Err(Malformed("checksum of a series differs"));
        }
        Ok(body)
    }

    /// Labels and chunks of a series; `chunks` is replaced.
    pub fn series(&self, series: u32, chunks: &mut Vec<ChunkMeta>) -> Result<Labels, Error> {
        let read = |chunks: &mut Vec<ChunkMeta>| {
            let mut r = Reader::new(self.series_body(series)?);
            let mut pairs = Vec::with_capacity(16);
            for _ in 0..r.count(2)? {
                let (n, v) = (r.uvarint()?, r.uvarint()?);
                pairs.push((self.symbol(n)?, self.symbol(v)?));
            }
            chunks.clear();
            let count = r.count(3)?;
            chunks.reserve(count);
            let mut last = ChunkMeta::default();
            for i in 0..count {
                let (mint_ms, maxt_ms, chunk_ref);
                if i == 0 {
                    mint_ms = r.varint()?;
                    maxt_ms = mint_ms.wrapping_add(r.uvarint()? as i64);
                    chunk_ref = r.uvarint()?;
                } else {
                    mint_ms = last.maxt_ms.wrapping_add(r.uvarint()? as i64);
                    maxt_ms = mint_ms.wrapping_add(r.uvarint()? as i64);
                    chunk_ref = last.chunk_ref.wrapping_add(r.varint()? as u64);
                }
                last = ChunkMeta { mint_ms, maxt_ms, chunk_ref };
                chunks.push(last);
            }
            let labels = if pairs.is_sorted_by(|a, b| a.0 < b.0) {
                Labels::from_sorted(pairs)
            } else {
                Labels::from_pairs(pairs)
            };
            self.whole().map(|()| labels)
        };
        read(chunks).map_err(self.damaged(series as usize * SERIES_ALIGN))
    }

    /// Symbols of a series' names and values, in order: cheaper than its labels.
    fn pairs(&self, series: u32, mut each: impl FnMut(u64, u64)) -> Result<(), Malformed> {
        let mut r = Reader::new(self.series_body(series)?);
        for _ in 0..r.count(2)? {
            each(r.uvarint()?, r.uvarint()?);
        }
        Ok(())
    }
    /// Names of labels that any of these series has. `go_on` is asked for each series.
    pub fn label_names_of<E: From<Error>>(
        &self,
        series: &[u32],
        mut go_on: impl FnMut() -> Result<(), E>,
    ) -> Result<BTreeSet<String>, E> {
        let mut found: HashSet<u64> = HashSet::new();
        for s in series {
            go_on()?;
            self.pairs(*s, |name, _| {
                found.insert(name);
            })
            .map_err(self.damaged(*s as usize * SERIES_ALIGN))?;
        }
        Ok(self.texts(found.into_iter())?)
    }
    /// Values of `name` that any of these ascending series has. `go_on` is asked for each series, or value, looked at.
    pub fn label_values_of<E: From<Error>>(
        &self,
        series: &[u32],
        name: &str,
        mut go_on: impl FnMut() -> Result<(), E>,
    ) -> Result<BTreeSet<String>, E> {
        if self.value_count(name) <= series.len() / 8 {
            let mut lists = Vec::new();
            self.walk(name, "", |value, postings| {
                lists.push((value.to_owned(), postings));
                true
            })
            .map_err(self.damaged(0))?;
            let mut out = BTreeSet::new();
            for (value, postings) in lists {
                go_on()?;
                if overlap(&self.postings_at(postings)?, series) {
                    out.insert(value);
                }
            }
            return Ok(out);
        }
        let (mut known, mut found): (HashMap<u64, bool>, HashSet<u64>) = Default::default();
        for s in series {
            go_on()?;
            let result = self.pairs(*s, |n, v| {
                // The same few names over and over: each is read once.
                if *known.entry(n).or_insert_with(|| self.symbol(n) == Ok(name)) {
                    found.insert(v);
                }
            });
            result.map_err(self.damaged(*s as usize * SERIES_ALIGN))?;
        }
        Ok(self.texts(found.into_iter())?)
    }
    fn texts(&self, symbols: impl Iterator<Item = u64>) -> Result<BTreeSet<String>, Error> {
        let texts = symbols.map(|s| self.symbol(s).map(str::to_owned)).collect::<Result<_, _>>();
        texts.and_then(|t| self.whole().map(|()| t)).map_err(self.damaged(0))
    }

    pub fn label_names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().filter(|n| !n.is_empty()).map(String::as_str)
    }
    /// Values of `name`, sorted.
    pub fn label_values(&self, name: &str) -> Result<Vec<String>, Error> {
        let mut out = Vec::new();
        self.walk(name, "", |v, _| {
            out.push(v.to_owned());
            true
        })
        .map_err(self.damaged(0))?;
        Ok(out)
    }
}

impl LabelIndex for IndexReader {
    fn all(&self) -> Result<Vec<u32>, Error> {
        self.list("", "").map(Cow::into_owned)
    }
    fn list(&self, name: &str, value: &str) -> Result<Cow<'_, [u32]>, Error> {
        let mut found = None;
        self.walk(name, value, |v, postings| {
            if v == value {
                found = Some(postings);
            }
            v < value
        })
        .map_err(self.damaged(0))?;
        found.map_or(Ok(Cow::Borrowed(&[][..])), |at| self.postings_at(at).map(Cow::Owned))
    }
    fn value_count(&self, name: &str) -> usize {
        self.names.get(name).map_or(0, |v| v.count)
    }
    fn lists(&self, name: &str, prefixes: &[String], wanted: &dyn Fn(&str) -> bool) -> Result<Vec<u32>, Error> {
        let mut offsets = Vec::new();
        let everything = [String::new()];
        for prefix in if prefixes.is_empty() { &everything[..] } else { prefixes } {
            self.walk(name, prefix, |v, postings| {
                let in_prefix = v.starts_with(prefix.as_str());
                if in_prefix && wanted(v) {
                    offsets.push(postings);
                }
                in_prefix || v < prefix.as_str()
            })
            .map_err(self.damaged(0))?;
        }
        offsets.sort_unstable();
        offsets.dedup();
        let lists = offsets.into_iter().map(|o| self.postings_at(o)).collect::<Result<Vec<_>, _>>()?;
        Ok(union(&lists.iter().map(Vec::as_slice).collect::<Vec<_>>()))
    }
    fn filter(&self, mut series: Vec<u32>, name: &str, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<u32>, Error> {
        let value = |series: u32| -> Result<&str, Malformed> {
            let mut r = Reader::new(self.series_body(series)?);
            for _ in 0..r.count(2)? {
                let (n, v) = (r.uvarint()?, r.uvarint()?);
                if self.symbol(n)? == name {
                    return self.symbol(v);
                }
            }
            Ok("")
        };
        let mut failed = None;
        series.retain(|s| match value(*s) {
            Ok(v) => wanted(v),
            Err(m) => {
                failed = Some(self.damaged(*s as usize * SERIES_ALIGN)(m));
                false
            }
        });
        self.whole().map_err(self.damaged(0))?;
        failed.map_or(Ok(series), Err)
    }
}
