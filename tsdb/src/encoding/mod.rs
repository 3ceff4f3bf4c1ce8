//! Readers and writers over byte slices: bytes, varints, bits, checksums. None of them panics on input.
pub mod bits;
pub mod bytes;
pub mod varbit;

pub use bytes::{Reader, put_str, put_uvarint, put_varint};

/// Bytes that are not what the format says, and what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// CRC-32C (Castagnoli), the checksum of every Prometheus file.
pub fn crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// Go continues a checksum over several slices; so do we.
pub fn crc_more(sum: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(sum, bytes)
}
