//! Pieces of label sets that several roles share.
use ferula_kube::{Container, Node, Pod, Service};
use ferula_kube::{ObjectMeta, OwnerReference};
use ferula_model::{Labels, LabelsBuilder};

use crate::group::{ADDRESS, TargetGroup};
pub(super) use crate::group::{join, sanitize};

pub(super) const NAMESPACE: &str = "__meta_kubernetes_namespace";

/// Labels and annotations of an object, as values and as presence.
pub(super) fn add_object_labels(b: &mut LabelsBuilder, meta: &ObjectMeta, resource: &str) {
    let lists = [(&meta.labels, "label"), (&meta.annotations, "annotation")];
    for (pairs, what) in lists {
        for (name, value) in pairs.iter().flatten() {
            let name = sanitize(name);
            b.set(&format!("__meta_kubernetes_{resource}_{what}_{name}"), value);
            b.set(&format!("__meta_kubernetes_{resource}_{what}present_{name}"), "true");
        }
    }
}

/// The name, and [`add_object_labels`].
pub(super) fn add_meta(b: &mut LabelsBuilder, meta: &ObjectMeta, role: &str) {
    b.set(&format!("__meta_kubernetes_{role}_name"), meta.name.as_deref().unwrap_or(""));
    add_object_labels(b, meta, role);
}

pub(super) fn namespace(meta: &ObjectMeta) -> &str {
    meta.namespace.as_deref().unwrap_or("")
}
pub(super) fn name(meta: &ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or("")
}

/// The owner that manages an object.
pub(super) fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|o| o.controller == Some(true))
}

pub(super) fn add_node(b: &mut LabelsBuilder, node: &Node) {
    b.set("__meta_kubernetes_node_provider_id", &node.spec.provider_id);
    add_meta(b, &node.metadata, "node");
}

pub(super) fn add_service(b: &mut LabelsBuilder, service: &Service) {
    b.set(NAMESPACE, namespace(&service.metadata));
    add_meta(b, &service.metadata, "service");
}

pub(super) fn add_pod(b: &mut LabelsBuilder, pod: &Pod) {
    let ready = pod.status.conditions.iter().find(|c| c.kind == "Ready").map(|c| c.status.to_lowercase());
    b.set("__meta_kubernetes_pod_ip", &pod.status.pod_ip);
    b.set("__meta_kubernetes_pod_ready", ready.as_deref().unwrap_or("unknown"));
    b.set("__meta_kubernetes_pod_phase", &pod.status.phase);
    b.set("__meta_kubernetes_pod_node_name", &pod.spec.node_name);
    b.set("__meta_kubernetes_pod_host_ip", &pod.status.host_ip);
    b.set("__meta_kubernetes_pod_uid", pod.metadata.uid.as_deref().unwrap_or(""));
    add_meta(b, &pod.metadata, "pod");
    if let Some(owner) = controller(&pod.metadata) {
        b.set("__meta_kubernetes_pod_controller_kind", &owner.kind);
        b.set("__meta_kubernetes_pod_controller_name", &owner.name);
    }
}

/// Containers and whether each is an init container.
pub(super) fn containers(pod: &Pod) -> impl Iterator<Item = (&Container, bool)> {
    let main = pod.spec.containers.iter().map(|c| (c, false));
    main.chain(pod.spec.init_containers.iter().map(|c| (c, true)))
}

/// What a container's port adds to a target.
pub(super) fn add_container_port(b: &mut LabelsBuilder, container: &Container, is_init: bool, port: (&str, i64, &str)) {
    let (name, number, protocol) = port;
    b.set("__meta_kubernetes_pod_container_name", &container.name);
    b.set("__meta_kubernetes_pod_container_image", &container.image);
    b.set("__meta_kubernetes_pod_container_port_name", name);
    b.set("__meta_kubernetes_pod_container_port_number", &number.to_string());
    b.set("__meta_kubernetes_pod_container_port_protocol", protocol);
    b.set("__meta_kubernetes_pod_container_init", if is_init { "true" } else { "false" });
}

/// A target's labels begun with its address.
pub(super) fn target(address: &str) -> LabelsBuilder {
    let mut b = LabelsBuilder::new();
    b.set(ADDRESS, address);
    b
}

/// A group from its parts.
pub(super) fn group(source: String, labels: &LabelsBuilder, targets: Vec<Labels>) -> TargetGroup {
    TargetGroup { source, labels: labels.labels(), targets }
}
