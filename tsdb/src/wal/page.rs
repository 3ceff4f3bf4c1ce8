//! Cutting records into fragments.
use crate::encoding::crc;
use crate::format::wal::{FIRST, FRAGMENT_HEADER, FULL, LAST, MIDDLE, PAGE};

/// Bytes left in the page at `offset`.
fn left_in_page(offset: u64) -> usize {
    PAGE - (offset % PAGE as u64) as usize
}

/// Appends the fragments of one record, whose first byte will lie at `offset` of the segment; fills a page whose rest is
/// too short with zeros first. Returns how many.
pub fn frame(out: &mut Vec<u8>, offset: u64, record: &[u8], flags: u8) -> u64 {
    let start = out.len();
    let mut fragments = 0;
    let mut rest = record;
    let mut is_first = true;
    loop {
        let at = offset + (out.len() - start) as u64;
        let left = left_in_page(at);
        if left < FRAGMENT_HEADER {
            out.resize(out.len() + left, 0);
            continue;
        }
        let take = rest.len().min(left - FRAGMENT_HEADER);
        let (fragment, more) = rest.split_at_checked(take).unwrap_or((rest, &[]));
        let kind = match (is_first, more.is_empty()) {
            (true, true) => FULL,
            (true, false) => FIRST,
            (false, true) => LAST,
            (false, false) => MIDDLE,
        };
        out.push(kind | flags);
        out.extend_from_slice(&(take as u16).to_be_bytes());
        out.extend_from_slice(&crc(fragment).to_be_bytes());
        out.extend_from_slice(fragment);
        rest = more;
        is_first = false;
        fragments += 1;
        if rest.is_empty() {
            return fragments;
        }
    }
}

/// Bytes of record that still fit from `offset` to the end of a segment of `segment_bytes`.
pub fn room(offset: u64, segment_bytes: u64) -> u64 {
    let in_page = (left_in_page(offset) as u64).saturating_sub(FRAGMENT_HEADER as u64);
    let page_end = offset + left_in_page(offset) as u64;
    let pages = segment_bytes.saturating_sub(page_end) / PAGE as u64;
    in_page + pages * (PAGE - FRAGMENT_HEADER) as u64
}

/// Zeros up to the next page border.
pub fn padding(offset: u64) -> usize {
    left_in_page(offset) % PAGE
}
