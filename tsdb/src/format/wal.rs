//! The write-ahead log's pages.
//!
//! A segment is a row of 32 KiB pages. A record is cut into fragments so that none crosses a page:
//! ```text
//! u8 type and flags | u16 length | u32 crc32c(data) | data
//! type: 0 the rest of the page is empty, 1 whole record, 2 first, 3 middle, 4 last fragment
//! flags: 8 the record is snappy-compressed (block format), 16 zstd
//! ```
//! A page whose rest is shorter than a fragment header is filled with zeros. Records never cross segments.
pub const PAGE: usize = 32 * 1024;
pub const FRAGMENT_HEADER: usize = 7;
pub const SEGMENT_BYTES: u64 = 128 * 1024 * 1024;

pub const TYPE_MASK: u8 = 0b111;
pub const PAGE_END: u8 = 0;
pub const FULL: u8 = 1;
pub const FIRST: u8 = 2;
pub const MIDDLE: u8 = 3;
pub const LAST: u8 = 4;
pub const SNAPPY: u8 = 1 << 3;
pub const ZSTD: u8 = 1 << 4;

/// No record is larger when decompressed; a length that claims more is damage.
pub const RECORD_MAX_BYTES: usize = 512 * 1024 * 1024;
