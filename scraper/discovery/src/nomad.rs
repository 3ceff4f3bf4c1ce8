//! `nomad_sd_configs`: the services of Nomad's own registry.
use std::time::Duration;

use serde::Deserialize;

use crate::api::{Api, nullable};
use crate::discovery_struct_parts::unset;
use crate::error::Error;
use crate::group::{Meta, TargetGroup, join, surrounded};
use crate::metrics::Metrics;
use crate::refresh::Refresh;

ferula_net::http_config_struct! {
    /// One entry of `nomad_sd_configs`.
    pub struct NomadSd {
        pub allow_stale: bool = true,
        @http_config
        pub namespace: String = "default".to_owned(),
        pub refresh_interval: ferula_yaml::Duration = ferula_yaml::Duration::from_secs(60),
        pub region: String = "global".to_owned(),
        #[serde(skip_serializing_if = "unset")]
        pub server: String = "http://localhost:4646".to_owned(),
        pub tag_separator: String = ",".to_owned(),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Namespace {
    #[serde(default, deserialize_with = "nullable")]
    services: Vec<Named>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Named {
    service_name: String,
}

/// One registered instance of a service.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Instance {
    #[serde(rename = "ID")]
    id: String,
    service_name: String,
    namespace: String,
    #[serde(rename = "NodeID")]
    node_id: String,
    datacenter: String,
    #[serde(deserialize_with = "nullable")]
    tags: Vec<String>,
    address: String,
    port: i64,
}

impl Refresh for NomadSd {
    const NAME: &'static str = "nomad";
    type Session = Api;

    fn check(&self) -> Result<(), Error> {
        if self.server.trim().is_empty() {
            return Err(Error::Config("nomad SD configuration requires a server address".into()));
        }
        Ok(())
    }
    fn interval(&self) -> Duration {
        self.refresh_interval.std()
    }
    fn open(&self) -> Result<Api, Error> {
        Api::new(&self.http_config(), &self.server)
    }
    fn failed(metrics: &Metrics) {
        metrics.nomad_failures.inc();
    }
    async fn refresh(&self, api: &mut Api, _: &Metrics) -> Result<Vec<TargetGroup>, Error> {
        let mut query = vec![("namespace", self.namespace.as_str()), ("region", self.region.as_str())];
        if self.allow_stale {
            query.push(("stale", ""));
        }
        let namespaces: Vec<Namespace> = api.json(api.get("/v1/services", &query)).await?;
        let mut targets = Vec::new();
        for service in namespaces.iter().flat_map(|n| &n.services) {
            let path = format!("/v1/service/{}", service.service_name);
            let instances: Vec<Instance> = api.json(api.get(&path, &query)).await?;
            targets.extend(instances.iter().map(|i| self.target(i)));
        }
        Ok(vec![TargetGroup { source: "Nomad".to_owned(), labels: Meta::new("").labels(), targets }])
    }
}

impl NomadSd {
    fn target(&self, i: &Instance) -> ferula_model::Labels {
        let mut t = Meta::at("__meta_nomad_", &join(&i.address, i.port));
        t.set("address", &i.address).set("dc", &i.datacenter).set("node_id", &i.node_id);
        t.set("namespace", &i.namespace).set("service", &i.service_name).set("service_id", &i.id);
        t.set("service_address", &i.address).set("service_port", i.port.to_string());
        t.set("tags", surrounded(&i.tags, &self.tag_separator));
        t.labels()
    }
}
