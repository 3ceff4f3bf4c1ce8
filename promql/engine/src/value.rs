//! What a query answers.
use std::sync::Arc;
use std::time::Duration;

use ferula_model::{FloatHistogram, Labels};
use ferula_storage::Annotations;

use crate::plan::PlanNode;

#[derive(Clone, Debug)]
pub struct Evaluation {
    pub value: Value,
    pub annotations: Annotations,
    pub stats: SampleStats,
    /// The expressions and what each cost, when asked for.
    pub plan: Vec<PlanNode>,
    /// How long the query waited for its turn among others, of the time it took.
    pub waited: Duration,
}

impl Evaluation {
    /// A plan instead of an answer.
    pub fn unevaluated(plan: Vec<PlanNode>) -> Evaluation {
        Evaluation {
            value: Value::Vector(Vec::new()),
            annotations: Annotations::default(),
            stats: SampleStats::default(),
            plan,
            waited: Duration::ZERO,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Scalar { t_ms: i64, value: f64 },
    String { t_ms: i64, value: String },
    Vector(Vec<Sample>),
    Matrix(Vec<SeriesPoints>),
}

impl Value {
    /// The type's name in the API.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Scalar { .. } => "scalar",
            Value::String { .. } => "string",
            Value::Vector(_) => "vector",
            Value::Matrix(_) => "matrix",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum SampleValue {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

/// One element of an instant vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub labels: Labels,
    pub t_ms: i64,
    pub value: SampleValue,
}

/// One series of a range vector; both lists in rising time, no time in both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SeriesPoints {
    pub labels: Labels,
    pub floats: Vec<(i64, f64)>,
    pub histograms: Vec<(i64, Arc<FloatHistogram>)>,
}

/// Samples a query read and held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SampleStats {
    /// Samples that selectors delivered to the steps, counted once per step: upstream's `totalQueryableSamples`.
    pub total_queryable: u64,
    /// The same, but of overlapping windows only what the earlier one did not have: upstream's `samplesRead`.
    pub read: u64,
    /// Most samples held at one time.
    pub peak: u64,
    /// `(step time, samples)`, when asked for.
    pub per_step: Vec<(i64, u64)>,
    /// As `per_step`, of what is read: upstream's `samplesReadPerStep`.
    pub read_per_step: Vec<(i64, u64)>,
}
