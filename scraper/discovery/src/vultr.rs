//! `vultr_sd_configs`: instances of Vultr.
use std::time::Duration;

use serde_json::Value;

use crate::api::{Api, list_at, scalar_text, text_at};
use crate::error::Error;
use crate::group::{Meta, TargetGroup, join, surrounded};
use crate::metrics::Metrics;
use crate::refresh::Refresh;

ferula_net::http_config_struct! {
    /// One entry of `vultr_sd_configs`.
    pub struct VultrSd {
        @http_config
        pub refresh_interval: ferula_yaml::Duration = ferula_yaml::Duration::from_secs(60),
        pub port: u16 = 80,
        /// Where the API is; for tests.
        #[serde(skip)]
        pub endpoint: String = "https://api.vultr.com".to_owned(),
    }
}

impl Refresh for VultrSd {
    const NAME: &'static str = "vultr";
    type Session = Api;

    fn interval(&self) -> Duration {
        self.refresh_interval.std()
    }
    fn open(&self) -> Result<Api, Error> {
        Api::new(&self.http_config(), &self.endpoint)
    }
    async fn refresh(&self, api: &mut Api, _: &Metrics) -> Result<Vec<TargetGroup>, Error> {
        let (mut targets, mut cursor) = (Vec::new(), String::new());
        loop {
            let mut query = vec![("per_page", "100")];
            if !cursor.is_empty() {
                query.push(("cursor", cursor.as_str()));
            }
            let page: Value = api.json(api.get("/v2/instances", &query)).await?;
            for i in list_at(&page, &["instances"]) {
                let mut t = Meta::at("__meta_vultr_instance_", &join(text_at(i, &["main_ip"]), self.port.into()));
                for (label, field) in [
                    ("id", "id"),
                    ("label", "label"),
                    ("os", "os"),
                    ("os_id", "os_id"),
                    ("region", "region"),
                    ("plan", "plan"),
                    ("main_ip", "main_ip"),
                    ("internal_ip", "internal_ip"),
                    ("main_ipv6", "v6_main_ip"),
                    ("hostname", "hostname"),
                    ("server_status", "server_status"),
                    ("vcpu_count", "vcpu_count"),
                    ("ram_mb", "ram"),
                    ("allowed_bandwidth_gb", "allowed_bandwidth"),
                    ("disk_gb", "disk"),
                ] {
                    t.set(label, scalar_text(i.get(field)));
                }
                for field in ["features", "tags"] {
                    let texts: Vec<&str> = list_at(i, &[field]).iter().filter_map(Value::as_str).collect();
                    t.set(field, surrounded(&texts, ","));
                }
                targets.push(t.labels());
            }
            let next = text_at(&page, &["meta", "links", "next"]);
            if next.is_empty() || next == cursor {
                break;
            }
            cursor = next.to_owned();
        }
        Ok(vec![TargetGroup { source: "Vultr".to_owned(), labels: Meta::new("").labels(), targets }])
    }
}
