//! The file `queries.active` in the data folder: which queries run right now. What a server finds in it at its start are
//! the queries that ran when the one before died.
//!
//! ```text
//! [ {"query":"...","timestamp_sec":N}, 0 0 0 | slot of 1,000 bytes | ... one for every query that may run
//! ```
//! Source followed: the file that Prometheus writes, which tools read. It is written with one call per query and not
//! synced: it outlives the process, and does not have to outlive the machine.
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::api::json::Json;

const NAME: &str = "queries.active";
/// The whole entry: longer queries are cut.
const SLOT_BYTES: usize = 1000;

/// Keeps the file.
pub struct ActiveQueries {
    file: Option<File>,
    free: Mutex<Vec<usize>>,
}

/// One query's entry; erased when dropped.
pub struct Entry<'a> {
    active: &'a ActiveQueries,
    slot: Option<usize>,
}

impl ActiveQueries {
    /// Keeps nothing.
    pub fn none() -> ActiveQueries {
        ActiveQueries { file: None, free: Mutex::default() }
    }

    /// Says what the last run left behind, and begins anew with `slots` entries. A file that cannot be written is
    /// reported and done without.
    pub fn open(dir: &Path, slots: usize) -> ActiveQueries {
        let path = dir.join(NAME);
        if let Some(left) = std::fs::read(&path).ok().and_then(|bytes| left_behind(&bytes)) {
            tracing::info!(queries = left, "These queries didn't finish in prometheus' last run:");
        }
        let made = File::create(&path).and_then(|f| {
            f.set_len((1 + slots * SLOT_BYTES) as u64)?;
            f.write_all_at(b"[", 0)?;
            Ok(f)
        });
        let file = made
            .inspect_err(|error| tracing::error!(%error, file = %path.display(), "Error creating the active query log"))
            .ok();
        ActiveQueries { file, free: Mutex::new((0..slots).rev().collect()) }
    }

    /// Notes a query until the entry is dropped.
    pub fn begin(&self, query: &str, now_ms: i64) -> Entry<'_> {
        let slot = self.file.as_ref().and_then(|_| self.free.lock().unwrap_or_else(PoisonError::into_inner).pop());
        if let Some(slot) = slot {
            self.write(slot, &entry(query, now_ms));
        }
        Entry { active: self, slot }
    }

    fn write(&self, slot: usize, text: &[u8]) {
        let mut bytes = [0; SLOT_BYTES];
        if let Some(part) = bytes.get_mut(..text.len()) {
            part.copy_from_slice(text);
        }
        if let Some(Err(error)) = self.file.as_ref().map(|f| f.write_all_at(&bytes, (1 + slot * SLOT_BYTES) as u64)) {
            tracing::debug!(%error, "the active query log cannot be written");
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.active.write(slot, &[]);
            self.active.free.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
        }
    }
}

/// `{"query":"...","timestamp_sec":N},`, cut so that it fits a slot.
fn entry(query: &str, now_ms: i64) -> Vec<u8> {
    let mut end = query.len().min(SLOT_BYTES);
    loop {
        while !query.is_char_boundary(end) {
            end -= 1;
        }
        let mut j = Json::new();
        j.raw("{\"query\":").string(query.get(..end).unwrap_or(""));
        j.raw(",\"timestamp_sec\":").integer(now_ms.div_euclid(1000)).raw("},");
        if j.len() <= SLOT_BYTES || end == 0 {
            return j.into_bytes();
        }
        // Escapes make it longer than the query is.
        end = end.saturating_sub((j.len() - SLOT_BYTES).div_ceil(6).max(1));
    }
}

/// The entries of a file as a JSON array; `None` where there are none.
fn left_behind(bytes: &[u8]) -> Option<String> {
    let text: Vec<u8> = bytes.iter().copied().filter(|b| *b != 0).collect();
    let text = String::from_utf8_lossy(&text).trim().trim_start_matches('[').trim_end_matches(',').to_owned();
    (!text.is_empty()).then(|| format!("[{text}]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_runs() {
        let dir = tempfile::tempdir().unwrap();
        let content = || std::fs::read(dir.path().join(NAME)).unwrap();
        let active = ActiveQueries::open(dir.path(), 2);
        assert_eq!((content().len(), left_behind(&content())), (2001, None));
        let first = active.begin("up{a=\"b\"}", 1_600_000_000_500);
        let long = active.begin(&"\"ü\\".repeat(900), 1_600_000_001_000);
        let third = active.begin("no room", 0);
        let left = left_behind(&content()).unwrap();
        let parsed: serde_json::Value = serde_json::from_str(&left).unwrap();
        assert_eq!(parsed[0], serde_json::json!({"query": "up{a=\"b\"}", "timestamp_sec": 1_600_000_000}));
        assert!(parsed[1]["query"].as_str().unwrap().starts_with("\"ü\\\"ü\\"));
        assert_eq!(parsed.as_array().unwrap().len(), 2);
        drop((first, third));
        assert!(!left_behind(&content()).unwrap().contains("up{"));
        drop(long);
        assert_eq!(left_behind(&content()), None);
        assert_eq!(
            left_behind(b"[{\"query\":\"up\",\"timestamp_sec\":1},\0\0"),
            Some("[{\"query\":\"up\",\"timestamp_sec\":1}]".into())
        );
    }
}
