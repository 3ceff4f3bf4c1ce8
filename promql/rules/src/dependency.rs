//! Which rules of a group may be evaluated side by side: those that neither read nor feed another one.
use ferula_model::MatchOp;
use ferula_model::labels::{ALERT_NAME, METRIC_NAME};
use ferula_promql_parser::{Expr, VectorSelector};

use crate::alerting::{ALERTS, ALERTS_FOR_STATE};
use crate::file::{RuleConfig, RuleConfigKind};

/// Indexes of rules, in groups that may run side by side, to be run in this order. Rules without dependencies and
/// dependants run together; all others keep their place in the order, one by one.
pub(crate) fn batches(rules: &[RuleConfig]) -> Vec<Vec<usize>> {
    let mut first_batch = Vec::new();
    let mut ordered = Vec::new();
    for i in 0..rules.len() {
        if is_independent(rules, i) {
            first_batch.push(i);
        } else {
            ordered.push(vec![i]);
        }
    }
    let mut out = Vec::with_capacity(ordered.len() + 1);
    if !first_batch.is_empty() {
        out.push(first_batch);
    }
    out.append(&mut ordered);
    out
}

fn is_independent(rules: &[RuleConfig], i: usize) -> bool {
    let Some(rule) = rules.get(i) else { return true };
    let apart = |other: &RuleConfig| !(reads(&rule.expr, other) || reads(&other.expr, rule));
    rules.iter().all(apart)
}

/// Whether a selector of `expr` may find a series that `writer` writes.
pub(crate) fn reads(expr: &Expr, writer: &RuleConfig) -> bool {
    expr.selectors().into_iter().any(|s| may_find(s, writer))
}

fn may_find(selector: &VectorSelector, writer: &RuleConfig) -> bool {
    let names: &[&str] = match writer.kind {
        RuleConfigKind::Recording => &[writer.name.as_str()],
        RuleConfigKind::Alerting { .. } => &[ALERTS, ALERTS_FOR_STATE],
    };
    names.iter().any(|name| {
        selector.matchers.iter().all(|m| match m.name.as_str() {
            METRIC_NAME => m.matches(name),
            ALERT_NAME if names.len() == 2 => m.matches(&writer.name),
            // A label the writer sets for certain decides; any other may come from the data.
            n => match (&writer.kind, writer.labels.get(n)) {
                (RuleConfigKind::Recording, Some(v)) => m.matches(v),
                _ => !(m.op == MatchOp::Equal && m.value.is_empty() && writer.labels.get(n).is_some()),
            },
        })
    })
}
