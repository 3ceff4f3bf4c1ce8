//! Incident services: PagerDuty (events API 1 and 2), Opsgenie, VictorOps (Splunk On-Call), incident.io. One incident per group, closed when the group resolves.
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::{Draft, Failure, Outgoing, cut};

/// The name of a group's incident: its key hashed, as upstream does, so that a move from there finds open incidents.
fn incident(group_key: &str) -> String {
    Sha256::digest(group_key.as_bytes()).iter().map(|b| format!("{b:02x}")).collect()
}

pub(super) fn pagerduty(d: &Draft<'_>) -> Result<Outgoing, Failure> {
    let text = |field: &str, default: &str| d.text(field, default);
    let mut details = Map::new();
    for (name, default) in [
        ("firing", "{{ template \"pagerduty.default.instances\" .Alerts.Firing }}"),
        ("resolved", "{{ template \"pagerduty.default.instances\" .Alerts.Resolved }}"),
        ("num_firing", "{{ .Alerts.Firing | len }}"),
        ("num_resolved", "{{ .Alerts.Resolved | len }}"),
    ] {
        details.insert(name.to_owned(), d.bound.text(default)?.into());
    }
    if let Some(Value::Object(own)) = d.config.value("details") {
        for (name, value) in own {
            details.insert(name.clone(), d.rendered(value)?);
        }
    }
    let client = text("client", "{{ template \"pagerduty.default.client\" . }}")?;
    let client_url = text("client_url", "{{ template \"pagerduty.default.clientURL\" . }}")?;
    let description = text("description", "{{ template \"pagerduty.default.description\" . }}")?;
    let key = incident(d.group_key);
    let action = if d.is_firing() { "trigger" } else { "resolve" };

    let service_key = d.secret("service_key")?;
    if !service_key.is_empty() {
        let mut body = json!({"service_key": service_key.trim(), "event_type": action, "incident_key": key,
            "description": cut(description, 1024), "details": details});
        if d.is_firing() {
            body["client"] = client.into();
            body["client_url"] = client_url.into();
        }
        return Ok(Outgoing::post(
            "https://events.pagerduty.com/generic/2010-04-15/create_event.json".to_owned(),
            body,
        ));
    }
    let severity = match text("severity", "")? {
        s if s.is_empty() => "error".to_owned(),
        s => s,
    };
    let source = match text("source", "")? {
        s if s.is_empty() => client.clone(),
        s => s,
    };
    let mut body = json!({
        "routing_key": d.bound.text(d.secret("routing_key")?.trim())?, "dedup_key": key, "event_action": action,
        "client": client, "client_url": client_url,
        "payload": {"summary": cut(description, 1024), "source": source, "severity": severity, "class": text("class", "")?,
            "component": text("component", "")?, "group": text("group", "")?, "custom_details": details},
    });
    for list in ["images", "links"] {
        if let Some(items) = d.config.value(list) {
            body[list] = d.rendered(items)?;
        }
    }
    // The service refuses events over 512 KB; the long lists go first.
    const EVENT_BYTES_MAX: usize = 512_000;
    if body.to_string().len() > EVENT_BYTES_MAX {
        body["payload"]["custom_details"] = json!({"error": "Custom details have been removed because the original event exceeds the maximum size of 512KB"});
    }
    Ok(Outgoing::post(d.config.text("url").to_owned(), body))
}

pub(super) fn opsgenie(d: &Draft<'_>) -> Result<Outgoing, Failure> {
    let alias = incident(d.group_key);
    let base = d.config.text("api_url").trim_end_matches('/').to_owned();
    let source = d.text("source", "{{ template \"opsgenie.default.source\" . }}")?;
    let (url, body) = if d.is_firing() {
        let mut details: Map<String, Value> =
            d.data.common_labels.0.iter().map(|(n, v)| (n.to_owned(), Value::from(v))).collect();
        if let Some(Value::Object(own)) = d.config.value("details") {
            for (name, value) in own {
                details.insert(name.clone(), d.rendered(value)?);
            }
        }
        let mut body = json!({
            "alias": alias, "source": source, "details": details,
            "message": cut(d.text("message", "{{ template \"opsgenie.default.message\" . }}")?, 130),
            "description": cut(d.text("description", "{{ template \"opsgenie.default.description\" . }}")?, 15_000),
        });
        for field in ["entity", "note", "priority"] {
            let text = d.text(field, "")?;
            if !text.is_empty() {
                body[field] = text.into();
            }
        }
        for list in ["tags", "actions"] {
            let text = d.text(list, "")?;
            let items: Vec<&str> = text.split(',').map(str::trim).filter(|t| !t.is_empty()).collect();
            if !items.is_empty() {
                body[list] = json!(items);
            }
        }
        if let Some(responders) = d.config.value("responders") {
            body["responders"] = d.rendered(responders)?;
        }
        (format!("{base}/v2/alerts"), body)
    } else {
        (format!("{base}/v2/alerts/{alias}/close?identifierType=alias"), json!({"source": source}))
    };
    let mut out = Outgoing::post(url, body);
    let key = d.bound.text(d.secret("api_key")?.trim())?;
    out.authorization = Some(format!("GenieKey {key}"));
    Ok(out)
}

pub(super) fn victorops(d: &Draft<'_>) -> Result<Outgoing, Failure> {
    let wanted = d.text("message_type", "CRITICAL")?;
    let message_type = match d.is_firing() {
        false => "RECOVERY",
        true => ["CRITICAL", "WARNING", "INFO"].into_iter().find(|t| *t == wanted).unwrap_or("CRITICAL"),
    };
    let mut body = json!({
        "message_type": message_type, "entity_id": incident(d.group_key),
        "entity_display_name": d.text("entity_display_name", "{{ template \"victorops.default.entity_display_name\" . }}")?,
        "state_message": cut(d.text("state_message", "{{ template \"victorops.default.state_message\" . }}")?, 20_480),
        "monitoring_tool": d.text("monitoring_tool", "{{ template \"victorops.default.monitoring_tool\" . }}")?,
    });
    if let Some(Value::Object(own)) = d.config.value("custom_fields") {
        for (name, value) in own {
            body[name] = d.rendered(value)?;
        }
    }
    let base = d.config.text("api_url").trim_end_matches('/');
    let key = d.secret("api_key")?;
    Ok(Outgoing::post(format!("{base}/{}/{}", key.trim(), d.text("routing_key", "")?), body))
}

/// The webhook's document, to an alert source.
pub(super) fn incidentio(d: &Draft<'_>) -> Result<Outgoing, Failure> {
    let mut body = serde_json::to_value(d.data).unwrap_or_default();
    body["version"] = "4".into();
    body["groupKey"] = d.group_key.into();
    let most = d.config.value("max_alerts").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let mut left_out = 0;
    if let Some(alerts) = body["alerts"].as_array_mut()
        && most > 0
        && alerts.len() > most
    {
        left_out = alerts.len() - most;
        alerts.truncate(most);
    }
    body["truncatedAlerts"] = left_out.into();
    if let Some(metadata) = d.config.value("metadata") {
        body["metadata"] = d.rendered(metadata)?;
    }
    // The service refuses documents over 512 KB: one alert stands for all then.
    const DOCUMENT_BYTES_MAX: usize = 512 << 10;
    if body.to_string().len() > DOCUMENT_BYTES_MAX
        && let Some(alerts) = body["alerts"].as_array_mut()
    {
        let all = alerts.len();
        alerts.truncate(1);
        body["truncatedAlerts"] = (left_out + all.saturating_sub(1)).into();
    }
    let mut out = Outgoing::post(d.secret("url")?.trim().to_owned(), body);
    let token = d.secret("alert_source_token")?;
    out.authorization = (!token.trim().is_empty()).then(|| format!("Bearer {}", token.trim()));
    Ok(out)
}
