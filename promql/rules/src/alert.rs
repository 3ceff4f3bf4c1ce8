//! One alert: a label set an alerting rule found, and its life from pending to resolved.
use ferula_model::Labels;

use crate::query::Number;

/// How long a resolved alert is kept, so that its end is sent again and again.
pub const RESOLVED_RETENTION_MS: i64 = 15 * 60_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AlertState {
    /// Of a rule: not evaluated yet.
    Unknown,
    Inactive,
    Pending,
    Firing,
}

impl AlertState {
    /// The name the API and the `alertstate` label use.
    pub fn as_str(self) -> &'static str {
        match self {
            AlertState::Unknown => "unknown",
            AlertState::Inactive => "inactive",
            AlertState::Pending => "pending",
            AlertState::Firing => "firing",
        }
    }
}

/// All times in milliseconds since 1970.
#[derive(Clone, Debug)]
pub(crate) struct Active {
    pub state: AlertState,
    pub labels: Labels,
    pub annotations: Labels,
    pub value: Number,
    pub active_at_ms: i64,
    pub fired_at_ms: Option<i64>,
    pub resolved_at_ms: Option<i64>,
    pub last_sent_ms: Option<i64>,
    pub keep_firing_since_ms: Option<i64>,
}

impl Active {
    /// Whether the alert's state is to be sent (again) at `now_ms`.
    pub fn is_due(&self, now_ms: i64, resend_delay_ms: i64) -> bool {
        if self.state == AlertState::Pending {
            return false;
        }
        let Some(last) = self.last_sent_ms else { return true };
        self.resolved_at_ms.is_some_and(|r| r > last) || last.saturating_add(resend_delay_ms) < now_ms
    }
}

/// What goes to the notifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// With `alertname`.
    pub labels: Labels,
    pub annotations: Labels,
    /// When it began to fire.
    pub starts_at_ms: i64,
    /// When it ended, or until when it may be believed to fire if nothing more is heard.
    pub ends_at_ms: i64,
    /// The expression's page on this server.
    pub generator_url: String,
}

/// Takes alerts. Must not block for long: it is called between evaluations.
pub trait Notify: Send + Sync {
    fn notify(&self, alerts: Vec<Alert>);
}

/// Swallows alerts.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNotify;

impl Notify for NoNotify {
    fn notify(&self, _: Vec<Alert>) {}
}
