#![doc = include_str!("../README.md")]
mod context;
mod export;
mod span;
mod tracer;

pub use context::{SpanContext, current, with};
pub use export::{ClientType, Error, ExportOptions};
pub use span::{Kind, Span, Value};
pub use tracer::Tracer;
