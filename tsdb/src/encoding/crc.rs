//! CRC-32C (Castagnoli), the checksum of every Prometheus file.

pub fn crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// Go continues a checksum over several slices; so do we.
pub fn crc_more(sum: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(sum, bytes)
}

/// Slices that [`crc_four`] takes.
pub const FOUR: usize = 4;

/// The checksums of four slices, best of about one length. A step of a checksum waits three cycles for the one before it:
/// four side by side take little longer than one.
pub fn crc_four(slices: [&[u8]; FOUR]) -> [u32; FOUR] {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has what the function is compiled for.
        #[allow(unsafe_code)]
        return unsafe { side_by_side(slices) };
    }
    slices.map(crc)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse4.2")]
fn side_by_side(slices: [&[u8]; FOUR]) -> [u32; FOUR] {
    use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u64};
    let parts = slices.map(<[u8]>::as_chunks::<8>);
    let mut sums = [u64::from(u32::MAX); FOUR];
    let next = |sum: &mut u64, word: &[u8; 8]| *sum = _mm_crc32_u64(*sum, u64::from_le_bytes(*word));
    let shared = parts.iter().map(|(words, _)| words.len()).min().unwrap_or(0);
    let [a, b, c, d] = parts.map(|(words, _)| words.get(..shared).unwrap_or(&[]));
    let [sum_a, sum_b, sum_c, sum_d] = &mut sums;
    for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
        next(sum_a, a);
        next(sum_b, b);
        next(sum_c, c);
        next(sum_d, d);
    }
    let mut out = [0; FOUR];
    for ((out, sum), (words, rest)) in out.iter_mut().zip(&mut sums).zip(parts) {
        words.iter().skip(shared).for_each(|word| next(sum, word));
        *out = !rest.iter().fold(*sum as u32, |sum, byte| _mm_crc32_u8(sum, *byte));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn four_as_one_by_one(slices in proptest::array::uniform4(proptest::collection::vec(any::<u8>(), 0..80))) {
            prop_assert_eq!(crc_four([&slices[0], &slices[1], &slices[2], &slices[3]]), slices.each_ref().map(|s| crc(s)));
        }
    }
}
