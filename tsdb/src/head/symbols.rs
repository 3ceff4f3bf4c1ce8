//! Interned label names and values: an append-only table, read without locks.
//!
//! Strings never move, so a reader may borrow them from the table. Cost: 24 bytes and the text for each distinct
//! string, and 5 bytes of hash index.
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

const SHARDS: usize = 16;
const FIRST_BUCKET: u32 = 1024;
const BUCKETS: usize = 23;

type Bucket = OnceLock<Box<[OnceLock<Box<str>>]>>;

#[derive(Debug)]
pub struct Symbols {
    identity: u64,
    hasher: FixedState,
    shards: [Mutex<HashTable<u32>>; SHARDS],
    /// Bucket `k` holds `1024 << k` strings.
    buckets: [Bucket; BUCKETS],
    len: AtomicU32,
    text_bytes: AtomicU64,
}

impl Default for Symbols {
    fn default() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Symbols {
            identity: NEXT.fetch_add(1, Ordering::Relaxed),
            hasher: FixedState::default(),
            shards: std::array::from_fn(|_| Mutex::default()),
            buckets: std::array::from_fn(|_| OnceLock::new()),
            len: AtomicU32::new(0),
            text_bytes: AtomicU64::new(0),
        }
    }
}

fn place(id: u32) -> (usize, usize) {
    let k = (u64::from(id) / u64::from(FIRST_BUCKET) + 1).ilog2();
    let first = u64::from(FIRST_BUCKET) * ((1 << k) - 1);
    (k as usize, (u64::from(id) - first) as usize)
}

impl Symbols {
    /// Tells tables apart: ids of different tables mean different strings.
    pub fn identity(&self) -> u64 {
        self.identity
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
    /// The string of an id this table gave out; "" for any other.
    #[inline]
    pub fn get(&self, id: u32) -> &str {
        let (bucket, slot) = place(id);
        self.buckets.get(bucket).and_then(|b| b.get()).and_then(|b| b.get(slot)).and_then(|s| s.get()).map_or("", |s| s)
    }
    fn shard(&self, hash: u64) -> &Mutex<HashTable<u32>> {
        &self.shards[hash as usize % SHARDS]
    }
    pub fn lookup(&self, s: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(s);
        let table = self.shard(hash).lock().unwrap_or_else(PoisonError::into_inner);
        table.find(hash, |id| self.get(*id) == s).copied()
    }
    /// `None` when the table is full: over four thousand million strings.
    pub fn intern(&self, s: &str) -> Option<u32> {
        let hash = self.hasher.hash_one(s);
        let mut table = self.shard(hash).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(id) = table.find(hash, |id| self.get(*id) == s) {
            return Some(*id);
        }
        let id = self.len.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_add(1)).ok()?;
        let (bucket, slot) = place(id);
        let size = (FIRST_BUCKET as usize) << bucket;
        let strings = self.buckets.get(bucket)?.get_or_init(|| (0..size).map(|_| OnceLock::new()).collect());
        let _ = strings.get(slot)?.set(Box::from(s)); // the id is ours alone
        self.text_bytes.fetch_add(s.len() as u64, Ordering::Relaxed);
        table.insert_unique(hash, id, |id| self.hasher.hash_one(self.get(*id)));
        Some(id)
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
        let first = s.get(0);
        assert_eq!((first, s.get(4999), s.get(5000)), ("value-0", "value-4999", ""));
        assert_eq!((s.intern("value-77"), s.lookup("value-78"), s.lookup("x")), (Some(77), Some(78), None));
        for id in [0, 1023, 1024, 3071, 3072, u32::MAX] {
            let (b, slot) = place(id);
            assert!(b < BUCKETS && slot < (FIRST_BUCKET as usize) << b, "{id}");
        }
    }
}
