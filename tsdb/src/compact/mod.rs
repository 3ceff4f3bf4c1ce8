//! Making blocks: from the head, and larger ones from smaller ones.
//!
//! [`plan`] decides what goes together, [`source`] reads series out of head and blocks, [`mod@write`] merges them into a new
//! block. A block appears under its name only when it is complete and on disk.
pub mod plan;
pub mod source;
pub mod write;
