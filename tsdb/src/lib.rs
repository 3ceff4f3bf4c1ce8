#![doc = include_str!("../README.md")]
pub mod chunk;
pub mod encoding;
mod error;
pub mod format;
pub mod record;
pub mod wal;

pub use error::Error;
