//! The `global` section: defaults which receivers take over where they say nothing themselves.
use ferula_yaml::{Duration, Secret};
use serde::{Deserialize, Serialize};

use super::http::{HttpConfig, TlsConfig};
use super::value::{HostPort, PlainUrl, SecretUrl};

/// Field order is the order of upstream's printed configuration.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Global {
    pub resolve_timeout: Duration,
    pub http_config: Option<HttpConfig>,
    #[serde(skip_serializing_if = "PlainUrl::is_empty")]
    pub jira_api_url: PlainUrl,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub smtp_from: String,
    pub smtp_hello: String,
    #[serde(skip_serializing_if = "HostPort::is_empty")]
    pub smtp_smarthost: HostPort,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub smtp_auth_username: String,
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub smtp_auth_password: Secret,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub smtp_auth_password_file: String,
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub smtp_auth_secret: Secret,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub smtp_auth_secret_file: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub smtp_auth_identity: String,
    pub smtp_require_tls: bool,
    pub smtp_tls_config: Option<TlsConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub smtp_force_implicit_tls: Option<bool>,
    #[serde(skip_serializing_if = "SecretUrl::is_empty")]
    pub slack_api_url: SecretUrl,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub slack_api_url_file: String,
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub slack_app_token: Secret,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub slack_app_token_file: String,
    pub slack_app_url: PlainUrl,
    pub pagerduty_url: PlainUrl,
    pub opsgenie_api_url: PlainUrl,
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub opsgenie_api_key: Secret,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub opsgenie_api_key_file: String,
    pub wechat_api_url: PlainUrl,
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub wechat_api_secret: Secret,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub wechat_api_secret_file: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub wechat_api_corp_id: String,
    pub victorops_api_url: PlainUrl,
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub victorops_api_key: Secret,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub victorops_api_key_file: String,
    pub telegram_api_url: PlainUrl,
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub telegram_bot_token: Secret,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub telegram_bot_token_file: String,
    pub webex_api_url: PlainUrl,
    pub rocketchat_api_url: PlainUrl,
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub rocketchat_token: Secret,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rocketchat_token_file: String,
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub rocketchat_token_id: Secret,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rocketchat_token_id_file: String,
    #[serde(skip_serializing_if = "SecretUrl::is_empty")]
    pub mattermost_webhook_url: SecretUrl,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mattermost_webhook_url_file: String,
}

impl Default for Global {
    fn default() -> Self {
        let url = |s: &str| PlainUrl(s.to_owned());
        Global {
            resolve_timeout: Duration::from_secs(300),
            http_config: Some(HttpConfig::default()),
            jira_api_url: PlainUrl::default(),
            smtp_from: String::new(),
            smtp_hello: "localhost".to_owned(),
            smtp_smarthost: HostPort::default(),
            smtp_auth_username: String::new(),
            smtp_auth_password: Secret::default(),
            smtp_auth_password_file: String::new(),
            smtp_auth_secret: Secret::default(),
            smtp_auth_secret_file: String::new(),
            smtp_auth_identity: String::new(),
            smtp_require_tls: true,
            smtp_tls_config: Some(TlsConfig::default()),
            smtp_force_implicit_tls: None,
            slack_api_url: SecretUrl::default(),
            slack_api_url_file: String::new(),
            slack_app_token: Secret::default(),
            slack_app_token_file: String::new(),
            slack_app_url: url("https://slack.com/api/chat.postMessage"),
            pagerduty_url: url("https://events.pagerduty.com/v2/enqueue"),
            opsgenie_api_url: url("https://api.opsgenie.com/"),
            opsgenie_api_key: Secret::default(),
            opsgenie_api_key_file: String::new(),
            wechat_api_url: url("https://qyapi.weixin.qq.com/cgi-bin/"),
            wechat_api_secret: Secret::default(),
            wechat_api_secret_file: String::new(),
            wechat_api_corp_id: String::new(),
            victorops_api_url: url("https://alert.victorops.com/integrations/generic/20131114/alert/"),
            victorops_api_key: Secret::default(),
            victorops_api_key_file: String::new(),
            telegram_api_url: url("https://api.telegram.org"),
            telegram_bot_token: Secret::default(),
            telegram_bot_token_file: String::new(),
            webex_api_url: url("https://webexapis.com/v1/messages"),
            rocketchat_api_url: url("https://open.rocket.chat/"),
            rocketchat_token: Secret::default(),
            rocketchat_token_file: String::new(),
            rocketchat_token_id: Secret::default(),
            rocketchat_token_id_file: String::new(),
            mattermost_webhook_url: SecretUrl::default(),
            mattermost_webhook_url_file: String::new(),
        }
    }
}

impl Global {
    /// What upstream refuses before it looks at any receiver, in its words.
    pub(super) fn validate(&self) -> Result<(), String> {
        let both = |a: bool, b: bool, names: &str| {
            if a && b { Err(format!("at most one of {names} must be configured")) } else { Ok(()) }
        };
        let set = |s: &str| !s.is_empty();
        let (url, url_file) = (!self.slack_api_url.is_empty(), set(&self.slack_api_url_file));
        let (token, token_file) = (!self.slack_app_token.is_empty(), set(&self.slack_app_token_file));
        both(url, url_file, "slack_api_url & slack_api_url_file")?;
        both(token, token_file, "slack_app_token & slack_app_token_file")?;
        // Before app tokens existed their users put the app URL into slack_api_url; that stays allowed.
        let url = url && self.slack_api_url.expose() != self.slack_app_url.0;
        both(
            token || token_file,
            url || url_file,
            "slack_app_token/slack_app_token_file & slack_api_url/slack_api_url_file",
        )?;
        both(
            !self.opsgenie_api_key.is_empty(),
            set(&self.opsgenie_api_key_file),
            "opsgenie_api_key & opsgenie_api_key_file",
        )?;
        both(
            !self.victorops_api_key.is_empty(),
            set(&self.victorops_api_key_file),
            "victorops_api_key & victorops_api_key_file",
        )?;
        both(
            !self.smtp_auth_password.is_empty(),
            set(&self.smtp_auth_password_file),
            "smtp_auth_password & smtp_auth_password_file",
        )?;
        both(
            !self.smtp_auth_secret.is_empty(),
            set(&self.smtp_auth_secret_file),
            "smtp_auth_secret & smtp_auth_secret_file",
        )?;
        both(
            !self.wechat_api_secret.is_empty(),
            set(&self.wechat_api_secret_file),
            "wechat_api_secret & wechat_api_secret_file",
        )?;
        both(
            !self.telegram_bot_token.is_empty(),
            set(&self.telegram_bot_token_file),
            "telegram_bot_token & telegram_bot_token_file",
        )?;
        both(
            !self.rocketchat_token.is_empty(),
            set(&self.rocketchat_token_file),
            "rocketchat_token & rocketchat_token_file",
        )?;
        both(
            !self.rocketchat_token_id.is_empty(),
            set(&self.rocketchat_token_id_file),
            "rocketchat_token_id & rocketchat_token_id_file",
        )?;
        both(
            !self.mattermost_webhook_url.is_empty(),
            set(&self.mattermost_webhook_url_file),
            "mattermost_webhook_url & mattermost_webhook_url_file",
        )
    }
}
