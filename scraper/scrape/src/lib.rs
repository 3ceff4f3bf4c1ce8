#![doc = include_str!("../README.md")]
mod bodies;
mod budget;
mod cache;
pub mod config;
mod error;
mod failure_log;
mod fetch;
mod histogram_limits;
mod ingest;
mod job;
mod manager;
mod metadata;
mod metrics;
mod nhcb;
mod pool;
mod reading;
mod report;
mod scrape_loop;
mod series;
mod starts;
pub mod target;
mod threads;

pub use error::ScrapeError;
pub use manager::{PoolSnapshot, ScrapeManager, ScrapeOptions, SeriesBudget, TargetSnapshot};
pub use scrape_loop::Health;
pub use starts::StartTimes;
