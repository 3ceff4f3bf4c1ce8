//! The write-ahead log: records in pages in segments.
//!
//! [`writer::Wal`] appends and syncs, [`reader`] walks segments and steps over damage, [`segment`] lists them and
//! [`repair`] moves damaged ones aside.
pub mod checkpoint;
pub mod compress;
pub mod page;
pub mod reader;
pub mod repair;
pub mod segment;
pub mod writer;

pub use compress::Compression;
pub use writer::{Position, Wal};
