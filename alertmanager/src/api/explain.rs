//! Ours, beyond upstream's API: why an alert is or is not told, a trial of a receiver, a trial of a template.
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use ferula_model::Labels;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::{App, body, json, refused};
use crate::alert::{Alert, PostableAlert};
use crate::core::{Delivery, Explained, Notification, NotifiedAlert};
use crate::history::Question;
use crate::nflog::{LogKey, Reason};
use crate::notify;

/// Events of one alert that are shown.
const HISTORY_MAX: usize = 100;

/// `GET /alerts/{fingerprint}/explain`: routes, groups, what mutes it, what was last told, recent attempts.
pub async fn explain(State(am): State<App>, Path(fingerprint): Path<String>) -> Response {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Shown {
        #[serde(flatten)]
        explained: Explained,
        recent_deliveries: Vec<serde_json::Value>,
        /// Everything that is remembered of it, latest first.
        history: Vec<serde_json::Value>,
    }
    let Ok(id) = u64::from_str_radix(&fingerprint, 16) else {
        return refused(StatusCode::BAD_REQUEST, format!("{fingerprint:?} is not a fingerprint"));
    };
    let explained = am.core().explain(id, am.now());
    match explained {
        Some(explained) => {
            let fingerprints = Some(vec![crate::history::fingerprint(id)]);
            let question = Question { fingerprints, limit: HISTORY_MAX, ..Question::default() };
            let history = super::history::ask(&am, question).await;
            let recent_deliveries = history.iter().filter(|e| e["kind"] == "notified").cloned().collect();
            json(&Shown { explained, recent_deliveries, history })
        }
        None => refused(StatusCode::NOT_FOUND, "no such alert"),
    }
}

/// The alert a trial tells of, where none is given.
fn sample(am: &App, labels: BTreeMap<String, String>, annotations: BTreeMap<String, String>) -> Option<Alert> {
    let mut labels = labels;
    labels.entry("alertname".to_owned()).or_insert_with(|| "TestNotification".to_owned());
    let posted = PostableAlert {
        labels: Labels::from_pairs(labels),
        annotations: match annotations.is_empty() {
            true => Labels::from_pairs([("summary", "A test of this receiver; nothing is wrong.")]),
            false => Labels::from_pairs(annotations),
        },
        generator_url: am.options.external_url.clone(),
        ..PostableAlert::default()
    };
    Alert::received(posted, am.clock.now_ms(), 300_000, am.options.alert_size_bytes_max).ok()
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Trial {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    resolved: bool,
}

/// The longest a trial waits for one integration.
const TRIAL_MS: i64 = 15_000;

/// `POST /receivers/{name}/test`: sends a test notification through every integration, once, and says how it went.
pub async fn test_receiver(
    State(am): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    request: Body,
) -> Response {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Tried {
        integration: &'static str,
        index: u32,
        is_delivered: bool,
        #[serde(skip_serializing_if = "String::is_empty")]
        error: String,
    }
    let bytes = match body(&am, &headers, request).await {
        Ok(b) => b,
        Err(response) => return *response,
    };
    let trial: Trial = match bytes.is_empty() {
        true => Trial::default(),
        false => match serde_json::from_slice(&bytes) {
            Ok(t) => t,
            Err(e) => return refused(StatusCode::BAD_REQUEST, e),
        },
    };
    let plan = am.core().receivers().iter().find(|r| *r.name == *name).cloned();
    let Some(plan) = plan else { return refused(StatusCode::NOT_FOUND, format!("no receiver {name:?}")) };
    let Some(alert) = sample(&am, trial.labels, trial.annotations) else {
        return refused(StatusCode::BAD_REQUEST, "the labels make no alert");
    };
    let now = am.now();
    let notification = Arc::new(Notification {
        receiver: plan.name.clone(),
        group_key: Arc::from("{}:{test}"),
        group_labels: Labels::from_pairs([("alertname", alert.name())]),
        route_labels: BTreeMap::new(),
        alerts: vec![NotifiedAlert { alert: Arc::new(alert), is_resolved: trial.resolved }],
        reason: Reason::First,
        decided_at_ms: now.wall_ms,
        flush: None,
    });
    let loaded = am.loaded();
    let mut out = Vec::new();
    for integration in &plan.integrations {
        let delivery = Delivery {
            id: 0,
            data: Default::default(),
            trace: None,
            key: LogKey {
                group_key: notification.group_key.clone(),
                receiver: plan.name.clone(),
                integration: integration.name().into(),
                index: integration.index,
            },
            integration: integration.clone(),
            notification: notification.clone(),
            deadline_mono_ms: now.mono_ms.saturating_add(TRIAL_MS),
        };
        let result = notify::attempt(&loaded.context, &loaded.clients, &delivery).await;
        out.push(Tried {
            integration: integration.name(),
            index: integration.index,
            is_delivered: result.is_ok(),
            error: result.err().map(|e| e.message).unwrap_or_default(),
        });
    }
    json(&out)
}

/// `POST /templates/render` with `{"template": "...", "html": false, "data": {...}}`: what the text becomes. Data are a
/// webhook's payload; without them a sample alert stands in.
pub async fn render(State(am): State<App>, headers: HeaderMap, request: Body) -> Response {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        template: String,
        #[serde(default)]
        html: bool,
        #[serde(default)]
        data: Option<serde_json::Value>,
    }
    #[derive(Serialize)]
    struct Rendered {
        text: String,
    }
    let bytes = match body(&am, &headers, request).await {
        Ok(b) => b,
        Err(response) => return *response,
    };
    let asked: Asked = match serde_json::from_slice(&bytes) {
        Ok(a) => a,
        Err(e) => return refused(StatusCode::BAD_REQUEST, e),
    };
    // Templates are bounded, and still may keep a core busy for a while: not on the threads that answer.
    let rendered = tokio::task::spawn_blocking(move || {
        let data = asked.data.unwrap_or_else(|| {
            serde_json::json!({"status": "firing", "receiver": "test", "externalURL": am.options.external_url,
                "groupLabels": {"alertname": "TestNotification"}, "commonLabels": {"alertname": "TestNotification"}, "commonAnnotations": {},
                "alerts": [{"status": "firing", "labels": {"alertname": "TestNotification"}, "annotations": {"summary": "A test."},
                    "startsAt": crate::time::format(am.clock.now_ms()), "endsAt": crate::time::ZERO, "generatorURL": "", "fingerprint": ""}]})
        });
        am.loaded().context.templates.render(&asked.template, &data, asked.html)
    })
    .await;
    match rendered {
        Ok(Ok(text)) => json(&Rendered { text }),
        Ok(Err(e)) => refused(StatusCode::BAD_REQUEST, e),
        Err(e) => refused(StatusCode::INTERNAL_SERVER_ERROR, e),
    }
}
