#![doc = include_str!("../README.md")]
pub mod api;
pub mod ingest;
pub mod notifier;
pub mod query_pool;
