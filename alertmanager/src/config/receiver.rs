//! Receivers: the integrations that are built in, and how they take over global defaults.
use std::collections::BTreeMap;

use ferula_yaml::{Duration, Secret};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};

use super::global::Global;
use super::http::{HttpConfig, TlsConfig};
use super::service::{self, Section, Service};
use super::value::{HostPort, SecretUrl};

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawReceiver {
    name: String,
    labels: BTreeMap<String, String>,
    email_configs: Vec<Email>,
    webhook_configs: Vec<Webhook>,
    discord_configs: Vec<Section<{ service::DISCORD }>>,
    pagerduty_configs: Vec<Section<{ service::PAGERDUTY }>>,
    slack_configs: Vec<Section<{ service::SLACK }>>,
    opsgenie_configs: Vec<Section<{ service::OPSGENIE }>>,
    wechat_configs: Vec<Section<{ service::WECHAT }>>,
    pushover_configs: Vec<Section<{ service::PUSHOVER }>>,
    victorops_configs: Vec<Section<{ service::VICTOROPS }>>,
    sns_configs: Vec<Section<{ service::SNS }>>,
    telegram_configs: Vec<Section<{ service::TELEGRAM }>>,
    webex_configs: Vec<Section<{ service::WEBEX }>>,
    msteams_configs: Vec<Section<{ service::MSTEAMS }>>,
    msteamsv2_configs: Vec<Section<{ service::MSTEAMSV2 }>>,
    jira_configs: Vec<Section<{ service::JIRA }>>,
    rocketchat_configs: Vec<Section<{ service::ROCKETCHAT }>>,
    mattermost_configs: Vec<Section<{ service::MATTERMOST }>>,
    incidentio_configs: Vec<Section<{ service::INCIDENTIO }>>,
    dingtalk_configs: Vec<Section<{ service::DINGTALK }>>,
    feishu_configs: Vec<Section<{ service::FEISHU }>>,
    sms_configs: Vec<Section<{ service::SMS }>>,
}

/// A named list of integrations. The order within a kind is the integration's index in the notification log.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "RawReceiver")]
pub struct Receiver {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub email_configs: Vec<Email>,
    pub webhook_configs: Vec<Webhook>,
    /// Slack, PagerDuty and their like, kind after kind.
    pub services: Vec<Service>,
}

/// Every kind under its own name again.
impl Serialize for Receiver {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("labels", &self.labels)?;
        if !self.email_configs.is_empty() {
            map.serialize_entry("email_configs", &self.email_configs)?;
        }
        if !self.webhook_configs.is_empty() {
            map.serialize_entry("webhook_configs", &self.webhook_configs)?;
        }
        for kind in self.services.chunk_by(|a, b| a.integration() == b.integration()) {
            let name = kind.first().map_or("", Service::integration);
            map.serialize_entry(&format!("{name}_configs"), kind)?;
        }
        map.end()
    }
}

impl TryFrom<RawReceiver> for Receiver {
    type Error = String;
    fn try_from(r: RawReceiver) -> Result<Receiver, String> {
        if r.name.is_empty() {
            return Err("missing name in receiver".to_owned());
        }
        let mut services = Vec::new();
        macro_rules! take {
            ($($field:ident)*) => { $( services.extend(r.$field.into_iter().map(|u| u.0)); )* };
        }
        take!(discord_configs pagerduty_configs slack_configs opsgenie_configs wechat_configs pushover_configs
            victorops_configs sns_configs telegram_configs webex_configs msteams_configs msteamsv2_configs jira_configs
            rocketchat_configs mattermost_configs incidentio_configs dingtalk_configs feishu_configs sms_configs);
        let mut labels = r.labels;
        labels.insert("name".to_owned(), r.name.clone());
        Ok(Receiver {
            name: r.name,
            labels,
            email_configs: r.email_configs,
            webhook_configs: r.webhook_configs,
            services,
        })
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawWebhook {
    send_resolved: bool,
    http_config: Option<HttpConfig>,
    url: SecretUrl,
    url_file: String,
    max_alerts: u64,
    timeout: Duration,
    payload: Option<serde_json::Value>,
}
impl Default for RawWebhook {
    fn default() -> Self {
        RawWebhook {
            send_resolved: true,
            http_config: None,
            url: SecretUrl::default(),
            url_file: String::new(),
            max_alerts: 0,
            timeout: Duration::default(),
            payload: None,
        }
    }
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(try_from = "RawWebhook")]
pub struct Webhook {
    pub send_resolved: bool,
    pub http_config: Option<HttpConfig>,
    #[serde(skip_serializing_if = "SecretUrl::is_empty")]
    pub url: SecretUrl,
    pub url_file: String,
    /// How many alerts one message holds at most; 0 is no bound.
    pub max_alerts: u64,
    /// 0 leaves the bound to the group interval.
    pub timeout: Duration,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<serde_json::Value>,
}
impl TryFrom<RawWebhook> for Webhook {
    type Error = String;
    fn try_from(r: RawWebhook) -> Result<Webhook, String> {
        if r.url.is_empty() && r.url_file.is_empty() {
            return Err("one of url or url_file must be configured".to_owned());
        }
        if !r.url.is_empty() && !r.url_file.is_empty() {
            return Err("at most one of url & url_file must be configured".to_owned());
        }
        Ok(Webhook {
            send_resolved: r.send_resolved,
            http_config: r.http_config,
            url: r.url,
            url_file: r.url_file,
            max_alerts: r.max_alerts,
            timeout: r.timeout,
            payload: r.payload.filter(|p| !p.is_null()),
        })
    }
}

/// Mails of one group as one conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Threading {
    pub enabled: bool,
    /// `daily` (the default) or `none`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub thread_by_date: String,
}
impl Threading {
    fn is_off(&self) -> bool {
        !self.enabled
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawEmail {
    send_resolved: bool,
    to: String,
    from: String,
    hello: String,
    smarthost: HostPort,
    auth_username: String,
    auth_password: Secret,
    auth_password_file: String,
    auth_secret: Secret,
    auth_secret_file: String,
    auth_identity: String,
    headers: BTreeMap<String, String>,
    html: String,
    text: String,
    require_tls: Option<bool>,
    tls_config: Option<TlsConfig>,
    force_implicit_tls: Option<bool>,
    threading: Threading,
}
impl Default for RawEmail {
    fn default() -> Self {
        RawEmail {
            send_resolved: false,
            to: String::new(),
            from: String::new(),
            hello: String::new(),
            smarthost: HostPort::default(),
            auth_username: String::new(),
            auth_password: Secret::default(),
            auth_password_file: String::new(),
            auth_secret: Secret::default(),
            auth_secret_file: String::new(),
            auth_identity: String::new(),
            headers: BTreeMap::new(),
            html: DEFAULT_HTML.to_owned(),
            text: String::new(),
            require_tls: None,
            tls_config: None,
            force_implicit_tls: None,
            threading: Threading::default(),
        }
    }
}
const DEFAULT_HTML: &str = "{{ template \"email.default.html\" . }}";
const DEFAULT_SUBJECT: &str = "{{ template \"email.default.subject\" . }}";

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(try_from = "RawEmail")]
pub struct Email {
    pub send_resolved: bool,
    pub to: String,
    pub from: String,
    pub hello: String,
    pub smarthost: HostPort,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth_username: String,
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub auth_password: Secret,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth_password_file: String,
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub auth_secret: Secret,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth_secret_file: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth_identity: String,
    /// Names in canonical case (`Message-Id`); From, To and Subject always there after loading.
    pub headers: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub html: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
    pub require_tls: Option<bool>,
    pub tls_config: Option<TlsConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force_implicit_tls: Option<bool>,
    #[serde(skip_serializing_if = "Threading::is_off")]
    pub threading: Threading,
}

impl TryFrom<RawEmail> for Email {
    type Error = String;
    fn try_from(r: RawEmail) -> Result<Email, String> {
        if r.to.is_empty() {
            return Err("missing to address in email config".to_owned());
        }
        let mut headers = BTreeMap::new();
        for (name, value) in r.headers {
            let name = canonical_header(&name);
            if headers.insert(name.clone(), value).is_some() {
                return Err(format!("duplicate header {name:?} in email config"));
            }
        }
        if !r.auth_password.is_empty() && !r.auth_password_file.is_empty() {
            return Err("at most one of auth_password & auth_password_file must be configured".to_owned());
        }
        if !r.auth_secret.is_empty() && !r.auth_secret_file.is_empty() {
            return Err("at most one of auth_secret & auth_secret_file must be configured".to_owned());
        }
        if r.threading.enabled && !matches!(r.threading.thread_by_date.as_str(), "" | "daily" | "none") {
            return Err(format!("invalid thread_by_date value {:?} in email config", r.threading.thread_by_date));
        }
        Ok(Email {
            send_resolved: r.send_resolved,
            to: r.to,
            from: r.from,
            hello: r.hello,
            smarthost: r.smarthost,
            auth_username: r.auth_username,
            auth_password: r.auth_password,
            auth_password_file: r.auth_password_file,
            auth_secret: r.auth_secret,
            auth_secret_file: r.auth_secret_file,
            auth_identity: r.auth_identity,
            headers,
            html: r.html,
            text: r.text,
            require_tls: r.require_tls,
            tls_config: r.tls_config,
            force_implicit_tls: r.force_implicit_tls,
            threading: r.threading,
        })
    }
}

/// `message-ID` becomes `Message-Id`, as Go's mail and HTTP libraries spell headers.
pub fn canonical_header(name: &str) -> String {
    let mut upper = true;
    name.chars()
        .map(|c| {
            let out = if upper { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() };
            upper = c == '-';
            out
        })
        .collect()
}

impl Receiver {
    /// Joins the relative file names of HTTP and TLS sections to the configuration file's directory.
    pub fn set_directory(&mut self, directory: &std::path::Path) {
        let webhooks = self.webhook_configs.iter_mut().map(|w| &mut w.http_config);
        for http in webhooks.chain(self.services.iter_mut().map(|s| &mut s.http_config)).flatten() {
            http.set_directory(directory);
        }
        for tls in self.email_configs.iter_mut().filter_map(|e| e.tls_config.as_mut()) {
            for file in [&mut tls.ca_file, &mut tls.cert_file, &mut tls.key_file] {
                if !file.is_empty() {
                    *file = directory.join(file.as_str()).to_string_lossy().into_owned();
                }
            }
        }
    }

    /// Refuses what is valid and this build cannot do, before an alert depends on it.
    pub(super) fn can_send(&self) -> Result<(), String> {
        let webhooks = self.webhook_configs.iter().map(|w| &w.http_config);
        for http in webhooks.chain(self.services.iter().map(|s| &s.http_config)).flatten() {
            ferula_net::client::Client::new(http).map_err(|e| format!("receiver {:?}: http_config: {e}", self.name))?;
        }
        for s in &self.services {
            if let Some(what) = s.obstacle() {
                let (name, integration) = (&self.name, s.integration());
                return Err(format!("receiver {name:?}: {integration}_configs: {what} is known, but not built in yet"));
            }
        }
        for e in &self.email_configs {
            let has_password = !e.auth_password.is_empty() || !e.auth_password_file.is_empty();
            let has_secret = !e.auth_secret.is_empty() || !e.auth_secret_file.is_empty();
            if has_secret && !has_password {
                return Err(format!("receiver {:?}: auth_secret (CRAM-MD5) is known, but not built in yet", self.name));
            }
        }
        Ok(())
    }

    /// Takes over what the global section says and this receiver does not; refuses what is then still missing.
    pub(super) fn inherit(&mut self, global: &Global) -> Result<(), String> {
        for w in &mut self.webhook_configs {
            if w.http_config.is_none() {
                w.http_config.clone_from(&global.http_config);
            }
        }
        for e in &mut self.email_configs {
            e.inherit(global)?;
        }
        self.services.iter_mut().try_for_each(|s| s.inherit(global))
    }
}

impl Email {
    fn inherit(&mut self, global: &Global) -> Result<(), String> {
        if self.tls_config.is_none() {
            self.tls_config.clone_from(&global.smtp_tls_config);
        }
        if self.smarthost.is_empty() {
            if global.smtp_smarthost.is_empty() {
                return Err("no global SMTP smarthost set".to_owned());
            }
            self.smarthost = global.smtp_smarthost.clone();
        }
        if self.from.is_empty() {
            if global.smtp_from.is_empty() {
                return Err("no global SMTP from set".to_owned());
            }
            self.from.clone_from(&global.smtp_from);
        }
        let or = |mine: &mut String, theirs: &String| {
            if mine.is_empty() {
                mine.clone_from(theirs);
            }
        };
        or(&mut self.hello, &global.smtp_hello);
        or(&mut self.auth_username, &global.smtp_auth_username);
        // A password of one's own, inline or as a file, shuts out both global forms.
        if self.auth_password.is_empty() && self.auth_password_file.is_empty() {
            self.auth_password = global.smtp_auth_password.clone();
            self.auth_password_file.clone_from(&global.smtp_auth_password_file);
        }
        if self.auth_secret.is_empty() && self.auth_secret_file.is_empty() {
            self.auth_secret = global.smtp_auth_secret.clone();
            self.auth_secret_file.clone_from(&global.smtp_auth_secret_file);
        }
        or(&mut self.auth_identity, &global.smtp_auth_identity);
        self.require_tls = self.require_tls.or(Some(global.smtp_require_tls));
        self.force_implicit_tls = self.force_implicit_tls.or(global.smtp_force_implicit_tls);
        for (name, value) in [("From", &self.from), ("To", &self.to), ("Subject", &DEFAULT_SUBJECT.to_owned())] {
            self.headers.entry(name.to_owned()).or_insert_with(|| value.clone());
        }
        Ok(())
    }
}
