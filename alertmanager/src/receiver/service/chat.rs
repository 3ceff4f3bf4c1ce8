//! Chat services: Slack, Discord, Microsoft Teams (both), Telegram, DingTalk, Feishu/Lark.
//!
//! Sources followed: the services' public webhook documentation; Alertmanager's configuration documentation for fields,
//! defaults and length limits.
use serde_json::{Map, Value, json};

use super::{Draft, Failure, Outgoing, cut, sign};
use crate::nflog::ReceiverData;
use crate::notify::{FailureReason, SendError};

pub(super) fn refused(reason: FailureReason, message: String) -> Result<(), SendError> {
    Err(SendError::permanent(reason, message))
}
pub(super) fn limited(message: String) -> Result<(), SendError> {
    Err(SendError { reason: FailureReason::RateLimited, ..SendError::transient(message) })
}

pub(super) fn slack(d: &Draft<'_>) -> Result<Outgoing, Failure> {
    let text =
        |field: &str| d.text(field, &format!("{{{{ template \"slack.default.{}\" . }}}}", field.replace('_', "")));
    let mut attachment = Map::new();
    for field in ["title", "title_link", "pretext", "text", "fallback", "callback_id", "footer", "color"] {
        attachment.insert(field.to_owned(), text(field)?.into());
    }
    let title = attachment.get("title").and_then(Value::as_str).unwrap_or("").to_owned();
    attachment.insert("title".to_owned(), cut(title, 1024).into());
    for field in ["image_url", "thumb_url"] {
        attachment.insert(field.to_owned(), d.text(field, "")?.into());
    }
    let marked = d.config.value("mrkdwn_in").cloned().unwrap_or_else(|| json!(["fallback", "pretext", "text"]));
    attachment.insert("mrkdwn_in".to_owned(), marked);
    for list in ["fields", "actions"] {
        if let Some(items) = d.config.value(list) {
            let mut items = d.rendered(items)?;
            if list == "fields" {
                for item in items.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
                    item.entry("short").or_insert(d.config.flag("short_fields").into());
                }
            }
            attachment.insert(list.to_owned(), items);
        }
    }
    let mut body = json!({
        "channel": d.text("channel", "")?, "username": text("username")?, "icon_emoji": text("icon_emoji")?,
        "icon_url": text("icon_url")?, "link_names": d.config.flag("link_names"), "attachments": [attachment],
    });
    let message_text = d.text("message_text", "")?;
    if !message_text.is_empty() {
        body["text"] = message_text.into();
    }
    let token = d.secret("app_token")?;
    let url = if token.is_empty() { d.secret("api_url")? } else { d.config.text("app_url").to_owned() };
    let mut url = url.trim().to_owned();
    // Only the app API can change messages; an incoming webhook makes a new one each time.
    if let (true, Some(ts), Some(channel)) =
        (d.config.flag("update_message"), d.before.get(MESSAGE), d.before.get(CHANNEL))
        && let Some(base) = url.strip_suffix(POST_MESSAGE)
    {
        url = format!("{base}chat.update");
        body["ts"] = ts.as_str().into();
        body["channel"] = channel.as_str().into();
    }
    let is_update = body.get("ts").is_some();
    let mut out = Outgoing::post(url, body);
    out.authorization = (!token.is_empty()).then(|| format!("Bearer {token}"));
    out.verdict = match is_update {
        true => |v| if is_beyond_update(v) { Ok(()) } else { slack_verdict(v) },
        false => slack_verdict,
    };
    Ok(out)
}

/// The app API refuses with 200 and `ok: false`; incoming webhooks answer plain text.
fn slack_verdict(v: &Value) -> Result<(), SendError> {
    match v["ok"].as_bool() {
        Some(false) if v["error"] == "ratelimited" => limited("Slack: ratelimited".to_owned()),
        Some(false) => {
            refused(FailureReason::ClientError, format!("Slack: {}", v["error"].as_str().unwrap_or("refused")))
        }
        _ => Ok(()),
    }
}

const POST_MESSAGE: &str = "chat.postMessage";
/// The names under which upstream's notification log keeps a message's id and its channel's.
const MESSAGE: &str = "threadTs";
const CHANNEL: &str = "channelId";

/// Whether the message that was to be changed is gone, or may not be changed any more.
pub(super) fn is_beyond_update(answer: &Value) -> bool {
    let gone = ["message_not_found", "cant_update_message", "edit_window_closed", "channel_not_found", "is_archived"];
    answer["ok"] == false && answer["error"].as_str().is_some_and(|e| gone.contains(&e))
}

/// What finds the message again.
pub(super) fn slack_message(answer: &Value) -> ReceiverData {
    match (answer["ts"].as_str(), answer["channel"].as_str()) {
        (Some(ts), Some(channel)) => {
            [(MESSAGE, ts), (CHANNEL, channel)].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
        }
        _ => ReceiverData::new(),
    }
}

pub(super) fn discord(d: &Draft<'_>) -> Result<Outgoing, Failure> {
    const RED: u32 = 0x99_2d22;
    const GREEN: u32 = 0x2e_cc71;
    let body = json!({
        "content": cut(d.text("content", "{{ template \"discord.default.content\" . }}")?, 2000),
        "username": d.text("username", "")?, "avatar_url": d.text("avatar_url", "")?,
        "embeds": [{
            "title": cut(d.text("title", "{{ template \"discord.default.title\" . }}")?, 256),
            "description": cut(d.text("message", "{{ template \"discord.default.message\" . }}")?, 4096),
            "color": if d.is_firing() { RED } else { GREEN },
        }],
    });
    Ok(Outgoing::post(d.secret("webhook_url")?, body))
}

pub(super) fn teams_card(d: &Draft<'_>) -> Result<Outgoing, Failure> {
    let body = json!({
        "@context": "http://schema.org/extensions", "type": "MessageCard",
        "title": d.text("title", "{{ template \"msteams.default.title\" . }}")?,
        "summary": d.text("summary", "{{ template \"msteams.default.summary\" . }}")?,
        "text": d.text("text", "{{ template \"msteams.default.text\" . }}")?,
        "themeColor": if d.is_firing() { "8C1A1A" } else { "2DC72D" },
    });
    Ok(Outgoing::post(d.secret("webhook_url")?, body))
}

pub(super) fn teams_adaptive(d: &Draft<'_>) -> Result<Outgoing, Failure> {
    let title = d.text("title", "{{ template \"msteamsv2.default.title\" . }}")?;
    let text = d.text("text", "{{ template \"msteamsv2.default.text\" . }}")?;
    let body = json!({"type": "message", "attachments": [{
        "contentType": "application/vnd.microsoft.card.adaptive",
        "content": {
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json", "type": "AdaptiveCard", "version": "1.2",
            "body": [
                {"type": "TextBlock", "text": title, "weight": "Bolder", "size": "Medium", "wrap": true, "style": "heading",
                 "color": if d.is_firing() { "Attention" } else { "Good" }},
                {"type": "TextBlock", "text": text, "wrap": true},
            ],
            "msteams": {"width": "full"},
        },
    }]});
    Ok(Outgoing::post(d.secret("webhook_url")?, body))
}

pub(super) fn telegram(d: &Draft<'_>) -> Result<Outgoing, Failure> {
    let mode = d.config.text_or("parse_mode", "HTML");
    let template = d.config.text_or("message", "{{ template \"telegram.default.message\" . }}");
    let text = if mode == "HTML" { d.bound.html(template)? } else { d.bound.text(template)? };
    let chat = match d.config.value("chat_id") {
        Some(id) => id.clone(),
        None => d.secret("chat_id")?.parse::<i64>().map(Value::from).unwrap_or_default(),
    };
    let mut body = json!({
        "chat_id": chat, "text": cut(text, 4096), "disable_web_page_preview": true,
        "disable_notification": d.config.flag("disable_notifications"),
    });
    if !mode.is_empty() {
        body["parse_mode"] = mode.into();
    }
    if let Some(thread) = d.config.value("message_thread_id") {
        body["message_thread_id"] = thread.clone();
    }
    let base = d.config.text("api_url").trim_end_matches('/');
    Ok(Outgoing::post(format!("{base}/bot{}/sendMessage", d.secret("bot_token")?), body))
}

pub(super) fn dingtalk(d: &Draft<'_>) -> Result<Outgoing, Failure> {
    let title = d.text("title", "{{ template \"__subject\" . }}")?;
    let text = d.text("text", "### {{ template \"__subject\" . }}\n{{ template \"__markdown_by_state\" . }}")?;
    let body = json!({
        "msgtype": "markdown", "markdown": {"title": cut(title, 100), "text": cut(text, 5000)},
        "at": {"atMobiles": d.config.value("at_mobiles").cloned().unwrap_or_else(|| json!([])), "isAtAll": d.config.flag("at_all")},
    });
    let mut url = d.secret("webhook_url")?;
    let secret = d.secret("secret")?;
    if !secret.is_empty() {
        let signature = sign(secret.as_bytes(), format!("{}\n{secret}", d.now_ms).as_bytes());
        let signature: String = url::form_urlencoded::byte_serialize(signature.as_bytes()).collect();
        let sep = if url.contains('?') { '&' } else { '?' };
        url = format!("{url}{sep}timestamp={}&sign={signature}", d.now_ms);
    }
    let mut out = Outgoing::post(url, body);
    out.verdict = |v| match v["errcode"].as_i64() {
        None | Some(0) => Ok(()),
        Some(code @ (130_101 | -1)) => limited(format!("DingTalk: {code}: {}", v["errmsg"].as_str().unwrap_or(""))),
        Some(code @ 310_000) => {
            refused(FailureReason::AuthError, format!("DingTalk: {code}: {}", v["errmsg"].as_str().unwrap_or("")))
        }
        Some(code) => {
            refused(FailureReason::ClientError, format!("DingTalk: {code}: {}", v["errmsg"].as_str().unwrap_or("")))
        }
    };
    Ok(out)
}

pub(super) fn feishu(d: &Draft<'_>) -> Result<Outgoing, Failure> {
    let title = d.text("title", "{{ template \"__subject\" . }}")?;
    let text = d.text("text", "{{ template \"__markdown_by_state\" . }}")?;
    let mut body = json!({"msg_type": "interactive", "card": {
        "header": {"title": {"tag": "plain_text", "content": cut(title, 200)}, "template": if d.is_firing() { "red" } else { "green" }},
        "elements": [{"tag": "markdown", "content": cut(text, 8000)}],
    }});
    let secret = d.secret("secret")?;
    if !secret.is_empty() {
        // The key is the time and the secret, the message is empty.
        let seconds = d.now_ms.div_euclid(1000);
        body["timestamp"] = seconds.to_string().into();
        body["sign"] = sign(format!("{seconds}\n{secret}").as_bytes(), b"").into();
    }
    let mut out = Outgoing::post(d.secret("webhook_url")?, body);
    out.verdict = |v| match v["code"].as_i64().or(v["StatusCode"].as_i64()) {
        None | Some(0) => Ok(()),
        Some(code @ (9_499 | 11_232)) => limited(format!("Feishu: {code}: {}", v["msg"].as_str().unwrap_or(""))),
        Some(code @ 19_021) => {
            refused(FailureReason::AuthError, format!("Feishu: {code}: {}", v["msg"].as_str().unwrap_or("")))
        }
        Some(code) => {
            refused(FailureReason::ClientError, format!("Feishu: {code}: {}", v["msg"].as_str().unwrap_or("")))
        }
    };
    Ok(out)
}
