//! Series of which a query wants a chunk or two each, decoded several at a time.
//!
//! ```text
//! HeadSeriesSet   series a   series b   series c ...      whoever asks one of them for samples first
//! Group           chunks of a, b, c ... side by side  ->  decodes all, and keeps what is within the bounds
//! ```
//! Most of what an instant query costs is the one chunk of each series that is open: one alone is decoded slowly
//! (`chunk/xor_decode`). It is not done when the series are selected: that is where threads wait for each other.
use std::cell::RefCell;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ferula_storage::{SampleBatch, SampleIter, StorageError};
use smallvec::SmallVec;

use super::samples::{ChunkIter, ReadContext};
use crate::chunk::Encoding;
use crate::chunk::sample_count;
use crate::chunk::xor::{AT_ONCE, decode_all};
use crate::error::Error;
use crate::head::Intervals;
use crate::head::series::Snapshot;

/// Chunks of a series that is worth it; of more, several are decoded together anyway.
const CHUNKS_MAX: usize = 2;

/// Whether the snapshot is of a kind that is decoded together with those of other series.
pub fn suits(snapshot: &Snapshot) -> bool {
    let chunks = &snapshot.chunks;
    !chunks.is_empty() && chunks.len() <= CHUNKS_MAX && chunks.iter().all(|c| c.encoding == Encoding::Xor)
}

/// Some series, and their samples once somebody has asked.
struct Group {
    read: Arc<ReadContext>,
    newest_only: bool,
    members: Mutex<Vec<Snapshot>>,
    /// `None`: something is wrong with one of them, each shall find out for itself.
    decoded: OnceLock<Option<Decoded>>,
}

/// The samples of all members, one after the other.
#[derive(Default)]
struct Decoded {
    t_ms: Vec<i64>,
    values: Vec<f64>,
    /// Where each member's end.
    ends: SmallVec<[usize; AT_ONCE]>,
}

thread_local! {
    static SCRATCH: RefCell<(Vec<i64>, Vec<f64>)> = RefCell::default();
}

/// An iterator for each snapshot. `newest_only`: nothing but the newest sample of each is wanted.
pub fn together(read: &Arc<ReadContext>, members: Vec<Snapshot>, newest_only: bool) -> Vec<Box<dyn SampleIter>> {
    let firsts: SmallVec<[i64; AT_ONCE]> =
        members.iter().map(|m| m.chunks.first().map_or(i64::MAX, |c| c.mint_ms)).collect();
    let (read, members) = (Arc::clone(read), Mutex::new(members));
    let group = Arc::new(Group { read, newest_only, members, decoded: OnceLock::new() });
    let iter = |(place, first_ms)| {
        let group = Arc::clone(&group);
        Box::new(Member { group, place, first_ms, alone: None, ended: false }) as Box<dyn SampleIter>
    };
    firsts.into_iter().enumerate().map(iter).collect()
}

impl Group {
    fn decode(&self) -> Result<Decoded, Error> {
        let ReadContext { head, mint_ms, maxt_ms, .. } = &*self.read;
        let mut members = self.members.lock().unwrap_or_else(PoisonError::into_inner);
        for Snapshot { chunks, files } in members.iter_mut() {
            files.check(chunks, head.chunks_dir())?;
        }
        let runs = members.iter().flat_map(|m| m.chunks.iter().map(|c| (m.files.bytes(&c.data), c.visible)));
        let runs: SmallVec<[(&[u8], usize); AT_ONCE * CHUNKS_MAX]> = runs.collect();
        let mut decoded = Decoded::default();
        SCRATCH.with(|scratch| {
            let mut own = (Vec::new(), Vec::new());
            let mut scratch = scratch.try_borrow_mut();
            let (t_ms, values) = scratch.as_deref_mut().unwrap_or(&mut own);
            t_ms.clear();
            values.clear();
            decode_all(&runs, t_ms, values).map_err(|m| Error::Invalid(m.0.to_owned()))?;
            let mut runs = runs.iter();
            let mut at = 0;
            for Snapshot { chunks, files } in members.iter() {
                files.if_torn(head.chunks_dir())?;
                let count = |(bytes, visible): &(&[u8], usize)| usize::from(sample_count(bytes)).min(*visible);
                let n: usize = runs.by_ref().take(chunks.len()).map(count).sum();
                let times = t_ms.get(at..at + n).unwrap_or(&[]);
                let (from, to) = (times.partition_point(|t| t < mint_ms), times.partition_point(|t| t <= maxt_ms));
                let from = if self.newest_only { from.max(to.saturating_sub(1)) } else { from };
                decoded.t_ms.extend_from_slice(t_ms.get(at + from..at + to).unwrap_or(&[]));
                decoded.values.extend_from_slice(values.get(at + from..at + to).unwrap_or(&[]));
                decoded.ends.push(decoded.t_ms.len());
                at += n;
            }
            Ok(decoded)
        })
    }

    /// The samples of one.
    fn of(&self, place: usize) -> Option<(&[i64], &[f64])> {
        let decoded = self.decoded.get_or_init(|| self.decode().ok()).as_ref()?;
        let start = place.checked_sub(1).map_or(Some(0), |before| decoded.ends.get(before).copied())?;
        let range = start..*decoded.ends.get(place)?;
        Some((decoded.t_ms.get(range.clone())?, decoded.values.get(range)?))
    }
}

/// One series of a group.
struct Member {
    group: Arc<Group>,
    place: usize,
    first_ms: i64,
    /// When they cannot be decoded together.
    alone: Option<ChunkIter>,
    ended: bool,
}

impl SampleIter for Member {
    fn next_batch(&mut self, out: &mut SampleBatch) -> Result<bool, StorageError> {
        if let Some(alone) = &mut self.alone {
            return alone.next_batch(out);
        }
        out.clear();
        if std::mem::replace(&mut self.ended, true) {
            return Ok(false);
        }
        if let Some((t_ms, values)) = self.group.of(self.place) {
            let (times, floats) = out.floats_mut();
            times.extend_from_slice(t_ms);
            floats.extend_from_slice(values);
            return Ok(!out.is_empty());
        }
        let members = self.group.members.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(snapshot) = members.get(self.place).cloned() else { return Ok(false) };
        drop(members);
        let alone = ChunkIter::new(snapshot, Intervals::new(), Arc::clone(&self.group.read));
        self.alone.insert(alone).next_batch(out)
    }
    fn next_ms(&self) -> Option<i64> {
        match &self.alone {
            Some(alone) => alone.next_ms(),
            None => Some(if self.ended { i64::MAX } else { self.first_ms }),
        }
    }
    fn skip_to(&mut self, t_ms: i64) {
        if let Some(alone) = &mut self.alone {
            alone.skip_to(t_ms);
        }
    }
}
