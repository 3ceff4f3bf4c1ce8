#![doc = include_str!("../README.md")]
mod api;
mod aws;
pub mod azure;
mod config;
pub mod consul;
pub mod digitalocean;
pub mod dns;
pub mod docker;
pub mod dockerswarm;
pub mod ec2;
mod error;
pub mod eureka;
pub mod file;
mod foreign;
pub mod gce;
mod group;
pub mod hetzner;
pub mod http;
pub mod kubernetes;
mod manager;
mod mechanism;
mod metrics;
pub mod nomad;
pub mod puppetdb;
mod refresh;
pub mod scaleway;
pub mod vultr;
mod xml;

pub use azure::AzureSd;
pub use config::{FileSd, HttpSd, SdConfigs, StaticGroup, discovery_struct_parts};
pub use consul::ConsulSd;
pub use digitalocean::DigitalOceanSd;
pub use dns::DnsSd;
pub use docker::DockerSd;
pub use dockerswarm::DockerSwarmSd;
pub use ec2::{Ec2Sd, LightsailSd};
pub use error::Error;
pub use eureka::EurekaSd;
pub use foreign::Foreign;
pub use gce::GceSd;
pub use group::TargetGroup;
pub use hetzner::HetznerSd;
pub use kubernetes::KubernetesSd;
pub use manager::{Discovery, JobGroups, ProviderStatus};
pub use mechanism::{Mechanism, SdConfig};
pub use nomad::NomadSd;
pub use puppetdb::PuppetDbSd;
pub use scaleway::ScalewaySd;
pub use vultr::VultrSd;

/// What [`discovery_struct`] needs from its dependencies.
#[doc(hidden)]
pub use ferula_net;
