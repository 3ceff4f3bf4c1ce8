//! Amazon SNS: `Publish` as a signed form.
//!
//! Sources followed: the public API reference of SNS (actions, limits of sizes, FIFO topics) and Alertmanager's configuration
//! documentation. Credentials come from the section or from the environment; profiles and roles are refused at load.
use ferula_net::client::Request;
use ferula_net::client::sigv4::{self, Credentials};
use ferula_yaml::Secret;
use serde_json::Value;

use super::{Draft, Failure, Outgoing, cut};
use crate::config;
use crate::notify::{FailureReason, SendError};

/// What a text message may have, and what any other message.
const SMS_CHARS_MAX: usize = 1_600;
const MESSAGE_BYTES_MAX: usize = 256 << 10;
const SUBJECT_CHARS_MAX: usize = 100;

/// A text of the section's `sigv4`, or of the environment.
fn setting(config: &config::Service, name: &str, variables: &[&str]) -> String {
    let given = config.value("sigv4").and_then(|v| v.get(name)).and_then(Value::as_str).unwrap_or("");
    let from_environment = || variables.iter().find_map(|v| std::env::var(v).ok()).unwrap_or_default();
    if given.is_empty() { from_environment() } else { given.to_owned() }
}

/// `us-east-2` of the section, of the environment, or of `arn:aws:sns:us-east-2:...`.
fn region(config: &config::Service, arn: &str) -> String {
    match setting(config, "region", &["AWS_REGION", "AWS_DEFAULT_REGION"]) {
        none if none.is_empty() => arn.split(':').nth(3).unwrap_or("").to_owned(),
        region => region,
    }
}

pub(super) fn publish(d: &Draft<'_>) -> Result<Outgoing, Failure> {
    let (topic, phone, target) = (d.text("topic_arn", "")?, d.text("phone_number", "")?, d.text("target_arn", "")?);
    let subject = cut(d.text("subject", "{{ template \"sns.default.subject\" . }}")?, SUBJECT_CHARS_MAX);
    let whole = d.text("message", "{{ template \"sns.default.message\" . }}")?;
    let mut message = if phone.is_empty() { whole.clone() } else { cut(whole.clone(), SMS_CHARS_MAX) };
    let mut end = message.len().min(MESSAGE_BYTES_MAX);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message.truncate(end);
    let is_cut = message.len() < whole.len();
    let mut pairs = vec![("Action".to_owned(), "Publish".to_owned()), ("Version".to_owned(), "2010-03-31".to_owned())];
    let mut add = |name: &str, value: String| {
        if !value.is_empty() {
            pairs.push((name.to_owned(), value));
        }
    };
    if topic.ends_with(".fifo") {
        // One group of messages per group of alerts: in order, and the same one once.
        let id = <sha2::Sha256 as sha2::Digest>::digest(d.group_key.as_bytes());
        let id: String = id.iter().map(|b| format!("{b:02x}")).collect();
        add("MessageDeduplicationId", id.clone());
        add("MessageGroupId", id);
    }
    add("TopicArn", topic.clone());
    add("PhoneNumber", phone);
    add("TargetArn", target.clone());
    add("Subject", subject);
    add("Message", message);
    let attributes = d.config.value("attributes").and_then(Value::as_object).into_iter().flatten();
    let mut attributes: Vec<(String, String)> = attributes
        .map(|(name, value)| Ok((name.clone(), d.bound.text(value.as_str().unwrap_or(""))?)))
        .collect::<Result<_, ferula_template::Error>>()?;
    if is_cut {
        attributes.push(("truncated".to_owned(), "true".to_owned()));
    }
    for (i, (name, value)) in attributes.into_iter().enumerate() {
        let entry = format!("MessageAttributes.entry.{}", i + 1);
        add(&format!("{entry}.Name"), name);
        add(&format!("{entry}.Value.DataType"), "String".to_owned());
        add(&format!("{entry}.Value.StringValue"), value);
    }
    let pairs: Vec<(&str, String)> = pairs.iter().map(|(n, v)| (n.as_str(), v.clone())).collect();
    let url = match d.text("api_url", "")? {
        none if none.is_empty() => {
            let arn = if topic.is_empty() { target } else { topic };
            format!("https://sns.{}.amazonaws.com/", region(d.config, &arn))
        }
        url => url,
    };
    Ok(Outgoing::form(url, &pairs))
}

/// Signs a request of [`publish`]; nothing that is signed may change afterwards.
pub(super) fn sign(request: &mut Request, config: &config::Service, now_ms: i64) -> Result<(), SendError> {
    let refused = |why: &str| SendError::permanent(FailureReason::AuthError, why);
    // A token belongs to the key that it came with.
    let token: &[&str] = if setting(config, "access_key", &[]).is_empty() { &["AWS_SESSION_TOKEN"] } else { &[] };
    let credentials = Credentials {
        access_key: setting(config, "access_key", &["AWS_ACCESS_KEY_ID"]),
        secret_key: Secret::new(setting(config, "secret_key", &["AWS_SECRET_ACCESS_KEY"])),
        session_token: Secret::new(setting(config, "", token)),
    };
    if credentials.access_key.is_empty() || credentials.secret_key.is_empty() {
        return Err(refused("SNS: neither the configuration nor the environment has an access key"));
    }
    let of_host = request.url.host_str().and_then(|h| h.strip_prefix("sns.")).and_then(|h| h.split('.').next());
    let region = match region(config, config.text("topic_arn")) {
        none if none.is_empty() => of_host.unwrap_or("").to_owned(),
        region => region,
    };
    if region.is_empty() {
        return Err(refused("SNS: no region is configured"));
    }
    sigv4::sign(request, &credentials, &region, "sns", now_ms.div_euclid(1_000)).map_err(|e| refused(&e.to_string()))
}
