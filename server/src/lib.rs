#![doc = include_str!("../README.md")]
mod active_queries;
pub mod api;
pub mod app;
pub mod config;
#[doc(hidden)]
pub mod fuzzing;
mod http_metrics;
pub mod info;
pub mod ingest;
pub mod notifier;
mod options;
mod query_log;
mod query_metrics;
pub mod query_pool;
mod reload;
mod rule_queries;
mod run;
pub mod web;

pub use ferula_scraper_scrape::{ScrapeOptions, StartTimes};
pub use options::{RuleOptions, ServerOptions};
pub use run::{Error, run};
