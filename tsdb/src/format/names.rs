//! Names of files and folders in the data directory.
pub const LOCK: &str = "lock";
pub const WAL: &str = "wal";
pub const WBL: &str = "wbl";
pub const CHUNKS_HEAD: &str = "chunks_head";
pub const QUARANTINE: &str = "quarantine";
pub const CHECKPOINT_PREFIX: &str = "checkpoint.";
pub const CHUNK_SNAPSHOT_PREFIX: &str = "chunk_snapshot.";
pub const SERIES_STATE: &str = "series_state.json";
/// Ours: room that is given up when the disk is nearly full.
pub const RESERVE: &str = "reserve";
/// Ours: what the last start could not read, as JSON.
pub const RECOVERY_REPORT: &str = "recovery_report.json";
pub const RESTART_INDEX: &str = "restart_index";
pub const META: &str = "meta.json";
pub const INDEX: &str = "index";
pub const CHUNKS: &str = "chunks";
pub const TOMBSTONES: &str = "tombstones";
pub const TMP_FOR_CREATION: &str = ".tmp-for-creation";
pub const TMP_FOR_DELETION: &str = ".tmp-for-deletion";
pub const TMP: &str = ".tmp";

/// Eight digits: WAL segments.
pub fn segment(n: u64) -> String {
    format!("{n:08}")
}
/// `checkpoint.00000007`: made of the segments up to and including 7.
pub fn checkpoint(n: u64) -> String {
    format!("{CHECKPOINT_PREFIX}{n:08}")
}
/// Six digits: chunk files of blocks and of the head.
pub fn chunk_file(n: u64) -> String {
    format!("{n:06}")
}
/// A name that is digits only.
pub fn number(name: &str) -> Option<u64> {
    if name.bytes().all(|b| b.is_ascii_digit()) { name.parse().ok() } else { None }
}
