//! The storage contracts: appenders, queriers, series sets, contexts.
//!
//! A writer asks an [`Appendable`] for an [`Appender`], appends, and commits or rolls back. A reader asks a
//! [`Queryable`] for a [`Querier`], selects, and walks a [`SeriesSet`] whose samples come in *batches* of columns.
//! Everything a reader does carries a [`QueryContext`]: deadline, cancellation, memory budget, statistics.
//!
//! Cost of the seam: one dynamic call per appended sample and one per batch read; a series handed out costs one
//! reference count, its labels are a view.
//! Ownership: a batch's memory belongs to the reader and is reused; series and label views are shared (`Arc`).
//! A crash: what `commit` returned for is in the WAL file (and fdatasync'ed if the appender asked for it).
pub mod annotations;
pub mod append;
pub mod context;
pub mod merge;
pub mod query;

pub use annotations::Annotations;
pub use append::{AppendError, AppendOptions, Appendable, Appender, CommitStats, Durability};
pub use context::{CancelFlag, Interrupted, QueryContext, QueryStats};
pub use query::{
    Column, ExemplarSeries, LabelHints, Querier, Queryable, SampleBatch, SampleIter, SelectHints, Series, SeriesSet,
};

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
