#![doc = include_str!("../README.md")]
pub mod alert;
mod api;
mod app;
pub mod check;
mod cluster;
pub mod config;
pub mod core;
pub mod history;
pub mod inhibit;
pub mod matcher;
pub mod metrics;
pub mod nflog;
pub mod notify;
mod options;
pub mod receiver;
mod recorder;
pub mod route;
pub mod silence;
pub mod store;
mod time;
pub mod time_interval;

pub use alert::PostableAlert;
pub use app::{Alertmanager, Error, SilenceFailure};
pub use cluster::{ClusterError, ClusterOptions};
pub use options::Options;

/// The Alertmanager whose behaviour this follows, as clients that ask for a version see it.
pub const VERSION: &str = "0.33.1";
pub(crate) const USER_AGENT: &str = "Alertmanager/0.33.1";
