//! Which segments and checkpoints a log folder holds.
use std::path::{Path, PathBuf};

use ferula_fs::Fs;

use crate::error::Error;
use crate::format::names;

/// Numbers of the segments in `dir`, ascending.
pub fn list(fs: &dyn Fs, dir: &Path) -> Result<Vec<u64>, Error> {
    let mut out: Vec<u64> = fs
        .list(dir)
        .map_err(Error::io("listing", dir))?
        .iter()
        .filter(|e| !e.is_dir)
        .filter_map(|e| names::number(&e.name))
        .collect();
    out.sort_unstable();
    Ok(out)
}

pub fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(names::segment(number))
}

/// Checkpoint folders and the last segment each covers, ascending.
pub fn checkpoints(fs: &dyn Fs, dir: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let mut out: Vec<_> = fs
        .list(dir)
        .map_err(Error::io("listing", dir))?
        .into_iter()
        .filter(|e| e.is_dir)
        .filter_map(|e| Some((names::number(e.name.strip_prefix(names::CHECKPOINT_PREFIX)?)?, dir.join(&e.name))))
        .collect();
    out.sort_unstable();
    Ok(out)
}
