//! The restart index: the series of the log in one small file, kept up once a second, so that a restart is ready at once
//! and reads the samples while it already works.
//!
//! [`RestartIndex`] writes it, [`load`] reads it and says whether it belongs to the log as it is. It is never synced: what
//! it says is bound to bytes of the log by a checksum, and an index that says too little only makes the start slower.
//!
//! Cost: about 40 bytes a series when it is written anew (after each truncation of the log), the text of each new series
//! once, and 70 bytes for each second with appends.
pub mod load;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ferula_fs::{File, Fs, Open};
use ferula_model::LabelView;
use hashbrown::HashMap;

use crate::encoding::{crc_more, put_str, put_uvarint};
use crate::error::Error;
use crate::format::restart::{HEADER, MAGIC, MARK, RECORDS, TABLE, VERSION};
use crate::head::Head;
use crate::wal::writer::Bound;
use crate::wal::{Wal, segment};

/// A table block is closed beyond so many bytes.
const TABLE_BYTES: usize = 1 << 20;
const LEVEL: i32 = 1;

/// Writes the index of one store.
#[derive(Debug)]
pub struct RestartIndex {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// `None` until the index has been written anew, and again after any failure.
    file: Option<Arc<dyn File>>,
    last: Option<Bound>,
    bytes_written: u64,
}

/// What a mark says beside its place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub checkpoint: Option<u64>,
    pub bound: Bound,
    pub last_ref: u64,
}

impl RestartIndex {
    pub fn new(fs: Arc<dyn Fs>, path: PathBuf) -> RestartIndex {
        RestartIndex { fs, path, state: Mutex::default() }
    }

    /// Brings the index up to what the log holds now: appends what is new, or writes it anew if need be.
    pub fn update(&self, head: &Head, wal: &Wal) -> Result<(), Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = state.file.clone() else { return self.rewrite_locked(&mut state, head, wal) };
        let (bound, fresh) = head.mark(wal)?;
        let Some(fresh) = fresh else { return self.rewrite_locked(&mut state, head, wal) };
        if fresh.is_empty() && state.last == Some(bound) {
            return Ok(());
        }
        let result = (|| {
            let mut out = Vec::new();
            put_records(&mut out, &fresh)?;
            put_mark(&mut out, &self.mark(head, wal, bound)?);
            file.append(&out).map_err(Error::io("writing", &self.path))?;
            Ok(out.len() as u64)
        })();
        match result {
            Ok(written) => {
                state.last = Some(bound);
                state.bytes_written += written;
                Ok(())
            }
            Err(e) => {
                state.file = None; // what it lacks now it lacks for good
                Err(e)
            }
        }
    }

    /// Writes the index anew: after the log was truncated or replayed.
    pub fn rewrite(&self, head: &Head, wal: &Wal) -> Result<(), Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.rewrite_locked(&mut state, head, wal)
    }

    fn rewrite_locked(&self, state: &mut State, head: &Head, wal: &Wal) -> Result<(), Error> {
        state.file = None;
        head.remember_logged();
        // Whoever is logged by now is in the table, whoever is logged until the mark is among the fresh records. Nobody
        // who is logged later may be in the file: a log that lost its end must not leave a series that believes itself
        // logged.
        let mut all = head.series.all();
        all.retain(|s| s.is_logged());
        let texts = head.symbols.texts();
        let aliases: Vec<(u64, u64)> = head.aliases().into_iter().collect();
        let (bound, fresh) = head.mark(wal)?;
        let Some(fresh) = fresh else { return Err(Error::Invalid("too many new series at once".to_owned())) };
        let mark = self.mark(head, wal, bound)?;

        let tmp = self.path.with_extension("tmp");
        let file = self.fs.open(&tmp, Open::Truncate).map_err(Error::io("creating", &tmp))?;
        let mut out = MAGIC.to_be_bytes().to_vec();
        out.extend_from_slice(&[VERSION, 0, 0, 0]);
        debug_assert_eq!(out.len(), HEADER);
        let mut table = Table::default();
        let mut written = 0;
        let mut flush = |out: &mut Vec<u8>, table: &mut Table| {
            table.put(out)?;
            file.append(out).map_err(Error::io("writing", &tmp))?;
            written += out.len() as u64;
            out.clear();
            Ok::<_, Error>(())
        };
        for series in &all {
            table.add(series.series_ref(), &series.labels(&texts));
            if table.series.len() + table.strings.len() > TABLE_BYTES {
                flush(&mut out, &mut table)?;
            }
        }
        for (alias, series_ref) in aliases {
            if let Some(series) = head.series.by_ref(series_ref) {
                table.add(alias, &series.labels(&head.symbols.texts()));
            }
        }
        flush(&mut out, &mut table)?;
        put_records(&mut out, &fresh)?;
        put_mark(&mut out, &mark);
        flush(&mut out, &mut table)?;
        self.fs.rename(&tmp, &self.path).map_err(Error::io("renaming", &tmp))?;
        state.file = Some(file);
        state.last = Some(bound);
        state.bytes_written += written;
        Ok(())
    }

    fn mark(&self, head: &Head, wal: &Wal, bound: Bound) -> Result<Mark, Error> {
        let checkpoint = segment::checkpoints(&*self.fs, wal.dir())?.last().map(|c| c.0);
        Ok(Mark { checkpoint, bound, last_ref: head.last_ref() })
    }

    /// Since the start.
    pub fn bytes_written(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).bytes_written
    }
}

/// The table block being filled.
#[derive(Default)]
struct Table {
    /// Ordinals by symbol, or by text where a series has no symbols.
    by_symbol: HashMap<u32, u64>,
    by_text: HashMap<String, u64>,
    ordinals: u64,
    strings: Vec<u8>,
    new_strings: u64,
    series: Vec<u8>,
    count: u64,
    last_ref: u64,
}

impl Table {
    fn add(&mut self, series_ref: u64, labels: &dyn LabelView) {
        put_uvarint(&mut self.series, series_ref.wrapping_sub(self.last_ref)); // aliases may descend
        self.last_ref = series_ref;
        self.count += 1;
        put_uvarint(&mut self.series, labels.len() as u64);
        for i in 0..labels.len() {
            let (name, value) = labels.pair(i);
            let symbols = labels.interned().and_then(|(_, pairs)| pairs.get(i)).copied();
            let name = self.ordinal(symbols.map(|s| s.0), name);
            put_uvarint(&mut self.series, name);
            let value = self.ordinal(symbols.map(|s| s.1), value);
            put_uvarint(&mut self.series, value);
        }
    }
    fn ordinal(&mut self, symbol: Option<u32>, text: &str) -> u64 {
        let known = match symbol {
            Some(s) => self.by_symbol.get(&s),
            None => self.by_text.get(text),
        };
        if let Some(n) = known {
            return *n;
        }
        let n = self.ordinals;
        self.ordinals += 1;
        self.new_strings += 1;
        put_str(&mut self.strings, text);
        match symbol {
            Some(s) => drop(self.by_symbol.insert(s, n)),
            None => drop(self.by_text.insert(text.to_owned(), n)),
        }
        n
    }
    fn put(&mut self, out: &mut Vec<u8>) -> Result<(), Error> {
        if self.count == 0 {
            return Ok(());
        }
        let mut body = Vec::with_capacity(self.strings.len() + self.series.len() + 20);
        put_uvarint(&mut body, self.new_strings);
        body.extend_from_slice(&self.strings);
        put_uvarint(&mut body, self.count);
        body.extend_from_slice(&self.series);
        (self.new_strings, self.count) = (0, 0);
        self.strings.clear();
        self.series.clear();
        put_packed(out, TABLE, &body)
    }
}

fn put_records(out: &mut Vec<u8>, records: &[Vec<u8>]) -> Result<(), Error> {
    if records.is_empty() {
        return Ok(());
    }
    let mut body = Vec::new();
    for r in records {
        put_uvarint(&mut body, r.len() as u64);
        body.extend_from_slice(r);
    }
    put_packed(out, RECORDS, &body)
}

fn put_packed(out: &mut Vec<u8>, kind: u8, body: &[u8]) -> Result<(), Error> {
    let packed = zstd::bulk::compress(body, LEVEL).map_err(|e| Error::Invalid(format!("compressing: {e}")))?;
    let mut block = (body.len() as u32).to_be_bytes().to_vec();
    block.extend_from_slice(&packed);
    put_block(out, kind, &block);
    Ok(())
}

fn put_mark(out: &mut Vec<u8>, mark: &Mark) {
    let mut body = Vec::with_capacity(40);
    let checkpoint = mark.checkpoint.and_then(|c| i64::try_from(c).ok()).unwrap_or(-1);
    body.extend_from_slice(&checkpoint.to_be_bytes());
    body.extend_from_slice(&mark.bound.position.segment.to_be_bytes());
    body.extend_from_slice(&mark.bound.position.offset.to_be_bytes());
    body.extend_from_slice(&mark.bound.len.to_be_bytes());
    body.extend_from_slice(&mark.bound.sum.to_be_bytes());
    body.extend_from_slice(&mark.last_ref.to_be_bytes());
    put_block(out, MARK, &body);
}

fn put_block(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    out.extend_from_slice(&(body.len() as u32).to_be_bytes());
    out.push(kind);
    out.extend_from_slice(body);
    let sum = crc_more(crate::encoding::crc(&[kind]), body);
    out.extend_from_slice(&sum.to_be_bytes());
}
