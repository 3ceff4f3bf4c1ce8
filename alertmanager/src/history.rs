//! What became of recent deliveries: the last thing people ask about a page that came, or did not.
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::core::Delivery;

/// Outcomes kept; older ones go.
const KEPT: usize = 2_000;

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    pub at: String,
    pub group_key: Arc<str>,
    pub receiver: Arc<str>,
    pub integration: &'static str,
    pub index: u32,
    pub reason: &'static str,
    pub attempts: u32,
    pub is_delivered: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    #[serde(skip)]
    alerts: Vec<u64>,
}

/// A ring of outcomes, shared.
#[derive(Debug, Default)]
pub struct History(Mutex<VecDeque<Outcome>>);

impl History {
    pub fn push(&self, delivery: &Delivery, now_ms: i64, attempts: u32, error: Option<&str>) {
        let n = &delivery.notification;
        let outcome = Outcome {
            at: crate::time::format_api(now_ms),
            group_key: n.group_key.clone(),
            receiver: n.receiver.clone(),
            integration: delivery.integration.name(),
            index: delivery.integration.index,
            reason: n.reason.as_str(),
            attempts,
            is_delivered: error.is_none(),
            error: error.unwrap_or("").to_owned(),
            alerts: n.alerts.iter().map(|a| a.alert.fingerprint).collect(),
        };
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= KEPT {
            held.pop_front();
        }
        held.push_back(outcome);
    }

    /// The outcomes that told of an alert, latest first.
    pub fn of_alert(&self, fingerprint: u64) -> Vec<Outcome> {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.iter().rev().filter(|o| o.alerts.contains(&fingerprint)).cloned().collect()
    }
}
