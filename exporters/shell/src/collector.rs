//! What an exporter implements.
use ferula_exposition::family::Family;

/// One source of metrics that can fail, or hang, without the others.
pub trait Collector: Send + Sync + 'static {
    /// The value of the `collector` label and of `collect[]`.
    fn name(&self) -> &'static str;
    /// Appends families; blocking calls are fine. What was appended before an error is shown all the same, as upstream
    /// does.
    fn collect(&self, out: &mut Vec<Family>) -> Result<(), CollectError>;
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CollectError {
    /// This machine has nothing of the kind (success 0, logged at debug level only).
    NoData,
    Failed(String),
}

impl std::fmt::Display for CollectError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CollectError::NoData => f.write_str("collector returned no data"),
            CollectError::Failed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for CollectError {}
