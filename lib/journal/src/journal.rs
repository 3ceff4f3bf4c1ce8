//! The journal: a folder of numbered segments, one of them open for appending.
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use ferula_fs::{File, Fs, Open};

use crate::Error;
use crate::format::{MAGIC, frame};
use crate::reader::{Damage, scan};

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Longest record taken and believed.
    pub record_bytes_max: usize,
}
impl Default for Options {
    fn default() -> Self {
        Options { record_bytes_max: 16 << 20 }
    }
}

/// Names a segment; later ones are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentId(u64);

/// An appended record, to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    pub records: u64,
    pub damage: Vec<Damage>,
}

/// An open journal. Shared by reference between threads.
#[derive(Debug)]
pub struct Journal {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    options: Options,
    state: Mutex<State>,
    synced: Condvar,
}

#[derive(Debug)]
struct State {
    segment: u64,
    file: Arc<dyn File>,
    size_bytes: u64,
    appended: u64,
    durable: u64,
    is_syncing: bool,
    /// Frames that no sync has covered, oldest first: what a failed sync would lose.
    unsynced: VecDeque<(u64, Vec<u8>)>,
    poison: Option<String>,
}

fn name(segment: u64) -> String {
    format!("{segment:08}.journal")
}

fn at(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
    move |source| Error::Io { path: path.to_owned(), source }
}

impl Journal {
    /// Reads what `dir` holds, handing every record to `on_record` in the order of appending, and begins a new segment.
    /// Damaged segments are repaired, their originals kept. Fails only where the folder cannot be read or written.
    pub fn open(
        fs: Arc<dyn Fs>,
        dir: &Path,
        options: Options,
        mut on_record: impl FnMut(&[u8]),
    ) -> Result<(Journal, Recovered), Error> {
        fs.create_dir_all(dir).map_err(at(dir))?;
        // The folder's own name must be durable, and those of folders made on the way to it; far above, folders may be
        // closed to us, and then were not made by us.
        fs.sync_dir(ferula_fs::parent(dir)).map_err(at(dir))?;
        for above in dir.ancestors().skip(2).filter(|a| !a.as_os_str().is_empty()) {
            let _ = fs.sync_dir(above);
        }
        let mut recovered = Recovered::default();
        let mut last = 0;
        for entry in fs.list(dir).map_err(at(dir))? {
            let number = entry.name.strip_suffix(".journal").and_then(|n| n.parse::<u64>().ok());
            let Some(number) = number.filter(|_| !entry.is_dir) else { continue };
            last = last.max(number);
            read_segment(&*fs, dir, &entry.name, options, &mut on_record, &mut recovered)?;
        }
        let (segment, file) = create(&*fs, dir, last + 1)?;
        let state = State {
            segment,
            file,
            size_bytes: MAGIC.len() as u64,
            appended: 0,
            durable: 0,
            is_syncing: false,
            unsynced: VecDeque::new(),
            poison: None,
        };
        let journal = Journal { fs, dir: dir.to_owned(), options, state: Mutex::new(state), synced: Condvar::new() };
        Ok((journal, recovered))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a record. It is durable once [`Journal::sync`] has returned for its ticket; order is kept.
    pub fn append(&self, payload: &[u8]) -> Result<Ticket, Error> {
        if payload.len() > self.options.record_bytes_max {
            return Err(Error::TooLarge { size_bytes: payload.len(), limit_bytes: self.options.record_bytes_max });
        }
        let mut bytes = Vec::new();
        frame(payload, &mut bytes);
        let mut state = self.state();
        if let Some(why) = &state.poison {
            return Err(Error::Poisoned(why.clone()));
        }
        if let Err(source) = state.file.append(&bytes) {
            let path = self.dir.join(name(state.segment));
            // Whatever got through is no record; the reader would step over it, but clean is better.
            if let Err(e) = state.file.truncate(state.size_bytes) {
                tracing::warn!(path = %path.display(), error = %e, "A torn journal record could not be cut off");
            }
            return Err(Error::Io { path, source });
        }
        state.size_bytes += bytes.len() as u64;
        state.appended += 1;
        let ticket = state.appended;
        state.unsynced.push_back((ticket, bytes));
        Ok(Ticket(ticket))
    }

    /// Returns when the record, and all before it, are durable. Callers that wait together share one sync.
    pub fn sync(&self, ticket: Ticket) -> Result<(), Error> {
        let mut state = self.state();
        loop {
            if state.durable >= ticket.0 {
                return Ok(());
            }
            if let Some(why) = &state.poison {
                return Err(Error::Poisoned(why.clone()));
            }
            if state.is_syncing {
                state = self.synced.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.is_syncing = true;
            let (file, target, segment) = (state.file.clone(), state.appended, state.segment);
            drop(state);
            let result = file.sync_data();
            state = self.state();
            state.is_syncing = false;
            match result {
                Ok(()) => state.is_durable(target),
                // A rotation meanwhile made the same records durable elsewhere.
                Err(_) if state.durable >= target => {}
                Err(e) => self.rewrite_tail(&mut state, segment, &e),
            }
            self.synced.notify_all();
        }
    }

    /// After a failed sync the file's unsynced bytes cannot be trusted, whatever a later sync says: they are written to
    /// a new segment.
    fn rewrite_tail(&self, state: &mut State, failed: u64, error: &io::Error) {
        tracing::error!(segment = failed, %error, "Journal sync failed, rewriting the unsynced tail to a new segment");
        let attempt = || -> Result<(u64, Arc<dyn File>, u64), Error> {
            let (segment, file) = create(&*self.fs, &self.dir, state.segment + 1)?;
            let path = self.dir.join(name(segment));
            let mut size = MAGIC.len() as u64;
            for (_, bytes) in &state.unsynced {
                file.append(bytes).map_err(at(&path))?;
                size += bytes.len() as u64;
            }
            file.sync_data().map_err(at(&path))?;
            Ok((segment, file, size))
        };
        match attempt() {
            Ok((segment, file, size_bytes)) => {
                (state.segment, state.file, state.size_bytes) = (segment, file, size_bytes);
                let all = state.appended;
                state.is_durable(all);
            }
            Err(e) => state.poison = Some(e.to_string()),
        }
    }

    /// Begins a new segment, with everything before it durable. Records appended from now on are in it or later ones.
    pub fn rotate(&self) -> Result<SegmentId, Error> {
        let mut state = self.state();
        if let Some(why) = &state.poison {
            return Err(Error::Poisoned(why.clone()));
        }
        if let Err(e) = state.file.sync_data() {
            let failed = state.segment;
            self.rewrite_tail(&mut state, failed, &e);
            if let Some(why) = &state.poison {
                return Err(Error::Poisoned(why.clone()));
            }
        }
        let all = state.appended;
        state.is_durable(all);
        let (segment, file) = create(&*self.fs, &self.dir, state.segment + 1)?;
        (state.segment, state.file, state.size_bytes) = (segment, file, MAGIC.len() as u64);
        self.synced.notify_all();
        Ok(SegmentId(segment))
    }

    /// Drops all segments before `segment`: what they hold is safe elsewhere.
    pub fn remove_before(&self, segment: SegmentId) -> Result<(), Error> {
        for entry in self.fs.list(&self.dir).map_err(at(&self.dir))? {
            let number = entry.name.strip_suffix(".journal").and_then(|n| n.parse::<u64>().ok());
            if number.is_some_and(|n| n < segment.0) {
                let path = self.dir.join(&entry.name);
                self.fs.remove_file(&path).map_err(at(&path))?;
            }
        }
        self.fs.sync_dir(&self.dir).map_err(at(&self.dir))
    }
}

impl State {
    fn is_durable(&mut self, ticket: u64) {
        self.durable = self.durable.max(ticket);
        while self.unsynced.front().is_some_and(|(t, _)| *t <= self.durable) {
            self.unsynced.pop_front();
        }
    }
}

/// A new segment with its header and its name durable. A number that is taken (by a crash in between) is skipped.
fn create(fs: &dyn Fs, dir: &Path, mut segment: u64) -> Result<(u64, Arc<dyn File>), Error> {
    loop {
        let path = dir.join(name(segment));
        match fs.open(&path, Open::CreateNew) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => segment += 1,
            Err(e) => return Err(at(&path)(e)),
            Ok(file) => {
                file.append(MAGIC).map_err(at(&path))?;
                file.sync_data().map_err(at(&path))?;
                fs.sync_dir(dir).map_err(at(dir))?;
                return Ok((segment, file));
            }
        }
    }
}

fn read_segment(
    fs: &dyn Fs,
    dir: &Path,
    file: &str,
    options: Options,
    on_record: &mut impl FnMut(&[u8]),
    recovered: &mut Recovered,
) -> Result<(), Error> {
    let path = dir.join(file);
    let bytes = fs.map(&path).map_err(at(&path))?;
    let mut damage = Vec::new();
    let mut good: Vec<&[u8]> = Vec::new();
    scan(
        &bytes,
        options.record_bytes_max,
        |record| good.push(record),
        |offset, size, reason| {
            damage.push(Damage { segment: file.to_owned(), offset: offset as u64, size_bytes: size as u64, reason });
        },
    );
    recovered.records += good.len() as u64;
    for record in &good {
        on_record(record);
    }
    if !damage.is_empty() {
        quarantine(fs, dir, file, &damage)?;
        let mut repaired = MAGIC.to_vec();
        for record in &good {
            frame(record, &mut repaired);
        }
        fs.write_atomically(&path, &repaired).map_err(at(&path))?;
    }
    for d in &damage {
        tracing::warn!(
            segment = d.segment,
            offset = d.offset,
            bytes = d.size_bytes,
            reason = d.reason,
            "Journal damage stepped over"
        );
    }
    recovered.damage.append(&mut damage);
    Ok(())
}

/// Keeps the original beside a report, under a name that is free.
fn quarantine(fs: &dyn Fs, dir: &Path, file: &str, damage: &[Damage]) -> Result<(), Error> {
    let folder = dir.join("quarantine");
    fs.create_dir_all(&folder).map_err(at(&folder))?;
    let mut n = 0;
    let kept = loop {
        let kept = folder.join(format!("{file}.{n}"));
        if !fs.exists(&kept) {
            break kept;
        }
        n += 1;
    };
    fs.hard_link(&dir.join(file), &kept).map_err(at(&kept))?;
    fs.sync_dir(&folder).and_then(|()| fs.sync_dir(dir)).map_err(at(&folder))?;
    let lines: Vec<String> =
        damage.iter().map(|d| format!("offset {} bytes {}: {}\n", d.offset, d.size_bytes, d.reason)).collect();
    let mut report = kept.clone().into_os_string();
    report.push(".report");
    let report = PathBuf::from(report);
    fs.write_atomically(&report, lines.concat().as_bytes()).map_err(at(&report))
}
