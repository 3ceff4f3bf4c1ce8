#![doc = include_str!("../README.md")]
mod alert;
mod alerting;
mod dependency;
pub mod file;
mod group;
pub mod lint;
mod manager;
mod metrics;
mod places;
mod previous;
mod query;
mod recording;
mod restore;
mod schedule;
mod shared;
mod signal;
mod snapshot;
mod text;
pub mod unit_test;

pub use alert::{Alert, AlertState, NoNotify, Notify, RESOLVED_RETENTION_MS};
pub use file::{FileError, GroupConfig, RuleConfig, RuleConfigKind};
pub use group::{Environment, Group, Settings};
pub use manager::{LoadError, RuleManager};
pub use query::{EngineQuery, Number, RuleQuery, Sample};
pub use snapshot::{AlertSnapshot, AlertingSnapshot, GroupSnapshot, Health, RuleSnapshot};
