//! `azure_sd_configs`: virtual machines of a subscription, those of scale sets included.
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ferula_model::Labels;
use ferula_net::client::Request;
use ferula_yaml::Secret;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use serde_json::Value;

use crate::api::{Api, Form, list_at, text_at};
use crate::discovery_struct_parts::unset;
use crate::error::Error;
use crate::group::{Meta, TargetGroup, join};
use crate::metrics::Metrics;
use crate::refresh::Refresh;

ferula_net::http_config_struct! {
    /// One entry of `azure_sd_configs`.
    pub struct AzureSd {
        pub environment: String = "AzurePublicCloud".to_owned(),
        pub port: u16 = 80,
        pub subscription_id: String = String::new(),
        #[serde(skip_serializing_if = "unset")]
        pub tenant_id: String = String::new(),
        #[serde(skip_serializing_if = "unset")]
        pub client_id: String = String::new(),
        #[serde(skip_serializing_if = "unset")]
        pub client_secret: Secret = Secret::default(),
        pub refresh_interval: ferula_yaml::Duration = ferula_yaml::Duration::from_secs(300),
        pub authentication_method: String = "OAuth".to_owned(),
        #[serde(skip_serializing_if = "unset")]
        pub resource_group: String = String::new(),
        @http_config
        /// Where all the APIs are; for tests.
        #[serde(skip)]
        pub endpoint: String = String::new(),
    }
}

/// Requests for network interfaces at a time, as upstream.
const CONCURRENT: usize = 10;
const MARGIN: Duration = Duration::from_secs(60);
const COMPUTE: &str = "2018-10-01";

/// The API, and the token at hand with its end.
pub(crate) struct Session {
    api: Api,
    token: Option<(HeaderValue, Instant)>,
}

/// Where a cloud's login and resource manager are.
fn cloud(environment: &str) -> Option<(&'static str, &'static str)> {
    Some(match environment.to_ascii_uppercase().as_str() {
        "AZURECLOUD" | "AZUREPUBLICCLOUD" => ("https://login.microsoftonline.com", "https://management.azure.com"),
        "AZURECHINACLOUD" => ("https://login.chinacloudapi.cn", "https://management.chinacloudapi.cn"),
        "AZUREUSGOVERNMENTCLOUD" | "AZUREUSGOVERNMENT" => {
            ("https://login.microsoftonline.us", "https://management.usgovcloudapi.net")
        }
        _ => return None,
    })
}

impl Refresh for AzureSd {
    const NAME: &'static str = "azure";
    type Session = Session;

    fn check(&self) -> Result<(), Error> {
        let missing = |name: &str| Err(Error::Config(format!("azure SD configuration requires a {name}")));
        if self.subscription_id.is_empty() {
            return missing("subscription_id");
        }
        match self.authentication_method.as_str() {
            "OAuth" if self.tenant_id.is_empty() => return missing("tenant_id"),
            "OAuth" if self.client_id.is_empty() => return missing("client_id"),
            "OAuth" if self.client_secret.is_empty() => return missing("client_secret"),
            "OAuth" | "ManagedIdentity" | "SDK" | "WorkloadIdentity" => {}
            other => {
                return Err(Error::Config(format!(
                    "unknown authentication_type {other:?}. Supported types are \"OAuth\", \"ManagedIdentity\", \"SDK\" or \"WorkloadIdentity\""
                )));
            }
        }
        if cloud(&self.environment).is_none() {
            return Err(Error::Config(format!(
                "there is no cloud environment matching the name {:?}",
                self.environment.to_uppercase()
            )));
        }
        Ok(())
    }
    fn interval(&self) -> Duration {
        self.refresh_interval.std()
    }
    fn failed(metrics: &Metrics) {
        metrics.azure_failures.inc();
    }
    fn open(&self) -> Result<Session, Error> {
        let (_, manager) = self.places()?;
        Ok(Session { api: Api::new(&self.http_config(), &manager)?, token: None })
    }

    async fn refresh(&self, session: &mut Session, _: &Metrics) -> Result<Vec<TargetGroup>, Error> {
        let token = match session.token.take().filter(|(_, until)| Instant::now() + MARGIN < *until) {
            Some(held) => held,
            None => self.new_token().await?,
        };
        let (token, _) = session.token.insert(token).clone();
        let api = &session.api;
        let group = match self.resource_group.as_str() {
            "" => String::new(),
            name => format!("/resourceGroups/{name}"),
        };
        let base = format!("/subscriptions/{}{group}/providers/Microsoft.Compute", self.subscription_id);
        let mut machines: Vec<(Value, String)> = Vec::new();
        for machine in all(api, &token, &format!("{base}/virtualMachines")).await? {
            machines.push((machine, String::new()));
        }
        for set in all(api, &token, &format!("{base}/virtualMachineScaleSets")).await? {
            let name = text_at(&set, &["name"]).to_owned();
            let path = format!("{}/virtualMachines", text_at(&set, &["id"]));
            for machine in all(api, &token, &path).await? {
                machines.push((machine, name.clone()));
            }
        }
        let mut targets = Vec::new();
        for some in machines.chunks(CONCURRENT) {
            let mut asked = Vec::with_capacity(CONCURRENT);
            for (machine, set) in some {
                asked.push(self.target(api, &token, machine, set));
            }
            for target in futures::future::join_all(asked).await {
                targets.extend(target?);
            }
        }
        Ok(vec![TargetGroup { source: "azure".to_owned(), labels: Meta::new("").labels(), targets }])
    }
}

/// All pages of a list.
async fn all(api: &Api, token: &HeaderValue, path: &str) -> Result<Vec<Value>, Error> {
    let mut out = Vec::new();
    let mut request = api.get(path, &[("api-version", COMPUTE)]);
    loop {
        request.headers.insert(AUTHORIZATION, token.clone());
        let asked = request.url.clone();
        let page: Value = api.json(request).await?;
        out.extend_from_slice(list_at(&page, &["value"]));
        let Ok(next) = text_at(&page, &["nextLink"]).parse::<url::Url>() else { return Ok(out) };
        // The token goes to the resource manager only.
        if next.origin() != asked.origin() || next == asked {
            return Ok(out);
        }
        request = Request::get(next);
    }
}

impl AzureSd {
    fn places(&self) -> Result<(String, String), Error> {
        if !self.endpoint.is_empty() {
            return Ok((self.endpoint.clone(), self.endpoint.clone()));
        }
        let (login, manager) =
            cloud(&self.environment).ok_or_else(|| Error::Config("unknown azure environment".into()))?;
        Ok((login.to_owned(), manager.to_owned()))
    }

    /// `None` for a machine without an address.
    async fn target(
        &self,
        api: &Api,
        token: &HeaderValue,
        machine: &Value,
        scale_set: &str,
    ) -> Result<Option<Labels>, Error> {
        let id = text_at(machine, &["id"]);
        let mut common = Meta::new("__meta_azure_");
        common.set("subscription_id", &self.subscription_id).set("tenant_id", &self.tenant_id);
        common.set("machine_id", id).set("machine_name", text_at(machine, &["name"]));
        common.set("machine_computer_name", text_at(machine, &["properties", "osProfile", "computerName"]));
        common.set("machine_os_type", text_at(machine, &["properties", "storageProfile", "osDisk", "osType"]));
        common.set("machine_location", text_at(machine, &["location"]));
        common.set("machine_resource_group", resource_group(id)).set("machine_scale_set", scale_set);
        let size = text_at(machine, &["properties", "hardwareProfile", "vmSize"]);
        common.set("machine_size", if size.is_empty() { text_at(machine, &["sku", "name"]) } else { size });
        let tags: BTreeMap<String, String> = machine
            .get("tags")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
            .collect();
        common.map("machine_tag_", &tags);
        for interface in list_at(machine, &["properties", "networkProfile", "networkInterfaces"]) {
            let path = text_at(interface, &["id"]);
            let query = [("api-version", COMPUTE), ("$expand", "ipConfigurations/publicIPAddress")];
            let mut request = api.get(path, &query);
            request.headers.insert(AUTHORIZATION, token.clone());
            let interface: Value = match api.json(request).await {
                Ok(found) => found,
                Err(Error::Refresh(e)) if e.contains(" 404 ") => {
                    tracing::warn!(interface = path, "Network interface does not exist");
                    continue;
                }
                Err(e) => return Err(e),
            };
            let is_primary = interface.get("properties").and_then(|p| p.get("primary")).and_then(Value::as_bool);
            if !is_primary.unwrap_or(true) {
                continue;
            }
            for ip in list_at(&interface, &["properties", "ipConfigurations"]) {
                let public = text_at(ip, &["properties", "publicIPAddress", "properties", "ipAddress"]);
                common.set("machine_public_ip", public);
                let private = text_at(ip, &["properties", "privateIPAddress"]);
                if !private.is_empty() {
                    common.set("machine_private_ip", private);
                    let mut t = Meta::at("", &join(private, self.port.into()));
                    return Ok(Some(t.merge(&common.labels()).labels()));
                }
            }
        }
        Ok(None)
    }

    async fn new_token(&self) -> Result<(HeaderValue, Instant), Error> {
        let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let sdk = self.authentication_method == "SDK";
        let configured = self.authentication_method == "OAuth";
        // A pod's service account: its token in a file, the names in the environment, and no other way.
        let workload = self.authentication_method == "WorkloadIdentity";
        let or = |own: &str, name: &str| match own {
            "" if sdk || workload => variable(name).unwrap_or_default(),
            own => own.to_owned(),
        };
        let (tenant, client) = (or(&self.tenant_id, "AZURE_TENANT_ID"), or(&self.client_id, "AZURE_CLIENT_ID"));
        let (login, manager) = self.places()?;
        let secret = match () {
            () if configured => self.client_secret.expose().to_owned(),
            () if workload => String::new(),
            () => or("", "AZURE_CLIENT_SECRET"),
        };
        let assertion = variable("AZURE_FEDERATED_TOKEN_FILE").filter(|_| (sdk || workload) && secret.is_empty());
        if workload && assertion.is_none() {
            return Err(Error::Refresh("AZURE_FEDERATED_TOKEN_FILE is not set".into()));
        }
        let answer: Value = if configured || !secret.is_empty() || assertion.is_some() {
            let api = Api::new(&self.http_config(), &login)?;
            let mut form = Form::default();
            form.append_pair("grant_type", "client_credentials").append_pair("client_id", &client);
            form.append_pair("scope", &format!("{manager}/.default"));
            match assertion {
                Some(file) => {
                    let token = std::fs::read_to_string(&file)
                        .map_err(|e| Error::Refresh(format!("unable to read file {file}: {e}")))?;
                    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
                    form.append_pair("client_assertion_type", kind).append_pair("client_assertion", token.trim());
                }
                None => {
                    form.append_pair("client_secret", &secret);
                }
            }
            let url = api.url(&format!("/{tenant}/oauth2/v2.0/token"), &[]);
            api.json(Request::post(url, "application/x-www-form-urlencoded", form.finish())).await?
        } else {
            let base = if self.endpoint.is_empty() { "http://169.254.169.254" } else { &self.endpoint };
            let api = Api::new(&ferula_net::client::ClientConfig::default(), base)?;
            let resource = format!("{manager}/");
            let mut query = vec![("api-version", "2018-02-01"), ("resource", resource.as_str())];
            if !client.is_empty() {
                query.push(("client_id", &client));
            }
            let mut request = api.get("/metadata/identity/oauth2/token", &query);
            request.headers.insert("metadata", HeaderValue::from_static("true"));
            api.json(request).await?
        };
        let mut value = HeaderValue::from_str(&format!("Bearer {}", text_at(&answer, &["access_token"])))
            .map_err(|_| Error::Refresh("the token holds a control character".into()))?;
        value.set_sensitive(true);
        // Seconds come as a number from the login, as text from the machine's own service.
        let seconds = crate::api::scalar_text(answer.get("expires_in")).parse().unwrap_or(300u64);
        Ok((value, Instant::now() + Duration::from_secs(seconds.min(86_400))))
    }
}

/// The part of an id after `resourceGroups`.
fn resource_group(id: &str) -> &str {
    let mut parts = id.split('/');
    parts.find(|p| p.eq_ignore_ascii_case("resourceGroups")).and_then(|_| parts.next()).unwrap_or("")
}
