//! Appending to the log, and syncing it for many committers at once.
//!
//! One batch is one write to the file. A write that fails is cut away again, so that nothing acknowledged ever lies
//! behind a tear. A sync that fails is final for its file: what that holds is unknown from then on. What was written
//! since the last sync is kept in memory for this case and goes, synced, into a new segment; if that fails too, the log is
//! poisoned and refuses everything.
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use ferula_fs::{File, Fs, Open};
use ferula_instrument::Summary;

use super::{page, segment};
use crate::encoding::crc;
use crate::error::Error;
use crate::format::restart::BOUND_BYTES;
use crate::format::wal::{PAGE, SEGMENT_BYTES};

/// A place in the log: everything before it has been written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub segment: u64,
    pub offset: u64,
}

/// A place in the log, and what stands before it: `sum` is the checksum of the `len` bytes that end there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    pub position: Position,
    pub len: u32,
    pub sum: u32,
}

/// A compressed record and its flag, from `Compressor::compress`.
pub type Packed = (Vec<u8>, u8);

/// Batches kept for a failed sync; more are synced at once.
const UNSYNCED_MAX_BYTES: usize = 32 << 20;

#[derive(Debug)]
pub struct Wal {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    segment_bytes: u64,
    writer: Mutex<Writer>,
    /// Whether a failed sync can be made good. Not for a log that is thrown away when anything fails.
    keeps_unsynced: bool,
    sync: Mutex<Syncing>,
    synced: Condvar,
    pub stats: Stats,
}

/// Counted for the metrics.
#[derive(Debug, Default)]
pub struct Stats {
    pub bytes_written: AtomicU64,
    /// By compression.
    pub bytes_saved: AtomicU64,
    pub writes_failed: AtomicU64,
    pub syncs: AtomicU64,
    pub sync_nanos: AtomicU64,
    pub writes: AtomicU64,
    pub fragments: AtomicU64,
    pub pages_completed: AtomicU64,
    /// Set when the metrics are registered.
    pub fsync: OnceLock<Summary>,
}

#[derive(Debug)]
struct Writer {
    segment: u64,
    file: Arc<dyn File>,
    offset: u64,
    /// Framed bytes of the batch at hand.
    out: Vec<u8>,
    /// Batches written since the last sync, and the places behind them.
    unsynced: VecDeque<(Position, Vec<Packed>)>,
    unsynced_bytes: usize,
    /// Why nothing may be written any more.
    poisoned: Option<String>,
}

#[derive(Debug, Default)]
struct Syncing {
    upto: Position,
    running: bool,
    failed: Option<String>,
}

impl Writer {
    fn forget_unsynced(&mut self, upto: Position) {
        while let Some((_, batch)) = self.unsynced.pop_front_if(|(end, _)| *end <= upto) {
            self.unsynced_bytes -= batch.iter().map(|(r, _)| r.len()).sum::<usize>();
        }
    }
}

fn lock<T>(m: &Mutex<T>) -> MutexGuard<'_, T> {
    m.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Wal {
    /// Opens the log in `dir` with a new segment behind all that are there: old segments are never appended to, so a
    /// torn tail stays a tail. `segment_bytes`: 0 for upstream's 128 MiB.
    pub fn open(fs: Arc<dyn Fs>, dir: &Path, segment_bytes: u64) -> Result<Wal, Error> {
        fs.create_dir_all(dir).map_err(Error::io("creating", dir))?;
        let after_segments = segment::list(&*fs, dir)?.last().map_or(0, |l| l + 1);
        // A checkpoint without its segments still reserves their numbers.
        let after_checkpoints = segment::checkpoints(&*fs, dir)?.last().map_or(0, |c| c.0 + 1);
        let number = after_segments.max(after_checkpoints);
        let file = create(&*fs, dir, number)?;
        fs.sync_dir(ferula_fs::parent(dir)).map_err(Error::io("syncing", dir))?;
        Ok(Wal {
            segment_bytes: if segment_bytes == 0 { SEGMENT_BYTES } else { segment_bytes },
            writer: Mutex::new(Writer {
                segment: number,
                file,
                offset: 0,
                out: Vec::new(),
                unsynced: VecDeque::new(),
                unsynced_bytes: 0,
                poisoned: None,
            }),
            sync: Mutex::new(Syncing { upto: Position { segment: number, offset: 0 }, ..Syncing::default() }),
            keeps_unsynced: true,
            synced: Condvar::new(),
            fs,
            dir: dir.to_owned(),
            stats: Stats::default(),
        })
    }

    /// For a log whose maker starts anew after any failure.
    pub fn without_rescue(mut self) -> Wal {
        self.keeps_unsynced = false;
        self
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn position(&self) -> Position {
        let w = lock(&self.writer);
        Position { segment: w.segment, offset: w.offset }
    }

    /// The place behind everything written so far, with the checksum of what stands right before it. While the current
    /// segment is empty that is the end of an earlier one.
    pub fn bound(&self) -> Result<Bound, Error> {
        let w = lock(&self.writer);
        let (mut file, mut position) = (Arc::clone(&w.file), Position { segment: w.segment, offset: w.offset });
        while position.offset == 0 && position.segment > 0 {
            let path = segment::path(&self.dir, position.segment - 1);
            let Ok(earlier) = self.fs.open(&path, Open::Read) else { break };
            let offset = earlier.size_bytes().map_err(Error::io("reading", &path))?;
            (file, position) = (earlier, Position { segment: position.segment - 1, offset });
        }
        let mut bytes = vec![0; position.offset.min(BOUND_BYTES) as usize];
        let from = position.offset - bytes.len() as u64;
        let path = segment::path(&self.dir, position.segment);
        file.read_exact_at(from, &mut bytes).map_err(Error::io("reading", &path))?;
        Ok(Bound { position, len: bytes.len() as u32, sum: crc(&bytes) })
    }

    /// Writes a batch, all of it or nothing. Returns the place behind it.
    pub fn write(&self, records: Vec<Packed>) -> Result<Position, Error> {
        let mut w = lock(&self.writer);
        if let Some(why) = &w.poisoned {
            return Err(Error::Poisoned(why.clone()));
        }
        if let Err(e) = self.write_locked(&mut w, &records) {
            self.stats.writes_failed.fetch_add(1, Ordering::Relaxed);
            return Err(e);
        }
        let position = Position { segment: w.segment, offset: w.offset };
        if self.keeps_unsynced {
            w.unsynced_bytes += records.iter().map(|(r, _)| r.len()).sum::<usize>();
            w.unsynced.push_back((position, records));
            if w.unsynced_bytes > UNSYNCED_MAX_BYTES {
                // Nobody has synced for long: the memory is worth more than the wait.
                match w.file.sync_data() {
                    Ok(()) => w.forget_unsynced(position),
                    Err(e) => {
                        self.rescue(&mut w, Error::io("syncing", &segment::path(&self.dir, position.segment))(e))?
                    }
                }
            }
        }
        Ok(position)
    }

    fn write_locked(&self, w: &mut Writer, records: &[Packed]) -> Result<(), Error> {
        // A batch that does not fit goes into the next segment as a whole: so a failed write has one file to mend.
        // Framing adds a header for each page; counting one for each record and page is on the safe side.
        let size: u64 = records.iter().map(|(r, _)| r.len() as u64 + 16 + r.len() as u64 / 4096).sum();
        if w.offset > 0 && size > page::room(w.offset, self.segment_bytes) {
            self.next_segment_locked(w)?;
        }
        w.out.clear();
        for (record, flags) in records {
            let at = w.offset + w.out.len() as u64;
            self.stats.fragments.fetch_add(page::frame(&mut w.out, at, record, *flags), Ordering::Relaxed);
        }
        if let Err(e) = w.file.append(&w.out) {
            self.cut_back(w);
            return Err(Error::io("writing", &segment::path(&self.dir, w.segment))(e));
        }
        let pages_before = w.offset / PAGE as u64;
        w.offset += w.out.len() as u64;
        self.stats.pages_completed.fetch_add(w.offset / PAGE as u64 - pages_before, Ordering::Relaxed);
        self.stats.writes.fetch_add(1, Ordering::Relaxed);
        self.stats.bytes_written.fetch_add(w.out.len() as u64, Ordering::Relaxed);
        if w.out.capacity() > 4 << 20 {
            w.out = Vec::new();
        }
        Ok(())
    }

    /// After a failed write: remove what got through, or leave the file behind sealed.
    fn cut_back(&self, w: &mut Writer) {
        if w.file.truncate(w.offset).is_ok() {
            return;
        }
        tracing::warn!(segment = w.segment, offset = w.offset, "cannot cut a failed write away; sealing the segment");
        if let Err(e) = self.next_segment_locked(w) {
            w.poisoned = Some(e.to_string());
        }
    }

    /// Syncs and closes the current segment and opens the next. Returns the new segment's number.
    pub fn next_segment(&self) -> Result<u64, Error> {
        let mut w = lock(&self.writer);
        if let Some(why) = &w.poisoned {
            return Err(Error::Poisoned(why.clone()));
        }
        self.next_segment_locked(&mut w)?;
        Ok(w.segment)
    }

    fn next_segment_locked(&self, w: &mut Writer) -> Result<(), Error> {
        let padding = page::padding(w.offset);
        if padding > 0 {
            // Readers accept a short last page, so this may fail.
            match w.file.append(&vec![0; padding]) {
                Ok(()) => w.offset += padding as u64,
                Err(_) => drop(w.file.truncate(w.offset)),
            }
        }
        if let Err(e) = w.file.sync_data() {
            return self.rescue(w, Error::io("syncing", &segment::path(&self.dir, w.segment))(e));
        }
        w.forget_unsynced(Position { segment: w.segment, offset: u64::MAX });
        w.file = create(&*self.fs, &self.dir, w.segment + 1)?;
        w.segment += 1;
        w.offset = 0;
        Ok(())
    }

    /// After a failed sync: everything that was not synced before goes into a new segment.
    fn rescue(&self, w: &mut Writer, failure: Error) -> Result<(), Error> {
        tracing::error!(error = %failure, "a sync of the write-ahead log failed; what it should have saved is written again");
        let result = if self.keeps_unsynced { self.rewrite(w) } else { Err(failure.clone()) };
        if let Err(second) = &result {
            let why = format!("{failure}; then {second}");
            tracing::error!(why, "the write-ahead log is read-only from now on");
            w.poisoned = Some(why);
        }
        result
    }

    fn rewrite(&self, w: &mut Writer) -> Result<(), Error> {
        w.file = create(&*self.fs, &self.dir, w.segment + 1)?;
        w.segment += 1;
        w.offset = 0;
        let mut out = Vec::new();
        for (record, flags) in w.unsynced.iter().flat_map(|(_, batch)| batch) {
            let at = out.len() as u64;
            page::frame(&mut out, at, record, *flags);
        }
        let path = segment::path(&self.dir, w.segment);
        w.file.append(&out).map_err(Error::io("writing", &path))?;
        w.offset = out.len() as u64;
        w.file.sync_data().map_err(Error::io("syncing", &path))?;
        w.forget_unsynced(Position { segment: w.segment, offset: u64::MAX });
        Ok(())
    }

    /// Returns when everything before `position` is on disk. Of several callers one syncs for all that wait.
    pub fn sync_to(&self, position: Position) -> Result<(), Error> {
        let mut s = lock(&self.sync);
        loop {
            if let Some(why) = &s.failed {
                return Err(Error::Poisoned(why.clone()));
            }
            if s.upto >= position {
                return Ok(());
            }
            if !s.running {
                break;
            }
            s = self.synced.wait(s).unwrap_or_else(PoisonError::into_inner);
        }
        s.running = true;
        drop(s);
        let (file, upto) = {
            let w = lock(&self.writer);
            (Arc::clone(&w.file), Position { segment: w.segment, offset: w.offset })
        };
        let started = std::time::Instant::now();
        let result = file.sync_data(); // earlier segments were synced when they were closed
        self.stats.syncs.fetch_add(1, Ordering::Relaxed);
        self.stats.sync_nanos.fetch_add(started.elapsed().as_nanos() as u64, Ordering::Relaxed);
        if let Some(seconds) = self.stats.fsync.get() {
            seconds.observe_duration(started.elapsed());
        }
        let result = self.synced_or_rescued(result, &file, upto);
        let mut s = lock(&self.sync);
        s.running = false;
        let result = match result {
            Ok(upto) => {
                s.upto = s.upto.max(upto);
                Ok(())
            }
            Err(e) => {
                s.failed = Some(e.to_string());
                Err(e)
            }
        };
        drop(s);
        self.synced.notify_all();
        result
    }

    /// How far everything is on disk, after a sync of `file` ended with `result`.
    fn synced_or_rescued(
        &self,
        result: std::io::Result<()>,
        file: &Arc<dyn File>,
        upto: Position,
    ) -> Result<Position, Error> {
        let mut w = lock(&self.writer);
        let Err(e) = result else {
            w.forget_unsynced(upto);
            return Ok(upto);
        };
        let failure = Error::io("syncing", &segment::path(&self.dir, upto.segment))(e);
        if Arc::ptr_eq(&w.file, file) {
            self.rescue(&mut w, failure)?;
        } else if let Some(why) = &w.poisoned {
            return Err(Error::Poisoned(why.clone()));
        }
        // The segment was closed meanwhile: that synced it, or rescued what was in it.
        Ok(upto)
    }

    /// Syncs whatever was written and not yet synced.
    pub fn sync(&self) -> Result<(), Error> {
        self.sync_to(self.position())
    }
}

fn create(fs: &dyn Fs, dir: &Path, number: u64) -> Result<Arc<dyn File>, Error> {
    let path = segment::path(dir, number);
    let file = fs.open(&path, Open::CreateNew).map_err(Error::io("creating", &path))?;
    fs.sync_dir(dir).map_err(Error::io("syncing", dir))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::super::reader::SegmentReader;
    use super::*;
    use ferula_fs::Faulty;
    use std::io::ErrorKind;

    fn read_all(fs: &Faulty) -> Vec<Vec<u8>> {
        let dir = Path::new("/wal");
        let mut out = Vec::new();
        for n in segment::list(fs, dir).unwrap() {
            let bytes = fs.read(&segment::path(dir, n)).unwrap();
            let mut r = SegmentReader::new(&bytes);
            let mut record = Vec::new();
            while r.next(&mut record) {
                out.push(record.clone());
            }
        }
        out
    }
    fn wal(fs: &Faulty, segment_bytes: u64) -> Wal {
        Wal::open(Arc::new(fs.clone()), Path::new("/wal"), segment_bytes).unwrap()
    }
    fn batch(i: u8) -> Vec<Packed> {
        vec![(vec![i; 300 + usize::from(i)], 0), (vec![i, 1], 0)]
    }

    #[test]
    fn segments_are_cut_and_a_restart_begins_a_new_one() {
        let fs = Faulty::default();
        let w = wal(&fs, 64 * 1024);
        for i in 0..250 {
            w.write(batch(i)).unwrap();
        }
        assert_eq!(w.position().segment, 1);
        drop(w);
        let w = wal(&fs, 64 * 1024);
        assert_eq!(w.position(), Position { segment: 2, offset: 0 });
        w.write(vec![(vec![9; 200_000], 0)]).unwrap(); // larger than a segment
        let got = read_all(&fs);
        assert_eq!(got.len(), 501);
        assert_eq!(got[498], vec![249; 549]);
    }

    #[test]
    fn a_failed_write_leaves_no_trace() {
        for fail in 0..40 {
            let fs = Faulty::new(fail);
            let w = wal(&fs, 64 * 1024);
            fs.fail_at(fs.operations() + fail, ErrorKind::Other);
            let mut want = Vec::new();
            for i in 0..30 {
                match w.write(batch(i)) {
                    Ok(_) => want.extend(batch(i).into_iter().map(|p| p.0)),
                    Err(e) => assert!(e.to_string().contains("injected"), "{e}"),
                }
            }
            assert_eq!(read_all(&fs), want);
        }
    }

    #[test]
    fn a_full_disk_is_survived_and_recovers() {
        let fs = Faulty::default();
        let w = wal(&fs, 0);
        w.write(batch(1)).unwrap();
        fs.set_capacity(fs.used_bytes() + 100);
        assert!(w.write(batch(2)).unwrap_err().is_disk_full());
        fs.set_capacity(u64::MAX);
        w.write(batch(3)).unwrap();
        assert_eq!(read_all(&fs).len(), 4);
    }

    #[test]
    fn what_was_synced_survives_a_crash() {
        let fs = Faulty::default();
        let w = wal(&fs, 64 * 1024);
        fs.sync_dir(Path::new("/")).unwrap();
        for i in 0..200 {
            let p = w.write(batch(i)).unwrap();
            if i == 120 {
                w.sync_to(p).unwrap();
            }
        }
        for seed in 0..30 {
            let got = read_all(&fs.crash_image(seed));
            assert!(got.len() >= 242, "{}", got.len());
        }
    }

    #[test]
    fn one_failed_sync_is_made_good() {
        let fs = Faulty::default();
        let w = wal(&fs, 0);
        fs.sync_dir(Path::new("/")).unwrap();
        w.sync_to(w.write(batch(1)).unwrap()).unwrap();
        w.write(batch(2)).unwrap();
        let p = w.write(batch(3)).unwrap();
        fs.fail_at(fs.operations(), ErrorKind::Other);
        w.sync_to(p).unwrap();
        assert_eq!(w.position().segment, 1);
        w.write(batch(4)).unwrap();
        for seed in 0..20 {
            let got = read_all(&fs.crash_image(seed));
            for i in 1..=3 {
                assert!(batch(i).iter().all(|(r, _)| got.contains(r)), "batch {i} is lost");
            }
        }
    }

    #[test]
    fn a_failed_sync_poisons() {
        let fs = Faulty::default();
        let w = wal(&fs, 0);
        let p = w.write(batch(1)).unwrap();
        fs.fail_syncs(true);
        assert!(w.sync_to(p).is_err());
        fs.fail_syncs(false);
        assert!(matches!(w.sync_to(p), Err(Error::Poisoned(_))));
        assert!(matches!(w.write(batch(1)), Err(Error::Poisoned(_))));
    }
}
