//! Routes, groups and delivers alerts.
pub mod alert;
pub mod config;
pub mod core;
pub mod inhibit;
pub mod matcher;
pub mod metrics;
pub mod nflog;
pub mod route;
pub mod silence;
pub mod time_interval;
