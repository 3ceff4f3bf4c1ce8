//! `kubernetes_sd_configs`, with upstream's checks.
use ferula_kube::Access;
use serde::{Deserialize, Serialize};

use super::selector::{check_fields, check_labels};
use crate::Error;
use crate::discovery_struct_parts::unset;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    Node,
    Service,
    Pod,
    Endpoints,
    EndpointSlice,
    Ingress,
}

impl Role {
    pub fn parse(text: &str) -> Option<Role> {
        Some(match text {
            "node" => Role::Node,
            "service" => Role::Service,
            "pod" => Role::Pod,
            "endpoints" => Role::Endpoints,
            "endpointslice" => Role::EndpointSlice,
            "ingress" => Role::Ingress,
            _ => return None,
        })
    }
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Node => "node",
            Role::Service => "service",
            Role::Pod => "pod",
            Role::Endpoints => "endpoints",
            Role::EndpointSlice => "endpointslice",
            Role::Ingress => "ingress",
        }
    }
    /// Roles a selector may name beside this one.
    fn selectable(self) -> &'static [&'static str] {
        match self {
            Role::Node => &["node"],
            Role::Service => &["service"],
            Role::Pod => &["pod", "node"],
            Role::Endpoints => &["pod", "service", "endpoints", "node"],
            Role::EndpointSlice => &["pod", "service", "endpointslice", "node"],
            Role::Ingress => &["ingress"],
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Namespaces {
    pub own_namespace: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Selector {
    pub role: String,
    #[serde(skip_serializing_if = "unset")]
    pub label: String,
    #[serde(skip_serializing_if = "unset")]
    pub field: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AttachMetadata {
    pub node: bool,
    #[serde(skip_serializing_if = "unset")]
    pub namespace: bool,
    #[serde(skip_serializing_if = "unset")]
    pub deployment: bool,
    #[serde(skip_serializing_if = "unset")]
    pub job: bool,
    #[serde(skip_serializing_if = "unset")]
    pub cronjob: bool,
}

ferula_net::http_config_struct! {
    /// One entry of `kubernetes_sd_configs`.
    pub struct KubernetesSd {
        #[serde(skip_serializing_if = "unset")]
        pub api_server: String = String::new(),
        pub role: String = String::new(),
        #[serde(skip_serializing_if = "unset")]
        pub kubeconfig_file: String = String::new(),
        @http_config
        #[serde(skip_serializing_if = "unset")]
        pub namespaces: Namespaces = Namespaces::default(),
        #[serde(skip_serializing_if = "unset")]
        pub selectors: Vec<Selector> = Vec::new(),
        #[serde(skip_serializing_if = "unset")]
        pub attach_metadata: AttachMetadata = AttachMetadata::default(),
    }
}

impl KubernetesSd {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        let refuse = |text: String| Err(Error::Config(text));
        let role = match self.role.as_str() {
            "" => return refuse("role missing (one of: pod, service, endpoints, endpointslice, node, ingress)".into()),
            text => match Role::parse(text) {
                Some(role) => role,
                None => return refuse(format!("unknown Kubernetes SD role {text:?}")),
            },
        };
        self.http_config().validate().map_err(Error::Config)?;
        let custom_http = self.http_config() != ferula_net::client::ClientConfig::default();
        if !self.api_server.is_empty() && !self.kubeconfig_file.is_empty() {
            return refuse("cannot use 'kubeconfig_file' and 'api_server' simultaneously".into());
        }
        if !self.kubeconfig_file.is_empty() && custom_http {
            return refuse("cannot use a custom HTTP client configuration together with 'kubeconfig_file'".into());
        }
        if self.api_server.is_empty() && custom_http {
            return refuse(
                "to use custom HTTP client configuration please provide the 'api_server' URL explicitly".into(),
            );
        }
        if !self.api_server.is_empty() && self.namespaces.own_namespace {
            return refuse("cannot use 'api_server' and 'namespaces.own_namespace' simultaneously".into());
        }
        if !self.kubeconfig_file.is_empty() && self.namespaces.own_namespace {
            return refuse("cannot use 'kubeconfig_file' and 'namespaces.own_namespace' simultaneously".into());
        }
        let mut seen = Vec::new();
        for selector in &self.selectors {
            let name = selector.role.as_str();
            if seen.contains(&name) {
                return refuse(format!("duplicated selector role: {name}"));
            }
            seen.push(name);
            if Role::parse(name).is_none() {
                return refuse(format!(
                    "invalid role: {name:?}, expecting one of: pod, service, endpoints, endpointslice, node or ingress"
                ));
            }
            if !role.selectable().contains(&name) {
                let allowed = role.selectable().join(", ");
                return refuse(format!("{} role supports only {allowed} selectors", self.role));
            }
            check_fields(&selector.field)?;
            check_labels(&selector.label)?;
        }
        Ok(())
    }

    pub(crate) fn access(&self) -> Access {
        if !self.kubeconfig_file.is_empty() {
            Access::Kubeconfig(self.kubeconfig_file.clone())
        } else if self.api_server.is_empty() {
            Access::InCluster
        } else {
            Access::Server { url: self.api_server.clone(), http: Box::new(self.http_config()) }
        }
    }

    pub(crate) fn selector(&self, role: Role) -> Selector {
        self.selectors.iter().find(|s| s.role == role.as_str()).cloned().unwrap_or_default()
    }
}
