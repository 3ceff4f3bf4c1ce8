//! Routes, groups and delivers alerts.
pub mod config;
pub mod matcher;
pub mod time_interval;
