//! State of alerts over a restart, read back from `ALERTS_FOR_STATE` and `ALERTS`.
//!
//! Upstream restores `for` only of holds of at least the grace period, and never `keep_firing_for`. Here every hold is
//! restored, and an alert that was kept firing goes on being kept for what was left of its time at most.
use std::collections::HashMap;

use ferula_model::labels::{ALERT_NAME, METRIC_NAME};
use ferula_model::{Labels, LabelsBuilder, Matcher, is_stale_nan};
use ferula_storage::{Column, Querier, QueryContext, SampleBatch, SelectHints, StorageError};

use crate::alert::{Active, AlertState};
use crate::alerting::{ALERTS, ALERTS_FOR_STATE, AlertingRule};
use crate::group::Group;
use crate::query::Number;

/// The last sample of one series.
struct Last {
    t_ms: i64,
    value: f64,
}

impl Group {
    /// Restores what alerts were before the restart. To be called after enough evaluations that the alerts of now are
    /// known. A failure to read leaves alerts as if they were new.
    pub fn restore(&mut self, now_ms: i64) {
        let started = self.env().clock.monotonic();
        let env = self.env().clone();
        let querier = env.queryable.querier(now_ms.saturating_sub(env.outage_tolerance_ms), now_ms);
        let name = self.config.name.clone();
        let mut kept: Vec<(usize, Vec<Kept>)> = Vec::new();
        for (i, rule) in self.alerting_rules().enumerate() {
            let restored = match &querier {
                Ok(q) => restore_rule(rule, q.as_ref(), now_ms, env.for_grace_ms),
                Err(e) => Err(e.clone()),
            };
            match restored {
                Ok(again) => kept.push((i, again)),
                Err(error) => tracing::error!(group = name, %error, "Failed to restore 'for' state"),
            }
            rule.restored = true;
        }
        self.revive(kept, now_ms);
        let took = self.env().clock.monotonic().saturating_sub(started);
        self.metrics().last_restore_duration.set(took.as_secs_f64());
    }

    /// Puts alerts back that no expression finds any more but `keep_firing_for` keeps.
    fn revive(&mut self, kept: Vec<(usize, Vec<Kept>)>, now_ms: i64) {
        for (i, alerts) in kept {
            for k in alerts {
                let annotations = self.annotations_of(i, &k.labels, now_ms);
                let Some(rule) = self.alerting_rules().nth(i) else { continue };
                let alert = Active {
                    state: AlertState::Firing,
                    labels: k.labels.clone(),
                    annotations,
                    value: Number::Float(f64::NAN),
                    active_at_ms: k.active_at_ms,
                    fired_at_ms: Some(k.active_at_ms),
                    resolved_at_ms: None,
                    last_sent_ms: None,
                    keep_firing_since_ms: Some(k.seen_ms),
                };
                rule.active.insert(k.labels, alert);
            }
        }
    }
}

/// An alert that fired when the server went down, of a rule with `keep_firing_for`.
struct Kept {
    labels: Labels,
    active_at_ms: i64,
    seen_ms: i64,
}

fn restore_rule(
    rule: &mut AlertingRule,
    querier: &dyn Querier,
    now_ms: i64,
    grace_ms: i64,
) -> Result<Vec<Kept>, StorageError> {
    if rule.hold_ms == 0 && rule.keep_firing_ms == 0 {
        return Ok(Vec::new());
    }
    let for_state = last_samples(rule, querier, ALERTS_FOR_STATE, None)?;
    for (labels, alert) in rule.active.iter_mut().filter(|(_, a)| a.state != AlertState::Inactive) {
        if let Some(last) = for_state.get(labels).filter(|l| !is_stale_nan(l.value)) {
            alert.active_at_ms = restored_since(last, rule.hold_ms, now_ms, grace_ms);
        }
    }
    if rule.keep_firing_ms == 0 {
        return Ok(Vec::new());
    }
    let firing = last_samples(rule, querier, ALERTS, Some(AlertState::Firing))?;
    Ok(firing
        .into_iter()
        .filter(|(labels, last)| {
            !is_stale_nan(last.value) && !rule.active.contains_key(labels) && now_ms - last.t_ms < rule.keep_firing_ms
        })
        .map(|(labels, last)| {
            let since = for_state.get(&labels).map_or(last.t_ms, |l| (l.value * 1000.0) as i64);
            Kept { labels, active_at_ms: since, seen_ms: last.t_ms }
        })
        .collect())
}

/// Since when an alert counts as active: as if the time the server was down had not been.
fn restored_since(last: &Last, hold_ms: i64, now_ms: i64, grace_ms: i64) -> i64 {
    let active_at_ms = (last.value * 1000.0) as i64;
    let remaining_ms = hold_ms - (last.t_ms - active_at_ms);
    if remaining_ms <= 0 {
        // It fired; the next evaluation makes it fire again if it is still there.
        active_at_ms
    } else if remaining_ms < grace_ms && hold_ms >= grace_ms {
        // Recording rules and scrapes may need the grace period to catch up before it may fire.
        now_ms + grace_ms - hold_ms
    } else {
        active_at_ms + (now_ms - last.t_ms)
    }
}

/// The last sample of every series of this rule under the name `metric`, by the alert's labels.
fn last_samples(
    rule: &AlertingRule,
    querier: &dyn Querier,
    metric: &str,
    state: Option<AlertState>,
) -> Result<HashMap<Labels, Last>, StorageError> {
    let mut matchers = vec![Matcher::equal(METRIC_NAME, metric), Matcher::equal(ALERT_NAME, rule.name())];
    matchers.extend(rule.plain_labels().map(|(n, v)| Matcher::equal(n, v)));
    matchers.extend(state.map(|s| Matcher::equal("alertstate", s.as_str())));
    let ctx = QueryContext::background();
    let mut set = querier.select(&ctx, false, &SelectHints::default(), &matchers)?;
    let (mut out, mut batch) = (HashMap::new(), SampleBatch::default());
    while let Some(series) = set.next() {
        let mut series = series?;
        let mut last = None;
        while series.samples.next_batch(&mut batch)? {
            if let (Column::Floats(values), Some(t_ms)) = (&batch.values, batch.t_ms.last())
                && let Some(value) = values.last()
            {
                last = Some(Last { t_ms: *t_ms, value: *value });
            }
        }
        let mut b = LabelsBuilder::from_view(series.labels.as_ref());
        b.del(METRIC_NAME);
        if state.is_some() {
            b.del("alertstate");
        }
        if let Some(last) = last {
            out.insert(b.labels(), last);
        }
    }
    Ok(out)
}
