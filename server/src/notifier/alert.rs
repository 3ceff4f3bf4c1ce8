//! One alert's state on its way out, and its JSON for Alertmanager's API v2.
use ferula_model::Labels;

use crate::api::json::Json;

#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Name the alert: two alerts with equal labels are one.
    pub labels: Labels,
    pub annotations: Labels,
    pub starts_at_ms: i64,
    /// When it is over: past for a resolved one, some evaluations ahead for a firing one. Zero means not known.
    pub ends_at_ms: i64,
    pub generator_url: String,
}

/// The body of `POST /api/v2/alerts`.
pub fn to_json(alerts: &[Alert]) -> Vec<u8> {
    let mut j = Json::with_capacity(64 + alerts.len() * 512);
    let mut first = true;
    j.raw("[");
    for alert in alerts {
        j.separate(&mut first).raw("{\"annotations\":").labels(&alert.annotations);
        if alert.ends_at_ms != 0 {
            j.raw(",\"endsAt\":").string(&rfc3339(alert.ends_at_ms));
        }
        j.raw(",\"startsAt\":").string(&rfc3339(alert.starts_at_ms));
        j.raw(",\"generatorURL\":").string(&alert.generator_url);
        j.raw(",\"labels\":").labels(&alert.labels).raw("}");
    }
    j.raw("]");
    j.into_bytes()
}

/// `2026-11-20T18:35:19.426Z`
pub(crate) fn rfc3339(t_ms: i64) -> String {
    jiff::Timestamp::from_millisecond(t_ms).map_or_else(|_| "0001-01-01T00:00:00Z".to_owned(), |t| t.to_string())
}
