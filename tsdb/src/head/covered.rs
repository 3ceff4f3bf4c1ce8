//! What a replay need not look at again: the stretches of time that the files of head chunks hold, series by series.
//!
//! A sample that lies in a full chunk is dropped as soon as it is decoded; most samples of a log are such. The series of one
//! target come one after the other in the log and here, so that the table is in the cache. Cost: 16 bytes a series, while
//! the replay lasts.
use super::Head;
use super::head_chunks::Loaded;

/// Of one series: of the full chunk that the log has reached. Nothing is left to be covered when it ends before it begins.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    from_ms: i64,
    to_ms: i64,
}

const DONE: Stretch = Stretch { from_ms: i64::MAX, to_ms: i64::MIN };
const NOT_BEGUN: Stretch = Stretch { from_ms: i64::MIN, to_ms: i64::MIN };

/// By reference, beginning with the lowest.
#[derive(Debug, Default)]
pub(super) struct Covered {
    low: u64,
    of: Vec<Stretch>,
}

impl Covered {
    /// Room for the series of these chunks; none if their references lie too far apart for a table.
    pub fn new(chunks: &Loaded) -> Covered {
        let Some((low, high)) = chunks.bounds() else { return Covered::default() };
        let span = usize::try_from(high - low).unwrap_or(usize::MAX);
        if span > chunks.len().saturating_mul(4).saturating_add(1 << 16) {
            return Covered::default();
        }
        Covered { low, of: vec![DONE; span + 1] }
    }
    fn slot(&mut self, series: u64) -> Option<&mut Stretch> {
        let at = usize::try_from(series.checked_sub(self.low)?).ok()?;
        self.of.get_mut(at)
    }
    /// The series has taken over its full chunks.
    pub fn begin(&mut self, series: u64) {
        if let Some(stretch) = self.slot(series) {
            *stretch = NOT_BEGUN;
        }
    }
    /// Whether a sample of the log is in a full chunk, or older than one that the log has reached: then it was refused when
    /// it came. To be asked in the order of the log. `false` may also mean that it is not known here.
    #[inline]
    pub fn has(&mut self, head: &Head, series: u64, t_ms: i64) -> bool {
        let Some(stretch) = self.slot(series) else { return false };
        if stretch.from_ms > stretch.to_ms {
            return false;
        }
        if t_ms <= stretch.to_ms {
            return true;
        }
        let next = head.series.by_ref(series).and_then(|s| s.state().covering(t_ms));
        *stretch = next.map_or(DONE, |(from_ms, to_ms)| Stretch { from_ms, to_ms });
        next.is_some()
    }
}
