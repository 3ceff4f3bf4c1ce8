#![doc = include_str!("../README.md")]
pub mod block;
pub mod chunk;
pub mod chunk_snapshot;
pub mod compact;
mod db;
pub mod encoding;
mod error;
pub mod format;
#[doc(hidden)]
pub mod fuzzing;
pub mod head;
pub mod index;
mod maintenance;
mod metrics;
mod observed;
mod options;
mod own_metrics;
pub mod query;
pub mod record;
mod reload;
pub mod replay;
pub mod restart;
mod retention;
mod soon;
pub mod space;
mod stale;
pub mod status;
pub mod wal;

pub use block::Block;
pub use db::{AfterReplay, BadBlock, Db};
pub use error::Error;
pub use options::{BLOCK_RANGE_MS, Options};
pub use retention::Limits;
pub use status::{HeadStats, TsdbStatus};
pub use wal::Compression;
