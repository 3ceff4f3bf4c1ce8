//! `puppetdb_sd_configs`: the resources that a query of PuppetDB gives.
use std::collections::BTreeMap;
use std::time::Duration;

use ferula_model::number::format_g;
use ferula_net::client::Request;
use serde::Deserialize;
use serde_json::Value;

use crate::api::{Api, nullable};
use crate::error::Error;
use crate::group::{Meta, TargetGroup, join, sanitize, surrounded};
use crate::metrics::Metrics;
use crate::refresh::Refresh;

ferula_net::http_config_struct! {
    /// One entry of `puppetdb_sd_configs`.
    pub struct PuppetDbSd {
        @http_config
        pub refresh_interval: ferula_yaml::Duration = ferula_yaml::Duration::from_secs(60),
        pub url: String = String::new(),
        pub query: String = String::new(),
        pub include_parameters: bool = false,
        pub port: u16 = 80,
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Resource {
    certname: String,
    resource: String,
    #[serde(rename = "type")]
    kind: String,
    title: String,
    exported: bool,
    #[serde(deserialize_with = "nullable")]
    tags: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    file: String,
    #[serde(deserialize_with = "nullable")]
    environment: String,
    #[serde(deserialize_with = "nullable")]
    parameters: serde_json::Map<String, Value>,
}

const PREFIX: &str = "__meta_puppetdb_";

impl Refresh for PuppetDbSd {
    const NAME: &'static str = "puppetdb";
    type Session = Api;

    fn check(&self) -> Result<(), Error> {
        let refuse = |why: &str| Err(Error::Config(why.into()));
        if self.url.is_empty() {
            return refuse("URL is missing");
        }
        let url = crate::api::parse_url(&self.url)?;
        if !matches!(url.scheme(), "http" | "https") {
            return refuse("URL scheme must be 'http' or 'https'");
        }
        if url.host_str().unwrap_or("").is_empty() {
            return refuse("host is missing in URL");
        }
        if self.query.is_empty() {
            return refuse("query missing");
        }
        Ok(())
    }
    fn interval(&self) -> Duration {
        self.refresh_interval.std()
    }
    fn open(&self) -> Result<Api, Error> {
        Api::new(&self.http_config(), &self.url)
    }
    async fn refresh(&self, api: &mut Api, _: &Metrics) -> Result<Vec<TargetGroup>, Error> {
        let body = serde_json::json!({"query": self.query}).to_string();
        let request = Request::post(api.url("/pdb/query/v4", &[]), "application/json", body);
        let resources: Vec<Resource> = api.json(request).await?;
        let targets = resources.iter().map(|r| {
            let mut t = Meta::at(PREFIX, &join(&r.certname, self.port.into()));
            t.set("query", &self.query).set("certname", &r.certname).set("resource", &r.resource);
            t.set("type", &r.kind).set("title", &r.title).set("exported", r.exported.to_string());
            t.set("file", &r.file).set("environment", &r.environment).set("tags", surrounded(&r.tags, ","));
            if self.include_parameters {
                let mut found = BTreeMap::new();
                parameters("", &r.parameters, &mut found);
                t.map("parameter_", &found);
            }
            t.labels()
        });
        Ok(vec![TargetGroup { source: self.url.clone(), labels: Meta::new("").labels(), targets: targets.collect() }])
    }
}

/// Flattens parameters to label names. JSON's own reader has bounded their depth.
fn parameters(prefix: &str, map: &serde_json::Map<String, Value>, out: &mut BTreeMap<String, String>) {
    for (key, value) in map {
        let name = format!("{prefix}{}", sanitize(key));
        match value {
            Value::Array(items) => {
                let texts: Vec<String> = items.iter().filter_map(scalar).collect();
                if !texts.is_empty() {
                    out.insert(name, texts.join(","));
                }
            }
            Value::Object(inner) => parameters(&format!("{name}_"), inner, out),
            other => {
                if let Some(text) = scalar(other) {
                    out.insert(name, text);
                }
            }
        }
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(s) => Some(s.clone()),
        Value::Bool(b) => Some(b.to_string()),
        Value::Number(n) => n.as_f64().map(format_g),
        _ => None,
    }
}
