//! What other programs push into the storage.
mod known;
mod message;
mod native;
pub mod remote_write;
mod wire;
mod wire_v2;
