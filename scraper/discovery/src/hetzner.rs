//! `hetzner_sd_configs`: servers of Hetzner's cloud and of its Robot.
use std::collections::BTreeMap;
use std::time::Duration;

use ferula_model::Labels;
use ferula_model::number::format_g;
use serde::Deserialize;
use serde_json::Value;

use crate::api::{Api, nullable};
use crate::discovery_struct_parts::unset;
use crate::error::Error;
use crate::group::{Meta, TargetGroup, join};
use crate::metrics::Metrics;
use crate::refresh::Refresh;

ferula_net::http_config_struct! {
    /// One entry of `hetzner_sd_configs`.
    pub struct HetznerSd {
        @http_config
        pub refresh_interval: ferula_yaml::Duration = ferula_yaml::Duration::from_secs(60),
        pub port: u16 = 80,
        pub role: String = String::new(),
        /// Of the cloud's servers; newer versions only.
        #[serde(skip_serializing_if = "unset")]
        pub label_selector: String = String::new(),
        /// Where the API is; for tests.
        #[serde(skip)]
        pub endpoint: String = String::new(),
    }
}

#[derive(Deserialize)]
struct Servers {
    servers: Vec<Server>,
    meta: PageMeta,
}

#[derive(Deserialize)]
struct Networks {
    networks: Vec<Network>,
    meta: PageMeta,
}

#[derive(Deserialize)]
struct PageMeta {
    pagination: Pagination,
}

#[derive(Deserialize)]
struct Pagination {
    next_page: Option<u64>,
}

#[derive(Deserialize)]
struct Network {
    id: u64,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Server {
    id: u64,
    name: String,
    status: String,
    #[serde(deserialize_with = "nullable")]
    public_net: PublicNet,
    private_net: Vec<PrivateNet>,
    server_type: ServerType,
    datacenter: Datacenter,
    image: Option<Image>,
    labels: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PublicNet {
    #[serde(deserialize_with = "nullable")]
    ipv4: Ip,
    #[serde(deserialize_with = "nullable")]
    ipv6: Ip,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ip {
    ip: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PrivateNet {
    network: u64,
    ip: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ServerType {
    name: String,
    cores: u64,
    cpu_type: String,
    memory: f64,
    disk: u64,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Datacenter {
    name: String,
    location: Location,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Location {
    name: String,
    network_zone: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Image {
    #[serde(deserialize_with = "nullable")]
    name: String,
    description: String,
    os_flavor: String,
    #[serde(deserialize_with = "nullable")]
    os_version: String,
}

const PREFIX: &str = "__meta_hetzner_";

impl Refresh for HetznerSd {
    const NAME: &'static str = "hetzner";
    type Session = Api;

    fn check(&self) -> Result<(), Error> {
        if self.role.is_empty() {
            return Err(Error::Config("role missing (one of: robot, hcloud)".into()));
        }
        if !matches!(self.role.as_str(), "robot" | "hcloud") {
            return Err(Error::Config(format!("unknown role {:?}", self.role)));
        }
        Ok(())
    }
    fn interval(&self) -> Duration {
        self.refresh_interval.std()
    }
    fn open(&self) -> Result<Api, Error> {
        let own = if self.role == "robot" { "https://robot-ws.your-server.de" } else { "https://api.hetzner.cloud" };
        Api::new(&self.http_config(), if self.endpoint.is_empty() { own } else { &self.endpoint })
    }
    async fn refresh(&self, api: &mut Api, _: &Metrics) -> Result<Vec<TargetGroup>, Error> {
        let targets = if self.role == "robot" { self.robot(api).await? } else { self.cloud(api).await? };
        Ok(vec![TargetGroup { source: "hetzner".to_owned(), labels: Meta::new("").labels(), targets }])
    }
}

impl HetznerSd {
    async fn cloud(&self, api: &Api) -> Result<Vec<Labels>, Error> {
        let (mut networks, mut page) = (BTreeMap::new(), Some(1));
        while let Some(number) = page {
            let text = number.to_string();
            let some: Networks = api.json(api.get("/v1/networks", &[("page", &text), ("per_page", "50")])).await?;
            networks.extend(some.networks.into_iter().map(|n| (n.id, n.name)));
            page = some.meta.pagination.next_page.filter(|next| *next > number);
        }
        let (mut targets, mut page) = (Vec::new(), Some(1));
        while let Some(number) = page {
            let text = number.to_string();
            let mut query = vec![("page", text.as_str()), ("per_page", "50")];
            if !self.label_selector.is_empty() {
                query.push(("label_selector", &self.label_selector));
            }
            let some: Servers = api.json(api.get("/v1/servers", &query)).await?;
            targets.extend(some.servers.iter().map(|s| self.cloud_target(s, &networks)));
            page = some.meta.pagination.next_page.filter(|next| *next > number);
        }
        Ok(targets)
    }

    fn cloud_target(&self, s: &Server, networks: &BTreeMap<u64, String>) -> Labels {
        let mut t = Meta::at(PREFIX, &join(&s.public_net.ipv4.ip, self.port.into()));
        t.set("role", "hcloud").set("server_id", s.id.to_string()).set("server_name", &s.name);
        t.set("server_status", &s.status).set("datacenter", &s.datacenter.name);
        t.set("public_ipv4", &s.public_net.ipv4.ip).set("public_ipv6_network", &s.public_net.ipv6.ip);
        // Under the names before Prometheus 3.11 and those since.
        let location = &s.datacenter.location;
        t.set("hcloud_datacenter_location", &location.name).set("hcloud_location", &location.name);
        t.set("hcloud_datacenter_location_network_zone", &location.network_zone);
        t.set("hcloud_location_network_zone", &location.network_zone);
        t.set("hcloud_server_type", &s.server_type.name).set("hcloud_cpu_cores", s.server_type.cores.to_string());
        t.set("hcloud_cpu_type", &s.server_type.cpu_type);
        t.set("hcloud_memory_size_gb", format_g(s.server_type.memory));
        t.set("hcloud_disk_size_gb", s.server_type.disk.to_string());
        if let Some(image) = &s.image {
            t.set("hcloud_image_name", &image.name).set("hcloud_image_description", &image.description);
            t.set("hcloud_image_os_version", &image.os_version).set("hcloud_image_os_flavor", &image.os_flavor);
        }
        let private = s.private_net.iter().filter_map(|p| Some((networks.get(&p.network)?, &p.ip)));
        t.map("hcloud_private_ipv4_", private).map("hcloud_label_", &s.labels);
        t.map("hcloud_labelpresent_", s.labels.keys().map(|k| (k, &"true")));
        t.labels()
    }

    async fn robot(&self, api: &Api) -> Result<Vec<Labels>, Error> {
        let list: Vec<Value> = api.json(api.get("/server", &[])).await?;
        let targets = list.iter().filter_map(|entry| entry.get("server")).map(|s| {
            let text = |name: &str| match s.get(name) {
                Some(Value::String(text)) => text.clone(),
                Some(Value::Null) | None => String::new(),
                Some(other) => other.to_string(),
            };
            let ip = text("server_ip");
            let mut t = Meta::at(PREFIX, &join(&ip, self.port.into()));
            t.set("role", "robot").set("server_id", text("server_number")).set("server_name", text("server_name"));
            let datacenter = text("dc").to_lowercase();
            t.set("datacenter", &datacenter).set("robot_datacenter", &datacenter);
            t.set("public_ipv4", &ip).set("server_status", text("status"));
            t.set("robot_product", text("product")).set("robot_cancelled", text("cancelled"));
            for subnet in s.get("subnet").and_then(Value::as_array).into_iter().flatten() {
                let part = |name: &str| subnet.get(name).and_then(Value::as_str).unwrap_or("");
                if part("ip").contains(':') {
                    t.set("public_ipv6_network", format!("{}/{}", part("ip"), part("mask")));
                    break;
                }
            }
            t.labels()
        });
        Ok(targets.collect())
    }
}
