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
