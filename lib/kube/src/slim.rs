//! Kubernetes objects with the fields discovery looks at, and nothing else: serde skips the rest while it reads.
use std::borrow::Cow;
use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::core::DynamicResourceScope;
use serde::{Deserialize, Deserializer, Serialize};

/// Null where a list or map is expected reads as empty: Go writes that.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(d: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(d).map(Option::unwrap_or_default)
}

fn unset<T: Default + PartialEq>(v: &T) -> bool {
    *v == T::default()
}

/// Only names, labels, annotations, owners: managed fields alone would double an object.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct SlimMeta {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
}

fn meta<'de, D: Deserializer<'de>>(d: D) -> Result<ObjectMeta, D::Error> {
    let slim = SlimMeta::deserialize(d)?;
    Ok(ObjectMeta {
        name: slim.name,
        namespace: slim.namespace,
        uid: slim.uid,
        resource_version: slim.resource_version,
        labels: slim.labels,
        annotations: slim.annotations,
        owner_references: slim.owner_references,
        ..ObjectMeta::default()
    })
}

macro_rules! resource {
    ($name:ident, $scope:ty, $group:literal, $version:literal, $plural:literal) => {
        impl kube::Resource for $name {
            type DynamicType = ();
            type Scope = $scope;
            fn kind(_: &()) -> Cow<'_, str> {
                stringify!($name).into()
            }
            fn group(_: &()) -> Cow<'_, str> {
                $group.into()
            }
            fn version(_: &()) -> Cow<'_, str> {
                $version.into()
            }
            fn plural(_: &()) -> Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

macro_rules! slim {
    ($( $(#[$m:meta])* $name:ident { $( $(#[$f:meta])* $field:ident : $ty:ty ),* $(,)? } )*) => {$(
        $(#[$m])*
        #[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            $( $(#[$f])* #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")] pub $field: $ty, )*
        }
    )*};
}

/// Objects: metadata and what follows.
macro_rules! object {
    ($name:ident { $( $field:ident : $ty:ty ),* $(,)? }) => {
        #[derive(Clone, Debug, Default, Deserialize, Serialize)]
        #[serde(rename_all = "camelCase", default)]
        pub struct $name {
            #[serde(deserialize_with = "meta")]
            pub metadata: ObjectMeta,
            $( #[serde(deserialize_with = "nullable", skip_serializing_if = "unset")] pub $field: $ty, )*
        }
    };
}

object!(Node { spec: NodeSpec, status: NodeStatus });
object!(Service { spec: ServiceSpec });
object!(Pod { spec: PodSpec, status: PodStatus });
object!(Endpoints { subsets: Vec<EndpointSubset> });
object!(EndpointSlice { address_type: String, endpoints: Vec<Endpoint>, ports: Vec<SlicePort> });
object!(Ingress { spec: IngressSpec });
object!(Namespace {});
// Of these only their owners matter.
object!(ReplicaSet {});
object!(Job {});

resource!(Node, DynamicResourceScope, "", "v1", "nodes");
resource!(Service, DynamicResourceScope, "", "v1", "services");
resource!(Pod, DynamicResourceScope, "", "v1", "pods");
resource!(Endpoints, DynamicResourceScope, "", "v1", "endpoints");
resource!(EndpointSlice, DynamicResourceScope, "discovery.k8s.io", "v1", "endpointslices");
resource!(Ingress, DynamicResourceScope, "networking.k8s.io", "v1", "ingresses");
resource!(Namespace, DynamicResourceScope, "", "v1", "namespaces");
resource!(ReplicaSet, DynamicResourceScope, "apps", "v1", "replicasets");
resource!(Job, DynamicResourceScope, "batch", "v1", "jobs");

slim! {
    NodeSpec {
        #[serde(rename = "providerID")]
        provider_id: String,
    }
    NodeStatus { addresses: Vec<NodeAddress>, daemon_endpoints: DaemonEndpoints }
    NodeAddress {
        #[serde(rename = "type")]
        kind: String,
        address: String,
    }
    DaemonEndpoints { kubelet_endpoint: KubeletEndpoint }
    KubeletEndpoint {
        #[serde(rename = "Port")]
        port: i64,
    }
    ServiceSpec {
        #[serde(rename = "type")]
        kind: String,
        #[serde(rename = "clusterIP")]
        cluster_ip: String,
        external_name: String,
        #[serde(rename = "loadBalancerIP")]
        load_balancer_ip: String,
        ports: Vec<ServicePort>,
    }
    ServicePort { name: String, protocol: String, port: i64 }
    PodSpec { node_name: String, containers: Vec<Container>, init_containers: Vec<Container> }
    Container { name: String, image: String, ports: Vec<ContainerPort> }
    ContainerPort { name: String, container_port: i64, protocol: String }
    PodStatus {
        phase: String,
        #[serde(rename = "podIP")]
        pod_ip: String,
        #[serde(rename = "hostIP")]
        host_ip: String,
        conditions: Vec<Condition>,
        container_statuses: Vec<ContainerStatus>,
        init_container_statuses: Vec<ContainerStatus>,
    }
    Condition {
        #[serde(rename = "type")]
        kind: String,
        status: String,
    }
    ContainerStatus {
        name: String,
        #[serde(rename = "containerID")]
        container_id: String,
    }
    EndpointSubset {
        addresses: Vec<EndpointAddress>,
        not_ready_addresses: Vec<EndpointAddress>,
        ports: Vec<EndpointPort>,
    }
    EndpointAddress { ip: String, hostname: String, node_name: Option<String>, target_ref: Option<ObjectReference> }
    EndpointPort { name: String, port: i64, protocol: String }
    ObjectReference { kind: String, namespace: String, name: String }
    Endpoint {
        addresses: Vec<String>,
        conditions: EndpointConditions,
        hostname: Option<String>,
        node_name: Option<String>,
        zone: Option<String>,
        target_ref: Option<ObjectReference>,
        deprecated_topology: BTreeMap<String, String>,
    }
    EndpointConditions { ready: Option<bool>, serving: Option<bool>, terminating: Option<bool> }
    SlicePort { name: Option<String>, protocol: Option<String>, port: Option<i64>, app_protocol: Option<String> }
    IngressSpec { ingress_class_name: Option<String>, rules: Vec<IngressRule>, tls: Vec<IngressTls> }
    IngressRule { host: String, http: IngressRuleHttp }
    IngressRuleHttp { paths: Vec<IngressPath> }
    IngressPath { path: String }
    IngressTls { hosts: Vec<String> }
}
