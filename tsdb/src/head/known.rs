//! Series that a restart knows from its index, before the log is read.
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use ferula_model::{LabelView, Labels};

use super::series::MemSeries;
use super::{Head, add};

/// Series that one thread makes in one go.
const SLICE: usize = 4096;

impl Head {
    /// Creates series from a table: `series` are references and where their pairs end in `pairs`, which are ordinals of
    /// `strings`. Returns how many are new; `None` when there is no room for them.
    pub(crate) fn insert_known(&self, strings: &[String], pairs: &[(u32, u32)], series: &[(u64, u32)]) -> Option<u64> {
        let _creating = self.creating.read().unwrap_or_else(PoisonError::into_inner);
        let symbols: Vec<u32> = strings.iter().map(|s| self.symbols.intern(s)).collect::<Option<_>>()?;
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(8);
        let next = std::sync::atomic::AtomicUsize::new(0);
        let make = || {
            loop {
                let from = next.fetch_add(SLICE, Ordering::Relaxed);
                let Some(slice) = series.get(from..series.len().min(from.saturating_add(SLICE))) else { return };
                let mut start = match from.checked_sub(1).and_then(|i| series.get(i)) {
                    Some((_, end)) => *end as usize,
                    None => 0,
                };
                for (series_ref, end) in slice {
                    let ordinals = pairs.get(start..*end as usize).unwrap_or(&[]);
                    start = *end as usize;
                    let hash = View { strings, ordinals }.stable_hash();
                    let symbol = |i: u32| symbols.get(i as usize).copied().unwrap_or(u32::MAX);
                    let labels = ordinals.iter().map(|(n, v)| (symbol(*n), symbol(*v))).collect();
                    self.insert_symbols(*series_ref, hash, labels);
                }
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(make);
            }
            make();
        });
        // In order of reference: appending to a list is much cheaper than inserting.
        let all = self.series.all();
        let mut postings = self.postings.write().unwrap_or_else(PoisonError::into_inner);
        for s in &all {
            postings.add(s.series_ref() as u32, s.symbols(), &self.symbols);
        }
        add(&self.counts.series, all.len() as u64);
        self.generation.fetch_add(1, Ordering::AcqRel);
        Some(all.len() as u64)
    }

    /// A series of the log, without its postings.
    fn insert_symbols(&self, series_ref: u64, hash: u64, labels: Box<[(u32, u32)]>) {
        let (false, Ok(number)) = (labels.is_empty(), u32::try_from(series_ref)) else { return };
        self.note_ref(series_ref);
        let new = MemSeries::new(number, hash, labels);
        new.logged.store(true, Ordering::Release);
        let found = self.series.insert_known(Arc::new(new));
        if found.series_ref() != series_ref {
            self.add_alias(series_ref, found.series_ref());
        }
    }

    /// A series that the log is known to name. Returns whether it is new.
    pub(crate) fn insert_logged(&self, series_ref: u64, labels: &Labels) -> bool {
        self.note_ref(series_ref);
        if labels.is_empty() {
            return false;
        }
        let Ok((series, is_new)) = self.create(labels, Some(series_ref), None) else { return false };
        series.logged.store(true, Ordering::Release);
        if series.series_ref() != series_ref {
            self.add_alias(series_ref, series.series_ref());
        }
        if is_new {
            self.counts.series_created.fetch_sub(1, Ordering::Relaxed); // it was counted when it first came
        }
        is_new
    }

    fn add_alias(&self, alias: u64, series_ref: u64) {
        self.aliases.write().unwrap_or_else(PoisonError::into_inner).insert(alias, series_ref);
    }
    pub(crate) fn aliases(&self) -> hashbrown::HashMap<u64, u64> {
        self.aliases.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Labels of a table's series.
struct View<'a> {
    strings: &'a [String],
    ordinals: &'a [(u32, u32)],
}

impl LabelView for View<'_> {
    fn len(&self) -> usize {
        self.ordinals.len()
    }
    fn pair(&self, i: usize) -> (&str, &str) {
        let text = |i: u32| self.strings.get(i as usize).map_or("", String::as_str);
        self.ordinals.get(i).map_or(("", ""), |(n, v)| (text(*n), text(*v)))
    }
}
