//! A block's `index` file, version 2 (versions 1 and 2 are read).
//!
//! ```text
//! u32 0xBAAAD700 | u8 version
//! symbols:        u32 len | u32 count | { uvarint len, text } sorted | crc
//! series, each at a multiple of 16 (its reference is offset/16; version 1: the offset):
//!     uvarint len | uvarint labels { uvarint name, uvarint value } | uvarint chunks { ... } | crc
//!     chunk 0: varint mint, uvarint maxt-mint, uvarint ref      symbols are ordinals (version 1: file offsets)
//!     chunk n: uvarint mint - previous maxt, uvarint maxt-mint, varint ref - previous ref
//! label index:    no longer used; the writer leaves it empty
//! postings, each at a multiple of 4: u32 len | u32 count | { u32 series } ascending | crc
//! postings table: u32 len | u32 count | { u8 2, name, value, uvarint offset } sorted | crc; ("", "") is all series
//! TOC:            u64 symbols, series, label indices, label table, postings, postings table | crc
//! ```
//! Lengths do not count themselves and the checksum; checksums cover what the length counts (the TOC's: the six numbers).
//! Source: Prometheus 3.5 tsdb/docs/format/index.md.
pub const MAGIC: u32 = 0xBAAA_D700;
pub const V1: u8 = 1;
pub const V2: u8 = 2;
pub const HEADER: usize = 5;
pub const TOC: usize = 6 * 8 + 4;
pub const SERIES_ALIGN: usize = 16;
pub const POSTINGS_ALIGN: usize = 4;
