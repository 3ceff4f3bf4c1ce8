//! Slack, PagerDuty and their like: each makes a request of a notification and judges the answer; the rest is shared.
use std::sync::Arc;

use ferula_net::client::{BodyLimits, Request};
use http::StatusCode;
use serde_json::Value;

use super::http::{Clients, answer, without_url};
use super::secret_or_file;
use crate::config::{self, service};
use crate::core::Delivery;
use crate::nflog::ReceiverData;
use crate::notify::data::Data;
use crate::notify::template::Bound;
use crate::notify::{Context, FailureReason, SendError};

mod chat;
mod incident;
mod phone;
mod sns;
mod team;

/// What a service builds its request from.
pub(super) struct Draft<'a> {
    config: &'a config::Service,
    data: &'a Data,
    group_key: &'a str,
    now_ms: i64,
    bound: &'a Bound,
    /// What the service said of the message to be changed; empty where a new one is to be made.
    before: &'a ReceiverData,
}

/// A request and how its answer is read.
pub(super) struct Outgoing {
    url: String,
    body: Value,
    authorization: Option<String>,
    headers: Vec<(&'static str, String)>,
    /// Sent instead of the JSON body.
    form: Option<String>,
    /// Judges the body of a 2xx answer: some services refuse with 200.
    verdict: fn(&Value) -> Result<(), SendError>,
}

impl Outgoing {
    fn post(url: String, body: Value) -> Outgoing {
        Outgoing { url, body, authorization: None, headers: Vec::new(), form: None, verdict: |_| Ok(()) }
    }
    /// Names and values as a web form sends them.
    fn form(url: String, pairs: &[(&str, String)]) -> Outgoing {
        let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        Outgoing { form: Some(form), ..Outgoing::post(url, Value::Null) }
    }
}

/// How much of an answer is read for its verdict.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

pub async fn send(
    context: &Context,
    clients: &Clients,
    config: &Arc<config::Service>,
    delivery: &Delivery,
) -> Result<ReceiverData, SendError> {
    let (data, _, bound) = context.bind(delivery, 0);
    let bound = match bound {
        Ok(b) => b,
        Err(e) => return Err(SendError::permanent(FailureReason::Other, e.to_string())),
    };
    let group_key = &delivery.notification.group_key;
    let before = &delivery.data;
    let draft = Draft { config, data: &data, group_key, now_ms: context.clock.now_ms(), bound: &bound, before };
    let answer = exchange(context, clients, delivery, &draft).await?;
    if config.kind != service::SLACK || !config.flag("update_message") {
        return Ok(ReceiverData::new());
    }
    if !before.is_empty() && chat::is_beyond_update(&answer) {
        let nothing = ReceiverData::new();
        let anew = exchange(context, clients, delivery, &Draft { before: &nothing, ..draft }).await?;
        return Ok(chat::slack_message(&anew));
    }
    Ok(chat::slack_message(&answer))
}

/// Makes the request, sends it, and answers what came back if the service took it.
async fn exchange(
    context: &Context,
    clients: &Clients,
    delivery: &Delivery,
    draft: &Draft<'_>,
) -> Result<Value, SendError> {
    let (config, data) = (draft.config, draft.data);
    let outgoing = match draft.request() {
        Ok(o) => o,
        // A page in plain words beats no page: the templates are left out.
        Err(Failure::Template(e)) => {
            tracing::error!(receiver = &*data.receiver, error = %e, "Template failed, sending plain text");
            let plain = plain(context, data, &e);
            Draft { bound: &plain, ..*draft }.request().map_err(Failure::into_send_error)?
        }
        Err(Failure::Send(e)) => return Err(e),
    };
    let client = clients.get(delivery, config.http_config.as_ref())?;
    let mut outgoing = outgoing;
    if config.kind == service::WECHAT {
        outgoing.url += &team::wechat_token(context, clients, &client, delivery, config).await?;
    }
    let url = config::value::parse_url(&outgoing.url)
        .map_err(|_| SendError::permanent(FailureReason::Other, "the service's URL is not valid"))?;
    let body =
        serde_json::to_vec(&outgoing.body).map_err(|e| SendError::permanent(FailureReason::Other, e.to_string()))?;
    let mut request = match outgoing.form {
        Some(form) => Request::post(url, "application/x-www-form-urlencoded", form),
        None => Request::post(url, "application/json", body),
    };
    for (name, value) in &outgoing.headers {
        let mut value = http::HeaderValue::from_str(value)
            .map_err(|_| SendError::permanent(FailureReason::AuthError, "the token holds a control character"))?;
        value.set_sensitive(true);
        request.headers.insert(*name, value);
    }
    request.headers.insert(http::header::USER_AGENT, http::HeaderValue::from_static(crate::USER_AGENT));
    if let Some(text) = &outgoing.authorization {
        let mut value = http::HeaderValue::from_str(text)
            .map_err(|_| SendError::permanent(FailureReason::AuthError, "the token holds a control character"))?;
        value.set_sensitive(true);
        request.headers.insert(http::header::AUTHORIZATION, value);
    }
    if config.kind == service::SNS {
        sns::sign(&mut request, config, context.clock.now_ms())?;
    }
    let response = super::http::send(context, &client, request).await?;
    if !response.status.is_success() {
        let gone = config.kind == service::OPSGENIE && response.status == StatusCode::NOT_FOUND;
        return answer(response, context, gone).await.map(|()| Value::Null);
    }
    let limits = BodyLimits { bytes_max: ANSWER_BYTES_MAX, ..BodyLimits::unlimited() };
    let body = response.uncompressed(&limits).await.map_err(|e| SendError::transient(without_url(&e)))?;
    let said: Value = serde_json::from_slice(&body.bytes).unwrap_or_default();
    (outgoing.verdict)(&said).map(|()| said)
}

/// Why no request could be made.
pub(super) enum Failure {
    Template(ferula_template::Error),
    Send(SendError),
}
impl From<ferula_template::Error> for Failure {
    fn from(e: ferula_template::Error) -> Self {
        Failure::Template(e)
    }
}
impl From<SendError> for Failure {
    fn from(e: SendError) -> Self {
        Failure::Send(e)
    }
}
impl Failure {
    fn into_send_error(self) -> SendError {
        match self {
            Failure::Send(e) => e,
            Failure::Template(e) => SendError::permanent(FailureReason::Other, e.to_string()),
        }
    }
}

/// Answers every template with the alerts and the error.
fn plain(context: &Context, data: &Data, error: &ferula_template::Error) -> Bound {
    let mut text = format!("[{}] template failed: {error}\n", data.status.to_uppercase());
    for a in data.alerts.iter().take(20) {
        text += &format!("{} {} {}\n", a.status, a.labels.0, a.annotations.0);
    }
    context.templates.fixed(text)
}

impl Draft<'_> {
    fn request(&self) -> Result<Outgoing, Failure> {
        match self.config.kind {
            service::SLACK => chat::slack(self),
            service::DISCORD => chat::discord(self),
            service::MSTEAMS => chat::teams_card(self),
            service::MSTEAMSV2 => chat::teams_adaptive(self),
            service::TELEGRAM => chat::telegram(self),
            service::DINGTALK => chat::dingtalk(self),
            service::FEISHU => chat::feishu(self),
            service::PAGERDUTY => incident::pagerduty(self),
            service::OPSGENIE => incident::opsgenie(self),
            service::VICTOROPS => incident::victorops(self),
            service::INCIDENTIO => incident::incidentio(self),
            service::PUSHOVER => phone::pushover(self),
            service::SMS => phone::sms(self),
            service::WECHAT => team::wechat(self),
            service::SNS => sns::publish(self),
            service::WEBEX => team::webex(self),
            service::ROCKETCHAT => team::rocketchat(self),
            service::MATTERMOST => team::mattermost(self),
            _ => Err(SendError::permanent(FailureReason::Other, "known, not built in yet").into()),
        }
    }
    /// A field rendered, or its default rendered.
    fn text(&self, name: &str, default: &str) -> Result<String, ferula_template::Error> {
        self.bound.text(self.config.text_or(name, default))
    }
    fn secret(&self, name: &str) -> Result<String, SendError> {
        secret_or_file(self.config.text(name), self.config.text(&format!("{name}_file")))
    }
    fn is_firing(&self) -> bool {
        &*self.data.status == "firing"
    }
    /// Strings inside a list or mapping rendered.
    fn rendered(&self, value: &Value) -> Result<Value, ferula_template::Error> {
        Ok(match value {
            Value::String(s) => Value::String(self.bound.text(s)?),
            Value::Array(items) => Value::Array(items.iter().map(|v| self.rendered(v)).collect::<Result<_, _>>()?),
            Value::Object(map) => {
                let pairs = map.iter().map(|(k, v)| Ok((k.clone(), self.rendered(v)?)));
                Value::Object(pairs.collect::<Result<_, ferula_template::Error>>()?)
            }
            other => other.clone(),
        })
    }
}

/// At most `max` characters, the last one an ellipsis if something is cut.
fn cut(text: String, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text,
        Some(_) => text.chars().take(max.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// HMAC-SHA-256 (RFC 2104), in base64.
fn sign(key: &[u8], message: &[u8]) -> String {
    use base64::Engine;
    use sha2::{Digest, Sha256};
    const BLOCK: usize = 64;
    let mut block = [0u8; BLOCK];
    let short = if key.len() > BLOCK { Sha256::digest(key).to_vec() } else { key.to_vec() };
    block.iter_mut().zip(&short).for_each(|(b, k)| *b = *k);
    let pad = |x: u8| block.map(|b| b ^ x);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(message).finalize();
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
    base64::engine::general_purpose::STANDARD.encode(outer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_as_rfc_4231() {
        // Test case 2.
        assert_eq!(sign(b"Jefe", b"what do ya want for nothing?"), "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM=");
        // Test case 6: a key longer than a block.
        let long = sign(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First");
        assert_eq!(long, "YOQxWR7gtn8Niiaqy/W3f44LxiE3KMUUBUYEDw7jf1Q=");
    }

    /// Its address is fixed, so the request is looked at before it leaves.
    #[test]
    fn pushover_is_a_form() {
        use crate::alert::{Alert, PostableAlert};
        use crate::core::{Notification, NotifiedAlert};
        let text = "route: {receiver: r}\nreceivers: [{name: r, pushover_configs: [{user_key: u, token: t, retry: 2m, html: true}]}]";
        let config = config::Config::parse("t", text).unwrap();
        let labels = ferula_model::Labels::from_pairs([("alertname", "Disk")]);
        let posted = PostableAlert { labels: labels.clone(), ..PostableAlert::default() };
        let notification = Notification {
            receiver: "r".into(),
            group_key: "{}:{}".into(),
            group_labels: labels,
            route_labels: Default::default(),
            alerts: vec![NotifiedAlert {
                alert: Arc::new(Alert::received(posted, 5_000, 1, 1_000).unwrap()),
                is_resolved: false,
            }],
            reason: crate::nflog::Reason::First,
            decided_at_ms: 5_000,
            flush: None,
        };
        let clock: Arc<dyn ferula_model::Clock> = Arc::new(ferula_model::ManualClock::at(5_000));
        let set = crate::notify::template::TemplateSet::load(&[], std::path::Path::new("."), clock).unwrap();
        let (mut data, _) = Data::new(&notification, &"http://am".into(), 0);
        let bound = set.bind(&mut data, &Default::default()).unwrap();
        let config = &config.receivers[0].services[0];
        let before = ReceiverData::new();
        let draft = Draft { config, data: &data, group_key: "{}:{}", now_ms: 5_000, bound: &bound, before: &before };
        let outgoing = draft.request().unwrap_or_else(|_| panic!("no request"));
        assert_eq!(outgoing.url, "https://api.pushover.net/1/messages.json");
        let form = outgoing.form.unwrap();
        for pair in [
            "token=t",
            "user=u",
            "title=%5BFIRING%3A1%5D+Disk",
            "priority=2",
            "retry=120",
            "expire=3600",
            "html=1",
            "timestamp=5",
        ] {
            assert!(form.split('&').any(|p| p == pair), "{pair} in {form}");
        }
    }

    #[test]
    fn cuts_between_characters() {
        assert_eq!(cut("äöü".into(), 3), "äöü");
        assert_eq!(cut("äöüx".into(), 3), "äö…");
    }
}
