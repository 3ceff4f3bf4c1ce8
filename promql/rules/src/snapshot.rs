//! What the API shows of rules and alerts. Kept beside the state, so that reading never waits for an evaluation.
use std::sync::Arc;

use ferula_model::Labels;

use crate::alert::AlertState;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    #[default]
    Unknown,
    Good,
    Bad,
}

impl Health {
    pub fn as_str(self) -> &'static str {
        match self {
            Health::Unknown => "unknown",
            Health::Good => "ok",
            Health::Bad => "err",
        }
    }
}

/// One group of `/api/v1/rules`. Times in milliseconds since 1970, durations as their names say.
#[derive(Clone, Debug)]
pub struct GroupSnapshot {
    pub name: String,
    pub file: String,
    pub interval_ms: i64,
    pub limit: u64,
    pub evaluation_seconds: f64,
    pub last_evaluation_ms: Option<i64>,
    pub rules: Vec<RuleSnapshot>,
}

#[derive(Clone, Debug)]
pub struct RuleSnapshot {
    pub name: String,
    pub query: String,
    /// Of alerts: the templates.
    pub labels: Labels,
    pub health: Health,
    pub last_error: Option<String>,
    pub evaluation_seconds: f64,
    pub last_evaluation_ms: Option<i64>,
    /// `None` for recording rules.
    pub alerting: Option<AlertingSnapshot>,
}

#[derive(Clone, Debug)]
pub struct AlertingSnapshot {
    pub state: AlertState,
    pub hold_ms: i64,
    pub keep_firing_ms: i64,
    /// The templates.
    pub annotations: Labels,
    /// Pending and firing ones.
    pub alerts: Arc<[AlertSnapshot]>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct AlertSnapshot {
    pub labels: Labels,
    pub annotations: Labels,
    pub state: AlertState,
    pub active_at_ms: i64,
    pub keep_firing_since_ms: Option<i64>,
    /// As the API prints it.
    pub value: String,
}

/// The part of a rule's snapshot that changes.
#[derive(Clone, Debug)]
pub(crate) struct Status {
    pub health: Health,
    pub last_error: Option<String>,
    pub evaluation_seconds: f64,
    pub last_evaluation_ms: Option<i64>,
    pub state: AlertState,
    pub alerts: Arc<[AlertSnapshot]>,
}

impl Default for Status {
    fn default() -> Self {
        Status {
            health: Health::Unknown,
            last_error: None,
            evaluation_seconds: 0.0,
            last_evaluation_ms: None,
            state: AlertState::Unknown,
            alerts: Arc::from([]),
        }
    }
}
