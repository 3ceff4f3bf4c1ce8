//! The door to the engine: how rules and their templates ask.
use std::sync::Arc;
use std::time::Duration;

use ferula_model::{Budget, FloatHistogram, Labels};
use ferula_promql_engine::{Engine, Evaluation, Prepared, QueryError, QueryOptions, SampleValue, Value};
use ferula_promql_parser::Expr;
use ferula_storage::{CancelFlag, QueryContext, Queryable};

/// One element of a rule's result.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub labels: Labels,
    pub value: Number,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Number {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// Evaluates an expression at one time. A test gives its own.
pub trait RuleQuery: Send + Sync {
    /// The instant vector of `expr` at `t_ms`; a scalar is a vector of one element without labels. The error is the
    /// text that the API shows as `lastError`.
    fn instant(&self, expr: &Expr, t_ms: i64) -> Result<Vec<Sample>, String>;

    /// As [`RuleQuery::instant`] for what is asked at every tick, in any order; it may keep something until the next.
    fn again(&self, prepared: &Prepared, t_ms: i64) -> Result<Vec<Sample>, String> {
        self.instant(prepared.expr(), t_ms)
    }

    /// The door for one group's queries, for those who note whose a query is; `None`: this one.
    fn of_group(&self, file: &str, group: &str) -> Option<Arc<dyn RuleQuery>> {
        let _ = (file, group);
        None
    }
}

/// Rules' queries on the engine, with a budget of their own: no other query can take it away.
pub struct EngineQuery {
    pub engine: Arc<Engine>,
    pub queryable: Arc<dyn Queryable>,
    pub timeout: Duration,
    pub budget: Budget,
    /// Set when the manager stops: what runs gives up.
    pub cancel: CancelFlag,
}

impl EngineQuery {
    fn context(&self) -> QueryContext {
        let mut ctx = QueryContext::new(Some(self.timeout), self.budget.clone());
        ctx.cancel = self.cancel.clone();
        ctx
    }

    /// The engine's whole answer.
    pub fn evaluate(&self, expr: &Expr, t_ms: i64) -> Result<Evaluation, QueryError> {
        let options = QueryOptions { never_waits: true, ..QueryOptions::default() };
        self.engine.instant(&self.context(), self.queryable.as_ref(), expr, t_ms, &options)
    }

    /// The same, for what is asked at every tick; series in any order.
    pub fn evaluate_again(&self, prepared: &Prepared, t_ms: i64) -> Result<Evaluation, QueryError> {
        let options = QueryOptions { any_order: true, never_waits: true, ..QueryOptions::default() };
        self.engine.instant_again(&self.context(), self.queryable.as_ref(), prepared, t_ms, &options)
    }

    /// What of an answer rules need.
    pub fn samples(answer: Evaluation) -> Result<Vec<Sample>, String> {
        match answer.value {
            Value::Vector(samples) => Ok(samples
                .into_iter()
                .map(|s| Sample {
                    labels: s.labels,
                    value: match s.value {
                        SampleValue::Float(f) => Number::Float(f),
                        SampleValue::Histogram(h) => Number::Histogram(h),
                    },
                })
                .collect()),
            Value::Scalar { value, .. } => Ok(vec![Sample { labels: Labels::empty(), value: Number::Float(value) }]),
            _ => Err("rule result is not a vector or scalar".to_owned()),
        }
    }
}

impl RuleQuery for EngineQuery {
    fn instant(&self, expr: &Expr, t_ms: i64) -> Result<Vec<Sample>, String> {
        EngineQuery::samples(self.evaluate(expr, t_ms).map_err(|e| e.to_string())?)
    }
    fn again(&self, prepared: &Prepared, t_ms: i64) -> Result<Vec<Sample>, String> {
        EngineQuery::samples(self.evaluate_again(prepared, t_ms).map_err(|e| e.to_string())?)
    }
}
