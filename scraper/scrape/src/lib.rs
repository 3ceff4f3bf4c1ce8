//! Pulls targets, parses, appends.
pub mod config;
