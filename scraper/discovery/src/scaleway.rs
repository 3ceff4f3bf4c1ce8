//! `scaleway_sd_configs`: instances and bare metal servers of Scaleway.
use std::path::Path;
use std::time::Duration;

use ferula_model::Labels;
use ferula_yaml::Secret;
use http::HeaderValue;
use serde::Deserialize;
use serde_json::Value;

use crate::api::{Api, list_at, text_at as at};
use crate::discovery_struct_parts::unset;
use crate::error::Error;
use crate::group::{Meta, TargetGroup, join, surrounded};
use crate::mechanism::join_path;
use crate::metrics::Metrics;
use crate::refresh::Refresh;

ferula_net::http_config_struct! {
    /// One entry of `scaleway_sd_configs`.
    pub struct ScalewaySd {
        pub project_id: String = String::new(),
        #[serde(skip_serializing_if = "unset")]
        pub api_url: String = "https://api.scaleway.com".to_owned(),
        pub zone: String = "fr-par-1".to_owned(),
        pub access_key: String = String::new(),
        #[serde(skip_serializing_if = "unset")]
        pub secret_key: Secret = Secret::default(),
        #[serde(skip_serializing_if = "unset")]
        pub secret_key_file: String = String::new(),
        #[serde(skip_serializing_if = "unset")]
        pub name_filter: String = String::new(),
        #[serde(skip_serializing_if = "unset")]
        pub tags_filter: Vec<String> = Vec::new(),
        @http_config
        pub refresh_interval: ferula_yaml::Duration = ferula_yaml::Duration::from_secs(60),
        pub port: u16 = 80,
        pub role: String = String::new(),
    }
}

#[derive(Deserialize)]
struct Page {
    servers: Vec<Value>,
}

/// Servers per page.
const PAGE: usize = 100;

impl Refresh for ScalewaySd {
    const NAME: &'static str = "scaleway";
    type Session = Api;

    fn check(&self) -> Result<(), Error> {
        let refuse = |why: &str| Err(Error::Config(why.into()));
        if self.role.is_empty() {
            return refuse("role missing (one of: instance, baremetal)");
        }
        if !matches!(self.role.as_str(), "instance" | "baremetal") {
            return Err(Error::Config(format!("unknown role {:?}", self.role)));
        }
        if self.project_id.is_empty() {
            return refuse("project_id is mandatory");
        }
        if self.secret_key.is_empty() && self.secret_key_file.is_empty() {
            return refuse("one of secret_key & secret_key_file must be configured");
        }
        if !self.secret_key.is_empty() && !self.secret_key_file.is_empty() {
            return refuse("at most one of secret_key & secret_key_file must be configured");
        }
        if self.access_key.is_empty() {
            return refuse("access_key is mandatory");
        }
        Ok(())
    }
    fn join(&mut self, dir: &Path) {
        join_path(dir, &mut self.secret_key_file);
    }
    fn interval(&self) -> Duration {
        self.refresh_interval.std()
    }
    fn open(&self) -> Result<Api, Error> {
        Api::new(&self.http_config(), &self.api_url)
    }
    async fn refresh(&self, api: &mut Api, _: &Metrics) -> Result<Vec<TargetGroup>, Error> {
        let file = &self.secret_key_file;
        let key = if file.is_empty() {
            self.secret_key.clone()
        } else {
            let text = std::fs::read_to_string(file)
                .map_err(|e| Error::Refresh(format!("unable to read file {file}: {e}")))?;
            Secret::new(text.trim())
        };
        let mut token = HeaderValue::from_str(key.expose())
            .map_err(|_| Error::Refresh("the secret key holds a control character".into()))?;
        token.set_sensitive(true);
        let is_instance = self.role == "instance";
        let product = if is_instance { "instance" } else { "baremetal" };
        let (path, mut targets) = (format!("/{product}/v1/zones/{}/servers", self.zone), Vec::new());
        for page in 1u64.. {
            let (page, size, tags) = (page.to_string(), PAGE.to_string(), self.tags_filter.join(","));
            let mut query = vec![("page", page.as_str())];
            query.push((if is_instance { "per_page" } else { "page_size" }, &size));
            query.push((if is_instance { "project" } else { "project_id" }, &self.project_id));
            if !self.name_filter.is_empty() {
                query.push(("name", &self.name_filter));
            }
            if !tags.is_empty() {
                query.push(("tags", &tags));
            }
            let mut request = api.get(&path, &query);
            request.headers.insert("x-auth-token", token.clone());
            let servers = api.json::<Page>(request).await?.servers;
            let found = servers.len();
            if is_instance {
                targets.extend(servers.iter().filter_map(|s| self.instance(s)));
            } else {
                targets.extend(servers.iter().map(|s| self.baremetal(s)));
            }
            if found < PAGE {
                break;
            }
        }
        Ok(vec![TargetGroup { source: "scaleway".to_owned(), labels: Meta::new("").labels(), targets }])
    }
}

fn tags(server: &Value) -> String {
    let tags: Vec<&str> =
        server.get("tags").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    surrounded(&tags, ",")
}

impl ScalewaySd {
    /// The private address is preferred; without any there is no target.
    fn instance(&self, s: &Value) -> Option<Labels> {
        let (private, v4, v6) = (at(s, &["private_ip"]), at(s, &["public_ip", "address"]), at(s, &["ipv6", "address"]));
        let is_v6 = v4.contains(':');
        let (v4, v6) = if is_v6 { ("", v4) } else { (v4, v6) };
        let address = [private, v4, v6].into_iter().find(|a| !a.is_empty())?;
        let mut t = Meta::at("__meta_scaleway_instance_", &join(address, self.port.into()));
        for (label, path) in [
            ("boot_type", &["boot_type"][..]),
            ("hostname", &["hostname"]),
            ("id", &["id"]),
            ("image_arch", &["image", "arch"]),
            ("image_id", &["image", "id"]),
            ("image_name", &["image", "name"]),
            ("location_cluster_id", &["location", "cluster_id"]),
            ("location_hypervisor_id", &["location", "hypervisor_id"]),
            ("location_node_id", &["location", "node_id"]),
            ("name", &["name"]),
            ("organization_id", &["organization"]),
            ("project_id", &["project"]),
            ("security_group_id", &["security_group", "id"]),
            ("security_group_name", &["security_group", "name"]),
            ("status", &["state"]),
            ("type", &["commercial_type"]),
            ("zone", &["zone"]),
        ] {
            t.set(label, at(s, path));
        }
        t.set("private_ipv4", private).set("public_ipv4", v4).set("public_ipv6", v6);
        for (family, label) in [("inet", "public_ipv4_addresses"), ("inet6", "public_ipv6_addresses")] {
            let of_family = list_at(s, &["public_ips"]).iter().filter(|ip| at(ip, &["family"]) == family);
            let all: Vec<&str> = of_family.map(|ip| at(ip, &["address"])).collect();
            t.set(label, surrounded(&all, ","));
        }
        let zone = at(s, &["zone"]);
        t.set("region", zone.rsplit_once('-').map_or(zone, |(region, _)| region)).set("tags", tags(s));
        Some(t.labels())
    }

    fn baremetal(&self, s: &Value) -> Labels {
        let (mut v4, mut v6) = ("", "");
        for ip in s.get("ips").and_then(Value::as_array).into_iter().flatten() {
            match at(ip, &["version"]) {
                "IPv4" => v4 = at(ip, &["address"]),
                "IPv6" => v6 = at(ip, &["address"]),
                _ => {}
            }
        }
        let address = if v4.is_empty() { v6 } else { v4 };
        let mut t = Meta::at("__meta_scaleway_baremetal_", &join(address, self.port.into()));
        t.set("public_ipv4", v4).set("public_ipv6", v6).set("tags", tags(s));
        for (label, path) in [
            ("id", &["id"][..]),
            ("name", &["name"]),
            ("os_name", &["install", "os_name"]),
            ("os_version", &["install", "os_version"]),
            ("project_id", &["project_id"]),
            ("status", &["status"]),
            ("type", &["offer_name"]),
            ("zone", &["zone"]),
        ] {
            t.set(label, at(s, path));
        }
        t.labels()
    }
}
