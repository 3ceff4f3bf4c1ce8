//! Reads a segment and steps over what is damaged.
use crate::format::{HEADER_BYTES, MAGIC, MARKER, checksum};

/// Bytes that are no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Name of the segment file.
    pub segment: String,
    pub offset: u64,
    pub size_bytes: u64,
    pub reason: &'static str,
}

fn array(bytes: &[u8], at: usize) -> Option<[u8; 4]> {
    bytes.get(at..at + 4)?.try_into().ok()
}

/// The record at `at` and where the next one begins, or why there is none.
fn record(bytes: &[u8], at: usize, record_bytes_max: usize) -> Result<(&[u8], usize), &'static str> {
    let marker = array(bytes, at).ok_or("torn header")?;
    if marker != MARKER {
        return Err("no record marker");
    }
    let length = array(bytes, at + 4).ok_or("torn header")?;
    let sum = array(bytes, at + 8).ok_or("torn header")?;
    let size = u32::from_le_bytes(length) as usize;
    if size > record_bytes_max {
        return Err("impossible length");
    }
    let start = at + HEADER_BYTES;
    let payload = bytes.get(start..start + size).ok_or("torn record")?;
    if checksum(length, payload) != u32::from_le_bytes(sum) {
        return Err("checksum mismatch");
    }
    Ok((payload, start + size))
}

/// Calls `on_record` for every whole record in order and `on_damage(offset, length, reason)` for every stretch between.
/// Time is linear in the file unless it is made of forged headers, each of which costs one checksum of its claimed length.
pub(crate) fn scan<'b>(
    bytes: &'b [u8],
    record_bytes_max: usize,
    mut on_record: impl FnMut(&'b [u8]),
    mut on_damage: impl FnMut(usize, usize, &'static str),
) {
    let mut at = MAGIC.len();
    if !bytes.starts_with(MAGIC) {
        // A crash right after creation leaves nothing; anything else might still hold records.
        if bytes.is_empty() {
            return;
        }
        at = 0;
    }
    let mut bad: Option<(usize, &'static str)> = None;
    // What forged headers may cost in all: a few times the file.
    let mut patience = bytes.len().saturating_mul(4);
    while at < bytes.len() {
        match record(bytes, at, record_bytes_max) {
            Ok((payload, next)) => {
                if let Some((from, why)) = bad.take() {
                    on_damage(from, at - from, why);
                }
                on_record(payload);
                at = next;
            }
            Err(why) => {
                bad.get_or_insert((at, why));
                if why == "checksum mismatch" {
                    let claimed = array(bytes, at + 4).map_or(0, |l| u32::from_le_bytes(l) as usize);
                    patience = patience.saturating_sub(claimed);
                    if patience == 0 {
                        break;
                    }
                }
                let rest = bytes.get(at + 1..).unwrap_or(&[]);
                match rest.windows(MARKER.len()).position(|w| w == MARKER) {
                    Some(i) => at += 1 + i,
                    None => break,
                }
            }
        }
    }
    if let Some((from, why)) = bad {
        on_damage(from, bytes.len() - from, why);
    }
}
