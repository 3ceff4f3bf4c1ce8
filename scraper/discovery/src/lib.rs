#![doc = include_str!("../README.md")]
mod api;
mod config;
pub mod consul;
pub mod dns;
pub mod docker;
mod error;
pub mod file;
mod foreign;
mod group;
pub mod http;
pub mod kubernetes;
mod manager;
mod mechanism;
mod metrics;
pub mod nomad;
mod refresh;

pub use config::{FileSd, HttpSd, SdConfigs, StaticGroup, discovery_struct_parts};
pub use consul::ConsulSd;
pub use dns::DnsSd;
pub use docker::DockerSd;
pub use error::Error;
pub use foreign::Foreign;
pub use group::TargetGroup;
pub use kubernetes::KubernetesSd;
pub use manager::{Discovery, JobGroups, ProviderStatus};
pub use mechanism::{Mechanism, SdConfig};
pub use nomad::NomadSd;

/// What [`discovery_struct`] needs from its dependencies.
#[doc(hidden)]
pub use ferula_net;
