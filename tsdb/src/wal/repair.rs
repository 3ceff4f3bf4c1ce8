//! Moving a damaged segment aside and putting its good records in its place.
//!
//! The original goes to `quarantine/<time>-<file>/` by hard link (a copy where links are not possible) before anything
//! is replaced; a small JSON report says what was lost. Nothing is ever deleted.
use std::path::{Path, PathBuf};

use ferula_fs::{Fs, Open};

use super::page;
use super::reader::{Damage, SegmentReader};
use crate::error::Error;
use crate::format::names;

/// What happened to one segment.
#[derive(Clone, Debug)]
pub struct Repaired {
    pub original: PathBuf,
    pub quarantined: PathBuf,
    pub bytes_lost: usize,
}

/// Rewrites `path` with its readable records only. `now_ms` names the quarantine folder.
pub fn segment(fs: &dyn Fs, root: &Path, path: &Path, damages: &[Damage], now_ms: i64) -> Result<Repaired, Error> {
    let quarantined = quarantine(fs, root, path, now_ms)?;
    let bytes = fs.map(path).map_err(Error::io("mapping", path))?;
    let mut good = Vec::new();
    let mut reader = SegmentReader::new(&bytes);
    let mut record = Vec::new();
    while reader.next(&mut record) {
        // Plain records are read by everybody; compression is not worth keeping for the few that are rewritten.
        if crate::record::check(&record).is_ok() {
            let at = good.len() as u64;
            page::frame(&mut good, at, &record, 0);
        }
    }
    Error::if_torn(path, &bytes)?;
    fs.write_atomically(path, &good).map_err(Error::io("rewriting", path))?;
    let bytes_lost = damages.iter().map(|d| d.to - d.from).sum();
    report(fs, &quarantined, path, damages)?;
    Ok(Repaired { original: path.to_owned(), quarantined, bytes_lost })
}

/// Puts a second name of `path` into a new quarantine folder, and makes it durable.
pub fn quarantine(fs: &dyn Fs, root: &Path, path: &Path, now_ms: i64) -> Result<PathBuf, Error> {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let parent = root.join(names::QUARANTINE);
    let mut dir = parent.join(format!("{now_ms}-{name}"));
    let mut i = 1;
    while fs.exists(&dir) {
        dir = parent.join(format!("{now_ms}-{name}-{i}"));
        i += 1;
    }
    fs.create_dir_all(&dir).map_err(Error::io("creating", &dir))?;
    let to = dir.join(&name);
    if fs.hard_link(path, &to).is_err() {
        let bytes = fs.read(path).map_err(Error::io("reading", path))?;
        let copy = fs.open(&to, Open::CreateNew).map_err(Error::io("creating", &to))?;
        copy.append(&bytes).and_then(|()| copy.sync_data()).map_err(Error::io("writing", &to))?;
    }
    for d in [&dir, &parent, &root.to_owned()] {
        fs.sync_dir(d).map_err(Error::io("syncing", d))?;
    }
    Ok(to)
}

fn report(fs: &dyn Fs, quarantined: &Path, path: &Path, damages: &[Damage]) -> Result<(), Error> {
    let stretches: Vec<_> =
        damages.iter().map(|d| serde_json::json!({"from": d.from, "to": d.to, "reason": d.reason})).collect();
    let report = serde_json::json!({
        "file": path.to_string_lossy(),
        "bytes_lost": damages.iter().map(|d| d.to - d.from).sum::<usize>(),
        "damages": stretches,
    });
    let to = quarantined.with_file_name("report.json");
    fs.write_atomically(&to, format!("{report:#}\n").as_bytes()).map_err(Error::io("writing", &to))
}
