//! A block's chunk files `chunks/000001 ...`.
//!
//! ```text
//! u32 0x85BD40DD | u8 1 | 3 zeros | { uvarint len | u8 encoding | data of len bytes | crc over encoding and data }
//! ```
//! A chunk's reference: file number minus one in the upper, offset in the lower half of 64 bits.
pub const MAGIC: u32 = 0x85BD_40DD;
pub const VERSION: u8 = 1;
pub const HEADER: usize = 8;
pub const SEGMENT_BYTES: u64 = 512 * 1024 * 1024;
