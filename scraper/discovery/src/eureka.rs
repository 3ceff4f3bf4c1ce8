//! `eureka_sd_configs`: the instances of every app of a Eureka server.
use std::time::Duration;

use ferula_model::Labels;
use http::HeaderValue;
use http::header::ACCEPT;

use crate::api::Api;
use crate::error::Error;
use crate::group::{Meta, TargetGroup, join};
use crate::metrics::Metrics;
use crate::refresh::Refresh;
use crate::xml::{self, Element};

ferula_net::http_config_struct! {
    /// One entry of `eureka_sd_configs`.
    pub struct EurekaSd {
        pub server: String = String::new(),
        @http_config
        pub refresh_interval: ferula_yaml::Duration = ferula_yaml::Duration::from_secs(30),
    }
}

impl Refresh for EurekaSd {
    const NAME: &'static str = "eureka";
    type Session = Api;

    fn check(&self) -> Result<(), Error> {
        if self.server.is_empty() {
            return Err(Error::Config("eureka_sd: empty or null eureka server".into()));
        }
        let url = match url::Url::parse(&self.server) {
            Err(url::ParseError::RelativeUrlWithoutBase) => None, // what Go reads as a path alone
            other => Some(other.map_err(|e| Error::Config(format!("eureka_sd: {e}")))?),
        };
        if url.as_ref().and_then(url::Url::host_str).unwrap_or("").is_empty() {
            return Err(Error::Config("eureka_sd: invalid eureka server URL".into()));
        }
        Ok(())
    }
    fn interval(&self) -> Duration {
        self.refresh_interval.std()
    }
    fn open(&self) -> Result<Api, Error> {
        Api::new(&self.http_config(), &self.server)
    }
    async fn refresh(&self, api: &mut Api, _: &Metrics) -> Result<Vec<TargetGroup>, Error> {
        let mut request = api.get("/apps", &[]);
        request.headers.insert(ACCEPT, HeaderValue::from_static("application/xml"));
        let (_, body) = api.send(request).await?;
        let apps = xml::parse(&String::from_utf8_lossy(&body)).map_err(Error::Refresh)?;
        let mut targets = Vec::new();
        for app in apps.all("application") {
            targets.extend(app.all("instance").map(|i| target(app.at(&["name"]), i)));
        }
        Ok(vec![TargetGroup { source: "eureka".to_owned(), labels: Meta::new("").labels(), targets }])
    }
}

fn target(app: &str, i: &Element) -> Labels {
    let host = i.at(&["hostName"]);
    let port = i.child("port");
    let number = port.map_or("", |p| p.text.trim());
    let mut t =
        Meta::at("__meta_eureka_app_", &join(host, if port.is_some() { number.parse().unwrap_or(0) } else { 80 }));
    let mut instance = Meta::new("");
    instance.set("instance", i.at(&["instanceId"]));
    t.merge(&instance.labels()).set("name", app);
    for (label, element) in [
        ("instance_id", "instanceId"),
        ("instance_hostname", "hostName"),
        ("instance_homepage_url", "homePageUrl"),
        ("instance_statuspage_url", "statusPageUrl"),
        ("instance_healthcheck_url", "healthCheckUrl"),
        ("instance_ip_addr", "ipAddr"),
        ("instance_vip_address", "vipAddress"),
        ("instance_secure_vip_address", "secureVipAddress"),
        ("instance_status", "status"),
    ] {
        t.set(label, i.at(&[element]));
    }
    let country = i.at(&["countryId"]);
    t.set("instance_country_id", if country.is_empty() { "0" } else { country });
    for (label, element) in [("instance_port", "port"), ("instance_secure_port", "securePort")] {
        if let Some(p) = i.child(element) {
            t.set(label, p.text.trim()).set(&format!("{label}_enabled"), p.attribute("enabled"));
        }
    }
    if let Some(info) = i.child("dataCenterInfo") {
        t.set("instance_datacenterinfo_name", info.at(&["name"]));
        let pairs = info.child("metadata").map(|m| m.children.as_slice()).unwrap_or_default();
        t.map("instance_datacenterinfo_metadata_", pairs.iter().map(|e| (&e.name, &e.text)));
    }
    let pairs = i.child("metadata").map(|m| m.children.as_slice()).unwrap_or_default();
    t.map("instance_metadata_", pairs.iter().map(|e| (&e.name, &e.text)));
    t.labels()
}
