//! Queries that several rules of a group have in common, evaluated once per tick.
//!
//! Alerts often come in pairs that differ in their threshold (`x > 80`, `x > 90`): there `x` is what is shared, and the
//! comparison is applied to its result. A rule that writes series which a shared query may read makes it be asked again.
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ferula_promql_engine::Prepared;
use ferula_promql_parser::{BinaryOp, Expr, ValueType};

use crate::dependency;
use crate::file::RuleConfig;
use crate::query::{Number, RuleQuery, Sample};

pub(crate) struct SharedQueries {
    parts: Vec<Part>,
    queries: Vec<Query>,
}

/// What one rule asks.
enum Part {
    Own(Box<Prepared>),
    /// A query, and what is done with its result.
    Shared(usize, Option<Threshold>),
}

struct Query {
    prepared: Prepared,
    /// Rules whose result the query may read.
    reads: Vec<usize>,
    result: Mutex<Option<Arc<Vec<Sample>>>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Threshold {
    op: BinaryOp,
    value: f64,
}

impl SharedQueries {
    /// Finds what the rules have in common. Costs nothing later where that is nothing.
    pub fn new(rules: &[RuleConfig]) -> SharedQueries {
        let split: Vec<(Expr, Option<Threshold>)> = rules.iter().map(|r| split(&r.expr)).collect();
        let mut users: HashMap<String, Vec<usize>> = HashMap::new();
        for (i, (expr, _)) in split.iter().enumerate() {
            // A number costs less than the look-up.
            if !expr.selectors().is_empty() {
                users.entry(expr.to_string()).or_default().push(i);
            }
        }
        let mut parts: Vec<Option<Part>> = rules.iter().map(|_| None).collect();
        let mut queries = Vec::new();
        let mut users: Vec<Vec<usize>> = users.into_values().filter(|u| u.len() > 1).collect();
        users.sort();
        for group in users {
            let Some((expr, _)) = group.first().and_then(|i| split.get(*i)) else { continue };
            let reads = rules.iter().enumerate().filter(|(_, w)| dependency::reads(expr, w)).map(|(i, _)| i).collect();
            for i in &group {
                if let (Some(part), Some((_, threshold))) = (parts.get_mut(*i), split.get(*i)) {
                    *part = Some(Part::Shared(queries.len(), *threshold));
                }
            }
            queries.push(Query { prepared: Prepared::new(expr.clone()), reads, result: Mutex::new(None) });
        }
        let own = |rule: &RuleConfig| Part::Own(Box::new(Prepared::new(rule.expr.clone())));
        let parts = parts.into_iter().zip(rules).map(|(part, rule)| part.unwrap_or_else(|| own(rule))).collect();
        SharedQueries { parts, queries }
    }

    /// Forgets the results of the tick before.
    pub fn begin(&self) {
        for q in &self.queries {
            *q.result.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// The rule `index` has written: results that may depend on it no longer hold.
    pub fn wrote(&self, index: usize) {
        for q in self.queries.iter().filter(|q| q.reads.contains(&index)) {
            *q.result.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// The result of the rule's expression, from what the tick already knows where possible.
    pub fn instant(&self, index: usize, query: &dyn RuleQuery, t_ms: i64) -> Result<Vec<Sample>, String> {
        let (shared, threshold) = match self.parts.get(index) {
            Some(Part::Own(prepared)) => return query.again(prepared, t_ms),
            Some(Part::Shared(q, threshold)) => (self.queries.get(*q), *threshold),
            None => (None, None),
        };
        let Some(shared) = shared else { return Err("there is no such rule".to_owned()) };
        let known = shared.result.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let result = match known {
            Some(result) => result,
            None => {
                let result = Arc::new(query.again(&shared.prepared, t_ms)?);
                *shared.result.lock().unwrap_or_else(PoisonError::into_inner) = Some(result.clone());
                result
            }
        };
        Ok(match threshold {
            None => result.as_ref().clone(),
            Some(t) => result.iter().filter(|s| t.keeps(&s.value)).cloned().collect(),
        })
    }
}

/// The vector an expression compares with a number, and the comparison; or the expression itself.
fn split(expr: &Expr) -> (Expr, Option<Threshold>) {
    let expr = expr.without_parens();
    if let Expr::Binary(b) = expr
        && b.op.is_comparison()
        && !b.return_bool
        && b.lhs.value_type() == ValueType::Vector
        && let Some(value) = number(&b.rhs)
    {
        return (b.lhs.without_parens().clone(), Some(Threshold { op: b.op, value }));
    }
    (expr.clone(), None)
}

fn number(expr: &Expr) -> Option<f64> {
    match expr.without_parens() {
        Expr::Number(n) => Some(n.value),
        Expr::Unary(u) => match u.expr.without_parens() {
            Expr::Number(n) => Some(if u.negative { -n.value } else { n.value }),
            _ => None,
        },
        _ => None,
    }
}

impl Threshold {
    /// Whether the comparison keeps the sample; it keeps no histogram.
    fn keeps(self, sample: &Number) -> bool {
        let Number::Float(v) = *sample else { return false };
        match self.op {
            BinaryOp::Eql => v == self.value,
            BinaryOp::Neq => v != self.value,
            BinaryOp::Lte => v <= self.value,
            BinaryOp::Lss => v < self.value,
            BinaryOp::Gte => v >= self.value,
            BinaryOp::Gtr => v > self.value,
            _ => false,
        }
    }
}
