//! Reading checkpoint and segments into the head, moving damage aside.
//!
//! With a restart index the series are there already and this runs beside everything else; without one it is what a start
//! waits for.
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use ferula_fs::Fs;
use ferula_model::Clock;

use crate::chunk_snapshot::ChunkSnapshot;
use crate::db::BadBlock;
use crate::encoding::Malformed;
use crate::error::Error;
use crate::format::names;
use crate::head::Head;
use crate::head::head_chunks::Loaded;
use crate::head::replay::{Replay, ReplayStats};
use crate::options::Options;
use crate::wal::reader::{Damage, SegmentReader};
use crate::wal::writer::Position;
use crate::wal::{repair, segment};

/// What `/api/v1/status/walreplay` shows: segment numbers. As upstream has it, the one that the start begins counts as the
/// last, and `current` is the newest that has been read, so that both are equal when all is done.
#[derive(Debug, Default)]
pub struct Progress {
    pub min: AtomicU64,
    pub max: AtomicU64,
    pub current: AtomicU64,
}

impl Progress {
    fn begin(&self, first: u64, last: Option<u64>) {
        self.min.store(first, Ordering::Relaxed);
        self.current.store(first, Ordering::Relaxed);
        self.max.store(last.map_or(first, |l| l + 1), Ordering::Relaxed);
    }
    fn end(&self) {
        self.current.store(self.max.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

#[derive(Clone, Debug, Default)]
pub struct Report {
    pub stats: ReplayStats,
    pub segments: usize,
    pub damaged: Vec<PathBuf>,
    pub bytes_lost: usize,
    /// Files of head chunks that were moved aside.
    pub damaged_head_chunks: usize,
    /// Why a chunk snapshot could not be read, or not all of it.
    pub snapshot_error: Option<String>,
}

/// The files that are to be read, in order. Made before anything new is written.
#[derive(Clone, Debug)]
pub struct Plan {
    checkpoint: Vec<PathBuf>,
    wal: PathBuf,
    segments: Vec<u64>,
    wbl: Vec<PathBuf>,
    snapshot: Option<ChunkSnapshot>,
}

impl Plan {
    pub fn new(fs: &dyn Fs, root: &Path, wal: &Path, options: &Options) -> Result<Plan, Error> {
        let (mut first, mut checkpoint) = (0, Vec::new());
        if let Some((last, dir)) = segment::checkpoints(fs, wal)?.pop() {
            first = last + 1;
            checkpoint.extend(segment::list(fs, &dir)?.into_iter().map(|n| segment::path(&dir, n)));
        }
        let segments: Vec<u64> = segment::list(fs, wal)?.into_iter().filter(|n| *n >= first).collect();
        if let Some(progress) = &options.progress {
            progress.begin(first, segments.last().copied());
        }
        let wbl_dir = root.join(names::WBL);
        let wbl = if fs.exists(&wbl_dir) { segment::list(fs, &wbl_dir)? } else { Vec::new() };
        let wbl = wbl.into_iter().map(|n| segment::path(&wbl_dir, n)).collect();
        let snapshot = ChunkSnapshot::find(fs, root)?;
        Ok(Plan { checkpoint, wal: wal.to_owned(), segments, wbl, snapshot })
    }

    /// Whether a Prometheus left its open chunks.
    pub fn has_snapshot(&self) -> bool {
        self.snapshot.is_some()
    }

    /// Reads the series records from `from` on, which is where the restart index ends: afterwards every series of the log
    /// is known.
    pub fn series_since(&self, fs: &dyn Fs, head: &Head, from: Position) -> Result<(), Error> {
        let mut record = Vec::new();
        for n in self.segments.iter().filter(|n| **n >= from.segment) {
            let path = segment::path(&self.wal, *n);
            let bytes = fs.map(&path).map_err(Error::io("mapping", &path))?;
            let start = if *n == from.segment { from.offset as usize } else { 0 };
            let mut reader = SegmentReader::starting_at(&bytes, start);
            while reader.next(&mut record) {
                Replay::note_series(head, &record);
            }
            Error::if_torn(&path, &bytes)?;
        }
        Ok(())
    }

    /// Applies everything to the head. `go_on` is asked now and then. Also returns records that the log lacks.
    pub fn run(
        &self,
        fs: &dyn Fs,
        root: &Path,
        head: &Head,
        options: &Options,
        clock: &dyn Clock,
        go_on: &dyn Fn() -> bool,
    ) -> Result<(Report, Vec<Vec<u8>>), Error> {
        let mut damaged_head_chunks = 0;
        let chunks = match &head.chunks {
            Some(chunks) => chunks.load(|path, why| {
                if options.strict_recovery {
                    return Err(Error::corrupt(path, 0, why));
                }
                tracing::warn!(file = %path.display(), why, "head chunks are moved aside and rebuilt from the log");
                damaged_head_chunks += 1;
                let kept = repair::quarantine(fs, root, path, clock.now_ms())?;
                fs.remove_file(path).map_err(Error::io("removing", &kept))
            })?,
            None => Loaded::default(),
        };
        let mut run =
            Run { fs, root, options, clock, go_on, report: Report { damaged_head_chunks, ..Report::default() } };
        let mut replay = Replay::new(head, chunks);
        for path in &self.checkpoint {
            run.segment(path, &mut |r| replay.apply(r))?;
        }
        let mut snapshot = self.snapshot.as_ref();
        for n in &self.segments {
            if let Some(due) = snapshot.take_if(|s| s.segment < *n) {
                run.snapshot(due, &mut replay)?;
            }
            run.segment(&segment::path(&self.wal, *n), &mut |r| replay.apply(r))?;
            if let Some(progress) = &options.progress {
                progress.current.store(*n, Ordering::Relaxed);
            }
        }
        if let Some(due) = snapshot {
            run.snapshot(due, &mut replay)?;
        }
        // What came out of order is checked against the samples that are in order.
        replay.apply_gathered();
        for path in &self.wbl {
            run.segment(path, &mut |r| replay.apply_late(r))?;
        }
        let mut report = run.report;
        let (stats, rescued) = replay.finish();
        if let Some(progress) = &options.progress {
            progress.end();
        }
        report.stats = stats;
        if report.stats.orphaned > 0 || report.stats.unknown > 0 {
            let (samples, records) = (report.stats.orphaned, report.stats.unknown);
            tracing::warn!(samples, records, "samples without their series and records of unknown type were skipped");
        }
        Ok((report, rescued))
    }
}

/// One replay.
struct Run<'a> {
    fs: &'a dyn Fs,
    root: &'a Path,
    options: &'a Options,
    clock: &'a dyn Clock,
    go_on: &'a dyn Fn() -> bool,
    report: Report,
}

/// Records between two looks at whether to go on.
const ASK_EVERY: u64 = 256;

impl Run<'_> {
    /// The log goes before: a snapshot that cannot be read is only worth a warning.
    fn snapshot(&mut self, snapshot: &ChunkSnapshot, replay: &mut Replay<'_>) -> Result<(), Error> {
        if let Err(error) = replay.apply_snapshot(self.fs, snapshot) {
            if self.options.strict_recovery {
                return Err(error);
            }
            tracing::warn!(%error, "a chunk snapshot of Prometheus could not be read whole; the log goes before it anyway");
            self.report.snapshot_error = Some(error.to_string());
        }
        Ok(())
    }

    /// Replays one segment and mends it if it is damaged.
    fn segment(&mut self, path: &Path, apply: &mut dyn FnMut(&[u8]) -> Result<(), Malformed>) -> Result<(), Error> {
        self.report.segments += 1;
        let bytes = self.fs.map(path).map_err(Error::io("mapping", path))?;
        let mut reader = SegmentReader::new(&bytes);
        let (mut record, mut malformed) = (Vec::new(), Vec::new());
        // What was read is not needed again: replay must not need more memory than the head itself.
        let (mut records, mut behind) = (0u64, bytes.behind());
        while reader.next(&mut record) {
            records += 1;
            let end = reader.offset();
            behind.passed(end);
            if records.is_multiple_of(ASK_EVERY) && !(self.go_on)() {
                return Err(Error::Invalid("the store is being closed".to_owned()));
            }
            if let Err(m) = apply(&record) {
                // Where it began is not known any more; its length is at least that of its last fragment.
                malformed.push(Damage { from: end.saturating_sub(record.len()), to: end, reason: m.0 });
            }
        }
        Error::if_torn(path, &bytes)?;
        reader.damages.append(&mut malformed);
        let Some(first) = reader.damages.first() else { return Ok(()) };
        if self.options.strict_recovery {
            return Err(Error::corrupt(path, first.from, first.reason));
        }
        let repaired = repair::segment(self.fs, self.root, path, &reader.damages, self.clock.now_ms())?;
        tracing::warn!(
            file = %path.display(), offset = first.from, reason = first.reason, stretches = reader.damages.len(),
            bytes_lost = repaired.bytes_lost, original = %repaired.quarantined.display(),
            "a segment of the write-ahead log is damaged; its readable records were kept, the original was moved aside"
        );
        self.report.bytes_lost += repaired.bytes_lost;
        self.report.damaged.push(path.to_owned());
        Ok(())
    }
}

/// Leaves a JSON report of what could not be read beside the data, or takes the last one away when all is well. The
/// originals are in `quarantine/`, each with a report of its own.
pub(crate) fn write_recovery_report(fs: &dyn Fs, root: &Path, report: &Report, bad_blocks: &[BadBlock], now_ms: i64) {
    let path = root.join(names::RECOVERY_REPORT);
    let lost = &report.stats;
    if report.damaged.is_empty() && bad_blocks.is_empty() && lost.orphaned + lost.unknown + lost.malformed == 0 {
        if fs.exists(&path) {
            let _ = fs.remove_file(&path); // it speaks of an earlier start
        }
        return;
    }
    let blocks: Vec<_> = bad_blocks
        .iter()
        .map(|b| serde_json::json!({"dir": b.dir.to_string_lossy(), "error": b.error.to_string(), "range_ms": b.range}))
        .collect();
    let report = serde_json::json!({
        "time_ms": now_ms,
        "segments_read": report.segments,
        "segments_repaired": report.damaged.iter().map(|p| p.to_string_lossy()).collect::<Vec<_>>(),
        "log_bytes_lost": report.bytes_lost,
        "records_malformed": lost.malformed,
        "records_of_unknown_type": lost.unknown,
        "samples_without_series": lost.orphaned,
        "blocks_not_served": blocks,
    });
    if let Err(error) = fs.write_atomically(&path, format!("{report:#}\n").as_bytes()) {
        tracing::warn!(file = %path.display(), %error, "cannot write the report of what was lost");
    }
}

/// Files by which Prometheus restarts faster. They describe the log as it was: left in place they would make it give out
/// references twice when it takes the directory back.
pub(crate) fn move_foreign_state_aside(fs: &dyn Fs, root: &Path, wal: &Path, now_ms: i64) -> Result<(), Error> {
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
