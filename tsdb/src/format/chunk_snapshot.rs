//! `chunk_snapshot.<segment>.<offset>/00000000 ...`: the open chunks of a Prometheus that was stopped with
//! `memory-snapshot-on-shutdown`, as of that place in the log. Read, never written.
//!
//! Segments, pages and fragments are those of the log (`wal.rs`); the records are
//! ```text
//! series:     u8 1 | u64 ref | uvarint labels { name, value } | i64 unused | uvarint 1 if there is a chunk, and then
//!             i64 mint | i64 maxt | u8 encoding | uvarint-prefixed chunk | the appender's last value, which the chunk has too
//! tombstones: u8 2 | uvarint-prefixed: u8 1 | { uvarint series | varint mint | varint maxt }
//! exemplars:  u8 3 | as behind the type of the log's exemplar records
//! ```
//! in this order. Source: Prometheus 3.5 tsdb/docs/format/memory_snapshot.md, and directories it wrote.
pub const SERIES: u8 = 1;
pub const TOMBSTONES: u8 = 2;
pub const EXEMPLARS: u8 = 3;
