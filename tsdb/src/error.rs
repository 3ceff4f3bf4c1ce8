//! What can go wrong in the store.
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferula_storage::StorageError;

/// What is wrong with a mapping whose file was cut.
pub(crate) const CUT: &str = "the file was cut while it was in use";

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("{doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: Arc<io::Error> },
    #[error("{} is damaged at offset {offset}: {what}", path.display())]
    Corrupt { path: PathBuf, offset: u64, what: String },
    #[error("data directory {} is used by another process (its file \"lock\" is locked)", dir.display())]
    Locked { dir: PathBuf },
    #[error("data directory {} cannot be written: {source}", dir.display())]
    Unwritable { dir: PathBuf, source: Arc<io::Error> },
    #[error("{} has format version {version}, which this program does not know", path.display())]
    UnknownVersion { path: PathBuf, version: u32 },
    /// After a failed sync nothing more is written: what the file holds is unknown from then on.
    #[error("writing stopped after an earlier failure: {0}")]
    Poisoned(String),
    #[error("{0}")]
    Invalid(String),
}

impl Error {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { doing, path, source: Arc::new(source) }
    }
    pub(crate) fn corrupt(path: &Path, offset: usize, what: impl Into<String>) -> Error {
        Error::Corrupt { path: path.to_owned(), offset: offset as u64, what: what.into() }
    }
    /// What was read of a mapping is not to be believed when its file was cut meanwhile.
    pub(crate) fn if_torn(path: &Path, bytes: &ferula_fs::Mapping) -> Result<(), Error> {
        if bytes.is_torn() { Err(Error::corrupt(path, 0, CUT)) } else { Ok(()) }
    }
    /// Whether the disk is full: the caller may try again later.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }
}

impl From<Error> for StorageError {
    fn from(e: Error) -> StorageError {
        match e {
            Error::Corrupt { .. } | Error::UnknownVersion { .. } => StorageError::Corrupt(e.to_string()),
            Error::Poisoned(why) => StorageError::Poisoned(why),
            Error::Invalid(text) => StorageError::Other(text),
            Error::Io { .. } | Error::Locked { .. } | Error::Unwritable { .. } => StorageError::Io(e.to_string()),
        }
    }
}
