//! The store: one data directory, locked, its head, its log and its threads.
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError, RwLock, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use ferula_fs::{Fs, Lock};
use ferula_instrument::Registry;
use ferula_model::Clock;
use ferula_storage::merge::MergeQuerier;
use ferula_storage::{Annotations, Appendable, Appender, Querier, Queryable, StorageError};

use crate::block::Block;
use crate::error::Error;
use crate::format::names;
use crate::head::Head;
use crate::head::append::HeadAppender;
use crate::head::head_chunks::HeadChunks;
use crate::maintenance::load_blocks;
use crate::options::Options;
use crate::query::block_querier::{BlockQuerier, WarningQuerier};
use crate::query::head_querier::HeadQuerier;
use crate::query::pending::PendingQuerier;
use crate::replay::{self, Plan, Report};
use crate::restart::{self, RestartIndex};
use crate::retention::Limits;
use crate::space::Space;
use crate::status::{HeadStats, TsdbStatus};
use crate::wal::Wal;

/// What scrapes write is synced this much later at most.
const SYNC_EVERY: Duration = Duration::from_secs(1);
const COMPACT_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Db {
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) head: Arc<Head>,
    pub(crate) wal: Arc<Wal>,
    /// In order of time.
    pub(crate) blocks: RwLock<Arc<[Arc<Block>]>>,
    pub(crate) block_generation: AtomicU64,
    pub(crate) bad_blocks: RwLock<Vec<BadBlock>>,
    /// What a reload may change.
    pub limits: Limits,
    pub space: Arc<Space>,
    replay_report: Arc<OnceLock<Report>>,
    pub(crate) restart_index: Arc<RestartIndex>,
    series_from_index: Option<u64>,
    /// For queriers that wait.
    me: Weak<Db>,
    auto_compaction: AtomicBool,
    /// Held while blocks are made or removed.
    pub(crate) compacting: Mutex<()>,
    pub(crate) counts: Arc<Counts>,
    pub(crate) stop: Arc<Stop>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    lock: Mutex<Option<Lock>>,
    closed: AtomicBool,
}

/// A block that could not be opened: queries of its range (of any range, if that is unknown) carry a warning.
#[derive(Clone, Debug)]
pub struct BadBlock {
    pub dir: PathBuf,
    pub error: Error,
    /// Half open.
    pub range: Option<(i64, i64)>,
}

/// Counted by maintenance, read by the metrics.
#[derive(Debug, Default)]
pub struct Counts {
    pub compactions: AtomicU64,
    pub compactions_triggered: AtomicU64,
    pub compactions_failed: AtomicU64,
    pub checkpoints: AtomicU64,
    pub checkpoints_failed: AtomicU64,
    pub wal_truncations: AtomicU64,
    pub wal_truncations_failed: AtomicU64,
    pub checkpoint_deletions: AtomicU64,
    pub checkpoint_deletions_failed: AtomicU64,
    pub vertical_compactions: AtomicU64,
    /// Bits of the seconds the start's replay took.
    pub replay_seconds: AtomicU64,
    pub wal_corruptions: AtomicU64,
    pub time_retentions: AtomicU64,
    pub size_retentions: AtomicU64,
    /// Looks at the folder for blocks that came or went.
    pub reloads: AtomicU64,
    pub reloads_failed: AtomicU64,
    pub compactions_skipped: AtomicU64,
    pub head_truncations_failed: AtomicU64,
    pub head_chunk_corruptions: AtomicU64,
    pub snapshot_errors: AtomicU64,
    pub stale_series_released: AtomicU64,
}

impl Counts {
    fn note_replay(&self, report: &Report, took: Duration) {
        self.replay_seconds.store(took.as_secs_f64().to_bits(), Ordering::Relaxed);
        self.wal_corruptions.store(report.damaged.len() as u64, Ordering::Relaxed);
        self.head_chunk_corruptions.store(report.damaged_head_chunks as u64, Ordering::Relaxed);
        self.snapshot_errors.store(u64::from(report.snapshot_error.is_some()), Ordering::Relaxed);
    }
}

/// Records in one write.
const RESCUED_AT_ONCE: usize = 64;

/// Puts into the log what only a chunk snapshot had, durably.
fn log_rescued(wal: &Wal, records: Vec<Vec<u8>>) -> Result<(), Error> {
    let mut records = records.into_iter().peekable();
    while records.peek().is_some() {
        wal.write(records.by_ref().take(RESCUED_AT_ONCE).map(|r| (r, 0)).collect())?;
        if records.peek().is_none() {
            wal.sync()?;
        }
    }
    Ok(())
}

/// Tells the threads to end.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    stopped: Mutex<bool>,
    signal: Condvar,
}

impl Stop {
    fn stop(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.signal.notify_all();
    }
    fn is_stopped(&self) -> bool {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Waits; `false` once stopped.
    pub(crate) fn wait(&self, at_most: Duration) -> bool {
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
        let (blocks, bad_blocks) = load_blocks(&*fs, dir)?;
        if let Some(bad) = bad_blocks.first()
            && options.strict_recovery
        {
            return Err(bad.error.clone());
        }
        let mut head = Head::new(&options, None);
        let in_order = blocks.iter().filter(|b| !b.meta.is_out_of_order());
        if let Some(end) = in_order.map(|b| b.meta.max_time_ms).max() {
            head.set_min_valid_time(end);
        }
        let plan = Plan::new(&*fs, dir, &wal_dir, &options)?;
        head.chunks = Some(HeadChunks::open(Arc::clone(&fs), &dir.join(names::CHUNKS_HEAD))?);
        // Damage must show before anything is served, if it is to be fatal.
        let waits = options.strict_recovery || plan.has_snapshot();
        let known = if waits { None } else { restart::load::load(&*fs, dir, &wal_dir, &head)? };
        if let Some(known) = &known {
            plan.series_since(&*fs, &head, known.mark.bound.position)?;
        }
        let counts = Arc::<Counts>::default();
        counts.reloads.store(1, Ordering::Relaxed); // the blocks above
        let report = Arc::<OnceLock<Report>>::default();
        let at_once = known.is_none() || !options.background;
        let mut rescued = Vec::new();
        if at_once {
            let began = std::time::Instant::now();
            let (done, only_in_snapshot) = plan.run(&*fs, dir, &head, &options, &*clock, &|| true)?;
            rescued = only_in_snapshot;
            counts.note_replay(&done, began.elapsed());
            tracing::info!(report = ?done, series = head.series_count(), "the write-ahead log has been replayed");
            replay::write_recovery_report(&*fs, dir, &done, &bad_blocks, clock.now_ms());
            let _ = report.set(done); // only set here
        } else {
            head.start_deferring();
        }
        let wal = Arc::new(Wal::open(Arc::clone(&fs), &wal_dir, options.wal_segment_size_bytes)?);
        log_rescued(&wal, rescued)?;
        replay::move_foreign_state_aside(&*fs, dir, &wal_dir, clock.now_ms())?;
        head.wal = Some(Arc::clone(&wal));
        let wbl_dir = dir.join(names::WBL);
        if options.out_of_order_window_ms > 0 || fs.exists(&wbl_dir) {
            let _ = head.wbl.set(Arc::new(Wal::open(Arc::clone(&fs), &wbl_dir, options.wal_segment_size_bytes)?));
        }
        let space = Arc::new(Space::new(Arc::clone(&fs), dir, &options));
        head.space = Some(Arc::clone(&space));
        let head = Arc::new(head);
        let restart_index = Arc::new(RestartIndex::new(Arc::clone(&fs), dir.join(names::RESTART_INDEX)));
        let background = options.background;
        let limits = Limits::new(&options);
        let db = Arc::new_cyclic(|me| Db {
            dir: dir.to_owned(),
            options,
            fs,
            clock,
            head,
            wal,
            blocks: RwLock::new(blocks.into()),
            block_generation: AtomicU64::new(0),
            bad_blocks: RwLock::new(bad_blocks),
            limits,
            space,
            replay_report: report,
            restart_index,
            series_from_index: known.map(|k| k.series),
            me: Weak::clone(me),
            auto_compaction: AtomicBool::new(true),
            compacting: Mutex::default(),
            counts,
            stop: Arc::default(),
            threads: Mutex::default(),
            lock: Mutex::new(Some(lock)),
            closed: AtomicBool::new(false),
        });
        crate::metrics::register(registry, &db);
        crate::own_metrics::register(registry, &db);
        if background {
            db.start_threads()?;
            db.start_replay((!at_once).then_some(plan))?;
        } else {
            db.update_restart_index();
        }
        Ok(db)
    }

    /// Replays what is left to be replayed, then keeps the restart index up.
    fn start_replay(&self, plan: Option<Plan>) -> Result<(), Error> {
        let (head, wal, index) = (Arc::clone(&self.head), Arc::clone(&self.wal), Arc::clone(&self.restart_index));
        let (fs, dir, clock) = (Arc::clone(&self.fs), self.dir.clone(), Arc::clone(&self.clock));
        let (options, counts) = (self.options.clone(), Arc::clone(&self.counts));
        let (report, stop, bad_blocks) = (Arc::clone(&self.replay_report), Arc::clone(&self.stop), self.bad_blocks());
        self.spawn("tsdb-restart", move || {
            if let Some(plan) = plan {
                let began = std::time::Instant::now();
                let done = plan.run(&*fs, &dir, &head, &options, &*clock, &|| !stop.is_stopped());
                let took = began.elapsed();
                if stop.is_stopped() {
                    return; // what waits is in the log
                }
                let failure = done.as_ref().err().map(ToString::to_string);
                match done {
                    // There was no snapshot: then the start would have waited.
                    Ok((done, _)) => {
                        counts.note_replay(&done, took);
                        let series = head.series_count();
                        tracing::info!(report = ?done, series, "the write-ahead log has been replayed");
                        replay::write_recovery_report(&*fs, &dir, &done, &bad_blocks, clock.now_ms());
                        let _ = report.set(done); // only set here
                    }
                    Err(error) => {
                        tracing::error!(%error, "the write-ahead log could not be read; queries lack what it holds");
                    }
                }
                let is_whole = failure.is_none();
                if let Err(error) = head.stop_deferring(failure) {
                    tracing::error!(%error, "late samples could not be logged");
                }
                if !is_whole {
                    return; // an index would say that all is well
                }
            }
            let mut failed = false;
            let mut pause = Duration::ZERO;
            while stop.wait(pause) {
                pause = SYNC_EVERY;
                if let Err(error) = index.update(&head, &wal) {
                    if !std::mem::replace(&mut failed, true) {
                        tracing::warn!(%error, "the restart index cannot be written; a restart will read the whole log");
                    }
                    pause = COMPACT_EVERY;
                } else {
                    failed = false;
                }
            }
        })
    }

    /// Brings the restart index up to the log's end. It is a help: that it fails is only logged.
    pub fn update_restart_index(&self) {
        if self.head.is_replaying() || self.head.replay_failure().is_some() {
            return;
        }
        if let Err(error) = self.restart_index.update(&self.head, &self.wal) {
            tracing::warn!(%error, "the restart index cannot be written; a restart will read the whole log");
        }
    }

    /// Waits until the head holds everything that the log does. An error when it never will, or the store is closed.
    pub fn wait_until_replayed(&self) -> Result<(), Error> {
        while !self.head.wait_replayed(Duration::from_millis(50)) {
            if self.stop.is_stopped() {
                return Err(Error::Invalid("the store is being closed".to_owned()));
            }
        }
        match self.head.replay_failure() {
            Some(why) => Err(Error::Invalid(format!("the write-ahead log could not be read: {why}"))),
            None => Ok(()),
        }
    }

    /// Whether compaction and retention run by themselves. Switched off they are counted as skipped, once a minute.
    pub fn set_auto_compaction(&self, is_on: bool) {
        self.auto_compaction.store(is_on, Ordering::Release);
    }

    pub(crate) fn open_wbl(&self) -> Result<Arc<Wal>, Error> {
        let dir = self.dir.join(names::WBL);
        Ok(Arc::new(Wal::open(Arc::clone(&self.fs), &dir, self.options.wal_segment_size_bytes)?))
    }

    fn start_threads(self: &Arc<Self>) -> Result<(), Error> {
        let (stop, wal, head) = (Arc::clone(&self.stop), Arc::clone(&self.wal), Arc::clone(&self.head));
        let space = Arc::clone(&self.space);
        self.spawn("tsdb-wal-sync", move || {
            while stop.wait(SYNC_EVERY) {
                // A failure is logged where it happens and stops all writing.
                let _ = wal.sync();
                space.look();
                let _ = head.wbl.get().map(|w| w.sync());
            }
        })?;
        let (stop, db): (_, Weak<Db>) = (Arc::clone(&self.stop), Arc::downgrade(self));
        self.spawn("tsdb-compact", move || {
            while stop.wait(COMPACT_EVERY) {
                let Some(db) = db.upgrade() else { return };
                if !db.auto_compaction.load(Ordering::Acquire) {
                    db.counts.compactions_skipped.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                if let Err(error) = db.compact() {
                    tracing::error!(%error, "compaction failed; it will be tried again");
                }
            }
        })
    }

    fn spawn(&self, name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(run);
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
            // The last reference may be dropped by one of them.
            if t.thread().id() != std::thread::current().id() && t.join().is_err() {
                tracing::error!("a thread of the store has panicked");
            }
        }
        if let Some(chunks) = &self.head.chunks {
            chunks.close();
        }
        let late = self.head.wbl.get().map_or(Ok(()), |w| w.sync());
        let result = self.wal.sync().and(late);
        self.update_restart_index();
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
    /// The open blocks, in order of time.
    pub fn blocks(&self) -> Arc<[Arc<Block>]> {
        Arc::clone(&self.blocks.read().unwrap_or_else(PoisonError::into_inner))
    }
    /// What was found in the logs at start; nothing while they are being read.
    pub fn replay_report(&self) -> Report {
        self.replay_report.get().cloned().unwrap_or_default()
    }
    /// How many series the restart index named; `None` when there was none for this log.
    pub fn series_from_index(&self) -> Option<u64> {
        self.series_from_index
    }
    /// Blocks that are left in place and not served.
    pub fn bad_blocks(&self) -> Vec<BadBlock> {
        self.bad_blocks.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
    /// Time of the oldest sample, or `None` while there is none.
    pub fn min_time(&self) -> Option<i64> {
        let blocks = self.blocks().iter().map(|b| b.meta.min_time_ms).min();
        let head = self.head.is_initialised().then(|| self.head.min_time());
        blocks.into_iter().chain(head).min()
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

impl Appendable for Db {
    fn appender(&self) -> Box<dyn Appender> {
        Box::new(HeadAppender::new(Arc::clone(&self.head)))
    }
}

/// Appends only once the head is whole: for senders that must be told of every sample that is refused. Commits to [`Db`]
/// itself do not wait, and what turns out too late when they are applied is only counted.
#[derive(Clone, Debug)]
pub struct AfterReplay(pub Arc<Db>);

impl Appendable for AfterReplay {
    /// Blocks while the log is being read.
    fn appender(&self) -> Box<dyn Appender> {
        let _ = self.0.wait_until_replayed(); // a store that is being closed refuses the commit
        self.0.appender()
    }
}

impl Queryable for Db {
    fn querier(&self, mint_ms: i64, maxt_ms: i64) -> Result<Box<dyn Querier>, StorageError> {
        // Samples that came out of order may be older than the blocks' end.
        let in_blocks = maxt_ms < self.head.min_valid_time() && self.head.wbl.get().is_none();
        if self.head.is_replaying() && !in_blocks {
            return Ok(Box::new(PendingQuerier::new(Weak::clone(&self.me), mint_ms, maxt_ms)));
        }
        // The head first: what is cut into a block meanwhile is then found in either.
        let head = HeadQuerier::new(Arc::clone(&self.head), mint_ms, maxt_ms);
        let mut queriers: Vec<Box<dyn Querier>> = vec![Box::new(head)];
        for block in self.blocks().iter().filter(|b| b.overlaps(mint_ms, maxt_ms)) {
            let querier = Box::new(BlockQuerier::new(Arc::clone(block), mint_ms, maxt_ms));
            // Of two samples of one time the earlier querier's counts.
            if block.meta.is_out_of_order() { queriers.insert(0, querier) } else { queriers.push(querier) }
        }
        let mut notes = Annotations::default();
        if let Some(why) = self.head.replay_failure()
            && !in_blocks
        {
            notes.warn(format!("the write-ahead log could not be read, samples are missing: {why}"));
        }
        for bad in self.bad_blocks.read().unwrap_or_else(PoisonError::into_inner).iter() {
            if bad.range.is_none_or(|(from, to)| from <= maxt_ms && mint_ms < to) {
                notes.warn(format!("block {} is not served: {}", bad.dir.display(), bad.error));
            }
        }
        if !notes.is_empty() {
            queriers.push(Box::new(WarningQuerier(notes)));
        }
        Ok(match queriers.len() {
            1 => queriers.remove(0),
            _ => Box::new(MergeQuerier::new(queriers)),
        })
    }
    fn generation(&self) -> u64 {
        self.head.generation() + self.block_generation.load(Ordering::Acquire)
    }
}
