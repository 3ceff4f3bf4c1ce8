//! Why a query has no answer.
use ferula_model::BudgetExceeded;
use ferula_storage::{Interrupted, StorageError};

/// Upstream's texts; the API maps the variants to its error types.
#[derive(Clone, Debug, thiserror::Error)]
pub enum QueryError {
    #[error("query timed out in expression evaluation")]
    TimedOut,
    #[error("query was canceled in expression evaluation")]
    Cancelled,
    #[error("query processing would load too many samples into memory in query execution")]
    TooManySamples,
    #[error(transparent)]
    Budget(BudgetExceeded),
    /// The expression cannot be evaluated on this data.
    #[error("{0}")]
    Execution(String),
    #[error("{0}")]
    Storage(StorageError),
    /// A function or modifier this build does not know: never a wrong number instead.
    #[error("{0}")]
    Unsupported(String),
}

impl QueryError {
    pub(crate) fn execution(text: impl Into<String>) -> QueryError {
        QueryError::Execution(text.into())
    }
}

impl From<Interrupted> for QueryError {
    fn from(e: Interrupted) -> Self {
        match e {
            Interrupted::Cancelled => QueryError::Cancelled,
            Interrupted::TimedOut => QueryError::TimedOut,
        }
    }
}

impl From<BudgetExceeded> for QueryError {
    fn from(e: BudgetExceeded) -> Self {
        QueryError::Budget(e)
    }
}

impl From<StorageError> for QueryError {
    fn from(e: StorageError) -> Self {
        match e {
            StorageError::Interrupted(i) => i.into(),
            StorageError::Budget(b) => QueryError::Budget(b),
            other => QueryError::Storage(other),
        }
    }
}
