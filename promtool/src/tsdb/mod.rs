//! `promtool tsdb ...`: data directories without a server.
mod analyze;
mod dump;
mod import;
mod list;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferula_fs::Disk;
use ferula_tsdb::Block;

use crate::Streams;
use crate::command_line::Parsed;

pub(crate) fn run(parsed: &Parsed, streams: &mut Streams<'_>) -> Result<(), String> {
    match parsed.command.path {
        [_, "list"] => list::run(parsed, streams),
        [_, "analyze"] => analyze::run(parsed, streams),
        [_, "dump"] => dump::run(parsed, false, streams),
        [_, "dump-openmetrics"] => dump::run(parsed, true, streams),
        _ => import::run(parsed, streams),
    }
}

/// A directory that is there.
fn folder(parsed: &Parsed) -> Result<PathBuf, String> {
    let name = parsed.arg("db path");
    let path = PathBuf::from(name.trim_end_matches('/'));
    if !path.exists() {
        return Err(format!("opening the db dir: stat {name}: no such file or directory"));
    }
    Ok(path)
}

/// All blocks of a directory, in the order of their times. Nothing is written.
fn blocks(dir: &Path) -> Result<Vec<Arc<Block>>, String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))? {
        let path = entry.map_err(|e| e.to_string())?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or("");
        if ulid::Ulid::from_string(name).is_ok() && path.is_dir() {
            found.push(Arc::new(Block::open(&Disk, &path).map_err(|e| e.to_string())?));
        }
    }
    found.sort_by_key(|b| (b.meta.min_time_ms, b.meta.max_time_ms));
    Ok(found)
}
