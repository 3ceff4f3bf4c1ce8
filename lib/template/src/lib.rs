#![doc = include_str!("../README.md")]
mod ast;
mod error;
mod exec;
mod float;
pub mod format;
pub mod functions;
mod html;
mod parse;
mod set;
pub mod time;
mod value;

pub use error::Error;
pub use exec::Env;
pub use functions::{Function, Functions, Type};
pub use set::{Limits, MissingKey, Templates};
pub use value::{List, Map, Object, Safe, Shape, Value};

/// Whether fields of the value are map entries.
pub(crate) fn is_map(v: &Value) -> bool {
    match v {
        Value::Map(_) => true,
        Value::Object(o) => o.shape() == Shape::Map,
        _ => false,
    }
}
