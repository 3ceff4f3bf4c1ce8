#![doc = include_str!("../README.md")]
mod access;
mod packed;
mod slim;
mod store;

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

pub use access::{Access, Cluster, own_namespace};
pub use slim::*;
pub use store::{Scope, Store, WatchEvents};

/// Why a cluster cannot be reached.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);
