//! Team chats: WeChat (enterprise), Webex, Rocket.Chat, Mattermost.
//!
//! Sources followed: the services' public documentation; Alertmanager's configuration documentation for fields, defaults and
//! length limits.
use std::time::Duration;

use ferula_net::client::{BodyLimits, Client, Request};
use serde_json::{Map, Value, json};

use super::chat::{limited, refused};
use super::{ANSWER_BYTES_MAX, Clients, Draft, Failure, Outgoing, cut, without_url};
use crate::config;
use crate::core::Delivery;
use crate::notify::{Context, FailureReason, SendError};

/// A token lives two hours; asked for twice as often, so that none runs out on its way.
const WECHAT_TOKEN_KEPT: Duration = Duration::from_secs(3_600);

pub(super) fn wechat(d: &Draft<'_>) -> Result<Outgoing, Failure> {
    let text = |field: &str| d.text(field, &format!("{{{{ template \"wechat.default.{field}\" . }}}}"));
    let kind = if d.config.text("message_type") == "markdown" { "markdown" } else { "text" };
    let mut body = json!({
        "touser": text("to_user")?, "toparty": text("to_party")?, "totag": text("to_tag")?, "agentid": text("agent_id")?,
        "safe": "0", "msgtype": kind,
    });
    // Two kilobytes is what the service takes.
    body[kind] = json!({"content": cut(text("message")?, 2_048)});
    // The token follows: see `wechat_token`.
    let base = d.config.text("api_url").trim_end_matches('/');
    let mut out = Outgoing::post(format!("{base}/message/send?access_token="), body);
    out.verdict = |v| verdict(v);
    Ok(out)
}

fn verdict(v: &Value) -> Result<(), SendError> {
    let says = |code: i64| format!("WeChat: {code}: {}", v["errmsg"].as_str().unwrap_or(""));
    match v["errcode"].as_i64() {
        None | Some(0) => Ok(()),
        Some(code @ (45_009 | -1)) => limited(says(code)),
        Some(code @ (40_001 | 40_013 | 40_014 | 42_001)) => refused(FailureReason::AuthError, says(code)),
        Some(code) => refused(FailureReason::ClientError, says(code)),
    }
}

/// The token for one message: held from before, or asked for.
pub(super) async fn wechat_token(
    context: &Context,
    clients: &Clients,
    client: &Client,
    delivery: &Delivery,
    config: &config::Service,
) -> Result<String, SendError> {
    let now = context.clock.monotonic();
    if let Some(token) = clients.token(delivery, now) {
        return Ok(token);
    }
    let invalid = || SendError::permanent(FailureReason::Other, "the service's URL is not valid");
    let base = config.text("api_url").trim_end_matches('/');
    let mut url = config::value::parse_url(&format!("{base}/gettoken")).map_err(|_| invalid())?;
    let secret = super::secret_or_file(config.text("api_secret"), config.text("api_secret_file"))?;
    url.query_pairs_mut().append_pair("corpid", config.text("corp_id")).append_pair("corpsecret", secret.trim());
    let response = crate::receiver::http::send(context, client, Request::get(url)).await?;
    if !response.status.is_success() {
        return super::answer(response, context, false).await.map(|()| String::new());
    }
    let limits = BodyLimits { bytes_max: ANSWER_BYTES_MAX, ..BodyLimits::unlimited() };
    let body = response.uncompressed(&limits).await.map_err(|e| SendError::transient(without_url(&e)))?;
    let body: Value = serde_json::from_slice(&body.bytes).unwrap_or_default();
    verdict(&body)?;
    let token = body["access_token"].as_str().filter(|t| !t.is_empty());
    let token =
        token.ok_or_else(|| SendError::permanent(FailureReason::AuthError, "WeChat: no token in the answer"))?;
    clients.keep_token(delivery, token.to_owned(), now + WECHAT_TOKEN_KEPT);
    Ok(token.to_owned())
}

/// Authorized by `http_config`, which the section must have.
pub(super) fn webex(d: &Draft<'_>) -> Result<Outgoing, Failure> {
    let message = d.text("message", "{{ template \"webex.default.message\" . }}")?;
    let body = json!({"markdown": cut(message, 7_439), "roomId": d.text("room_id", "")?});
    Ok(Outgoing::post(d.config.text("api_url").to_owned(), body))
}

pub(super) fn rocketchat(d: &Draft<'_>) -> Result<Outgoing, Failure> {
    let text =
        |field: &str| d.text(field, &format!("{{{{ template \"rocketchat.default.{}\" . }}}}", field.replace('_', "")));
    let color = d.text("color", "{{ if eq .Status \"firing\" }}red{{ else }}green{{ end }}")?;
    let mut attachment = Map::new();
    attachment.insert("title".to_owned(), cut(text("title")?, 1_024).into());
    attachment.insert("color".to_owned(), color.into());
    for field in ["title_link", "text"] {
        attachment.insert(field.to_owned(), text(field)?.into());
    }
    for field in ["image_url", "thumb_url"] {
        attachment.insert(field.to_owned(), d.text(field, "")?.into());
    }
    for list in ["fields", "actions"] {
        if let Some(items) = d.config.value(list) {
            let mut items = d.rendered(items)?;
            for item in items.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
                let (name, value) = match list {
                    "fields" => ("short", d.config.flag("short_fields").into()),
                    _ => ("type", "button".into()),
                };
                item.entry(name).or_insert(value);
            }
            attachment.insert(list.to_owned(), items);
        }
    }
    let body = json!({
        "channel": d.text("channel", "")?, "alias": text("alias")?, "emoji": text("emoji")?, "avatar": text("icon_url")?,
        "attachments": [attachment],
    });
    let base = d.config.text("api_url").trim_end_matches('/');
    let mut out = Outgoing::post(format!("{base}/api/v1/chat.postMessage"), body);
    out.headers = vec![
        ("x-user-id", d.secret("token_id")?.trim().to_owned()),
        ("x-auth-token", d.secret("token")?.trim().to_owned()),
    ];
    out.verdict = |v| match v["success"].as_bool() {
        Some(false) => {
            refused(FailureReason::ClientError, format!("Rocket.Chat: {}", v["error"].as_str().unwrap_or("refused")))
        }
        _ => Ok(()),
    };
    Ok(out)
}

pub(super) fn mattermost(d: &Draft<'_>) -> Result<Outgoing, Failure> {
    const OF_ATTACHMENT: [&str; 12] = [
        "fallback",
        "color",
        "pretext",
        "author_name",
        "author_link",
        "author_icon",
        "title",
        "title_link",
        "thumb_url",
        "footer",
        "footer_icon",
        "image_url",
    ];
    let username = d.text("username", "{{ template \"mattermost.default.username\" . }}")?;
    let mut body = json!({
        "username": username,
        "text": cut(d.text("text", "{{ template \"mattermost.default.text\" . }}")?, 16_383),
    });
    for field in ["channel", "icon_url", "icon_emoji", "type"] {
        let text = d.text(field, "")?;
        if !text.is_empty() {
            body[field] = text.into();
        }
    }
    for field in ["props", "priority", "attachments"] {
        if let Some(value) = d.config.value(field) {
            body[field] = d.rendered(value)?;
        }
    }
    // Fields of one attachment may stand in the section itself.
    let own = OF_ATTACHMENT.iter().chain(&["fields"]).filter_map(|f| Some((*f, d.config.value(f)?)));
    let own: Map<String, Value> =
        own.map(|(f, v)| Ok((f.to_owned(), d.rendered(v)?))).collect::<Result<_, ferula_template::Error>>()?;
    if !own.is_empty() && body.get("attachments").is_none() {
        body["attachments"] = json!([own]);
    }
    Ok(Outgoing::post(d.secret("webhook_url")?.trim().to_owned(), body))
}
