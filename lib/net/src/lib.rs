#![doc = include_str!("../README.md")]
pub mod client;
pub mod listen;
pub mod mutual;
