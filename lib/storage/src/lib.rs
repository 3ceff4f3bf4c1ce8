#![doc = include_str!("../README.md")]
pub mod annotations;
pub mod append;
pub mod context;
pub mod merge;
pub mod query;
pub mod resolved;

pub use annotations::Annotations;
pub use append::{AppendError, AppendOptions, Appendable, Appender, CommitStats, Durability};
pub use context::{CancelFlag, Interrupted, QueryContext, QueryStats};
pub use query::{
    Column, ExemplarSeries, LabelHints, Querier, Queryable, SampleBatch, SampleIter, SelectHints, Series, SeriesSet,
};
pub use resolved::Resolved;

/// What can go wrong below a query or a commit. Expected per-sample outcomes are [`AppendError`]s.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StorageError {
    #[error("{0}")]
    Io(String),
    #[error("corrupt data: {0}")]
    Corrupt(String),
    #[error(transparent)]
    Budget(#[from] ferula_model::BudgetExceeded),
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// The store refuses writes since an earlier failure; it says which.
    #[error("storage is read-only: {0}")]
    Poisoned(String),
    #[error("storage is not ready: {0}")]
    NotReady(String),
    #[error("{0}")]
    Other(String),
}
