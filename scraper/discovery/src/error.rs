//! Why a discovery configuration is refused, or a refresh failed.

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// In upstream's words where it has them.
    #[error("{0}")]
    Config(String),
    #[error("{mechanism}_sd_configs: known, but not built in yet")]
    NotBuilt { mechanism: &'static str },
    #[error("{0}")]
    Refresh(String),
    #[error(transparent)]
    Http(#[from] ferula_net::client::Error),
}
