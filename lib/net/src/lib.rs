//! HTTP client and listener: TLS, timeouts, compression, limits.
pub mod client;
pub mod listen;
