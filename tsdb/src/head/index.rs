//! Finding a series by its labels or by its reference.
//!
//! Cost: about 10 bytes a series in the hash tables and 8 in the pages.
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ferula_model::Labels;
use hashbrown::{HashMap, HashTable};

use super::series::MemSeries;
use super::symbols::Symbols;

const HASH_STRIPES: usize = 64;
const REF_STRIPES: usize = 32;
/// References come in ascending order, so that the series of one target lie in few pages.
const PAGE_BITS: u32 = 8;
const PAGE: usize = 1 << PAGE_BITS;

type Page = Box<[Option<Arc<MemSeries>>]>;

#[derive(Debug)]
pub struct SeriesIndex {
    by_hash: [Mutex<HashTable<Arc<MemSeries>>>; HASH_STRIPES],
    by_ref: [RwLock<HashMap<u64, Page>>; REF_STRIPES],
}

impl Default for SeriesIndex {
    fn default() -> Self {
        SeriesIndex {
            by_hash: std::array::from_fn(|_| Mutex::default()),
            by_ref: std::array::from_fn(|_| RwLock::default()),
        }
    }
}

fn split(series_ref: u64) -> (u64, usize) {
    (series_ref >> PAGE_BITS, (series_ref as usize) & (PAGE - 1))
}

impl SeriesIndex {
    fn pages(&self, page: u64) -> &RwLock<HashMap<u64, Page>> {
        &self.by_ref[page as usize % REF_STRIPES]
    }
    #[inline]
    pub fn by_ref(&self, series_ref: u64) -> Option<Arc<MemSeries>> {
        let (page, slot) = split(series_ref);
        let pages = self.pages(page).read().unwrap_or_else(PoisonError::into_inner);
        pages.get(&page)?.get(slot)?.clone()
    }
    /// The series of many references, in their order, as far as they are here. One look at the index for each run of
    /// references of the same page.
    pub fn by_refs(&self, refs: impl Iterator<Item = u64> + Clone, out: &mut Vec<Arc<MemSeries>>) {
        let mut refs = refs.peekable();
        while let Some(first) = refs.peek().copied() {
            let page = split(first).0;
            let pages = self.pages(page).read().unwrap_or_else(PoisonError::into_inner);
            let found = pages.get(&page);
            let mut here = refs.clone();
            let slots = std::iter::from_fn(|| here.next_if(|r| split(*r).0 == page))
                .filter_map(|r| found.and_then(|p| p.get(split(r).1)).and_then(|s| s.as_ref()));
            // Counting a reference is a barrier: a series that is not in the processor's cache would be waited for one
            // after the other. Reading first has many of them on their way at once.
            std::hint::black_box(slots.map(|s| s.touch()).fold(0, |a, b| a ^ b));
            while let Some(r) = refs.next_if(|r| split(*r).0 == page) {
                out.extend(found.and_then(|p| p.get(split(r).1)).and_then(|s| s.clone()));
            }
        }
    }
    pub fn by_labels(&self, hash: u64, labels: &Labels, symbols: &Symbols) -> Option<Arc<MemSeries>> {
        let table = self.by_hash[hash as usize % HASH_STRIPES].lock().unwrap_or_else(PoisonError::into_inner);
        table.find(hash, |s| s.hash == hash && s.has_labels(labels, symbols)).cloned()
    }
    /// The series of these labels, made by `create` if there is none yet. The flag says whether it is new.
    pub fn get_or_create<E>(
        &self,
        hash: u64,
        labels: &Labels,
        symbols: &Symbols,
        create: impl FnOnce() -> Result<Arc<MemSeries>, E>,
    ) -> Result<(Arc<MemSeries>, bool), E> {
        let mut table = self.by_hash[hash as usize % HASH_STRIPES].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = table.find(hash, |s| s.hash == hash && s.has_labels(labels, symbols)) {
            return Ok((Arc::clone(found), false));
        }
        let new = create()?;
        table.insert_unique(hash, Arc::clone(&new), |s| s.hash);
        drop(table);
        self.place(&new);
        Ok((new, true))
    }
    /// Takes in a series whose labels are interned, or returns the one that has the same.
    pub fn insert_known(&self, new: Arc<MemSeries>) -> Arc<MemSeries> {
        let hash = new.hash;
        let mut table = self.by_hash[hash as usize % HASH_STRIPES].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = table.find(hash, |s| s.hash == hash && s.symbols() == new.symbols()) {
            return Arc::clone(found);
        }
        table.insert_unique(hash, Arc::clone(&new), |s| s.hash);
        drop(table);
        self.place(&new);
        new
    }
    fn place(&self, new: &Arc<MemSeries>) {
        let (page, slot) = split(new.series_ref());
        let mut pages = self.pages(page).write().unwrap_or_else(PoisonError::into_inner);
        let page = pages.entry(page).or_insert_with(|| vec![None; PAGE].into_boxed_slice());
        if let Some(place) = page.get_mut(slot) {
            *place = Some(Arc::clone(new));
        }
    }
    /// Every series, in ascending order of reference.
    pub fn all(&self) -> Vec<Arc<MemSeries>> {
        let mut out = Vec::new();
        self.each(|s| out.push(Arc::clone(s)));
        out
    }
    /// Looks at every series, in ascending order of reference. The visitor must not come back here.
    pub fn each(&self, mut visit: impl FnMut(&Arc<MemSeries>)) {
        let pages = |stripe: &RwLock<HashMap<u64, Page>>| -> Vec<u64> {
            stripe.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
        };
        let mut numbers: Vec<u64> = self.by_ref.iter().flat_map(pages).collect();
        numbers.sort_unstable();
        for number in numbers {
            let pages = self.pages(number).read().unwrap_or_else(PoisonError::into_inner);
            pages.get(&number).into_iter().flat_map(|p| p.iter().flatten()).for_each(&mut visit);
        }
    }
    /// Takes out the series if `dead` says so while nobody else can reach it: no appender holds it.
    pub fn remove_if(&self, series: &Arc<MemSeries>, dead: impl FnOnce(&MemSeries) -> bool) -> bool {
        let hash = series.hash;
        let mut table = self.by_hash[hash as usize % HASH_STRIPES].lock().unwrap_or_else(PoisonError::into_inner);
        let (page_number, slot) = split(series.series_ref());
        let mut pages = self.pages(page_number).write().unwrap_or_else(PoisonError::into_inner);
        // Two in the indices and the caller's: whoever else holds it may be about to append.
        if Arc::strong_count(series) > 3 || !dead(series) {
            return false;
        }
        if let Ok(entry) = table.find_entry(hash, |s| s.series_ref() == series.series_ref()) {
            entry.remove();
        }
        if let Some(page) = pages.get_mut(&page_number) {
            if let Some(place) = page.get_mut(slot) {
                *place = None;
            }
            if page.iter().all(Option::is_none) {
                pages.remove(&page_number);
            }
        }
        true
    }
}
