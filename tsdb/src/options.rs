//! What the store can be told.
use crate::wal::Compression;

/// Upstream's block range: the head holds up to one and a half of it.
pub const BLOCK_RANGE_MS: i64 = 2 * 60 * 60 * 1000;

#[derive(Clone, Debug)]
pub struct Options {
    /// Blocks wholly older than the newest one's end minus this are dropped; 0 keeps them. Upstream's default: 15 days.
    pub retention_ms: i64,
    /// Blocks are dropped, oldest first, beyond so many bytes; 0 for no limit.
    pub retention_size_bytes: u64,
    /// As the size limit, in percent of the whole disk, and before it; 0 for no limit.
    pub retention_percent: f64,
    /// A shipper's list of uploaded blocks: others of level 1 are not merged.
    pub delay_compact_file: Option<std::path::PathBuf>,
    /// 0 for 128 MiB.
    pub wal_segment_size_bytes: u64,
    /// Upstream's default is snappy; zstd takes 0.6 of the bytes for some 20 ns of CPU a sample, and upstream reads both.
    pub wal_compression: Compression,
    /// Range of the smallest blocks; the head is cut when it spans 1.5 of it.
    pub block_range_ms: i64,
    /// Range of the largest blocks; 0 for a tenth of the retention, at most 31 days.
    pub max_block_range_ms: i64,
    /// Exemplars kept in memory; 0 switches them off.
    pub max_exemplars: usize,
    /// Samples this much older than the newest one are accepted out of order; 0 switches that off.
    pub out_of_order_window_ms: i64,
    /// Samples wanted in one chunk.
    pub samples_per_chunk: u16,
    /// Stale series leave the head, into a block, when they are this share of all and at least `stale_series_min`; 0 keeps
    /// them until the head is cut, as do a `delay_compact_file` and blocks of one range only, since these blocks overlap
    /// others. Those that were stale for less than an eighth of the block range do not count.
    pub stale_series_ratio: f64,
    pub stale_series_min: u64,
    /// At most so many series may be created in the head; 0 for no limit.
    pub max_series: u64,
    /// Start times of samples are kept, in the log and (of floats if `xor2` is set, of histograms if
    /// `histogram_starts` is) in chunks.
    pub start_times: bool,
    /// Float chunks are written as XOR2, which Prometheus before 3.11 does not read.
    pub xor2: bool,
    /// Histogram chunks are written in the encodings with start times.
    pub histogram_starts: bool,
    /// Type, unit and help of series are logged and kept.
    pub metadata_records: bool,
    /// Compaction and retention run by themselves, once a minute.
    pub background: bool,
    /// Compaction waits so long for readers of samples that it is about to drop from the head; later these get an error.
    pub reader_patience: std::time::Duration,
    /// Samples are refused while less is free on the disk; `None`: two segments of the log, at most a fiftieth of the disk.
    pub free_space_min_bytes: Option<u64>,
    /// Size of a file that is given up at that moment; 0 for none.
    pub reserve_bytes: u64,
    /// Damage found at start is an error instead of being moved aside.
    pub strict_recovery: bool,
    /// Filled in while the log is read: by [`crate::Db::open`], and behind it when there is a restart index.
    pub progress: Option<std::sync::Arc<crate::replay::Progress>>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            retention_ms: 15 * 24 * 60 * 60 * 1000,
            retention_size_bytes: 0,
            retention_percent: 0.0,
            delay_compact_file: None,
            wal_segment_size_bytes: 0,
            wal_compression: Compression::Zstd,
            block_range_ms: BLOCK_RANGE_MS,
            max_block_range_ms: 0,
            max_exemplars: 0,
            out_of_order_window_ms: 0,
            samples_per_chunk: 120,
            stale_series_ratio: 0.1,
            stale_series_min: 1000,
            max_series: 0,
            start_times: false,
            xor2: false,
            histogram_starts: false,
            metadata_records: false,
            background: true,
            reader_patience: std::time::Duration::from_secs(300),
            free_space_min_bytes: None,
            reserve_bytes: 16 << 20,
            strict_recovery: false,
            progress: None,
        }
    }
}
