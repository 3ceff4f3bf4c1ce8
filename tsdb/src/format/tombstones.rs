//! A block's `tombstones` file.
//!
//! ```text
//! u32 0x0130BA30 | u8 1 | { uvarint series | varint mint | varint maxt } both inclusive | crc over the entries
//! ```
pub const MAGIC: u32 = 0x0130_BA30;
pub const VERSION: u8 = 1;
pub const HEADER: usize = 5;
