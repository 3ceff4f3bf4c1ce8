//! How a test says that it did not run.
use std::path::PathBuf;

/// Prints the line that `make test` collects: `SKIPPED <suite>: <why>`.
pub fn skipped(suite: &str, why: impl std::fmt::Display) {
    println!("SKIPPED {suite}: {why}");
}

/// A folder of the conformance data (env `FERULA_CORPUS`), or says that `suite` is skipped.
pub fn corpus(suite: &str, folder: &str) -> Option<PathBuf> {
    let Some(root) = std::env::var_os("FERULA_CORPUS") else {
        skipped(suite, "FERULA_CORPUS is not set");
        return None;
    };
    let path = PathBuf::from(root).join(folder);
    if !path.exists() {
        skipped(suite, format_args!("{} does not exist", path.display()));
        return None;
    }
    Some(path)
}
