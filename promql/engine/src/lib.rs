#![doc = include_str!("../README.md")]
mod column;
mod engine;
mod error;
mod eval;
mod functions;
mod grid;
mod identity;
pub mod math;
mod notes;
mod plan;
mod prepared;
mod query;
mod tallies;
pub mod test_language;
mod threads;
mod turns;
mod value;
mod wide;

pub use engine::{Engine, EngineOptions, QueryOptions};
pub use error::QueryError;
pub use plan::{Measured, PlanNode};
pub use prepared::Prepared;
pub use value::{Evaluation, Sample, SampleStats, SampleValue, SeriesPoints, Value};
