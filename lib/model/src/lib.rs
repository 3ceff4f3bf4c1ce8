#![doc = include_str!("../README.md")]
pub mod budget;
pub mod clock;
pub mod duration;
pub mod histogram;
pub mod labels;
pub mod matcher;
pub mod number;
pub mod relabel;
pub mod sample;

pub use budget::{Budget, BudgetExceeded, Charge};
pub use clock::{Clock, ManualClock, SystemClock};
pub use histogram::{CounterResetHint, FloatHistogram, Histogram, Span};
pub use labels::{Label, LabelView, Labels, LabelsBuilder};
pub use matcher::{MatchOp, Matcher};
pub use sample::{Exemplar, Metadata, MetricType, STALE_NAN, SeriesRef, Value, is_stale_nan, stale_nan};
