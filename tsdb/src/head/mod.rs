//! The head: the newest samples of all series, in memory, behind the write-ahead log.
//!
//! [`append`] checks samples and collects a batch, [`commit`] logs and applies it, [`read`] answers queries,
//! [`replay`] rebuilds the head from the log, [`gc`] drops what is old.
pub mod append;
pub mod commit;
mod covered;
mod deferred;
pub mod exemplars;
pub mod gather;
pub mod gc;
pub mod head_chunks;
pub mod index;
pub mod isolation;
mod known;
pub mod metadata;
pub mod out_of_order;
pub mod posting_list;
pub mod postings;
pub mod read;
mod released;
pub mod replay;
pub mod series;
pub mod stored;
pub mod symbols;

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use ferula_model::labels::METRIC_NAME;
use ferula_model::{LabelView, Labels, Metadata, SeriesRef};
use ferula_storage::AppendError;
use hashbrown::HashMap;

use crate::observed::Observed;
use crate::options::Options;
use crate::query::resolved::Recent;
use crate::space::Space;
use crate::wal::compress::Compressor;
use crate::wal::{Compression, Wal};
use append::Pending;
use deferred::{Deferred, Fresh};
use exemplars::Exemplars;
use head_chunks::HeadChunks;
use index::SeriesIndex;
use isolation::Isolation;
use metadata::SeriesMetadata;
use postings::Postings;
use released::Released;
use series::{ChunkData, CutRules, FullChunk, MemSeries};
use stored::FilePart;
use symbols::Symbols;

/// Samples of the largest batch whose memory is kept, and how many such are.
const SPARE_MAX: usize = 1 << 15;
const SPARES_MAX: usize = 4;

/// Deleted stretches of a series, both bounds inclusive.
pub type Intervals = Vec<(i64, i64)>;

#[derive(Debug)]
pub struct Head {
    pub(crate) symbols: Symbols,
    /// Held shared from looking up the strings of a new series until its postings are there.
    creating: RwLock<()>,
    pub(crate) series: SeriesIndex,
    pub(crate) postings: RwLock<Postings>,
    pub(crate) recent: Recent,
    pub(crate) isolation: Arc<Isolation>,
    pub(crate) exemplars: Mutex<Exemplars>,
    pub(crate) tombstones: RwLock<HashMap<u64, Intervals>>,
    /// References of the log that stand for a series of another reference.
    pub(crate) aliases: RwLock<HashMap<u64, u64>>,
    pub(crate) wal: Option<Arc<Wal>>,
    pub(crate) chunks: Option<HeadChunks>,
    /// Log of the samples that came out of order.
    pub(crate) wbl: OnceLock<Arc<Wal>>,
    /// Says whether the disk has room for more.
    pub(crate) space: Option<Arc<Space>>,
    /// Held shared from writing a batch to the log until it is applied: who holds it alone knows that everything before
    /// the end of the log is applied.
    pub(crate) gate: RwLock<()>,
    pub(crate) deferred: Deferred,
    pub(crate) released: Released,
    /// Series records written to the log since somebody last asked.
    pub(crate) fresh: Mutex<Fresh>,
    out_of_order_window_ms: AtomicI64,
    pub(crate) start_times: bool,
    pub(crate) metadata_records: bool,
    metadata: Mutex<SeriesMetadata>,
    compression: Compression,
    /// Idle ones: their tables are too large to be made for each commit.
    compressors: Mutex<Vec<Compressor>>,
    spare_batches: Mutex<Vec<Vec<Pending>>>,
    rules: CutRules,
    /// The one of the rules that a reload may change.
    xor2: AtomicBool,
    max_series: u64,
    last_ref: AtomicU64,
    /// Inclusive; `MAX` and `MIN` while the head is empty.
    min_time: AtomicI64,
    max_time: AtomicI64,
    /// What is older belongs to blocks and is refused.
    min_valid_time: AtomicI64,
    pub(crate) counts: Counts,
    /// Set when the metrics are registered.
    pub(crate) observed: OnceLock<Observed>,
    /// Grows with every series made or removed.
    pub(crate) generation: AtomicU64,
}

/// Counted on the hot path, read by the metrics.
#[derive(Debug, Default)]
pub struct Counts {
    pub series: AtomicU64,
    pub series_created: AtomicU64,
    pub series_removed: AtomicU64,
    pub chunks_created: AtomicU64,
    pub chunks_removed: AtomicU64,
    pub floats_appended: AtomicU64,
    pub histograms_appended: AtomicU64,
    pub out_of_order: AtomicU64,
    pub out_of_order_appended: AtomicU64,
    pub out_of_bounds: AtomicU64,
    pub too_old: AtomicU64,
    pub exemplars_appended: AtomicU64,
    pub exemplars_out_of_order: AtomicU64,
    pub appenders: AtomicU64,
    pub truncations: AtomicU64,
    pub chunks_mapped: AtomicU64,
    pub series_not_found: AtomicU64,
    pub out_of_order_histograms: AtomicU64,
    pub out_of_order_histograms_appended: AtomicU64,
}

impl Counts {
    fn out_of_order(&self, is_histogram: bool) -> &AtomicU64 {
        if is_histogram { &self.out_of_order_histograms } else { &self.out_of_order }
    }
}

pub(crate) fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl Head {
    pub fn new(options: &Options, wal: Option<Arc<Wal>>) -> Head {
        let symbols = Symbols::default();
        let metric_name = symbols.intern(METRIC_NAME).unwrap_or(u32::MAX); // there is room in an empty table
        symbols.note_use(metric_name); // it stays when no series is left
        Head {
            symbols,
            creating: RwLock::default(),
            series: SeriesIndex::default(),
            postings: RwLock::new(Postings::new(metric_name)),
            recent: Recent::default(),
            isolation: Arc::default(),
            exemplars: Mutex::new(Exemplars::new(options.max_exemplars)),
            tombstones: RwLock::default(),
            aliases: RwLock::default(),
            wal,
            chunks: None,
            wbl: OnceLock::new(),
            space: None,
            gate: RwLock::default(),
            deferred: Deferred::default(),
            released: Released::default(),
            fresh: Mutex::default(),
            out_of_order_window_ms: AtomicI64::new(options.out_of_order_window_ms.max(0)),
            start_times: options.start_times,
            metadata_records: options.metadata_records,
            metadata: Mutex::default(),
            compression: options.wal_compression,
            compressors: Mutex::default(),
            spare_batches: Mutex::default(),
            rules: CutRules {
                chunk_range_ms: options.block_range_ms.max(1),
                samples_per_chunk: options.samples_per_chunk.clamp(4, 10_000),
                xor2: options.xor2,
                histogram_starts: options.histogram_starts,
            },
            xor2: AtomicBool::new(options.xor2),
            max_series: if options.max_series == 0 { u64::MAX } else { options.max_series },
            last_ref: AtomicU64::new(0),
            min_time: AtomicI64::new(i64::MAX),
            max_time: AtomicI64::new(i64::MIN),
            min_valid_time: AtomicI64::new(i64::MIN),
            counts: Counts::default(),
            observed: OnceLock::new(),
            generation: AtomicU64::new(0),
        }
    }

    /// How chunks are cut and written from now on. An open chunk stays what it is.
    pub(crate) fn rules(&self) -> CutRules {
        CutRules { xor2: self.xor2.load(Ordering::Relaxed), ..self.rules }
    }
    /// Takes over what a reload may change.
    pub(crate) fn apply_options(&self, options: &Options) {
        self.out_of_order_window_ms.store(options.out_of_order_window_ms.max(0), Ordering::Relaxed);
        self.xor2.store(options.xor2, Ordering::Relaxed);
        self.exemplars().resize(options.max_exemplars);
    }

    pub fn min_time(&self) -> i64 {
        self.min_time.load(Ordering::Acquire)
    }
    pub fn max_time(&self) -> i64 {
        self.max_time.load(Ordering::Acquire)
    }
    /// Whether the head has taken a sample yet.
    pub fn is_initialised(&self) -> bool {
        self.min_time() != i64::MAX
    }
    /// The first sample of an empty head decides its range, be it of 1970.
    pub(crate) fn initialise(&self, t_ms: i64) {
        if self.min_time.compare_exchange(i64::MAX, t_ms, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            let _ = self.max_time.compare_exchange(i64::MIN, t_ms, Ordering::AcqRel, Ordering::Acquire);
        }
    }
    /// Nothing older is taken: neither what blocks hold, nor the half range that compaction may be cutting off.
    pub(crate) fn appendable_from(&self) -> i64 {
        let window = self.max_time().saturating_sub(self.rules.chunk_range_ms / 2);
        window.max(self.min_valid_time.load(Ordering::Acquire))
    }
    /// Whether a sample that is too late for the chunks may be kept beside them, given the head's newest time.
    pub(crate) fn takes_out_of_order(&self, t_ms: i64, head_max_ms: i64) -> Result<bool, AppendError> {
        match self.out_of_order_window_ms.load(Ordering::Relaxed) {
            0 => Ok(false),
            window if t_ms >= head_max_ms.saturating_sub(window) => Ok(true),
            _ => {
                add(&self.counts.too_old, 1);
                Err(AppendError::TooOld)
            }
        }
    }
    pub(crate) fn min_valid_time(&self) -> i64 {
        self.min_valid_time.load(Ordering::Acquire)
    }
    pub(crate) fn set_min_valid_time(&self, t_ms: i64) {
        self.min_valid_time.fetch_max(t_ms, Ordering::AcqRel);
    }
    pub(crate) fn widen(&self, mint_ms: i64, maxt_ms: i64) {
        if mint_ms <= maxt_ms {
            self.min_time.fetch_min(mint_ms, Ordering::AcqRel);
            self.max_time.fetch_max(maxt_ms, Ordering::AcqRel);
        }
    }
    pub fn series_count(&self) -> u64 {
        self.counts.series.load(Ordering::Relaxed)
    }
    pub fn last_ref(&self) -> u64 {
        self.last_ref.load(Ordering::Relaxed)
    }
    pub(crate) fn note_ref(&self, series_ref: u64) {
        self.last_ref.fetch_max(series_ref, Ordering::AcqRel);
    }
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
    /// Runs `f` with a compressor of this head's kind.
    pub(crate) fn with_compressor<T>(&self, f: impl FnOnce(&mut Compressor) -> T) -> T {
        let idle = self.compressors.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut compressor = idle.unwrap_or_else(|| Compressor::new(self.compression));
        let result = f(&mut compressor);
        if let Some(wal) = &self.wal {
            wal.stats.bytes_saved.fetch_add(std::mem::take(&mut compressor.saved), Ordering::Relaxed);
        }
        self.compressors.lock().unwrap_or_else(PoisonError::into_inner).push(compressor);
        result
    }
    /// An empty list for a batch, with the memory of an earlier one.
    fn spare_batch(&self) -> Vec<Pending> {
        self.spare_batches.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }
    /// Keeps the memory of an applied batch for another.
    fn give_back(&self, batch: Vec<Pending>) {
        let mut spare = self.spare_batches.lock().unwrap_or_else(PoisonError::into_inner);
        if batch.capacity() <= SPARE_MAX && spare.len() < SPARES_MAX {
            spare.push(batch);
        }
    }
    pub(crate) fn exemplars(&self) -> MutexGuard<'_, Exemplars> {
        self.exemplars.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Exemplars in memory.
    pub fn exemplar_count(&self) -> usize {
        self.exemplars().len()
    }

    pub(crate) fn metadata(&self) -> MutexGuard<'_, SeriesMetadata> {
        self.metadata.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a series besides its samples; only with `metadata_records`.
    pub fn metadata_of(&self, series: SeriesRef) -> Option<Arc<Metadata>> {
        self.metadata().get(series.0).cloned()
    }

    /// The series of these labels, created if need be under the next free reference.
    pub(crate) fn get_or_create(
        &self,
        labels: &Labels,
        like: Option<&MemSeries>,
    ) -> Result<(Arc<MemSeries>, bool), AppendError> {
        self.create(labels, None, like)
    }

    /// As [`Head::get_or_create`]; a new series takes the reference given.
    pub(crate) fn create(
        &self,
        labels: &Labels,
        series_ref: Option<u64>,
        like: Option<&MemSeries>,
    ) -> Result<(Arc<MemSeries>, bool), AppendError> {
        let hash = labels.stable_hash();
        let _creating = self.creating.read().unwrap_or_else(PoisonError::into_inner);
        let (series, is_new) = self.series.get_or_create(hash, labels, &self.symbols, || {
            if self.series_count() >= self.max_series {
                return Err(AppendError::SeriesBudget);
            }
            let pairs = self.intern(labels, like).ok_or(AppendError::SeriesBudget)?;
            let series_ref = match series_ref {
                Some(r) => {
                    self.note_ref(r);
                    r
                }
                None => self.last_ref.fetch_add(1, Ordering::AcqRel) + 1,
            };
            // References have 32 bits.
            let series_ref = u32::try_from(series_ref).map_err(|_| AppendError::SeriesBudget)?;
            let new = MemSeries::new(series_ref, hash, pairs);
            if let Some(last_ms) = self.released.last_ms(hash) {
                new.state().begin_behind(last_ms);
            }
            Ok(Arc::new(new))
        })?;
        if is_new {
            let mut postings = self.postings.write().unwrap_or_else(PoisonError::into_inner);
            postings.add(series.series_ref() as u32, series.symbols(), &self.symbols);
            drop(postings);
            add(&self.counts.series, 1);
            add(&self.counts.series_created, 1);
            self.generation.fetch_add(1, Ordering::AcqRel);
        }
        Ok((series, is_new))
    }

    /// Symbols of the labels. Those that `like` has too, most of them where it is of the same target, need no looking up:
    /// whoever holds a series has its strings.
    fn intern(&self, labels: &Labels, like: Option<&MemSeries>) -> Option<Box<[(u32, u32)]>> {
        let texts = self.symbols.now();
        let mut theirs = like.map_or(&[][..], MemSeries::symbols);
        let mut pairs = Vec::with_capacity(labels.len());
        for (name, value) in labels.iter() {
            let same = theirs.iter().position(|(n, _)| texts.get(*n) == name).and_then(|i| theirs.get(i..));
            let (mut known_name, mut known_value) = (None, None);
            if let Some([(n, v), rest @ ..]) = same {
                theirs = rest;
                known_name = Some(*n);
                known_value = Some(*v).filter(|v| texts.get(*v) == value);
            }
            let name = known_name.or_else(|| self.symbols.intern(name))?;
            pairs.push((name, known_value.or_else(|| self.symbols.intern(value))?));
        }
        Some(pairs.into_boxed_slice())
    }

    /// The strings that labels are made of.
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    fn series_of_labels(&self, labels: &Labels) -> Option<Arc<MemSeries>> {
        self.series.by_labels(labels.stable_hash(), labels, &self.symbols)
    }

    /// Whether the series of this reference, which may be an alias, is still here.
    pub(crate) fn knows(&self, series_ref: u64) -> bool {
        let alias = self.aliases.read().unwrap_or_else(PoisonError::into_inner).get(&series_ref).copied();
        self.series.by_ref(alias.unwrap_or(series_ref)).is_some()
    }

    /// The head-chunk file that a chunk is in.
    pub(crate) fn chunk_file(&self, at: u64) -> Result<Arc<FilePart>, crate::Error> {
        match &self.chunks {
            Some(c) => c.part(at).map(Arc::new),
            None => Err(crate::Error::Invalid("there are no head chunk files".to_owned())),
        }
    }
    /// Where head-chunk files are, for errors.
    pub(crate) fn chunks_dir(&self) -> &Path {
        self.chunks.as_ref().map_or(Path::new(""), HeadChunks::dir)
    }

    /// Takes a full chunk out of a series' hands and says where it lies from now on.
    pub(crate) fn store_chunk(&self, series_ref: u64, chunk: FullChunk) -> FullChunk {
        add(&self.counts.chunks_created, 1);
        match &self.chunks {
            Some(c) => {
                let stored = c.store(series_ref, chunk);
                add(&self.counts.chunks_mapped, u64::from(matches!(stored.data, ChunkData::File(_))));
                stored
            }
            None => chunk,
        }
    }
}
