//! Integrations that talk to somebody's HTTP service: their sections are tables of fields, checked as upstream checks them.
//!
//! Some of them this build does not send through; those are read all the same, so that a configuration's own mistakes are
//! found, and then refused by name.
use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::global::Global;
use super::http::HttpConfig;

pub const DISCORD: usize = 0;
pub const PAGERDUTY: usize = 1;
pub const SLACK: usize = 2;
pub const OPSGENIE: usize = 3;
pub const WECHAT: usize = 4;
pub const PUSHOVER: usize = 5;
pub const VICTOROPS: usize = 6;
pub const SNS: usize = 7;
pub const TELEGRAM: usize = 8;
pub const WEBEX: usize = 9;
pub const MSTEAMS: usize = 10;
pub const MSTEAMSV2: usize = 11;
pub const JIRA: usize = 12;
pub const ROCKETCHAT: usize = 13;
pub const MATTERMOST: usize = 14;
pub const INCIDENTIO: usize = 15;
pub const DINGTALK: usize = 16;
pub const FEISHU: usize = 17;
pub const SMS: usize = 18;

/// Those this build sends through.
pub const BUILT: [usize; 18] = [
    DISCORD, PAGERDUTY, SLACK, OPSGENIE, WECHAT, PUSHOVER, VICTOROPS, TELEGRAM, WEBEX, MSTEAMS, MSTEAMSV2, ROCKETCHAT,
    MATTERMOST, INCIDENTIO, DINGTALK, FEISHU, SMS, SNS,
];

/// Integration name and the fields it knows besides `send_resolved` and `http_config`.
const KINDS: [(&str, &str); 19] = [
    ("discord", "webhook_url webhook_url_file content title message username avatar_url"),
    (
        "pagerduty",
        "service_key service_key_file routing_key routing_key_file url client client_url description details images links \
         source severity class component group timeout",
    ),
    (
        "slack",
        "api_url api_url_file app_token app_token_file app_url channel username color title title_link pretext text fields \
         short_fields footer fallback callback_id icon_emoji icon_url image_url thumb_url link_names mrkdwn_in actions timeout \
         update_message message_text",
    ),
    (
        "opsgenie",
        "api_key api_key_file api_url message description source details entity responders actions tags note priority \
         update_alerts",
    ),
    ("wechat", "api_secret api_secret_file corp_id message api_url to_user to_party to_tag agent_id message_type"),
    (
        "pushover",
        "user_key user_key_file token token_file title message url url_title device sound priority retry expire ttl html \
         monospace",
    ),
    (
        "victorops",
        "api_key api_key_file api_url routing_key message_type state_message entity_display_name monitoring_tool custom_fields",
    ),
    ("sns", "api_url sigv4 topic_arn phone_number target_arn subject message attributes use_aws_http_client"),
    (
        "telegram",
        "api_url bot_token bot_token_file chat_id chat_id_file message_thread_id message disable_notifications parse_mode",
    ),
    ("webex", "api_url message room_id"),
    ("msteams", "webhook_url webhook_url_file title summary text"),
    ("msteamsv2", "webhook_url webhook_url_file title text"),
    (
        "jira",
        "api_url api_type project summary description labels priority issue_type reopen_transition resolve_transition \
         wont_fix_resolution reopen_duration fields",
    ),
    (
        "rocketchat",
        "api_url channel token token_file token_id token_id_file color title title_link text fields short_fields emoji \
         icon_url image_url thumb_url link_names actions",
    ),
    (
        "mattermost",
        "webhook_url webhook_url_file channel username fallback color pretext author_name author_link author_icon title \
         title_link text fields thumb_url footer footer_icon image_url icon_url icon_emoji attachments type props priority",
    ),
    ("incidentio", "url url_file alert_source_token alert_source_token_file max_alerts timeout metadata"),
    // These three are ours; upstream has no such receivers.
    ("dingtalk", "webhook_url webhook_url_file secret secret_file title text at_mobiles at_all timeout"),
    ("feishu", "webhook_url webhook_url_file secret secret_file title text timeout"),
    ("sms", "webhook_url webhook_url_file to text to_param text_param params json text_chars_max"),
];

/// Fields whose values are shown to nobody.
const SECRETS: [&str; 13] = [
    "webhook_url",
    "service_key",
    "routing_key",
    "api_key",
    "api_secret",
    "user_key",
    "token",
    "token_id",
    "bot_token",
    "app_token",
    "alert_source_token",
    "secret",
    "sigv4",
];

/// One section.
#[derive(Clone)]
pub struct Service {
    pub(crate) kind: usize,
    fields: Map<String, Value>,
    /// Own, or the global section's after loading.
    pub http_config: Option<HttpConfig>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("integration", &self.integration()).finish_non_exhaustive()
    }
}

/// As the status page prints it.
impl Serialize for Service {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        // Slack's address is its secret; the other services' API addresses are public.
        let is_secret = |name: &str| SECRETS.contains(&name) || (name == "api_url" && self.kind == SLACK);
        s.collect_map(
            self.fields
                .iter()
                .filter(|(n, _)| *n != "http_config")
                .map(|(n, v)| (n, if is_secret(n) { Value::String("<secret>".to_owned()) } else { v.clone() })),
        )
    }
}

/// The same, with its kind in the type, so that serde finds it.
#[derive(Clone, Debug)]
pub struct Section<const KIND: usize>(pub Service);

impl<'de, const KIND: usize> Deserialize<'de> for Section<KIND> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let mut service = Service { kind: KIND, fields: Map::deserialize(d)?, http_config: None };
        service.validate().map_err(D::Error::custom)?;
        Ok(Section(service))
    }
}

impl Service {
    /// `slack`, `pagerduty`, ...
    pub fn integration(&self) -> &'static str {
        KINDS.get(self.kind).map_or("", |k| k.0)
    }
    pub fn is_built(&self) -> bool {
        BUILT.contains(&self.kind)
    }
    /// Why this section, valid as it is, cannot be sent through; None if it can.
    pub(super) fn obstacle(&self) -> Option<&'static str> {
        let asks =
            |name| self.value("sigv4").and_then(|v| v.get(name)).and_then(Value::as_str).is_some_and(|t| !t.is_empty());
        match self.kind {
            SNS if asks("profile") => Some("sigv4.profile"),
            SNS if asks("role_arn") => Some("sigv4.role_arn"),
            _ => None,
        }
    }
    /// A text field; empty where it is absent.
    pub fn text(&self, name: &str) -> &str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or("")
    }
    /// A text field, or what stands for it where it is absent.
    pub fn text_or<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or(default)
    }
    pub fn flag(&self, name: &str) -> bool {
        self.fields.get(name).and_then(Value::as_bool).unwrap_or(false)
    }
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.fields.get(name).filter(|v| !v.is_null())
    }
    pub fn send_resolved(&self) -> bool {
        self.fields.get("send_resolved").and_then(Value::as_bool).unwrap_or(!matches!(self.kind, SLACK | WECHAT))
    }
    /// Present with a value that Go would not call zero.
    fn has(&self, name: &str) -> bool {
        match self.fields.get(name) {
            None | Some(Value::Null) => false,
            Some(Value::String(s)) => !s.is_empty(),
            Some(Value::Number(n)) => n.as_i64() != Some(0),
            Some(Value::Array(a)) => !a.is_empty(),
            Some(Value::Object(o)) => !o.is_empty(),
            Some(Value::Bool(b)) => *b,
        }
    }
    fn at_most_one(&self, a: &str, b: &str) -> Result<(), String> {
        if self.has(a) && self.has(b) { Err(format!("at most one of {a} & {b} must be configured")) } else { Ok(()) }
    }
    fn exactly_one(&self, a: &str, b: &str) -> Result<(), String> {
        if !self.has(a) && !self.has(b) {
            return Err(format!("one of {a} or {b} must be configured"));
        }
        self.at_most_one(a, b)
    }
    fn need(&self, any: &[&str], message: &str) -> Result<(), String> {
        if any.iter().any(|n| self.has(n)) { Ok(()) } else { Err(message.to_owned()) }
    }
    fn each_in(&self, list: &str) -> impl Iterator<Item = &Map<String, Value>> {
        self.fields.get(list).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
    }

    fn validate(&mut self) -> Result<(), String> {
        let known = KINDS.get(self.kind).map_or("", |k| k.1);
        for name in self.fields.keys() {
            if name != "send_resolved" && name != "http_config" && !known.split(' ').any(|k| k == name) {
                return Err(format!("unknown field {name:?}"));
            }
        }
        if let Some(section) = self.fields.get("http_config")
            && !section.is_null()
        {
            let parsed = serde_json::from_value::<super::http::HttpConfig>(section.clone());
            self.http_config = Some(parsed.map_err(|e| format!("http_config: {e}"))?);
        }
        for name in ["url", "api_url", "webhook_url", "app_url"] {
            // Some of these are plain texts with templates in them.
            if let Some(Value::String(url)) = self.fields.get(name)
                && !url.contains("{{")
                && url != "<secret>"
                && !(self.kind == PUSHOVER || self.kind == SNS)
            {
                super::value::parse_url(url)?;
            }
        }
        let filled = |map: &Map<String, Value>, name: &str| map.get(name).is_some_and(|v| !v.is_null() && v != "");
        match self.kind {
            DISCORD => {
                self.need(
                    &["webhook_url", "webhook_url_file"],
                    "one of webhook_url or webhook_url_file must be configured",
                )?;
                self.at_most_one("webhook_url", "webhook_url_file")
            }
            PAGERDUTY => {
                let keys = ["service_key", "service_key_file", "routing_key", "routing_key_file"];
                self.need(&keys, "missing service or routing key in PagerDuty config")?;
                self.at_most_one("routing_key", "routing_key_file")?;
                self.at_most_one("service_key", "service_key_file")
            }
            SLACK => {
                self.at_most_one("api_url", "api_url_file")?;
                self.at_most_one("app_token", "app_token_file")?;
                if (self.has("app_token") || self.has("app_token_file"))
                    && (self.has("api_url") || self.has("api_url_file"))
                {
                    return Err(
                        "at most one of app_token/app_token_file & api_url/api_url_file must be configured".to_owned()
                    );
                }
                for field in self.each_in("fields") {
                    if !filled(field, "title") {
                        return Err("missing title in Slack field configuration".to_owned());
                    }
                    if !filled(field, "value") {
                        return Err("missing value in Slack field configuration".to_owned());
                    }
                }
                for action in self.each_in("actions") {
                    if !filled(action, "type") {
                        return Err("missing type in Slack action configuration".to_owned());
                    }
                    if !filled(action, "text") {
                        return Err("missing text in Slack action configuration".to_owned());
                    }
                    if !filled(action, "url") && !filled(action, "name") {
                        return Err("missing name or url in Slack action configuration".to_owned());
                    }
                }
                Ok(())
            }
            OPSGENIE => {
                self.at_most_one("api_key", "api_key_file")?;
                for r in self.each_in("responders") {
                    if !["id", "username", "name"].iter().any(|n| filled(r, n)) {
                        return Err(
                            "opsGenieConfig responder has to have at least one of id, username or name specified"
                                .to_owned(),
                        );
                    }
                    let kind = r.get("type").and_then(Value::as_str).unwrap_or("");
                    if !kind.contains("{{")
                        && !["team", "teams", "user", "escalation", "schedule"].contains(&kind.to_lowercase().as_str())
                    {
                        return Err(format!("opsGenieConfig responder type {kind:?} does not match valid options"));
                    }
                }
                Ok(())
            }
            WECHAT => {
                self.at_most_one("api_secret", "api_secret_file")?;
                match self.fields.get("message_type").and_then(Value::as_str).unwrap_or("") {
                    "" | "text" | "markdown" => Ok(()),
                    other => {
                        Err(format!("weChat message type {other:?} does not match valid options ^(text|markdown)$"))
                    }
                }
            }
            PUSHOVER => {
                self.exactly_one("user_key", "user_key_file")?;
                self.exactly_one("token", "token_file")?;
                if self.fields.get("html") == Some(&Value::Bool(true))
                    && self.fields.get("monospace") == Some(&Value::Bool(true))
                {
                    return Err("at most one of monospace & html must be configured".to_owned());
                }
                Ok(())
            }
            VICTOROPS => {
                self.need(&["routing_key"], "missing Routing key in VictorOps config")?;
                self.at_most_one("api_key", "api_key_file")?;
                let reserved = [
                    "routing_key",
                    "message_type",
                    "state_message",
                    "entity_display_name",
                    "monitoring_tool",
                    "entity_id",
                    "entity_state",
                ];
                for name in self.fields.get("custom_fields").and_then(Value::as_object).into_iter().flat_map(Map::keys)
                {
                    if reserved.contains(&name.as_str()) {
                        return Err(format!(
                            "victorOps config contains custom field {name} which cannot be used as it conflicts with the fixed/static fields"
                        ));
                    }
                }
                Ok(())
            }
            SNS => {
                let targets = ["topic_arn", "phone_number", "target_arn"];
                self.need(&targets, "must provide either a Target ARN, Topic ARN, or Phone Number for SNS config")
            }
            TELEGRAM => {
                self.at_most_one("bot_token", "bot_token_file")?;
                self.need(&["chat_id", "chat_id_file"], "missing chat_id or chat_id_file on telegram_config")?;
                self.at_most_one("chat_id", "chat_id_file")?;
                match self.fields.get("parse_mode").and_then(Value::as_str).unwrap_or("") {
                    "" | "Markdown" | "MarkdownV2" | "HTML" => Ok(()),
                    _ => {
                        Err("unknown parse_mode on telegram_config, must be Markdown, MarkdownV2, HTML or empty string"
                            .to_owned())
                    }
                }
            }
            WEBEX => {
                self.need(&["room_id"], "missing room_id on webex_config")?;
                let authorized =
                    self.fields.get("http_config").and_then(|h| h.get("authorization")).is_some_and(|a| !a.is_null());
                if authorized { Ok(()) } else { Err("missing webex_configs.http_config.authorization".to_owned()) }
            }
            SMS => {
                self.need(&["to"], "missing to in sms_config")?;
                self.exactly_one("webhook_url", "webhook_url_file")
            }
            MSTEAMS | MSTEAMSV2 | DINGTALK | FEISHU => self.exactly_one("webhook_url", "webhook_url_file"),
            JIRA => {
                self.need(&["project"], "missing project in jira_config")?;
                self.need(&["issue_type"], "missing issue_type in jira_config")
            }
            MATTERMOST => self.at_most_one("webhook_url", "webhook_url_file"),
            INCIDENTIO => {
                self.exactly_one("url", "url_file")?;
                self.at_most_one("alert_source_token", "alert_source_token_file")
            }
            _ => Ok(()),
        }
    }

    /// What upstream refuses once the global section is known.
    pub(super) fn inherit(&mut self, g: &Global) -> Result<(), String> {
        self.check_inherited(g)?;
        if self.http_config.is_none() {
            self.http_config.clone_from(&g.http_config);
        }
        let kind = self.kind;
        let mut take = |own: [&str; 2], text: &str, file: &str| {
            if !self.has(own[0]) && !self.has(own[1]) {
                for (name, value) in own.iter().zip([text, file]) {
                    if !value.is_empty() {
                        self.fields.insert((*name).to_owned(), Value::String(value.to_owned()));
                    }
                }
            }
        };
        match kind {
            SLACK => {
                // A token of one's own or an address of one's own shuts out the global other.
                let own = ["api_url", "api_url_file", "app_token", "app_token_file"].iter().any(|n| self.has(n));
                if !own {
                    if !g.slack_app_token.is_empty() || !g.slack_app_token_file.is_empty() {
                        take_into(&mut self.fields, "app_token", g.slack_app_token.expose());
                        take_into(&mut self.fields, "app_token_file", &g.slack_app_token_file);
                    } else {
                        take_into(&mut self.fields, "api_url", g.slack_api_url.expose());
                        take_into(&mut self.fields, "api_url_file", &g.slack_api_url_file);
                    }
                }
                if !self.has("app_url") {
                    take_into(&mut self.fields, "app_url", &g.slack_app_url.0);
                }
            }
            PAGERDUTY => take(["url", "url"], &g.pagerduty_url.0, ""),
            OPSGENIE => {
                take(["api_url", "api_url"], &g.opsgenie_api_url.0, "");
                take(["api_key", "api_key_file"], g.opsgenie_api_key.expose(), &g.opsgenie_api_key_file);
            }
            TELEGRAM => {
                take(["api_url", "api_url"], &g.telegram_api_url.0, "");
                take(["bot_token", "bot_token_file"], g.telegram_bot_token.expose(), &g.telegram_bot_token_file);
            }
            WECHAT => {
                take(["api_url", "api_url"], &g.wechat_api_url.0, "");
                take(["api_secret", "api_secret_file"], g.wechat_api_secret.expose(), &g.wechat_api_secret_file);
                take(["corp_id", "corp_id"], &g.wechat_api_corp_id, "");
            }
            VICTOROPS => {
                take(["api_url", "api_url"], &g.victorops_api_url.0, "");
                take(["api_key", "api_key_file"], g.victorops_api_key.expose(), &g.victorops_api_key_file);
            }
            WEBEX => take(["api_url", "api_url"], &g.webex_api_url.0, ""),
            ROCKETCHAT => {
                take(["api_url", "api_url"], &g.rocketchat_api_url.0, "");
                take(["token", "token_file"], g.rocketchat_token.expose(), &g.rocketchat_token_file);
                take(["token_id", "token_id_file"], g.rocketchat_token_id.expose(), &g.rocketchat_token_id_file);
            }
            MATTERMOST => {
                let file = &g.mattermost_webhook_url_file;
                take(["webhook_url", "webhook_url_file"], g.mattermost_webhook_url.expose(), file);
            }
            _ => {}
        }
        Ok(())
    }

    fn check_inherited(&self, g: &Global) -> Result<(), String> {
        let missing = |own: &[&str], global: bool, message: &str| {
            if global || own.iter().any(|n| self.has(n)) { Ok(()) } else { Err(message.to_owned()) }
        };
        let set = |s: &str| !s.is_empty();
        match self.kind {
            SLACK => missing(
                &["api_url", "api_url_file", "app_token", "app_token_file"],
                !g.slack_api_url.is_empty()
                    || set(&g.slack_api_url_file)
                    || !g.slack_app_token.is_empty()
                    || set(&g.slack_app_token_file),
                "no Slack API URL nor App token set either inline or in a file",
            ),
            PAGERDUTY => missing(&["url"], !g.pagerduty_url.is_empty(), "no global PagerDuty URL set"),
            OPSGENIE => {
                missing(&["api_url"], !g.opsgenie_api_url.is_empty(), "no global OpsGenie URL set")?;
                missing(
                    &["api_key", "api_key_file"],
                    !g.opsgenie_api_key.is_empty() || set(&g.opsgenie_api_key_file),
                    "no global OpsGenie API Key set either inline or in a file",
                )
            }
            WECHAT => {
                missing(&["api_url"], !g.wechat_api_url.is_empty(), "no global Wechat URL set")?;
                missing(
                    &["api_secret", "api_secret_file"],
                    !g.wechat_api_secret.is_empty() || set(&g.wechat_api_secret_file),
                    "no global Wechat Api Secret set either inline or in a file",
                )?;
                missing(&["corp_id"], set(&g.wechat_api_corp_id), "no global Wechat CorpID set")
            }
            VICTOROPS => {
                missing(&["api_url"], !g.victorops_api_url.is_empty(), "no global VictorOps URL set")?;
                missing(
                    &["api_key", "api_key_file"],
                    !g.victorops_api_key.is_empty() || set(&g.victorops_api_key_file),
                    "no global VictorOps API Key set",
                )
            }
            TELEGRAM => missing(
                &["bot_token", "bot_token_file"],
                !g.telegram_bot_token.is_empty() || set(&g.telegram_bot_token_file),
                "missing bot_token or bot_token_file on telegram_config",
            ),
            WEBEX => missing(&["api_url"], !g.webex_api_url.is_empty(), "no global Webex URL set"),
            JIRA => missing(&["api_url"], !g.jira_api_url.is_empty(), "no global Jira Cloud URL set"),
            ROCKETCHAT => {
                missing(&["api_url"], !g.rocketchat_api_url.is_empty(), "no global Rocketchat URL set")?;
                missing(
                    &["token_id", "token_id_file"],
                    !g.rocketchat_token_id.is_empty() || set(&g.rocketchat_token_id_file),
                    "no global Rocketchat TokenID set either inline or in a file",
                )?;
                missing(
                    &["token", "token_file"],
                    !g.rocketchat_token.is_empty() || set(&g.rocketchat_token_file),
                    "no global Rocketchat Token set either inline or in a file",
                )
            }
            MATTERMOST => missing(
                &["webhook_url", "webhook_url_file"],
                !g.mattermost_webhook_url.is_empty() || set(&g.mattermost_webhook_url_file),
                "missing webhook_url or webhook_url_file on mattermost_config",
            ),
            _ => Ok(()),
        }
    }
}

fn take_into(fields: &mut Map<String, Value>, name: &str, value: &str) {
    if !value.is_empty() {
        fields.insert(name.to_owned(), Value::String(value.to_owned()));
    }
}
