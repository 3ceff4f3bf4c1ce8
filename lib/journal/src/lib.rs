#![doc = include_str!("../README.md")]
mod format;
mod journal;
mod reader;

use std::io;
use std::path::PathBuf;

pub use format::{HEADER_BYTES, MAGIC, MARKER};
pub use journal::{Journal, Options, Recovered, SegmentId, Ticket};
pub use reader::Damage;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("a record of {size_bytes} bytes exceeds the journal's limit of {limit_bytes}")]
    TooLarge { size_bytes: usize, limit_bytes: usize },
    /// Two syncs in a row failed. What was acknowledged stays; nothing more is taken.
    #[error("the journal is poisoned by a failed sync: {0}")]
    Poisoned(String),
}

#[cfg(test)]
mod tests;
