#![doc = include_str!("../README.md")]
mod histogram;
mod process;
mod registry;
mod scalar;
mod sketch;
mod summary;
mod vector;

pub use ferula_exposition::family::{Family, Metric, MetricValue, Text};
pub use histogram::{Histogram, exponential_buckets, linear_buckets};
pub use process::{page_bytes, register_process};
pub use registry::Registry;
pub use scalar::{Counter, Gauge};
pub use summary::Summary;
pub use vector::{CHILDREN_MAX, CounterVec, GaugeVec, HistogramVec, SummaryVec, Vector};
