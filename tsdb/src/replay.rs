//! Start: reading checkpoint and segments into the head, moving damage aside.
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ferula_fs::Fs;
use ferula_model::Clock;

use crate::encoding::Malformed;
use crate::error::Error;
use crate::format::names;
use crate::head::Head;
use crate::head::head_chunks::Loaded;
use crate::head::replay::{Replay, ReplayStats};
use crate::options::Options;
use crate::wal::reader::{Damage, SegmentReader};
use crate::wal::{repair, segment};

/// What `/api/v1/status/walreplay` shows: segment numbers.
#[derive(Debug, Default)]
pub struct Progress {
    pub min: AtomicU64,
    pub max: AtomicU64,
    pub current: AtomicU64,
}

#[derive(Clone, Debug, Default)]
pub struct Report {
    pub stats: ReplayStats,
    pub segments: usize,
    pub damaged: Vec<PathBuf>,
    pub bytes_lost: usize,
}

pub fn replay(
    fs: &dyn Fs,
    root: &Path,
    wal: &Path,
    head: &Head,
    chunks: Loaded,
    options: &Options,
    clock: &dyn Clock,
) -> Result<Report, Error> {
    move_foreign_state_aside(fs, root, wal, clock.now_ms())?;
    let mut report = Report::default();
    let mut replay = Replay::new(head, chunks);
    let mut first = 0;
    if let Some((last, dir)) = segment::checkpoints(fs, wal)?.pop() {
        first = last + 1;
        for n in segment::list(fs, &dir)? {
            one(fs, root, &segment::path(&dir, n), &mut |r| replay.apply(r), options, clock, &mut report)?;
        }
    }
    let numbers: Vec<u64> = segment::list(fs, wal)?.into_iter().filter(|n| *n >= first).collect();
    if let Some(progress) = &options.progress {
        progress.min.store(first, Ordering::Relaxed);
        progress.max.store(numbers.last().copied().unwrap_or(first), Ordering::Relaxed);
    }
    for n in numbers {
        if let Some(progress) = &options.progress {
            progress.current.store(n, Ordering::Relaxed);
        }
        one(fs, root, &segment::path(wal, n), &mut |r| replay.apply(r), options, clock, &mut report)?;
    }
    let wbl = root.join(names::WBL);
    if fs.exists(&wbl) {
        for n in segment::list(fs, &wbl)? {
            let path = segment::path(&wbl, n);
            one(fs, root, &path, &mut |r| replay.apply_late(r), options, clock, &mut report)?;
        }
    }
    report.stats = replay.finish();
    if report.stats.orphaned > 0 || report.stats.unknown > 0 {
        let (samples, records) = (report.stats.orphaned, report.stats.unknown);
        tracing::warn!(samples, records, "samples without their series and records of unknown type were skipped");
    }
    Ok(report)
}

/// Replays one segment and mends it if it is damaged.
fn one(
    fs: &dyn Fs,
    root: &Path,
    path: &Path,
    apply: &mut dyn FnMut(&[u8]) -> Result<(), Malformed>,
    options: &Options,
    clock: &dyn Clock,
    report: &mut Report,
) -> Result<(), Error> {
    report.segments += 1;
    let bytes = fs.map(path).map_err(Error::io("mapping", path))?;
    let mut reader = SegmentReader::new(&bytes);
    let (mut record, mut malformed) = (Vec::new(), Vec::new());
    while reader.next(&mut record) {
        let end = reader.offset();
        if let Err(m) = apply(&record) {
            // Where it began is not known any more; its length is at least that of its last fragment.
            malformed.push(Damage { from: end.saturating_sub(record.len()), to: end, reason: m.0 });
        }
    }
    reader.damages.append(&mut malformed);
    let Some(first) = reader.damages.first() else { return Ok(()) };
    if options.strict_recovery {
        return Err(Error::corrupt(path, first.from, first.reason));
    }
    let repaired = repair::segment(fs, root, path, &reader.damages, clock.now_ms())?;
    tracing::warn!(
        file = %path.display(), offset = first.from, reason = first.reason, stretches = reader.damages.len(),
        bytes_lost = repaired.bytes_lost, original = %repaired.quarantined.display(),
        "a segment of the write-ahead log is damaged; its readable records were kept, the original was moved aside"
    );
    report.bytes_lost += repaired.bytes_lost;
    report.damaged.push(path.to_owned());
    Ok(())
}

/// Files by which Prometheus restarts faster. They describe the log as it was: left in place they would make it give out
/// references twice when it takes the directory back.
fn move_foreign_state_aside(fs: &dyn Fs, root: &Path, wal: &Path, now_ms: i64) -> Result<(), Error> {
    let mut found = vec![];
    for e in fs.list(root).map_err(Error::io("listing", root))? {
        if e.name.starts_with(names::CHUNK_SNAPSHOT_PREFIX) {
            found.push(root.join(e.name));
        }
    }
    if fs.exists(&wal.join(names::SERIES_STATE)) {
        found.push(wal.join(names::SERIES_STATE));
    }
    for path in found {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let dir = root.join(names::QUARANTINE).join(format!("{now_ms}-{name}"));
        fs.create_dir_all(&dir).map_err(Error::io("creating", &dir))?;
        fs.rename(&path, &dir.join(&name)).map_err(Error::io("renaming", &path))?;
        tracing::info!(file = %path.display(), "moved aside: it describes an older state of the log");
    }
    Ok(())
}
