//! What a target's lines mean: from the series as written to its reference in the store.
//!
//! Targets repeat their lines in the same order, so the cache remembers the order and says whether the next line is the one
//! that came there last time; a parser that hears so needs no more. Only a line out of order is looked up. The same
//! structure knows which series of the previous scrape did not come again.
//!
//! Texts are not kept, only their 128-bit fingerprints (XXH3, with a seed that no target knows): two texts of one target
//! that share one are less likely than a memory error.
//!
//! Cost per series: 40 bytes and about 11 of table and order, however long the text. Cost per repeated line: its
//! fingerprint, about 10 ns.
use ferula_model::SeriesRef;
use hashbrown::{HashSet, HashTable};
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Which entry a line belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id(u32);

/// Of a line's series as written. Two words, for 16-byte alignment would cost 8 bytes an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Print([u64; 2]);

struct Entry {
    print: Print,
    series: SeriesRef,
    /// Bytes of the text; 0 marks a free entry.
    len: u32,
    /// Place in `order`.
    place: u32,
    /// The pass that saw the text last.
    seen: u32,
    /// The pass that last gave the series a sample which obliges us to a stale marker.
    tracked: u32,
}

/// Bits of [`Entry::len`] above any length: a line has 16 MiB at most.
mod flag {
    pub const LEN: u32 = (1 << 30) - 1;
    /// Relabelling dropped it: the line is skipped.
    pub const DROPPED: u32 = 1 << 31;
    /// `tracked` was the pass before this one, when this one first touched it.
    pub const WAS_TRACKED: u32 = 1 << 30;
}

impl Entry {
    fn text_len(&self) -> usize {
        (self.len & flag::LEN) as usize
    }
    fn is_dropped(&self) -> bool {
        self.len & flag::DROPPED != 0
    }
    fn was_tracked(&self) -> bool {
        self.len & flag::WAS_TRACKED != 0
    }
}

/// One target's lines. Passes are numbered from 1; 0 means never.
pub(crate) struct Cache {
    entries: Vec<Entry>,
    free: Vec<u32>,
    table: HashTable<u32>,
    seed: u64,
    order: Vec<u32>,
    pass: u32,
    cursor: usize,
    /// Place in `order` up to which series were announced.
    announced: usize,
    /// The new order, from the first line on that was not where it was.
    deviated: Option<Vec<u32>>,
    /// Series tracked by entries that a configuration change swept away.
    orphans: Vec<SeriesRef>,
    entries_after_success: usize,
    /// Entries that relabelling dropped.
    dropped: usize,
}

/// Series that are announced at a time.
const ANNOUNCED: usize = 64;

/// How a pass over a body ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Every line was read.
    Complete,
    /// There was no body, or it was rolled back.
    Failed,
}

impl Default for Cache {
    fn default() -> Cache {
        use std::hash::BuildHasher;
        Cache {
            entries: Vec::new(),
            free: Vec::new(),
            table: HashTable::new(),
            seed: foldhash::fast::RandomState::default().hash_one(0),
            order: Vec::new(),
            pass: 0,
            cursor: 0,
            announced: 0,
            deviated: None,
            orphans: Vec::new(),
            entries_after_success: 0,
            dropped: 0,
        }
    }
}

impl Cache {
    fn print(&self, text: &[u8]) -> Print {
        let print = xxh3_128_with_seed(text, self.seed);
        Print([print as u64, (print >> 64) as u64])
    }

    /// Starts a pass.
    pub(crate) fn begin(&mut self) {
        self.pass += 1;
        self.cursor = 0;
        self.announced = 0;
        self.deviated = None;
    }

    /// The length of the series at the front of `line`, if it is the one that came here last time.
    #[inline]
    pub(crate) fn expected_at(&self, line: &[u8]) -> Option<usize> {
        let entry = self.entries.get(*self.order.get(self.cursor)? as usize)?;
        let len = entry.text_len();
        (self.print(line.get(..len)?) == entry.print).then_some(len)
    }

    /// Whether `text` is what came here last time.
    pub(crate) fn is_expected(&self, text: &[u8]) -> bool {
        self.expected_at(text) == Some(text.len()) && !text.is_empty()
    }

    /// The line was the expected one.
    pub(crate) fn take_expected(&mut self) -> Option<Id> {
        let id = *self.order.get(self.cursor)?;
        self.cursor += 1;
        if let Some(order) = &mut self.deviated {
            order.push(id);
        }
        Some(Id(id))
    }

    /// The series of the lines that come next if all goes on as last time, every so many lines.
    pub(crate) fn announce(&mut self, out: &mut Vec<SeriesRef>) -> bool {
        if self.cursor < self.announced && self.cursor + ANNOUNCED >= self.announced {
            return false;
        }
        out.clear();
        let coming = self.order.get(self.cursor..).unwrap_or_default().iter().take(ANNOUNCED);
        let of = |id: &u32| self.entries.get(*id as usize).map(|e| e.series);
        out.extend(coming.filter_map(of).filter(|s| !s.is_none()));
        self.announced = self.cursor + ANNOUNCED;
        true
    }

    /// The line was another one.
    pub(crate) fn find(&mut self, text: &[u8]) -> Option<Id> {
        self.deviate();
        let print = self.print(text);
        let entries = &self.entries;
        let id = *self.table.find(print.0[0], |i| entries.get(*i as usize).is_some_and(|e| e.print == print))?;
        self.follow(id);
        Some(Id(id))
    }

    fn deviate(&mut self) {
        if self.deviated.is_none() {
            self.deviated = Some(self.order.get(..self.cursor).unwrap_or_default().to_vec());
        }
    }

    /// Lines after this one are expected to come as they came after it last time.
    fn follow(&mut self, id: u32) {
        if let Some(order) = &mut self.deviated {
            order.push(id);
        }
        if let Some(e) = self.entries.get(id as usize)
            && self.order.get(e.place as usize) == Some(&id)
        {
            self.cursor = e.place as usize + 1;
        }
    }

    /// A text [`Cache::find`] did not know.
    pub(crate) fn insert(&mut self, text: &[u8], series: SeriesRef, dropped: bool) -> Id {
        let print = self.print(text);
        let len = u32::try_from(text.len()).unwrap_or(flag::LEN) & flag::LEN; // longer lines are refused before
        let len = len | if dropped { flag::DROPPED } else { 0 };
        let entry = Entry { print, series, len, place: u32::MAX, seen: self.pass, tracked: 0 };
        self.dropped += usize::from(dropped);
        let id = match self.free.pop() {
            Some(id) => {
                if let Some(slot) = self.entries.get_mut(id as usize) {
                    *slot = entry;
                }
                id
            }
            None => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32 // a body has fewer lines than 2^32 bytes
            }
        };
        let entries = &self.entries;
        self.table.insert_unique(print.0[0], id, |i| entries.get(*i as usize).map_or(0, |e| e.print.0[0]));
        if let Some(order) = &mut self.deviated {
            order.push(id);
        }
        Id(id)
    }

    fn entry(&mut self, id: Id) -> Option<&mut Entry> {
        self.entries.get_mut(id.0 as usize)
    }

    pub(crate) fn series(&self, id: Id) -> SeriesRef {
        self.entries.get(id.0 as usize).map_or(SeriesRef::NONE, |e| e.series)
    }
    pub(crate) fn set_series(&mut self, id: Id, series: SeriesRef) {
        if let Some(e) = self.entry(id) {
            e.series = series;
        }
    }
    pub(crate) fn is_dropped(&self, id: Id) -> bool {
        self.entries.get(id.0 as usize).is_some_and(Entry::is_dropped)
    }

    /// Notes that this pass has the line; `true` if it had it before.
    pub(crate) fn see(&mut self, id: Id) -> bool {
        let pass = self.pass;
        self.entry(id).is_some_and(|e| std::mem::replace(&mut e.seen, pass) == pass)
    }

    /// Notes that the series got a sample that will need a stale marker when it stops coming.
    pub(crate) fn track(&mut self, id: Id) {
        let pass = self.pass;
        if let Some(e) = self.entry(id)
            && e.tracked != pass
        {
            let was = e.tracked != 0 && e.tracked + 1 == pass;
            e.len = if was { e.len | flag::WAS_TRACKED } else { e.len & !flag::WAS_TRACKED };
            e.tracked = pass;
        }
    }

    /// Ends a pass: appends to `stale` the series to be marked, and forgets texts that are gone. `true` if failing scrapes
    /// had filled the cache so far that it was emptied.
    pub(crate) fn end(&mut self, end: End, stale: &mut Vec<SeriesRef>) -> bool {
        match end {
            End::Complete => {
                self.end_complete(stale);
                false
            }
            End::Failed => self.end_failed(stale),
        }
    }

    fn end_complete(&mut self, stale: &mut Vec<SeriesRef>) {
        if self.deviated.is_none() && self.cursor == self.order.len() && self.orphans.is_empty() {
            return; // the same lines in the same order
        }
        let pass = self.pass;
        let from = stale.len();
        stale.append(&mut self.orphans);
        stale.extend(self.live().filter(|e| e.tracked != 0 && e.tracked + 1 == pass).map(|e| e.series));
        if stale.len() > from {
            // A series may come under another spelling: it is not gone then.
            let present: HashSet<SeriesRef> = self.live().filter(|e| e.tracked == pass).map(|e| e.series).collect();
            let mut marked = HashSet::new();
            let mut i = 0;
            stale.retain(|s| {
                i += 1;
                i <= from || (!present.contains(s) && marked.insert(*s))
            });
        }
        let order = match self.deviated.take() {
            Some(order) => order,
            None => self.order.get(..self.cursor).unwrap_or_default().to_vec(),
        };
        for id in 0..self.entries.len() as u32 {
            if self.entries.get(id as usize).is_some_and(|e| e.len != 0 && e.seen != pass) {
                self.forget(id);
            }
        }
        for (place, id) in order.iter().enumerate() {
            if let Some(e) = self.entries.get_mut(*id as usize) {
                e.place = place as u32;
            }
        }
        self.order = order;
        self.shrink();
        self.entries_after_success = self.table.len();
    }

    fn end_failed(&mut self, stale: &mut Vec<SeriesRef>) -> bool {
        let pass = self.pass;
        stale.append(&mut self.orphans);
        for e in self.entries.iter_mut().filter(|e| e.tracked != 0) {
            let before = if e.tracked == pass { e.was_tracked() } else { e.tracked + 1 == pass };
            if before {
                stale.push(e.series);
            }
            e.tracked = 0;
        }
        let mut marked = HashSet::new();
        stale.retain(|s| marked.insert(*s));
        self.deviated = None;
        // A target whose labels vary in scrapes that all fail must not fill the memory.
        let flush = self.table.len() > self.entries_after_success * 2 + 1000;
        if flush {
            self.clear();
        }
        flush
    }

    /// Growing doubles, and most targets never grow again: room for a quarter more is plenty.
    fn shrink(&mut self) {
        let keep = |len: usize| len + len / 4;
        if self.entries.capacity() > keep(self.entries.len()) {
            self.entries.shrink_to_fit();
        }
        if self.order.capacity() > keep(self.order.len()) {
            self.order.shrink_to_fit();
        }
    }

    fn live(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|e| e.len != 0)
    }

    fn forget(&mut self, id: u32) {
        let Some(e) = self.entries.get_mut(id as usize) else { return };
        let hash = e.print.0[0];
        self.dropped -= usize::from(e.is_dropped());
        e.len = 0;
        e.tracked = 0;
        if let Ok(found) = self.table.find_entry(hash, |i| *i == id) {
            found.remove();
        }
        self.free.push(id);
    }

    fn clear(&mut self) {
        let (pass, orphans) = (self.pass, std::mem::take(&mut self.orphans));
        *self = Cache { pass, orphans, ..Cache::default() };
    }

    /// The rules changed, so every line may mean another series now; those tracked so far are still owed a marker.
    pub(crate) fn reset(&mut self) {
        let pass = self.pass;
        let tracked: Vec<SeriesRef> =
            self.live().filter(|e| e.tracked != 0 && e.tracked == pass).map(|e| e.series).collect();
        self.orphans.extend(tracked);
        self.clear();
    }

    /// Entries that are series in the store.
    pub(crate) fn series_count(&self) -> u64 {
        (self.table.len() - self.dropped) as u64
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.table.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_costs_what_is_said() {
        assert_eq!(size_of::<Entry>(), 40);
    }

    /// Runs a pass over `lines` (a `!` marks one without tracking) and returns hits by order, by hash, misses, and the
    /// stale references.
    fn pass(cache: &mut Cache, lines: &[&str], end: End) -> (usize, usize, usize, Vec<u64>) {
        cache.begin();
        let (mut ordered, mut hashed, mut missed) = (0, 0, 0);
        for line in lines {
            let text = line.as_bytes();
            let id = if cache.is_expected(text) {
                ordered += 1;
                cache.take_expected().unwrap()
            } else if let Some(id) = cache.find(text) {
                hashed += 1;
                id
            } else {
                missed += 1;
                // The reference is made from the text without blanks: two spellings of one series share it.
                let series = line.bytes().filter(|b| *b != b' ' && *b != b'!').fold(7u64, |h, b| h * 31 + u64::from(b));
                cache.insert(text, SeriesRef(series), false)
            };
            cache.see(id);
            if !line.ends_with('!') {
                cache.track(id);
            }
        }
        let mut stale = Vec::new();
        cache.end(end, &mut stale);
        (ordered, hashed, missed, stale.iter().map(|s| s.0).collect())
    }

    fn reference(text: &str) -> u64 {
        text.bytes().fold(7u64, |h, b| h * 31 + u64::from(b))
    }

    #[test]
    fn lines_in_order_are_free_others_looked_up() {
        let mut c = Cache::default();
        assert_eq!(pass(&mut c, &["a", "b", "c"], End::Complete), (0, 0, 3, vec![]));
        assert_eq!(pass(&mut c, &["a", "b", "c"], End::Complete), (3, 0, 0, vec![]));
        // One inserted in the middle costs one miss and one lookup.
        assert_eq!(pass(&mut c, &["a", "x", "b", "c"], End::Complete), (3, 0, 1, vec![]));
        assert_eq!(pass(&mut c, &["a", "x", "b", "c"], End::Complete), (4, 0, 0, vec![]));
        assert_eq!(pass(&mut c, &["c", "b", "a"], End::Complete), (0, 3, 0, vec![reference("x")]));
        assert_eq!(pass(&mut c, &["c", "b"], End::Complete), (2, 0, 0, vec![reference("a")]));
        assert_eq!(c.len(), 2);
        assert_eq!(pass(&mut c, &["a", "c"], End::Complete), (1, 0, 1, vec![reference("b")]));
    }

    #[test]
    fn failure_marks_all_once_and_keeps_the_texts() {
        let mut c = Cache::default();
        pass(&mut c, &["a", "b"], End::Complete);
        assert_eq!(pass(&mut Cache::default(), &["a"], End::Failed).3, Vec::<u64>::new(), "never stored, never marked");
        // Half the body was read before it turned out bad: all of it is marked, none twice.
        let (ordered, _, _, stale) = pass(&mut c, &["a"], End::Failed);
        assert_eq!((ordered, stale), (1, vec![reference("a"), reference("b")]));
        assert_eq!(pass(&mut c, &[], End::Failed).3, Vec::<u64>::new());
        assert_eq!(pass(&mut c, &["a", "b"], End::Complete), (2, 0, 0, vec![]));
        assert_eq!(pass(&mut c, &["a"], End::Complete).3, vec![reference("b")]);
    }

    #[test]
    fn untracked_lines_get_no_marker_and_spellings_are_one_series() {
        let mut c = Cache::default();
        pass(&mut c, &["a!", "b"], End::Complete);
        assert_eq!(pass(&mut c, &["b"], End::Complete).3, Vec::<u64>::new());
        assert_eq!(pass(&mut c, &["b "], End::Complete).3, Vec::<u64>::new(), "the same series, spelled otherwise");
        assert_eq!(pass(&mut c, &[], End::Complete).3, vec![reference("b")]);
    }

    #[test]
    fn a_reset_still_owes_markers() {
        let mut c = Cache::default();
        pass(&mut c, &["a", "b"], End::Complete);
        c.reset();
        assert_eq!(pass(&mut c, &["a"], End::Complete), (0, 0, 1, vec![reference("b")]));
        assert_eq!(pass(&mut c, &["a"], End::Complete), (1, 0, 0, vec![]));
    }

    #[test]
    fn failing_scrapes_with_ever_new_series_stay_bounded() {
        let mut c = Cache::default();
        for i in 0..5000 {
            pass(&mut c, &[&format!("s{i}")], End::Failed);
        }
        assert!(c.len() <= 1001);
    }
}
