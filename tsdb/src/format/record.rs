//! The first byte of a record says its type; the byte maps stand beside the codecs in `crate::record`.
pub const SERIES: u8 = 1;
pub const SAMPLES: u8 = 2;
pub const TOMBSTONES: u8 = 3;
pub const EXEMPLARS: u8 = 4;
pub const MMAP_MARKERS: u8 = 5;
pub const METADATA: u8 = 6;
pub const HISTOGRAMS: u8 = 7;
pub const FLOAT_HISTOGRAMS: u8 = 8;
pub const CUSTOM_HISTOGRAMS: u8 = 9;
pub const CUSTOM_FLOAT_HISTOGRAMS: u8 = 10;
/// As 2, 7 and 9, 8 and 10, with start times.
pub const SAMPLES_V2: u8 = 11;
pub const HISTOGRAMS_V2: u8 = 12;
pub const FLOAT_HISTOGRAMS_V2: u8 = 13;
/// In checkpoints only: `u8 14 | i64 t`, samples before `t` are in blocks.
pub const MIN_VALID_TIME: u8 = 14;

/// Types of float samples.
pub const ALL_SAMPLES: [u8; 2] = [SAMPLES, SAMPLES_V2];
/// Types of native histograms.
pub const ALL_HISTOGRAMS: [u8; 6] =
    [HISTOGRAMS, FLOAT_HISTOGRAMS, CUSTOM_HISTOGRAMS, CUSTOM_FLOAT_HISTOGRAMS, HISTOGRAMS_V2, FLOAT_HISTOGRAMS_V2];
