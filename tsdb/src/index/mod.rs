//! The index of a block: symbols, series, postings.
pub mod reader;
pub mod writer;

pub use reader::IndexReader;
pub use writer::IndexWriter;

/// Where a chunk is and what it spans, both times inclusive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChunkMeta {
    pub mint_ms: i64,
    pub maxt_ms: i64,
    pub chunk_ref: u64,
}
