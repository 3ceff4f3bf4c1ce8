//! Objects to target groups, role by role: pure functions, so that recorded objects prove them.
use std::collections::BTreeMap;

use ferula_kube::{EndpointSlice, Endpoints, Ingress, Job, Namespace, Node, ObjectReference, Pod, ReplicaSet, Service};
use ferula_model::{Labels, LabelsBuilder};

use super::AttachMetadata;
use super::labels::{
    NAMESPACE, add_container_port, add_meta, add_node, add_object_labels, add_pod, add_service, containers, controller,
    group, join, name, namespace, sanitize, target,
};
use crate::group::TargetGroup;

/// Where a role looks up the other objects it mentions.
pub(super) trait Others {
    fn pod(&self, namespace: &str, name: &str) -> Option<Pod>;
    fn service(&self, namespace: &str, name: &str) -> Option<Service>;
    /// `None` unless nodes are to be attached.
    fn node(&self, name: &str) -> Option<Node>;
    /// `None` unless namespaces are to be attached.
    fn namespace(&self, name: &str) -> Option<Namespace>;
    /// Of replica sets: `None` unless deployments are to be attached.
    fn replica_set(&self, namespace: &str, name: &str) -> Option<ReplicaSet>;
    /// `None` unless jobs or cron jobs are to be attached.
    fn job(&self, namespace: &str, name: &str) -> Option<Job>;
    /// Which of the two.
    fn attach(&self) -> &AttachMetadata;
}

fn attach_namespace(b: &mut LabelsBuilder, others: &dyn Others, of: &str) {
    if let Some(ns) = others.namespace(of) {
        add_object_labels(b, &ns.metadata, "namespace");
    }
}

fn attach_node(b: &mut LabelsBuilder, others: &dyn Others, of: &str) {
    if let Some(node) = others.node(of) {
        add_node(b, &node);
    }
}

/// The controllers above a pod's own.
fn attach_controllers(b: &mut LabelsBuilder, others: &dyn Others, pod: &Pod) {
    let Some(owner) = controller(&pod.metadata) else { return };
    let (ns, attach) = (namespace(&pod.metadata), others.attach());
    match owner.kind.as_str() {
        "ReplicaSet" => {
            let set = others.replica_set(ns, &owner.name);
            if let Some(above) = set.as_ref().and_then(|s| controller(&s.metadata)).filter(|o| o.kind == "Deployment") {
                b.set("__meta_kubernetes_pod_deployment_name", &above.name);
            }
        }
        "Job" => {
            let Some(job) = others.job(ns, &owner.name) else { return };
            if attach.job {
                b.set("__meta_kubernetes_pod_job_name", name(&job.metadata));
            }
            if let Some(above) = controller(&job.metadata).filter(|o| attach.cronjob && o.kind == "CronJob") {
                b.set("__meta_kubernetes_pod_cronjob_name", &above.name);
            }
        }
        _ => {}
    }
}

pub(super) fn node(n: &Node) -> Option<TargetGroup> {
    let mut by_kind: BTreeMap<&str, &str> = BTreeMap::new();
    for a in &n.status.addresses {
        by_kind.entry(&a.kind).or_insert(&a.address); // the first of a kind counts
    }
    let preferred = ["InternalIP", "InternalDNS", "ExternalIP", "ExternalDNS", "LegacyHostIP", "Hostname"];
    let address = preferred.iter().find_map(|kind| by_kind.get(kind))?;
    let mut b = LabelsBuilder::new();
    add_node(&mut b, n);
    let mut t = target(&join(address, n.status.daemon_endpoints.kubelet_endpoint.port));
    t.set("instance", name(&n.metadata));
    for (kind, address) in &by_kind {
        t.set(&format!("__meta_kubernetes_node_address_{}", sanitize(kind)), address);
    }
    Some(group(format!("node/{}", name(&n.metadata)), &b, vec![t.labels()]))
}

pub(super) fn service(s: &Service, others: &dyn Others) -> TargetGroup {
    let (ns, svc) = (namespace(&s.metadata), name(&s.metadata));
    let mut b = LabelsBuilder::new();
    add_service(&mut b, s);
    attach_namespace(&mut b, others, ns);
    let targets = s.spec.ports.iter().map(|port| {
        let mut t = target(&join(&format!("{svc}.{ns}.svc"), port.port));
        t.set("__meta_kubernetes_service_port_name", &port.name);
        t.set("__meta_kubernetes_service_port_number", &port.port.to_string());
        t.set("__meta_kubernetes_service_port_protocol", &port.protocol);
        t.set("__meta_kubernetes_service_type", &s.spec.kind);
        if s.spec.kind == "ExternalName" {
            t.set("__meta_kubernetes_service_external_name", &s.spec.external_name);
        } else {
            t.set("__meta_kubernetes_service_cluster_ip", &s.spec.cluster_ip);
        }
        if s.spec.kind == "LoadBalancer" {
            t.set("__meta_kubernetes_service_loadbalancer_ip", &s.spec.load_balancer_ip);
        }
        t.labels()
    });
    let targets = targets.collect();
    group(format!("svc/{ns}/{svc}"), &b, targets)
}

pub(super) fn pod(p: &Pod, others: &dyn Others) -> TargetGroup {
    let ns = namespace(&p.metadata);
    let source = format!("pod/{ns}/{}", name(&p.metadata));
    let mut b = LabelsBuilder::new();
    // A pod that starts or was evicted has no address, hence no target.
    if p.status.pod_ip.is_empty() {
        return group(source, &b, Vec::new());
    }
    add_pod(&mut b, p);
    b.set(NAMESPACE, ns);
    attach_node(&mut b, others, &p.spec.node_name);
    attach_namespace(&mut b, others, ns);
    attach_controllers(&mut b, others, p);
    let mut targets = Vec::new();
    for (container, is_init) in containers(p) {
        let statuses = if is_init { &p.status.init_container_statuses } else { &p.status.container_statuses };
        let id = statuses.iter().find(|s| s.name == container.name).map_or("", |s| s.container_id.as_str());
        if container.ports.is_empty() {
            let mut t = target(&p.status.pod_ip);
            t.set("__meta_kubernetes_pod_container_name", &container.name);
            t.set("__meta_kubernetes_pod_container_id", id);
            t.set("__meta_kubernetes_pod_container_image", &container.image);
            t.set("__meta_kubernetes_pod_container_init", if is_init { "true" } else { "false" });
            targets.push(t.labels());
        }
        for port in &container.ports {
            let mut t = target(&join(&p.status.pod_ip, port.container_port));
            t.set("__meta_kubernetes_pod_container_id", id);
            add_container_port(&mut t, container, is_init, (&port.name, port.container_port, &port.protocol));
            targets.push(t.labels());
        }
    }
    group(source, &b, targets)
}

/// Targets of endpoints, and the pods behind them: their ports that no endpoint names become targets too.
struct Behind<'o> {
    others: &'o dyn Others,
    targets: Vec<Labels>,
    /// Pods met, in order, with the ports endpoints have of them.
    pods: Vec<(Pod, Vec<i64>)>,
}

impl Behind<'_> {
    /// `protocol` is the endpoint's, where the role shows that one instead of the container's.
    fn add(
        &mut self,
        mut t: LabelsBuilder,
        target_ref: Option<&ObjectReference>,
        port: Option<i64>,
        protocol: Option<&str>,
    ) {
        let pod = target_ref.filter(|r| r.kind == "Pod").and_then(|r| self.others.pod(&r.namespace, &r.name));
        let Some(pod) = pod else {
            self.targets.push(t.labels());
            return;
        };
        add_pod(&mut t, &pod);
        for (container, is_init) in containers(&pod) {
            if let Some(own) = container.ports.iter().find(|p| port == Some(p.container_port)) {
                let protocol = protocol.unwrap_or(&own.protocol);
                add_container_port(&mut t, container, is_init, (&own.name, own.container_port, protocol));
            }
        }
        self.targets.push(t.labels());
        let same = |p: &Pod| p.metadata.name == pod.metadata.name && p.metadata.namespace == pod.metadata.namespace;
        match self.pods.iter_mut().find(|(p, _)| same(p)) {
            Some((_, ports)) => ports.extend(port),
            None => self.pods.push((pod, port.into_iter().collect())),
        }
    }

    fn finish(mut self) -> Vec<Labels> {
        for (pod, seen) in &self.pods {
            if pod.status.pod_ip.is_empty() {
                continue;
            }
            for (container, is_init) in containers(pod) {
                for port in container.ports.iter().filter(|p| !seen.contains(&p.container_port)) {
                    let mut t = target(&join(&pod.status.pod_ip, port.container_port));
                    add_container_port(&mut t, container, is_init, (&port.name, port.container_port, &port.protocol));
                    add_pod(&mut t, pod);
                    self.targets.push(t.labels());
                }
            }
        }
        self.targets
    }

    fn attach(&self, t: &mut LabelsBuilder, node_name: Option<&str>, target_ref: Option<&ObjectReference>) {
        match (node_name, target_ref) {
            (Some(node), _) => attach_node(t, self.others, node),
            (None, Some(r)) if r.kind == "Node" => attach_node(t, self.others, &r.name),
            _ => {}
        }
    }
}

pub(super) fn endpoints(e: &Endpoints, others: &dyn Others) -> TargetGroup {
    let (ns, of) = (namespace(&e.metadata), name(&e.metadata));
    let mut b = LabelsBuilder::new();
    b.set(NAMESPACE, ns);
    if let Some(service) = others.service(ns, of) {
        add_service(&mut b, &service);
    }
    add_meta(&mut b, &e.metadata, "endpoints");
    attach_namespace(&mut b, others, ns);
    let mut behind = Behind { others, targets: Vec::new(), pods: Vec::new() };
    for subset in &e.subsets {
        for port in &subset.ports {
            let ready = subset.addresses.iter().map(|a| (a, "true"));
            for (a, is_ready) in ready.chain(subset.not_ready_addresses.iter().map(|a| (a, "false"))) {
                let mut t = target(&join(&a.ip, port.port));
                t.set("__meta_kubernetes_endpoint_port_name", &port.name);
                t.set("__meta_kubernetes_endpoint_port_protocol", &port.protocol);
                t.set("__meta_kubernetes_endpoint_ready", is_ready);
                if let Some(r) = &a.target_ref {
                    t.set("__meta_kubernetes_endpoint_address_target_kind", &r.kind);
                    t.set("__meta_kubernetes_endpoint_address_target_name", &r.name);
                }
                if let Some(node) = &a.node_name {
                    t.set("__meta_kubernetes_endpoint_node_name", node);
                }
                t.set("__meta_kubernetes_endpoint_hostname", &a.hostname);
                behind.attach(&mut t, a.node_name.as_deref(), a.target_ref.as_ref());
                behind.add(t, a.target_ref.as_ref(), Some(port.port), Some(&port.protocol));
            }
        }
    }
    group(format!("endpoints/{ns}/{of}"), &b, behind.finish())
}

pub(super) fn endpoint_slice(e: &EndpointSlice, others: &dyn Others) -> TargetGroup {
    let (ns, of) = (namespace(&e.metadata), name(&e.metadata));
    let mut b = LabelsBuilder::new();
    b.set(NAMESPACE, ns);
    b.set("__meta_kubernetes_endpointslice_address_type", &e.address_type);
    add_meta(&mut b, &e.metadata, "endpointslice");
    let service_name = e.metadata.labels.as_ref().and_then(|l| l.get("kubernetes.io/service-name"));
    if let Some(service) = service_name.and_then(|s| others.service(ns, s)) {
        add_service(&mut b, &service);
    }
    attach_namespace(&mut b, others, ns);
    let mut behind = Behind { others, targets: Vec::new(), pods: Vec::new() };
    for endpoint in &e.endpoints {
        for port in &e.ports {
            for address in &endpoint.addresses {
                let mut t = match port.port {
                    Some(number) => target(&join(address, number)),
                    None => target(address),
                };
                let prefix = "__meta_kubernetes_endpointslice";
                let number = port.port.map(|p| p.to_string());
                let flag = |v: Option<bool>| v.map(|v| v.to_string());
                let conditions = &endpoint.conditions;
                let optional = [
                    ("port_name", port.name.clone()),
                    ("port_protocol", port.protocol.clone()),
                    ("port", number),
                    ("port_app_protocol", port.app_protocol.clone()),
                    ("endpoint_conditions_ready", flag(conditions.ready)),
                    ("endpoint_conditions_serving", flag(conditions.serving)),
                    ("endpoint_conditions_terminating", flag(conditions.terminating)),
                    ("address_target_kind", endpoint.target_ref.as_ref().map(|r| r.kind.clone())),
                    ("address_target_name", endpoint.target_ref.as_ref().map(|r| r.name.clone())),
                    ("endpoint_node_name", endpoint.node_name.clone()),
                    ("endpoint_hostname", endpoint.hostname.clone()),
                    ("endpoint_zone", endpoint.zone.clone()),
                ];
                for (suffix, value) in optional {
                    if let Some(value) = value {
                        t.set(&format!("{prefix}_{suffix}"), &value);
                    }
                }
                for (key, value) in &endpoint.deprecated_topology {
                    let key = sanitize(key);
                    t.set(&format!("{prefix}_endpoint_topology_{key}"), value);
                    t.set(&format!("{prefix}_endpoint_topology_present_{key}"), "true");
                }
                behind.attach(&mut t, endpoint.node_name.as_deref(), endpoint.target_ref.as_ref());
                behind.add(t, endpoint.target_ref.as_ref(), port.port, None);
            }
        }
    }
    group(format!("endpointslice/{ns}/{of}"), &b, behind.finish())
}

pub(super) fn ingress(i: &Ingress, others: &dyn Others) -> TargetGroup {
    let (ns, of) = (namespace(&i.metadata), name(&i.metadata));
    let mut b = LabelsBuilder::new();
    b.set(NAMESPACE, ns);
    if let Some(class) = &i.spec.ingress_class_name {
        b.set("__meta_kubernetes_ingress_class_name", class);
    }
    add_meta(&mut b, &i.metadata, "ingress");
    attach_namespace(&mut b, others, ns);
    let mut targets = Vec::new();
    for rule in &i.spec.rules {
        let covered = |pattern: &String| covers(pattern, &rule.host);
        let scheme = if i.spec.tls.iter().flat_map(|t| &t.hosts).any(covered) { "https" } else { "http" };
        let mut paths: Vec<&str> = rule.http.paths.iter().map(|p| p.path.as_str()).collect();
        if paths.is_empty() {
            paths.push("/");
        }
        for path in paths {
            let mut t = target(&rule.host);
            t.set("__meta_kubernetes_ingress_scheme", scheme);
            t.set("__meta_kubernetes_ingress_host", &rule.host);
            t.set("__meta_kubernetes_ingress_path", if path.is_empty() { "/" } else { path });
            targets.push(t.labels());
        }
    }
    group(format!("ingress/{ns}/{of}"), &b, targets)
}

/// Whether a TLS host, which may begin with `*.`, covers a rule's host.
fn covers(pattern: &str, host: &str) -> bool {
    if pattern == host {
        return true;
    }
    match (pattern.strip_prefix("*."), host.split_once('.')) {
        (Some(rest), Some((_, domain))) => rest == domain,
        _ => false,
    }
}
