//! Incident services: PagerDuty (events API 1 and 2) and Opsgenie. One incident per group, closed when the group resolves.
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
