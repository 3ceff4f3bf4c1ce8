//! `gce_sd_configs`: instances of a zone of Google Compute Engine.
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ferula_model::Labels;
use ferula_net::client::config::HttpConfigured;
use ferula_net::client::{ClientConfig, Request, jwt};
use http::HeaderValue;
use http::header::AUTHORIZATION;
use serde::{Deserialize, Serialize};

use crate::api::{Api, Form, nullable, read};
use crate::discovery_struct_parts::unset;
use crate::error::Error;
use crate::group::{Meta, TargetGroup, join, surrounded};
use crate::metrics::Metrics;
use crate::refresh::Refresh;

/// One entry of `gce_sd_configs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GceSd {
    pub project: String,
    pub zone: String,
    #[serde(skip_serializing_if = "unset")]
    pub filter: String,
    pub refresh_interval: ferula_yaml::Duration,
    pub port: u16,
    pub tag_separator: String,
    /// Where the API is; for tests.
    #[serde(skip)]
    pub endpoint: String,
    /// Where the metadata service is; for tests.
    #[serde(skip)]
    pub metadata: String,
}

impl Default for GceSd {
    fn default() -> Self {
        GceSd {
            project: String::new(),
            zone: String::new(),
            filter: String::new(),
            refresh_interval: ferula_yaml::Duration::from_secs(60),
            port: 80,
            tag_separator: ",".to_owned(),
            endpoint: "https://compute.googleapis.com".to_owned(),
            metadata: String::new(),
        }
    }
}

/// The API, and the token at hand with its end.
pub(crate) struct Session {
    api: Api,
    token: Option<(HeaderValue, Instant)>,
}

const SCOPE: &str = "https://www.googleapis.com/auth/compute.readonly";
/// A token is renewed so long before it ends.
const MARGIN: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct Token {
    access_token: String,
    #[serde(default)]
    expires_in: u64,
}

/// A credentials file: of a service account, or of a user who logged in.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Account {
    #[serde(rename = "type")]
    kind: String,
    client_email: String,
    private_key: ferula_yaml::Secret,
    private_key_id: String,
    token_uri: String,
    client_id: String,
    client_secret: ferula_yaml::Secret,
    refresh_token: ferula_yaml::Secret,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    #[serde(default, deserialize_with = "nullable")]
    items: Vec<Instance>,
    #[serde(default)]
    next_page_token: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Instance {
    id: String,
    name: String,
    status: String,
    zone: String,
    machine_type: String,
    network_interfaces: Vec<Interface>,
    tags: Tags,
    metadata: Items,
    labels: std::collections::BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Interface {
    name: String,
    network: String,
    subnetwork: String,
    #[serde(rename = "networkIP")]
    network_ip: String,
    access_configs: Vec<AccessConfig>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AccessConfig {
    #[serde(rename = "type")]
    kind: String,
    #[serde(rename = "natIP")]
    nat_ip: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tags {
    items: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Items {
    items: Vec<Item>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Item {
    key: String,
    #[serde(deserialize_with = "nullable")]
    value: String,
}

/// It has no such settings.
impl HttpConfigured for GceSd {
    fn http_config(&self) -> ClientConfig {
        ClientConfig::default()
    }
    fn set_http_directory(&mut self, _: &Path) {}
}

impl Refresh for GceSd {
    const NAME: &'static str = "gce";
    type Session = Session;

    fn check(&self) -> Result<(), Error> {
        if self.project.is_empty() {
            return Err(Error::Config("GCE SD configuration requires a project".into()));
        }
        if self.zone.is_empty() {
            return Err(Error::Config("GCE SD configuration requires a zone".into()));
        }
        Ok(())
    }
    fn interval(&self) -> Duration {
        self.refresh_interval.std()
    }
    fn open(&self) -> Result<Session, Error> {
        Ok(Session { api: Api::new(&ClientConfig::default(), &self.endpoint)?, token: None })
    }

    async fn refresh(&self, session: &mut Session, _: &Metrics) -> Result<Vec<TargetGroup>, Error> {
        let token = match session.token.take().filter(|(_, until)| Instant::now() + MARGIN < *until) {
            Some(held) => held,
            None => self.new_token().await?,
        };
        let (authorization, _) = session.token.insert(token).clone();
        let path = format!("/compute/v1/projects/{}/zones/{}/instances", self.project, self.zone);
        let (mut targets, mut next) = (Vec::new(), String::new());
        loop {
            let mut query = Vec::new();
            if !self.filter.is_empty() {
                query.push(("filter", self.filter.as_str()));
            }
            if !next.is_empty() {
                query.push(("pageToken", next.as_str()));
            }
            let mut request = session.api.get(&path, &query);
            request.headers.insert(AUTHORIZATION, authorization.clone());
            let page: Page = session.api.json(request).await?;
            targets.extend(page.items.iter().filter_map(|i| self.target(i)));
            if page.next_page_token.is_empty() || page.next_page_token == next {
                break;
            }
            next = page.next_page_token;
        }
        let source = format!("GCE_{}_{}", self.project, self.zone);
        Ok(vec![TargetGroup { source, labels: Meta::new("").labels(), targets }])
    }
}

impl GceSd {
    fn target(&self, i: &Instance) -> Option<Labels> {
        let primary = i.network_interfaces.first()?;
        let mut t = Meta::at("__meta_gce_", &join(&primary.network_ip, self.port.into()));
        t.set("project", &self.project).set("zone", &i.zone).set("instance_id", &i.id);
        t.set("instance_name", &i.name).set("instance_status", &i.status).set("machine_type", &i.machine_type);
        t.set("network", &primary.network).set("subnetwork", &primary.subnetwork);
        t.set("private_ip", &primary.network_ip);
        t.map("interface_ipv4_", i.network_interfaces.iter().map(|n| (&n.name, &n.network_ip)));
        t.set("tags", surrounded(&i.tags.items, &self.tag_separator));
        t.map("metadata_", i.metadata.items.iter().map(|m| (&m.key, &m.value)));
        t.map("label_", &i.labels);
        if let Some(access) = primary.access_configs.first().filter(|a| a.kind == "ONE_TO_ONE_NAT") {
            t.set("public_ip", &access.nat_ip);
        }
        Some(t.labels())
    }

    /// From the file the environment names, the file `gcloud` leaves, or the metadata service.
    async fn new_token(&self) -> Result<(HeaderValue, Instant), Error> {
        let variable = |name: &str| std::env::var(name).ok().filter(|v| !v.is_empty());
        let file = variable("GOOGLE_APPLICATION_CREDENTIALS").or_else(|| {
            let home = variable("HOME")?;
            let path = format!("{home}/.config/gcloud/application_default_credentials.json");
            Path::new(&path).is_file().then_some(path)
        });
        let token = match file.filter(|_| self.metadata.is_empty()) {
            Some(path) => {
                let text =
                    std::fs::read(&path).map_err(|e| Error::Refresh(format!("unable to read file {path}: {e}")))?;
                by_account(&read::<Account>(&path, &text)?).await?
            }
            None => {
                let host = variable("GCE_METADATA_HOST").unwrap_or_else(|| "169.254.169.254".to_owned());
                let base = if self.metadata.is_empty() { format!("http://{host}") } else { self.metadata.clone() };
                let api = Api::new(&ClientConfig::default(), &base)?;
                let path = "/computeMetadata/v1/instance/service-accounts/default/token";
                let mut request = api.get(path, &[("scopes", SCOPE)]);
                request.headers.insert("metadata-flavor", HeaderValue::from_static("Google"));
                api.json::<Token>(request).await?
            }
        };
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.access_token))
            .map_err(|_| Error::Refresh("the token holds a control character".into()))?;
        value.set_sensitive(true);
        Ok((value, Instant::now() + Duration::from_secs(token.expires_in.min(86_400))))
    }
}

async fn by_account(account: &Account) -> Result<Token, Error> {
    let or = |text: &str, default: &str| if text.is_empty() { default.to_owned() } else { text.to_owned() };
    let url = or(&account.token_uri, "https://oauth2.googleapis.com/token");
    let mut form = Form::default();
    match account.kind.as_str() {
        "service_account" => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            let claims = serde_json::json!({
                "iss": account.client_email, "scope": SCOPE, "aud": url, "iat": now, "exp": now + 3600,
            });
            let assertion = jwt::sign("RS256", &account.private_key_id, &claims, account.private_key.expose())?;
            form.append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
            form.append_pair("assertion", &assertion);
        }
        "authorized_user" => {
            form.append_pair("grant_type", "refresh_token").append_pair("client_id", &account.client_id);
            form.append_pair("client_secret", account.client_secret.expose());
            form.append_pair("refresh_token", account.refresh_token.expose());
        }
        other => return Err(Error::Refresh(format!("credentials of type {other:?} are not supported"))),
    }
    let api = Api::new(&ClientConfig::default(), &url)?;
    let url = url.parse().map_err(|e| Error::Refresh(format!("invalid token_uri: {e}")))?;
    api.json(Request::post(url, "application/x-www-form-urlencoded", form.finish())).await
}
