#![doc = include_str!("../README.md")]
mod collector;
mod page;
mod router;
mod scrape;

pub use collector::{CollectError, Collector};
pub use page::respond;
pub use router::{Exporter, Options};
