//! Full chunks of the head, `chunks_head/000001 ...`, so that they need not stay in memory.
//!
//! ```text
//! u32 0x0130BC91 | u8 1 | 3 zeros
//! { u64 series | i64 mint | i64 maxt | u8 encoding (bit 7: out of order) | uvarint len | data | crc over all of it }
//! ```
//! Zeros to the end: upstream allocates whole files in advance. A chunk's reference: file number in the upper, offset in
//! the lower half of 64 bits. Nothing is lost with these files: the log has the samples too.
pub const MAGIC: u32 = 0x0130_BC91;
pub const VERSION: u8 = 1;
pub const HEADER: usize = 8;
pub const OUT_OF_ORDER: u8 = 0x80;
pub const FILE_BYTES: u64 = 128 * 1024 * 1024;
