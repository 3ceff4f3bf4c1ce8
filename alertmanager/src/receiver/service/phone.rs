//! To a phone: Pushover, and gateways that send text messages.
use serde_json::{Map, Value};

use super::{Draft, Failure, Outgoing, cut};

const PUSHOVER_URL: &str = "https://api.pushover.net/1/messages.json";

pub(super) fn pushover(d: &Draft<'_>) -> Result<Outgoing, Failure> {
    let text = |field: &str| d.text(field, &format!("{{{{ template \"pushover.default.{field}\" . }}}}"));
    let rendered = |secret: String| d.bound.text(secret.trim());
    let message = match cut(text("message")?, 1_024) {
        m if m.trim().is_empty() => "(no details)".to_owned(),
        m => m,
    };
    let seconds = |field: &str, default_ms: i64| {
        let given = d.config.value(field).and_then(Value::as_str);
        let ms = given.and_then(|t| ferula_model::duration::parse_ms(t).ok()).unwrap_or(default_ms);
        (ms / 1_000).to_string()
    };
    let mut pairs = vec![
        ("token", rendered(d.secret("token")?)?),
        ("user", rendered(d.secret("user_key")?)?),
        ("title", cut(text("title")?, 250)),
        ("message", message),
        ("url", cut(text("url")?, 512)),
        ("url_title", d.text("url_title", "")?),
        ("priority", d.text("priority", "{{ if eq .Status \"firing\" }}2{{ else }}0{{ end }}")?),
        ("retry", seconds("retry", 60_000)),
        ("expire", seconds("expire", 3_600_000)),
        ("device", d.text("device", "")?),
        ("sound", d.text("sound", "")?),
    ];
    if d.config.value("ttl").is_some() {
        pairs.push(("ttl", seconds("ttl", 0)));
    }
    for flag in ["html", "monospace"] {
        if d.config.flag(flag) {
            pairs.push((flag, "1".to_owned()));
        }
    }
    pairs.push(("timestamp", d.now_ms.div_euclid(1_000).to_string()));
    pairs.retain(|(name, value)| !value.is_empty() || ["title", "message"].contains(name));
    Ok(Outgoing::form(PUSHOVER_URL.to_owned(), &pairs))
}

/// What one text message of three parts holds.
const SMS_CHARS: u64 = 459;

/// A gateway's form: numbers, text, and whatever else it asks for. As JSON where it wants that.
pub(super) fn sms(d: &Draft<'_>) -> Result<Outgoing, Failure> {
    let numbers = match d.config.value("to") {
        Some(Value::Array(all)) => {
            let all: Vec<String> =
                all.iter().map(|n| n.as_str().map_or_else(|| n.to_string(), str::to_owned)).collect();
            all.join(",")
        }
        Some(Value::String(one)) => one.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let most = d.config.value("text_chars_max").and_then(Value::as_u64).unwrap_or(SMS_CHARS);
    let default = "{{ template \"__subject\" . }}{{ range .Alerts }} {{ or .Annotations.summary .Annotations.description }}{{ end }}";
    let text = cut(d.text("text", default)?, usize::try_from(most).unwrap_or(usize::MAX));
    let mut all = Map::new();
    if let Some(Value::Object(own)) = d.config.value("params") {
        for (name, value) in own {
            all.insert(name.clone(), d.rendered(value)?);
        }
    }
    all.insert(d.config.text_or("to_param", "to").to_owned(), d.bound.text(&numbers)?.into());
    all.insert(d.config.text_or("text_param", "text").to_owned(), text.into());
    let url = d.secret("webhook_url")?.trim().to_owned();
    if d.config.flag("json") {
        return Ok(Outgoing::post(url, Value::Object(all)));
    }
    let pairs = all.iter().map(|(n, v)| (n.as_str(), v.as_str().map_or_else(|| v.to_string(), str::to_owned)));
    Ok(Outgoing::form(url, &pairs.collect::<Vec<_>>()))
}
