#![doc = include_str!("../README.md")]
mod config;
mod error;
pub mod file;
mod foreign;
mod group;
pub mod http;
pub mod kubernetes;
mod manager;
mod metrics;

pub use config::{FileSd, HttpSd, SdConfigs, StaticGroup, discovery_struct_parts};
pub use error::Error;
pub use foreign::Foreign;
pub use group::TargetGroup;
pub use manager::{Discovery, JobGroups, ProviderStatus};

/// What [`discovery_struct`] needs from its dependencies.
#[doc(hidden)]
pub use ferula_net;
