//! Interned label names and values. A string is freed when no series uses it any more; its id is never given out again.
//!
//! ```text
//! Symbols  hash shards: text -> id          Texts (one version, shared)
//!          how often each id is used        bucket 0 | bucket 1 | gone | bucket 3 ...   1,024 ids each
//! ```
//! Readers hold a version of the table ([`Symbols::texts`]) and borrow from it without locks. A new string goes into the
//! newest bucket, in place, or into a new one, which makes a new version. Freeing makes a new version, too, in which old
//! buckets are without what died, and those that are empty are gone: whoever still holds the version before still reads
//! everything in it.
//!
//! *Invariant: who holds a series has its strings.* A series that somebody holds is not removed (`index.rs`), a string of a
//! series that is not removed is not freed, and nobody makes a series of a string while it is being freed
//! (`Head::creating`). So a version taken after the series has all of its strings.
//!
//! Cost: 28 bytes and the text for each distinct string, and 5 bytes of hash index.
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::{ArcSwap, Guard};
use foldhash::fast::FixedState;
use hashbrown::HashTable;

const SHARDS: usize = 16;
const BUCKET_BITS: u32 = 10;
const BUCKET: usize = 1 << BUCKET_BITS;
/// A bucket is made anew when this share of the strings in it is dead.
const DEAD_SHARE: usize = 8;

#[derive(Debug)]
pub struct Symbols {
    hasher: FixedState,
    shards: [Mutex<HashTable<u32>>; SHARDS],
    texts: ArcSwap<Texts>,
    /// Held while a version of the table is made out of another.
    changing: Mutex<()>,
    next: AtomicU32,
    /// Strings that can be found, and their bytes.
    len: AtomicU64,
    text_bytes: AtomicU64,
}

/// One version of the table.
#[derive(Debug)]
pub struct Texts {
    identity: u64,
    buckets: Vec<Option<Arc<Bucket>>>,
}

#[derive(Debug)]
struct Bucket {
    /// Which slots are there, ascending; `None` for all of them.
    slots: Option<Box<[u16]>>,
    strings: Box<[OnceLock<Box<str>>]>,
    /// How many lists of the postings each string stands for.
    uses: Box<[AtomicU32]>,
}

impl Bucket {
    fn new() -> Bucket {
        Bucket {
            slots: None,
            strings: (0..BUCKET).map(|_| OnceLock::new()).collect(),
            uses: (0..BUCKET).map(|_| AtomicU32::new(0)).collect(),
        }
    }
    fn place(&self, slot: usize) -> Option<usize> {
        match &self.slots {
            None => Some(slot),
            Some(slots) => slots.binary_search(&(slot as u16)).ok(),
        }
    }
    fn text(&self, slot: usize) -> Option<&str> {
        self.strings.get(self.place(slot)?)?.get().map(|s| &**s)
    }
    fn uses(&self, slot: usize) -> Option<&AtomicU32> {
        self.uses.get(self.place(slot)?)
    }
    /// Strings that are there, and those of them that are used.
    fn count(&self) -> (usize, usize) {
        let all = self.strings.iter().zip(&self.uses).filter(|(s, _)| s.get().is_some());
        all.fold((0, 0), |(there, used), (_, n)| (there + 1, used + usize::from(n.load(Ordering::Relaxed) > 0)))
    }
    /// Without what is not used; `None` when that is all.
    fn without_dead(&self) -> Option<Bucket> {
        let (mut slots, mut strings, mut uses) = (Vec::new(), Vec::new(), Vec::new());
        for slot in 0..BUCKET {
            let used = self.uses(slot).map_or(0, |n| n.load(Ordering::Relaxed));
            if let (true, Some(text)) = (used > 0, self.text(slot)) {
                slots.push(slot as u16);
                strings.push(OnceLock::from(Box::from(text)));
                uses.push(AtomicU32::new(used));
            }
        }
        let slots = Some(slots.into_boxed_slice()).filter(|s| !s.is_empty())?;
        Some(Bucket { slots: Some(slots), strings: strings.into(), uses: uses.into() })
    }
}

fn place(id: u32) -> (usize, usize) {
    ((id >> BUCKET_BITS) as usize, id as usize & (BUCKET - 1))
}

impl Texts {
    /// Tells tables apart: ids of different tables mean different strings.
    pub fn identity(&self) -> u64 {
        self.identity
    }
    fn bucket(&self, id: u32) -> Option<(&Bucket, usize)> {
        let (bucket, slot) = place(id);
        Some((self.buckets.get(bucket)?.as_deref()?, slot))
    }
    /// The string of an id; "" for one that is not in this version.
    #[inline]
    pub fn get(&self, id: u32) -> &str {
        self.bucket(id).and_then(|(bucket, slot)| bucket.text(slot)).unwrap_or("")
    }
    /// Bytes of all strings in this version, whether they can be found or not.
    pub fn held_bytes(&self) -> usize {
        let strings = self.buckets.iter().flatten().flat_map(|b| b.strings.iter());
        strings.filter_map(|s| s.get()).map(|s| s.len()).sum()
    }
}

impl Default for Symbols {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let identity = NEXT.fetch_add(1, Ordering::Relaxed);
        Symbols {
            hasher: FixedState::default(),
            shards: std::array::from_fn(|_| Mutex::default()),
            texts: ArcSwap::from_pointee(Texts { identity, buckets: Vec::new() }),
            changing: Mutex::default(),
            next: AtomicU32::new(0),
            len: AtomicU64::new(0),
            text_bytes: AtomicU64::new(0),
        }
    }
}

impl Symbols {
    /// As [`Texts::identity`].
    pub fn identity(&self) -> u64 {
        self.now().identity
    }
    /// Number of strings.
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed) as usize
    }
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    pub fn text_bytes(&self) -> u64 {
        self.text_bytes.load(Ordering::Relaxed)
    }
    /// The table as it is, to be kept as long as something is borrowed from it.
    pub fn texts(&self) -> Arc<Texts> {
        self.texts.load_full()
    }
    /// As [`Symbols::texts`], for a moment: cheaper.
    pub(super) fn now(&self) -> Guard<Arc<Texts>> {
        self.texts.load()
    }
    fn shard(&self, hash: u64) -> &Mutex<HashTable<u32>> {
        &self.shards[hash as usize % SHARDS]
    }
    pub fn lookup(&self, s: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(s);
        let table = self.shard(hash).lock().unwrap_or_else(PoisonError::into_inner);
        let texts = self.now(); // under the lock: what the table names is there
        table.find(hash, |id| texts.get(*id) == s).copied()
    }
    /// `None` when all ids have been given out: over four thousand million in the life of a table.
    pub fn intern(&self, s: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(s);
        let mut table = self.shard(hash).lock().unwrap_or_else(PoisonError::into_inner);
        let texts = self.now();
        if let Some(id) = table.find(hash, |id| texts.get(*id) == s) {
            return Some(*id);
        }
        drop(texts);
        let id = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_add(1)).ok()?;
        let texts = self.with_bucket_of(id);
        let (bucket, slot) = texts.bucket(id)?;
        let _ = bucket.strings.get(slot)?.set(Box::from(s)); // the id is ours alone
        self.len.fetch_add(1, Ordering::Relaxed);
        self.text_bytes.fetch_add(s.len() as u64, Ordering::Relaxed);
        table.insert_unique(hash, id, |id| self.hasher.hash_one(texts.get(*id)));
        Some(id)
    }

    /// A version that has the bucket of a new id.
    fn with_bucket_of(&self, id: u32) -> Arc<Texts> {
        let texts = self.texts();
        if texts.bucket(id).is_some() {
            return texts;
        }
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let texts = self.texts();
        let wanted = place(id).0 + 1;
        if texts.buckets.len() >= wanted {
            return texts;
        }
        let mut buckets = Vec::with_capacity(wanted);
        buckets.extend_from_slice(&texts.buckets);
        // Another thread may have been given an id of an earlier bucket and not come here yet.
        buckets.resize_with(wanted, || Some(Arc::new(Bucket::new())));
        let texts = Arc::new(Texts { identity: texts.identity, buckets });
        self.texts.store(Arc::clone(&texts));
        texts
    }

    /// Notes one more use.
    pub(super) fn note_use(&self, id: u32) {
        if let Some(uses) = self.now().bucket(id).and_then(|(b, slot)| b.uses(slot)) {
            uses.fetch_add(1, Ordering::Relaxed);
        }
    }
    /// Notes one use less. Whether it was the last.
    pub(super) fn note_end_of_use(&self, id: u32) -> bool {
        let texts = self.now();
        let uses = texts.bucket(id).and_then(|(b, slot)| b.uses(slot));
        uses.is_some_and(|n| n.fetch_sub(1, Ordering::Relaxed) == 1)
    }

    /// Frees strings that are not used. To be called while nobody makes series.
    pub(super) fn free(&self, ids: &[u32]) {
        if ids.is_empty() {
            return;
        }
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let texts = self.texts();
        for id in ids {
            let text = texts.get(*id);
            let hash = self.hasher.hash_one(text);
            let mut table = self.shard(hash).lock().unwrap_or_else(PoisonError::into_inner);
            if let Ok(entry) = table.find_entry(hash, |other| other == id) {
                entry.remove();
                self.len.fetch_sub(1, Ordering::Relaxed);
                self.text_bytes.fetch_sub(text.len() as u64, Ordering::Relaxed);
            }
            if table.len() < table.capacity() / 4 {
                let wanted = table.len() * 2;
                table.shrink_to(wanted, |id| self.hasher.hash_one(texts.get(*id)));
            }
        }
        // The newest bucket is still being filled, by whoever holds this version of it.
        let full = place(self.next.load(Ordering::Relaxed)).0;
        let mut touched: Vec<usize> = ids.iter().map(|id| place(*id).0).filter(|b| *b < full).collect();
        touched.sort_unstable();
        touched.dedup();
        let mut buckets = texts.buckets.clone();
        for b in touched {
            let Some(bucket) = buckets.get_mut(b) else { continue };
            let Some(old) = bucket else { continue };
            let (there, used) = old.count();
            if (there - used) * DEAD_SHARE >= there {
                *bucket = old.without_dead().map(Arc::new);
            }
        }
        self.texts.store(Arc::new(Texts { identity: texts.identity, buckets }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_dense_and_strings_stay() {
        let s = Symbols::default();
        let ids: Vec<_> = (0..5000).map(|i| s.intern(&format!("value-{i}")).unwrap()).collect();
        assert_eq!(ids, (0..5000).collect::<Vec<u32>>());
        let t = s.texts();
        assert_eq!((t.get(0), t.get(4999), t.get(5000)), ("value-0", "value-4999", ""));
        assert_eq!((s.intern("value-77"), s.lookup("value-78"), s.lookup("x")), (Some(77), Some(78), None));
    }

    #[test]
    fn what_is_freed_is_gone_and_its_id_with_it() {
        let s = Symbols::default();
        let name = |i: u32| format!("value-{i}");
        for i in 0..5000 {
            s.note_use(s.intern(&name(i)).unwrap());
        }
        let before = s.texts();
        let dead: Vec<u32> = (0..5000).filter(|i| i % 10 != 0).collect();
        assert!(dead.iter().all(|id| s.note_end_of_use(*id)));
        s.free(&dead);
        let now = s.texts();
        for i in 0..5000 {
            let lives = i % 10 == 0;
            assert_eq!(s.lookup(&name(i)), lives.then_some(i));
            // The newest bucket keeps its strings until it is full.
            assert_eq!(now.get(i) == name(i), lives || i >= 4096, "{i}");
            assert_eq!(before.get(i), name(i));
        }
        assert_eq!(s.len(), 500);
        assert!(now.held_bytes() < before.held_bytes() / 3);
        let again = s.intern(&name(7)).unwrap();
        assert_eq!((again, s.texts().get(again)), (5000, "value-7"));
        let rest: Vec<u32> = (0..4096).filter(|i| i % 10 == 0).collect();
        assert!(rest.iter().all(|id| s.note_end_of_use(*id)));
        s.free(&rest);
        assert_eq!(s.texts().buckets.iter().flatten().count(), 1, "empty buckets are gone");
    }

    #[test]
    fn threads_intern_the_same() {
        let s = Symbols::default();
        let ids = |from: u32| (from..from + 6000).map(|i| s.intern(&format!("{}", i % 8000))).collect::<Vec<_>>();
        let (a, b) = std::thread::scope(|scope| {
            let other = scope.spawn(|| ids(3000));
            (ids(0), other.join().unwrap())
        });
        let t = s.texts();
        for (from, ids) in [(0, a), (3000, b)] {
            for (i, id) in ids.into_iter().enumerate() {
                assert_eq!(t.get(id.unwrap()), format!("{}", (from + i) % 8000));
            }
        }
        assert_eq!(s.len(), 8000);
    }
}
