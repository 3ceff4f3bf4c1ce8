//! The webhook: a JSON document of version 4, or one of the user's own making.
//!
//! Source followed: payloads recorded from Alertmanager 0.33.
use std::sync::Arc;

use ferula_net::client::Request;
use http::header::USER_AGENT;
use serde::Serialize;

use super::http::{Clients, answer};
use super::secret_or_file;
use crate::config;
use crate::core::Delivery;
use crate::notify::data::{AlertData, Data};
use crate::notify::template::Bound;
use crate::notify::{Context, FailureReason, SendError};

/// The document that is posted.
#[derive(Serialize)]
struct Message<'a> {
    #[serde(flatten)]
    data: &'a Data,
    version: &'static str,
    #[serde(rename = "groupKey")]
    group_key: &'a str,
    #[serde(rename = "truncatedAlerts")]
    truncated_alerts: usize,
}

pub async fn send(
    context: &Context,
    clients: &Clients,
    config: &Arc<config::Webhook>,
    delivery: &Delivery,
) -> Result<(), SendError> {
    // Templates are bound only where there are some: a standard message is written straight from the alerts.
    let is_templated = config.payload.is_some() || config.url.is_template();
    let (data, truncated_alerts, bound) = match is_templated || !delivery.notification.route_labels.is_empty() {
        true => {
            let (data, left_out, bound) = context.bind(delivery, config.max_alerts);
            (data, left_out, Some(bound))
        }
        false => {
            let (data, left_out) = Data::new(&delivery.notification, &context.external_url, config.max_alerts);
            (data, left_out, None)
        }
    };
    let template_failed = |e: ferula_template::Error| SendError::permanent(FailureReason::Other, e.to_string());
    let message = Message { data: &data, version: "4", group_key: &delivery.notification.group_key, truncated_alerts };
    let body = match (&config.payload, &bound) {
        // Whatever the payload's templates do, the page goes out.
        (Some(payload), Some(bound)) => match bound.as_ref().map_err(Clone::clone).and_then(|b| render(payload, b)) {
            Ok(custom) => serde_json::to_vec(&custom),
            Err(e) => {
                tracing::error!(receiver = &*data.receiver, error = %e, "Custom webhook payload failed, sending the standard one");
                standard(&message)
            }
        },
        _ => standard(&message),
    };
    let mut body = body.map_err(|e| SendError::permanent(FailureReason::Other, e.to_string()))?;
    body.push(b'\n');

    let mut url = secret_or_file(config.url.expose(), &config.url_file)?;
    if config.url.is_template()
        && let Some(bound) = bound
    {
        url = bound.map_err(template_failed)?.text(&url).map_err(template_failed)?;
    }
    let url = config::value::parse_url(&url)
        .map_err(|_| SendError::permanent(FailureReason::Other, "the webhook's URL is not valid once rendered"))?;
    let mut request = Request::post(url, "application/json", body);
    request.headers.insert(USER_AGENT, http::HeaderValue::from_static(crate::USER_AGENT));

    drop(data); // only the text is held while the receiver takes its time
    let client = clients.get(delivery, config.http_config.as_ref())?;
    let exchange = async {
        let response = super::http::send(context, &client, request).await?;
        answer(response, context, false).await
    };
    if config.timeout.is_zero() {
        return exchange.await;
    }
    tokio::time::timeout(config.timeout.std(), exchange).await.unwrap_or_else(|_| {
        Err(SendError {
            reason: FailureReason::DeadlineExceeded,
            message: format!("configured webhook timeout reached ({})", config.timeout),
            is_transient: true,
            retry_after: None,
        })
    })
}

/// The text, in a buffer of about its size.
fn standard(message: &Message<'_>) -> serde_json::Result<Vec<u8>> {
    let size = |a: &AlertData| a.labels.0.size_bytes() + a.annotations.0.size_bytes() + a.generator_url.len();
    let alerts: usize = message.data.alerts.iter().map(|a| 300 + size(a) * 5 / 4).sum();
    let mut body = Vec::with_capacity(1_024 + alerts);
    serde_json::to_writer(&mut body, message)?;
    Ok(body)
}

/// Every string of the user's document rendered; one that then reads as JSON other than a string stands for that.
fn render(payload: &serde_json::Value, bound: &Bound) -> Result<serde_json::Value, ferula_template::Error> {
    use serde_json::Value;
    Ok(match payload {
        Value::String(s) => {
            let text = bound.text(s)?;
            match s.contains("{{").then(|| serde_json::from_str(&text)) {
                Some(Ok(v @ (Value::Array(_) | Value::Object(_)))) => v,
                _ => Value::String(text),
            }
        }
        Value::Array(items) => Value::Array(items.iter().map(|v| render(v, bound)).collect::<Result<_, _>>()?),
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(k, v)| Ok((k.clone(), render(v, bound)?)))
                .collect::<Result<_, ferula_template::Error>>()?,
        ),
        other => other.clone(),
    })
}
