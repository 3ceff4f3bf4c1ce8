#![doc = include_str!("../README.md")]
mod bodies;
mod cache;
pub mod config;
mod error;
mod fetch;
mod histogram_limits;
mod ingest;
mod job;
mod manager;
mod metadata;
mod metrics;
mod nhcb;
mod pool;
mod report;
mod scrape_loop;
mod series;
pub mod target;

pub use error::ScrapeError;
pub use manager::{PoolSnapshot, ScrapeManager, ScrapeOptions, TargetSnapshot};
pub use scrape_loop::Health;
