//! Readers and writers over byte slices: bytes, varints, bits, checksums. None of them panics on input.
pub mod bits;
pub mod bytes;
pub mod crc;
pub mod varbit;

pub use bytes::{Reader, put_str, put_uvarint, put_varint};
pub use crc::{crc, crc_more};

/// Bytes that are not what the format says, and what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);
