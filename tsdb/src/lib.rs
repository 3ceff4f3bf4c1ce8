#![doc = include_str!("../README.md")]
pub mod chunk;
mod db;
pub mod encoding;
mod error;
pub mod format;
pub mod head;
mod metrics;
mod options;
pub mod query;
pub mod record;
pub mod replay;
pub mod status;
pub mod wal;

pub use db::Db;
pub use error::Error;
pub use options::{BLOCK_RANGE_MS, Options};
pub use status::{HeadStats, TsdbStatus};
pub use wal::Compression;
