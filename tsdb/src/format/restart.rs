//! `restart_index`: ours. Which series the log has, so that a restart need not read all of it before it is ready.
//!
//! ```text
//! u32 0x46524931 | u8 1 | 3 zeros | blocks
//! block: u32 length of body | u8 kind | body | crc over kind and body
//! kind 1, table:   u32 length | zstd of: uvarint new strings { uvarint-prefixed text }
//!                  | uvarint series { uvarint ref - previous ref | uvarint labels { uvarint name, uvarint value } }
//!                  names and values are ordinals of the strings of all tables so far
//! kind 2, records: u32 length | zstd of: { uvarint-prefixed record of the log }
//! kind 3, mark:    i64 checkpoint (-1: none) | u64 segment | u64 offset | u32 n | crc of the n bytes before the offset
//!                  | u64 newest reference
//! ```
//! What stands before a mark is everything that the log, up to there, says of series. A file whose last valid mark is not
//! bound to the log as it is now (another checkpoint, other bytes before the offset) is ignored; deleting it loses nothing.
pub const MAGIC: u32 = 0x4652_4931;
pub const VERSION: u8 = 1;
pub const HEADER: usize = 8;
pub const TABLE: u8 = 1;
pub const RECORDS: u8 = 2;
pub const MARK: u8 = 3;
/// Bytes of the log that a mark is bound to, at most.
pub const BOUND_BYTES: u64 = 1024;
/// No body is larger when decompressed.
pub const BODY_MAX_BYTES: usize = 64 << 20;
