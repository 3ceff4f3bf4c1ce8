//! `digitalocean_sd_configs`: droplets.
use std::time::Duration;

use serde::Deserialize;

use crate::api::{Api, nullable};
use crate::error::Error;
use crate::group::{Meta, TargetGroup, join, surrounded};
use crate::metrics::Metrics;
use crate::refresh::Refresh;

ferula_net::http_config_struct! {
    /// One entry of `digitalocean_sd_configs`.
    pub struct DigitalOceanSd {
        @http_config
        pub refresh_interval: ferula_yaml::Duration = ferula_yaml::Duration::from_secs(60),
        pub port: u16 = 80,
        /// Where the API is; for tests.
        #[serde(skip)]
        pub endpoint: String = "https://api.digitalocean.com".to_owned(),
    }
}

#[derive(Deserialize)]
struct Page {
    droplets: Vec<Droplet>,
    #[serde(default)]
    links: Links,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Links {
    #[serde(deserialize_with = "nullable")]
    pages: Pages,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Pages {
    next: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Droplet {
    id: u64,
    name: String,
    status: String,
    features: Vec<String>,
    tags: Vec<String>,
    size_slug: String,
    vpc_uuid: String,
    image: Image,
    region: Region,
    networks: Networks,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Image {
    #[serde(deserialize_with = "nullable")]
    slug: String,
    name: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Region {
    slug: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Networks {
    v4: Vec<Network>,
    v6: Vec<Network>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Network {
    ip_address: String,
    #[serde(rename = "type")]
    kind: String,
}

fn first<'n>(list: &'n [Network], kind: &str) -> &'n str {
    list.iter().find(|n| n.kind == kind).map_or("", |n| n.ip_address.as_str())
}

impl Refresh for DigitalOceanSd {
    const NAME: &'static str = "digitalocean";
    type Session = Api;

    fn interval(&self) -> Duration {
        self.refresh_interval.std()
    }
    fn open(&self) -> Result<Api, Error> {
        Api::new(&self.http_config(), &self.endpoint)
    }
    async fn refresh(&self, api: &mut Api, _: &Metrics) -> Result<Vec<TargetGroup>, Error> {
        let mut targets = Vec::new();
        for page in 1u64.. {
            let text = page.to_string();
            let some: Page = api.json(api.get("/v2/droplets", &[("page", &text), ("per_page", "200")])).await?;
            let is_last = some.links.pages.next.is_empty() || some.droplets.is_empty();
            targets.extend(some.droplets.iter().map(|d| {
                let public = first(&d.networks.v4, "public");
                let mut t = Meta::at("__meta_digitalocean_", &join(public, self.port.into()));
                t.set("droplet_id", d.id.to_string()).set("droplet_name", &d.name).set("image", &d.image.slug);
                t.set("image_name", &d.image.name).set("private_ipv4", first(&d.networks.v4, "private"));
                t.set("public_ipv4", public).set("public_ipv6", first(&d.networks.v6, "public"));
                t.set("region", &d.region.slug).set("size", &d.size_slug).set("status", &d.status);
                t.set("vpc", &d.vpc_uuid).set("features", surrounded(&d.features, ","));
                t.set("tags", surrounded(&d.tags, ","));
                t.labels()
            }));
            if is_last {
                break;
            }
        }
        Ok(vec![TargetGroup { source: "DigitalOcean".to_owned(), labels: Meta::new("").labels(), targets }])
    }
}
