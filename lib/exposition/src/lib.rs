#![doc = include_str!("../README.md")]
pub mod family;
pub mod parse;
pub mod write;
