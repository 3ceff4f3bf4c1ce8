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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rules: &str) -> Vec<Vec<usize>> {
        let text = format!("groups:\n- name: g\n  rules:\n{rules}");
        batches(&crate::file::parse("f", &text).unwrap().remove(0).rules)
    }

    #[test]
    fn only_what_neither_reads_nor_feeds_runs_side_by_side() {
        for (rules, expected) in [
            ("  - {record: a, expr: x}\n  - {record: b, expr: y}", vec![vec![0, 1]]),
            (
                "  - {record: a, expr: x}\n  - {record: b, expr: a}\n  - {record: c, expr: y}",
                vec![vec![2], vec![0], vec![1]],
            ),
            // Regular expressions and selectors without a name may find anything.
            ("  - {record: a:b, expr: x}\n  - {record: c, expr: '{__name__=~\"a.*\"}'}", vec![vec![0], vec![1]]),
            ("  - {record: a, expr: x}\n  - {record: c, expr: '{job=\"j\"}'}", vec![vec![0], vec![1]]),
            // A label that the recording rule sets decides.
            ("  - {record: a, expr: x, labels: {l: one}}\n  - {record: c, expr: 'a{l=\"two\"}'}", vec![vec![0, 1]]),
            // Alerts write ALERTS under their own name.
            (
                "  - {alert: A, expr: x}\n  - {alert: B, expr: 'ALERTS{alertname=\"A\"}'}\n  - {alert: C, expr: y}",
                vec![vec![2], vec![0], vec![1]],
            ),
            ("  - {alert: A, expr: x}\n  - {alert: B, expr: 'ALERTS_FOR_STATE'}", vec![vec![0], vec![1]]),
            // A rule that reads itself.
            ("  - {record: a, expr: a + 1}\n  - {record: b, expr: x}", vec![vec![1], vec![0]]),
        ] {
            assert_eq!(of(rules), expected, "{rules}");
        }
    }
}
