//! Every magic number, version, size and file name of the data directory, with the byte map beside it.
//!
//! ```text
//! data/
//!   lock                    held while a process uses the directory
//!   wal/00000000 ...        write-ahead log, segments of 128 MiB       (wal.rs, record.rs)
//!   wal/checkpoint.00000003 what segments up to 3 held and is still needed
//!   wbl/00000000 ...        the same for out-of-order samples
//!   chunks_head/000001 ...  full chunks of the head                     (head_chunks.rs)
//!   <ULID>/                 one block: meta.json, index (index.rs), chunks/000001 (chunks.rs), tombstones (tombstones.rs)
//!   quarantine/             ours: what repair moved aside
//!   reserve                 ours: zeros, given up when the disk is nearly full
//!   recovery_report.json    ours: what the last start could not read, if there was anything
//!   chunk_snapshot.000001.0000004096/  Prometheus's, read once and moved aside (chunk_snapshot.rs)
//!   restart_index           ours: the series of the log                (restart.rs)
//! ```
//! Sources: Prometheus 3.5 tsdb/docs/format/*.md, and directories it wrote.
pub mod chunk_snapshot;
pub mod chunks;
pub mod head_chunks;
pub mod index;
pub mod names;
pub mod record;
pub mod restart;
pub mod tombstones;
pub mod wal;
