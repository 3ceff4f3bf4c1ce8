//! `docker_sd_configs`: the containers of a Docker daemon, one target per network address and port.
use std::collections::BTreeMap;
use std::time::Duration;

use ferula_model::Labels;
use ferula_net::client::ClientConfig;
use serde::{Deserialize, Serialize};

use crate::api::{Api, nullable};
use crate::discovery_struct_parts::unset;
use crate::error::Error;
use crate::group::{Meta, TargetGroup, join};
use crate::metrics::Metrics;
use crate::refresh::Refresh;

ferula_net::http_config_struct! {
    /// One entry of `docker_sd_configs`.
    pub struct DockerSd {
        pub host: String = String::new(),
        pub port: u16 = 80,
        #[serde(skip_serializing_if = "unset")]
        pub filters: Vec<Filter> = Vec::new(),
        pub host_networking_host: String = "localhost".to_owned(),
        pub refresh_interval: ferula_yaml::Duration = ferula_yaml::Duration::from_secs(60),
        pub match_first_network: bool = true,
        @http_config
    }
}

/// What the daemon is asked to leave out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Filter {
    pub name: String,
    pub values: Vec<String>,
}

/// Filters as the daemon's query parameter has them.
pub(crate) fn filters(list: &[Filter]) -> String {
    let mut by_name: BTreeMap<&str, BTreeMap<&str, bool>> = BTreeMap::new();
    for filter in list {
        by_name.entry(&filter.name).or_default().extend(filter.values.iter().map(|v| (v.as_str(), true)));
    }
    serde_json::to_string(&by_name).unwrap_or_default() // strings and booleans always become JSON
}

/// A client of a daemon at `unix://`, `tcp://`, `http://` or `https://`.
pub(crate) fn daemon(host: &str, http: &ClientConfig) -> Result<Api, Error> {
    if let Some(path) = host.strip_prefix("unix://") {
        return Api::unix(http, path);
    }
    let has_tls = http.tls_config != ferula_net::client::config::TlsConfig::default();
    match host.split_once("://") {
        Some(("tcp", address)) if has_tls => Api::new(http, &format!("https://{address}")),
        Some(("tcp", address)) => Api::new(http, &format!("http://{address}")),
        Some(("http" | "https", _)) => Api::new(http, host),
        _ => Err(Error::Config(format!("unable to parse docker host `{host}`"))),
    }
}

/// What upstream refuses about a daemon's address.
pub(crate) fn check_host(host: &str) -> Result<(), Error> {
    if host.is_empty() {
        return Err(Error::Config("host missing".into()));
    }
    if !host.contains("://") {
        return Err(Error::Config(format!("unable to parse docker host `{host}`")));
    }
    Ok(())
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Container {
    id: String,
    #[serde(deserialize_with = "nullable")]
    names: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    ports: Vec<Port>,
    host_config: HostConfig,
    network_settings: NetworkSettings,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Port {
    #[serde(rename = "IP")]
    ip: String,
    private_port: i64,
    public_port: i64,
    #[serde(rename = "Type")]
    kind: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    network_mode: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSettings {
    #[serde(deserialize_with = "nullable")]
    networks: BTreeMap<String, Option<Attached>>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Attached {
    #[serde(rename = "NetworkID")]
    network_id: String,
    #[serde(rename = "IPAddress")]
    ip_address: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct Network {
    name: String,
    id: String,
    scope: String,
    internal: bool,
    ingress: bool,
    #[serde(deserialize_with = "nullable")]
    labels: BTreeMap<String, String>,
}

/// The labels of every network, by its id.
pub(crate) async fn networks(api: &Api, prefix: &'static str) -> Result<BTreeMap<String, Labels>, Error> {
    let list: Vec<Network> = api.json(api.get("/networks", &[])).await?;
    let labels = list.into_iter().map(|n| {
        let mut b = Meta::new(prefix);
        b.set("network_id", &n.id).set("network_name", &n.name).set("network_scope", &n.scope);
        b.set("network_internal", n.internal.to_string()).set("network_ingress", n.ingress.to_string());
        b.map("network_label_", &n.labels);
        (n.id, b.labels())
    });
    Ok(labels.collect())
}

const PREFIX: &str = "__meta_docker_";

impl Refresh for DockerSd {
    const NAME: &'static str = "docker";
    type Session = Api;

    fn check(&self) -> Result<(), Error> {
        check_host(&self.host)
    }
    fn interval(&self) -> Duration {
        self.refresh_interval.std()
    }
    fn open(&self) -> Result<Api, Error> {
        daemon(&self.host, &self.http_config())
    }
    async fn refresh(&self, api: &mut Api, _: &Metrics) -> Result<Vec<TargetGroup>, Error> {
        let filter = filters(&self.filters);
        let query: &[(&str, &str)] = if self.filters.is_empty() { &[] } else { &[("filters", &filter)] };
        let containers: Vec<Container> = api.json(api.get("/containers/json", query)).await?;
        let networks = networks(api, PREFIX).await?;
        let by_id: BTreeMap<&str, &Container> = containers.iter().map(|c| (c.id.as_str(), c)).collect();
        let mut targets = Vec::new();
        for container in &containers {
            self.targets(container, &by_id, &networks, &mut targets);
        }
        Ok(vec![TargetGroup { source: "Docker".to_owned(), labels: Meta::new("").labels(), targets }])
    }
}

impl DockerSd {
    fn targets(
        &self,
        container: &Container,
        by_id: &BTreeMap<&str, &Container>,
        networks: &BTreeMap<String, Labels>,
        out: &mut Vec<Labels>,
    ) {
        let Some(name) = container.names.first() else { return };
        let mut common = Meta::new(PREFIX);
        common.set("container_id", &container.id).set("container_name", name);
        common.set("container_network_mode", &container.host_config.network_mode);
        common.map("container_label_", &container.labels);
        let common = common.labels();
        let mut attached: Vec<&Attached> = attached(container, by_id);
        if self.match_first_network {
            attached.truncate(1);
        }
        for network in attached {
            let of_network = networks.get(&network.network_id);
            let target = |address: &str| {
                let mut t = Meta::at(PREFIX, address);
                t.merge(&common).set("network_ip", &network.ip_address);
                if let Some(labels) = of_network {
                    t.merge(labels);
                }
                t
            };
            let tcp: Vec<&Port> = container.ports.iter().filter(|p| p.kind == "tcp").collect();
            for port in &tcp {
                let mut t = target(&join(&network.ip_address, port.private_port));
                t.set("port_private", port.private_port.to_string());
                if port.public_port > 0 {
                    t.set("port_public", port.public_port.to_string()).set("port_public_ip", &port.ip);
                }
                out.push(t.labels());
            }
            if tcp.is_empty() {
                let is_host = container.host_config.network_mode == "host";
                let address = join(&network.ip_address, self.port.into());
                out.push(target(if is_host { &self.host_networking_host } else { &address }).labels());
            }
        }
    }
}

/// The networks of a container, in the order of their names, or those of the container whose network it shares.
fn attached<'c>(container: &'c Container, by_id: &BTreeMap<&str, &'c Container>) -> Vec<&'c Attached> {
    let mut of = container;
    // Containers may share in a row, in a ring even.
    for _ in 0..=by_id.len() {
        if !of.network_settings.networks.is_empty() {
            break;
        }
        let Some(shared) = of.host_config.network_mode.strip_prefix("container:").and_then(|id| by_id.get(id)) else {
            break;
        };
        of = shared;
    }
    of.network_settings.networks.values().flatten().collect()
}
