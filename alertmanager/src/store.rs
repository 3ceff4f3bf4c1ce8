//! Silences, the notification log and alerts on disk.
//!
//! ```text
//! <storage.path>/silences, nflog   upstream's snapshots: length-delimited protobuf, read at start, rewritten at
//!                                  maintenance and at a clean stop, so that the folder can be taken over and handed back
//! <storage.path>/alerts, groups    our own snapshots of alerts and of the timers of their groups
//! <storage.path>/journal/          what is newer than the snapshots
//! <storage.path>/quarantine/       damaged snapshots, kept
//! ```
//!
//! A record of the journal is one kind byte and what a snapshot holds for one entry. Reading merges, so a record that
//! is also in a snapshot does no harm.
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferula_fs::{Disk, Fs, Lock};
use ferula_journal::{Journal, Ticket};
use ferula_model::Clock;

use crate::alert::Alert;
use crate::core::{Core, GroupTimer, LogChange};
use crate::metrics::Metrics;
use crate::silence::Silence;

mod encode;

pub(crate) use encode::{delimit, delimited};

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("{path} is in use by another process")]
    InUse { path: PathBuf },
    #[error(transparent)]
    Journal(#[from] ferula_journal::Error),
}

const SILENCE: u8 = 1;
const LOG_ENTRY: u8 = 2;
const ALERT: u8 = 3;
/// Several alerts, delimited as in a snapshot: what one request changed, in one write.
const ALERTS: u8 = 4;
const GROUP: u8 = 5;

/// One record of alerts is closed when it reaches this size.
const ALERTS_BYTES: usize = 1 << 20;

/// What a snapshot takes from the core.
pub struct State {
    pub silences: Vec<Arc<Silence>>,
    pub log: Vec<LogChange>,
    pub alerts: Vec<Arc<Alert>>,
    pub groups: Vec<GroupTimer>,
}

/// What is in the file but perhaps not on the disk; the journal holds its bytes in memory until then.
#[derive(Clone, Copy, Debug)]
pub struct Unsynced {
    last: Ticket,
    pub size_bytes: usize,
}

impl Unsynced {
    fn after(before: Option<Unsynced>, last: Ticket, size_bytes: usize) -> Option<Unsynced> {
        Unsynced::join(before, Some(Unsynced { last, size_bytes }))
    }
    /// Both together.
    pub fn join(a: Option<Unsynced>, b: Option<Unsynced>) -> Option<Unsynced> {
        match (a, b) {
            (Some(a), Some(b)) => Some(Unsynced { last: a.last.max(b.last), size_bytes: a.size_bytes + b.size_bytes }),
            (a, b) => a.or(b),
        }
    }
}

#[derive(Debug)]
pub struct Store {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    journal: Journal,
    retention_ms: i64,
    _lock: Lock,
}

fn at(path: &Path) -> impl Fn(io::Error) -> StoreError + '_ {
    move |source| StoreError::Io { path: path.to_owned(), source }
}

impl Store {
    /// Reads everything into the core. Damage is stepped over, reported and kept; only a folder that cannot be used at
    /// all is an error.
    pub fn open(dir: &Path, retention_ms: i64, core: &mut Core, now_ms: i64) -> Result<Store, StoreError> {
        Store::open_on(Arc::new(Disk), dir, retention_ms, core, now_ms)
    }

    pub(crate) fn open_on(
        fs: Arc<dyn Fs>,
        dir: &Path,
        retention_ms: i64,
        core: &mut Core,
        now_ms: i64,
    ) -> Result<Store, StoreError> {
        fs.create_dir_all(dir).map_err(at(dir))?;
        let lock_path = dir.join("lock");
        let lock = fs.lock(&lock_path).map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => StoreError::InUse { path: dir.to_owned() },
            _ => at(&lock_path)(e),
        })?;
        let mut damaged = 0usize;
        for (name, kind) in [("silences", SILENCE), ("nflog", LOG_ENTRY), ("alerts", ALERT), ("groups", GROUP)] {
            let path = dir.join(name);
            let bytes = match fs.read(&path) {
                Ok(b) => b,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(at(&path)(e)),
            };
            let mut bad = 0;
            for message in delimited(&bytes) {
                let taken = message.and_then(|m| take(core, &record(kind, m), retention_ms, now_ms));
                bad += usize::from(taken.is_none());
                if taken.is_none() && kind == SILENCE && message.is_some_and(encode::is_silence) {
                    core.metrics().silences_uncompiled.inc();
                }
            }
            if bad > 0 {
                quarantine(&*fs, dir, name)?;
                tracing::warn!(file = %path.display(), bad, "A damaged snapshot was kept in quarantine; its readable entries are in use");
            }
        }
        let (journal, recovered) =
            Journal::open(fs.clone(), &dir.join("journal"), ferula_journal::Options::default(), |record| {
                damaged += usize::from(take(core, record, retention_ms, now_ms).is_none());
            })?;
        if damaged > 0 || !recovered.damage.is_empty() {
            tracing::warn!(unknown = damaged, damage = recovered.damage.len(), "The journal was read with gaps");
        }
        Ok(Store { fs, dir: dir.to_owned(), journal, retention_ms, _lock: lock })
    }

    fn append(&self, kind: u8, message: &[u8]) -> Result<Ticket, StoreError> {
        Ok(self.journal.append(&record(kind, message))?)
    }

    /// Returns when the entries are durable.
    pub fn write_log(&self, changes: &[LogChange]) -> Result<(), StoreError> {
        let mut last = None;
        for (key, entry) in changes {
            last = Some(self.append(LOG_ENTRY, &encode::log_entry(key, entry))?);
        }
        last.map_or(Ok(()), |ticket| Ok(self.journal.sync(ticket)?))
    }

    /// Returns when the silences are durable.
    pub fn write_silences(&self, changes: &[Arc<Silence>]) -> Result<(), StoreError> {
        let mut last = None;
        for silence in changes {
            last = Some(self.append(SILENCE, &encode::silence(silence, self.retention_ms))?);
        }
        last.map_or(Ok(()), |ticket| Ok(self.journal.sync(ticket)?))
    }

    /// Alerts that are new or changed: in the file at once, so a crash of the process loses none; durable with the next
    /// sync of anything, or by [`Store::sync`].
    pub fn write_alerts(&self, changes: &[Arc<Alert>]) -> Result<Option<Unsynced>, StoreError> {
        let mut last = None;
        let mut rest = changes;
        while !rest.is_empty() {
            let mut size = 0;
            let fits = rest.iter().take_while(|a| {
                let is_first = size == 0;
                size += encode::alert_size(a) + 5;
                is_first || size <= ALERTS_BYTES
            });
            let (some, more) = rest.split_at_checked(fits.count()).unwrap_or((rest, &[]));
            let mut record = Vec::with_capacity(1 + size.min(2 * ALERTS_BYTES));
            record.push(ALERTS);
            encode::delimited_alerts(some.iter().map(|a| &**a), &mut record);
            last = Unsynced::after(last, self.journal.append(&record)?, record.len());
            rest = more;
        }
        Ok(last)
    }

    /// Timers of groups: in the file at once, durable as alerts are.
    pub fn write_groups(&self, changes: &[GroupTimer]) -> Result<Option<Unsynced>, StoreError> {
        let mut last = None;
        for timer in changes {
            let message = encode::group(timer);
            last = Unsynced::after(last, self.append(GROUP, &message)?, message.len());
        }
        Ok(last)
    }

    pub fn sync(&self, unsynced: Unsynced) -> Result<(), StoreError> {
        Ok(self.journal.sync(unsynced.last)?)
    }

    /// Writes the snapshots anew and drops the part of the journal they make superfluous.
    pub fn snapshot(&self, metrics: &Metrics, clock: &dyn Clock, state: impl FnOnce() -> State) {
        metrics.silences_maintenance.inc();
        metrics.nflog_maintenance.inc();
        let attempt = || -> Result<(), StoreError> {
            // What is appended from here on is in the new segment; what came before is in the core's state.
            let segment = self.journal.rotate()?;
            let state = state();
            let silences: Vec<Vec<u8>> = state.silences.iter().map(|s| encode::silence(s, self.retention_ms)).collect();
            let log: Vec<Vec<u8>> = state.log.iter().map(|(k, e)| encode::log_entry(k, e)).collect();
            let alerts: Vec<Vec<u8>> = state.alerts.iter().map(|a| encode::alert(a)).collect();
            let groups: Vec<Vec<u8>> = state.groups.iter().map(encode::group).collect();
            for (name, messages, told) in [
                ("silences", silences, Some((&metrics.silences_snapshot_size, &metrics.silences_snapshot))),
                ("nflog", log, Some((&metrics.nflog_snapshot_size, &metrics.nflog_snapshot))),
                ("alerts", alerts, None),
                ("groups", groups, None),
            ] {
                let (path, started) = (self.dir.join(name), clock.monotonic());
                let bytes = delimit(&messages);
                self.fs.write_atomically(&path, &bytes).map_err(at(&path))?;
                if let Some((size, duration)) = told {
                    size.set(bytes.len() as f64);
                    duration.observe_duration(clock.monotonic().saturating_sub(started));
                }
            }
            Ok(self.journal.remove_before(segment)?)
        };
        if let Err(e) = attempt() {
            metrics.silences_maintenance_errors.inc();
            metrics.nflog_maintenance_errors.inc();
            tracing::error!(error = %e, "Writing snapshots failed, the journal keeps what they would hold");
        }
    }
}

/// One record of the journal, as it also travels between members of a cluster.
pub(crate) enum Entry {
    Silence(Silence),
    Log(LogChange),
    Alerts(Vec<Alert>),
    Group(GroupTimer),
}

impl Entry {
    /// None for what is none.
    pub(crate) fn read(record: &[u8]) -> Option<Entry> {
        let (kind, message) = record.split_first()?;
        Some(match *kind {
            SILENCE => Entry::Silence(encode::read_silence(message)?),
            LOG_ENTRY => Entry::Log(encode::read_log_entry(message)?),
            ALERT => Entry::Alerts(vec![encode::read_alert(message)?]),
            ALERTS => {
                Entry::Alerts(delimited(message).map(|one| encode::read_alert(one?)).collect::<Option<Vec<_>>>()?)
            }
            GROUP => Entry::Group(encode::read_group(message)?),
            _ => return None,
        })
    }
}

fn record(kind: u8, message: &[u8]) -> Vec<u8> {
    let mut record = Vec::with_capacity(1 + message.len());
    record.push(kind);
    record.extend_from_slice(message);
    record
}

/// Records for peers.
pub(crate) fn silence_record(silence: &Silence, retention_ms: i64) -> Vec<u8> {
    record(SILENCE, &encode::silence(silence, retention_ms))
}
pub(crate) fn log_record((key, entry): &LogChange) -> Vec<u8> {
    record(LOG_ENTRY, &encode::log_entry(key, entry))
}
pub(crate) fn alert_record(alert: &Alert) -> Vec<u8> {
    record(ALERT, &encode::alert(alert))
}

/// Gives one entry to the core; None if it is not one. What has expired meanwhile is dropped in silence.
fn take(core: &mut Core, record: &[u8], retention_ms: i64, now_ms: i64) -> Option<()> {
    match Entry::read(record)? {
        Entry::Silence(silence) => {
            if silence.ends_at_ms.saturating_add(retention_ms) > now_ms {
                core.silences.merge(silence);
            }
        }
        Entry::Log((key, entry)) => {
            if entry.expires_at_ms > now_ms {
                core.nflog.merge(key, entry);
            }
        }
        Entry::Alerts(alerts) => alerts.into_iter().for_each(|a| core.restore(a)),
        Entry::Group(timer) => core.restore_timer(timer),
    }
    Some(())
}

fn quarantine(fs: &dyn Fs, dir: &Path, name: &str) -> Result<(), StoreError> {
    let folder = dir.join("quarantine");
    fs.create_dir_all(&folder).map_err(at(&folder))?;
    let kept = (0..u32::MAX).map(|n| folder.join(format!("{name}.{n}"))).find(|p| !fs.exists(p));
    let kept = kept.unwrap_or_else(|| folder.join(name));
    fs.hard_link(&dir.join(name), &kept).map_err(at(&kept))?;
    fs.sync_dir(&folder).map_err(at(&folder))
}

#[cfg(test)]
mod tests;
