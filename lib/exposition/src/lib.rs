//! Parses and writes the exposition formats, without copying.
pub mod family;
pub mod parse;
pub mod write;
