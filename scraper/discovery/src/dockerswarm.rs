//! `dockerswarm_sd_configs`: services, tasks and nodes of a swarm.
use std::collections::BTreeMap;
use std::time::Duration;

use ferula_model::Labels;
use serde_json::Value;

use crate::api::{Api, list_at, scalar_text, text_at};
use crate::discovery_struct_parts::unset;
use crate::docker::{Filter, check_host, daemon, filters, networks};
use crate::error::Error;
use crate::group::{Meta, TargetGroup, join};
use crate::metrics::Metrics;
use crate::refresh::Refresh;

ferula_net::http_config_struct! {
    /// One entry of `dockerswarm_sd_configs`.
    pub struct DockerSwarmSd {
        @http_config
        pub host: String = String::new(),
        pub role: String = String::new(),
        pub port: u16 = 80,
        #[serde(skip_serializing_if = "unset")]
        pub filters: Vec<Filter> = Vec::new(),
        pub refresh_interval: ferula_yaml::Duration = ferula_yaml::Duration::from_secs(60),
    }
}

const PREFIX: &str = "__meta_dockerswarm_";

impl Refresh for DockerSwarmSd {
    const NAME: &'static str = "dockerswarm";
    type Session = Api;

    fn check(&self) -> Result<(), Error> {
        check_host(&self.host)?;
        match self.role.as_str() {
            "services" | "nodes" | "tasks" => Ok(()),
            "" => Err(Error::Config("role missing (one of: tasks, services, nodes)".into())),
            other => Err(Error::Config(format!("invalid role {other}, expected tasks, services, or nodes"))),
        }
    }
    fn interval(&self) -> Duration {
        self.refresh_interval.std()
    }
    fn open(&self) -> Result<Api, Error> {
        daemon(&self.host, &self.http_config())
    }
    async fn refresh(&self, api: &mut Api, _: &Metrics) -> Result<Vec<TargetGroup>, Error> {
        let targets = match self.role.as_str() {
            "nodes" => self.list(api, "/nodes", true).await?.iter().map(|n| self.node(n)).collect(),
            "services" => {
                let networks = networks(api, PREFIX).await?;
                let services = self.list(api, "/services", true).await?;
                services.iter().flat_map(|s| self.service(s, &networks)).collect()
            }
            _ => self.tasks(api).await?,
        };
        Ok(vec![TargetGroup { source: "DockerSwarm".to_owned(), labels: Meta::new("").labels(), targets }])
    }
}

fn labels_of(b: &mut Meta, name: &str, value: Option<&Value>) {
    for (key, value) in value.and_then(Value::as_object).into_iter().flatten() {
        b.map(name, [(key, &scalar_text(Some(value)))]);
    }
}

/// The address of `10.0.0.1/24`.
fn ip(cidr: &str) -> &str {
    cidr.split_once('/').map_or(cidr, |(ip, _)| ip)
}

fn is_tcp(port: &Value) -> bool {
    text_at(port, &["Protocol"]) == "tcp"
}

fn published(port: &Value) -> i64 {
    port.get("PublishedPort").and_then(Value::as_i64).unwrap_or(0)
}

/// What tasks show of their node as well.
fn node_labels(node: &Value) -> Meta {
    let mut b = Meta::new(PREFIX);
    for (label, path) in [
        ("node_id", &["ID"][..]),
        ("node_role", &["Spec", "Role"]),
        ("node_availability", &["Spec", "Availability"]),
        ("node_hostname", &["Description", "Hostname"]),
        ("node_platform_architecture", &["Description", "Platform", "Architecture"]),
        ("node_platform_os", &["Description", "Platform", "OS"]),
        ("node_status", &["Status", "State"]),
        ("node_address", &["Status", "Addr"]),
    ] {
        b.set(label, text_at(node, path));
    }
    labels_of(&mut b, "node_label_", node.get("Spec").and_then(|s| s.get("Labels")));
    b
}

/// What tasks show of their service as well.
fn service_labels(service: &Value) -> Meta {
    let mut b = Meta::new(PREFIX);
    let spec = service.get("Spec");
    b.set("service_id", text_at(service, &["ID"])).set("service_name", text_at(service, &["Spec", "Name"]));
    let mode = spec.and_then(|s| s.get("Mode"));
    let has = |name: &str| mode.and_then(|m| m.get(name)).is_some_and(|m| !m.is_null());
    b.set(
        "service_mode",
        if has("Global") {
            "global"
        } else if has("Replicated") {
            "replicated"
        } else {
            ""
        },
    );
    labels_of(&mut b, "service_label_", spec.and_then(|s| s.get("Labels")));
    b
}

impl DockerSwarmSd {
    async fn list(&self, api: &Api, path: &str, filtered: bool) -> Result<Vec<Value>, Error> {
        let filter = filters(&self.filters);
        let query: &[(&str, &str)] = if filtered && !self.filters.is_empty() { &[("filters", &filter)] } else { &[] };
        api.json(api.get(path, query)).await
    }

    fn node(&self, node: &Value) -> Labels {
        let mut t = Meta::at(PREFIX, &join(text_at(node, &["Status", "Addr"]), self.port.into()));
        t.merge(&node_labels(node).labels());
        t.set("node_engine_version", text_at(node, &["Description", "Engine", "EngineVersion"]));
        if let Some(manager) = node.get("ManagerStatus").filter(|m| !m.is_null()) {
            let leads = manager.get("Leader").and_then(Value::as_bool).unwrap_or(false);
            t.set("node_manager_leader", leads.to_string());
            t.set("node_manager_reachability", text_at(manager, &["Reachability"]));
            t.set("node_manager_address", text_at(manager, &["Addr"]));
        }
        t.labels()
    }

    fn service(&self, service: &Value, networks: &BTreeMap<String, Labels>) -> Vec<Labels> {
        let mut common = service_labels(service);
        let container = ["Spec", "TaskTemplate", "ContainerSpec"];
        let of_container = |name| text_at(service, &[container[0], container[1], container[2], name]);
        common.set("service_task_container_hostname", of_container("Hostname"));
        common.set("service_task_container_image", of_container("Image"));
        common.set("service_updating_status", text_at(service, &["UpdateStatus", "State"]));
        let common = common.labels();
        let mut out = Vec::new();
        for virtual_ip in list_at(service, &["Endpoint", "VirtualIPs"]) {
            let ip = ip(text_at(virtual_ip, &["Addr"]));
            let of_network = networks.get(text_at(virtual_ip, &["NetworkID"]));
            let target = |port: i64| {
                let mut t = Meta::at(PREFIX, &join(ip, port));
                t.merge(&common);
                if let Some(labels) = of_network {
                    t.merge(labels);
                }
                t
            };
            let ports: Vec<&Value> = list_at(service, &["Endpoint", "Ports"]).iter().filter(|p| is_tcp(p)).collect();
            for port in &ports {
                let mut t = target(published(port));
                t.set("service_endpoint_port_name", text_at(port, &["Name"]));
                t.set("service_endpoint_port_publish_mode", text_at(port, &["PublishMode"]));
                out.push(t.labels());
            }
            if ports.is_empty() {
                out.push(target(self.port.into()).labels());
            }
        }
        out
    }

    async fn tasks(&self, api: &Api) -> Result<Vec<Labels>, Error> {
        let tasks = self.list(api, "/tasks", true).await?;
        let id = |v: &Value| text_at(v, &["ID"]).to_owned();
        let services: BTreeMap<String, Value> =
            self.list(api, "/services", false).await?.into_iter().map(|s| (id(&s), s)).collect();
        let nodes: BTreeMap<String, Labels> =
            self.list(api, "/nodes", false).await?.iter().map(|n| (id(n), node_labels(n).labels())).collect();
        let networks = networks(api, PREFIX).await?;
        let mut out = Vec::new();
        for task in &tasks {
            let mut common = Meta::new(PREFIX);
            common.set("task_id", text_at(task, &["ID"])).set("task_desired_state", text_at(task, &["DesiredState"]));
            let slot = task.get("Slot").and_then(Value::as_i64).unwrap_or(0);
            common.set("task_slot", slot.to_string()).set("task_state", text_at(task, &["Status", "State"]));
            common.set("task_container_id", text_at(task, &["Status", "ContainerStatus", "ContainerID"]));
            let container = task.get("Spec").and_then(|s| s.get("ContainerSpec"));
            labels_of(&mut common, "container_label_", container.and_then(|c| c.get("Labels")));
            let service = services.get(text_at(task, &["ServiceID"]));
            if let Some(service) = service {
                common.merge(&service_labels(service).labels());
            }
            let node = nodes.get(text_at(task, &["NodeID"]));
            if let Some(labels) = node {
                common.merge(labels);
            }
            let common = common.labels();
            let on_node = node.and_then(|l| l.get("__meta_dockerswarm_node_address")).unwrap_or("");
            for port in list_at(task, &["Status", "PortStatus", "Ports"]).iter().filter(|p| is_tcp(p)) {
                let mut t = Meta::at(PREFIX, &join(on_node, published(port)));
                t.merge(&common).set("task_port_publish_mode", text_at(port, &["PublishMode"]));
                out.push(t.labels());
            }
            let ports = service.map(|s| list_at(s, &["Endpoint", "Ports"])).unwrap_or_default();
            let ports: Vec<&Value> = ports.iter().filter(|p| is_tcp(p)).collect();
            for attached in list_at(task, &["NetworksAttachments"]) {
                let of_network = networks.get(text_at(attached, &["Network", "ID"]));
                for address in list_at(attached, &["Addresses"]).iter().filter_map(Value::as_str) {
                    let target = |port: i64| {
                        let mut t = Meta::at(PREFIX, &join(ip(address), port));
                        t.merge(&common);
                        if let Some(labels) = of_network {
                            t.merge(labels);
                        }
                        t
                    };
                    for port in &ports {
                        let mut t = target(published(port));
                        t.set("task_port_publish_mode", text_at(port, &["PublishMode"]));
                        out.push(t.labels());
                    }
                    if ports.is_empty() {
                        out.push(target(self.port.into()).labels());
                    }
                }
            }
        }
        Ok(out)
    }
}
