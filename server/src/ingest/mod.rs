//! What other programs push into the storage.
pub mod remote_write;
mod wire;
