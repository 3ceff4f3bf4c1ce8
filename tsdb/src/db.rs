//! The store: one data directory, locked, its head, its log and its threads.
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use ferula_fs::{Fs, Lock};
use ferula_instrument::Registry;
use ferula_model::Clock;
use ferula_storage::{Appendable, Appender, Querier, Queryable, StorageError};

use crate::error::Error;
use crate::format::names;
use crate::head::Head;
use crate::head::append::HeadAppender;
use crate::options::Options;
use crate::query::head_querier::HeadQuerier;
use crate::replay;
use crate::status::{HeadStats, TsdbStatus};
use crate::wal::Wal;

/// What scrapes write is synced this much later at most.
const SYNC_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Db {
    dir: PathBuf,
    head: Arc<Head>,
    wal: Arc<Wal>,
    stop: Arc<Stop>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<Lock>>,
    closed: AtomicBool,
}

/// Tells the threads to end.
#[derive(Debug, Default)]
struct Stop {
    stopped: Mutex<bool>,
    signal: Condvar,
}

impl Stop {
    fn stop(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.signal.notify_all();
    }
    /// Waits; `false` once stopped.
    fn wait(&self, at_most: Duration) -> bool {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let (stopped, _) =
            self.signal.wait_timeout_while(stopped, at_most, |s| !*s).unwrap_or_else(PoisonError::into_inner);
        !*stopped
    }
}

impl Db {
    /// Locks the directory (creating it), replays the log into the head, and begins a new segment. Damage is moved to
    /// `quarantine/` and what is readable is used; only a locked or unwritable directory is an error, or damage when
    /// `options.strict_recovery` is set.
    pub fn open(
        dir: &Path,
        options: Options,
        fs: Arc<dyn Fs>,
        clock: Arc<dyn Clock>,
        registry: &Registry,
    ) -> Result<Arc<Db>, Error> {
        let unwritable = |source| Error::Unwritable { dir: dir.to_owned(), source: Arc::new(source) };
        fs.create_dir_all(dir).map_err(unwritable)?;
        let lock = fs.lock(&dir.join(names::LOCK)).map_err(|e| match e.kind() {
            ErrorKind::WouldBlock => Error::Locked { dir: dir.to_owned() },
            _ => unwritable(e),
        })?;
        let wal_dir = dir.join(names::WAL);
        fs.create_dir_all(&wal_dir).map_err(unwritable)?;
        fs.sync_dir(ferula_fs::parent(dir)).map_err(Error::io("syncing", ferula_fs::parent(dir)))?;
        let mut head = Head::new(&options, None);
        let report = replay::replay(&*fs, dir, &wal_dir, &head, &options, &*clock)?;
        tracing::info!(?report, series = head.series_count(), "the write-ahead log has been replayed");
        let wal = Arc::new(Wal::open(Arc::clone(&fs), &wal_dir, options.wal_segment_size_bytes)?);
        head.wal = Some(Arc::clone(&wal));
        let head = Arc::new(head);
        crate::metrics::register(registry, &head, &wal);
        let db = Arc::new(Db {
            dir: dir.to_owned(),
            head,
            wal,
            stop: Arc::default(),
            threads: Mutex::default(),
            lock: Mutex::new(Some(lock)),
            closed: AtomicBool::new(false),
        });
        if options.background {
            db.start_threads()?;
        }
        Ok(db)
    }

    fn start_threads(&self) -> Result<(), Error> {
        let (stop, wal) = (Arc::clone(&self.stop), Arc::clone(&self.wal));
        let sync = move || {
            while stop.wait(SYNC_EVERY) {
                // A failure is logged where it happens and stops all writing.
                let _ = wal.sync();
            }
        };
        let thread = std::thread::Builder::new().name("tsdb-wal-sync".to_owned()).spawn(sync);
        let thread = thread.map_err(|e| Error::Invalid(format!("starting a thread: {e}")))?;
        self.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        Ok(())
    }

    /// Stops the threads, syncs the log and releases the directory. Later appends fail, queries go on.
    pub fn close(&self) -> Result<(), Error> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.stop.stop();
        for t in std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner)) {
            if t.join().is_err() {
                tracing::error!("a thread of the store has panicked");
            }
        }
        let result = self.wal.sync();
        drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner).take());
        result
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }
    pub fn head(&self) -> &Arc<Head> {
        &self.head
    }
    pub fn wal(&self) -> &Wal {
        &self.wal
    }
    pub fn head_stats(&self) -> HeadStats {
        HeadStats::of(&self.head)
    }
    /// What `/api/v1/status/tsdb` shows: the `limit` largest of each kind.
    pub fn status(&self, limit: usize) -> TsdbStatus {
        TsdbStatus::of(&self.head, limit)
    }
    /// Time of the oldest sample, or `None` while there is none.
    pub fn min_time(&self) -> Option<i64> {
        self.head.is_initialised().then(|| self.head.min_time())
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

impl Appendable for Db {
    fn appender(&self) -> Box<dyn Appender + '_> {
        Box::new(HeadAppender::new(&self.head))
    }
}

impl Queryable for Db {
    fn querier(&self, mint_ms: i64, maxt_ms: i64) -> Result<Box<dyn Querier>, StorageError> {
        Ok(Box::new(HeadQuerier::new(Arc::clone(&self.head), mint_ms, maxt_ms)))
    }
    fn generation(&self) -> u64 {
        self.head.generation()
    }
}
