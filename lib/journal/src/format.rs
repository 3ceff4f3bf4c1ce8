//! The bytes of a segment file, described once.
//!
//! ```text
//! segment   MAGIC (8 bytes), then records back to back
//! record    MARKER (4) | length u32 le | crc32c u32 le over length and payload | payload
//! ```
//!
//! The marker lets a reader find the next record behind damage; the checksum decides whether it is one.

/// First bytes of every segment; the last one is the version.
pub const MAGIC: &[u8; 8] = b"FRLJRNL\x01";
/// First bytes of every record; not valid UTF-8, hence rare inside payloads.
pub const MARKER: [u8; 4] = [0xf5, b'J', b'R', 0xff];
/// Marker, length, checksum.
pub const HEADER_BYTES: usize = 12;

pub(crate) fn checksum(length: [u8; 4], payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&length), payload)
}

/// Appends the frame of `payload`, which is shorter than 4 GiB, to `out`.
pub(crate) fn frame(payload: &[u8], out: &mut Vec<u8>) {
    let length = (payload.len() as u32).to_le_bytes();
    out.reserve(HEADER_BYTES + payload.len());
    out.extend_from_slice(&MARKER);
    out.extend_from_slice(&length);
    out.extend_from_slice(&checksum(length, payload).to_le_bytes());
    out.extend_from_slice(payload);
}
