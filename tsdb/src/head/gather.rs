//! Replay, series by series: samples of many records are gathered and brought into the order of their series, so that each
//! series is visited once for several samples, and on all cores.
//!
//! In the order of the log nearly every sample waits for memory: that of its series is not in the cache. Cost of the
//! detour: 28 bytes a sample while it lasts, its place in the order included.
use std::num::NonZero;

use super::Head;
use super::replay::ReplayStats;
use super::series::MemSeries;
use crate::record::histograms::Native;

/// Samples gathered before they are applied: enough that each series has a few, little beside the head itself. Of 300,000
/// series two of each take 17 MB and some 7 % more CPU than four, one 8 MB and a quarter more.
const SAMPLES_MIN: usize = 1 << 17;
const SAMPLES_MAX: usize = 1 << 21;
const SAMPLES_PER_SERIES: usize = 2;
/// Series that are looked up in one go.
const SERIES_AT_ONCE: usize = 256;
/// Fewer are not worth a second thread.
const PARALLEL_FROM: usize = 1 << 14;

#[derive(Debug)]
struct Gathered {
    t_ms: i64,
    /// Of the float, or the place of the histogram.
    bits: u64,
    /// References have 32 bits; a larger one in the log is of no series.
    series: u32,
    is_histogram: bool,
}

#[derive(Debug, Default)]
pub struct Gather {
    samples: Vec<Gathered>,
    /// Start times beside the samples; shorter when the last ones have none.
    starts: Vec<i64>,
    histograms: Vec<Option<Native>>,
    /// Samples whose reference cannot be one.
    impossible: u64,
}

/// What applying did.
#[derive(Clone, Copy, Debug)]
pub struct Applied {
    pub stats: ReplayStats,
    pub mint_ms: i64,
    pub maxt_ms: i64,
}

impl Applied {
    pub fn nothing() -> Applied {
        Applied { stats: ReplayStats::default(), mint_ms: i64::MAX, maxt_ms: i64::MIN }
    }
    pub fn merge(&mut self, o: &Applied) {
        self.stats.samples += o.stats.samples;
        self.stats.histograms += o.stats.histograms;
        self.stats.orphaned += o.stats.orphaned;
        self.mint_ms = self.mint_ms.min(o.mint_ms);
        self.maxt_ms = self.maxt_ms.max(o.maxt_ms);
    }
}

impl Gather {
    fn start(&mut self, start_ms: i64) {
        if start_ms != 0 {
            self.starts.resize(self.samples.len(), 0);
            self.starts.push(start_ms);
        }
    }
    pub fn float(&mut self, series: u64, start_ms: i64, t_ms: i64, bits: u64) {
        let Ok(series) = u32::try_from(series) else { return self.impossible += 1 };
        self.start(start_ms);
        self.samples.push(Gathered { series, t_ms, bits, is_histogram: false });
    }
    pub fn histogram(&mut self, series: u64, start_ms: i64, t_ms: i64, h: Native) {
        let Ok(series) = u32::try_from(series) else { return self.impossible += 1 };
        self.start(start_ms);
        let bits = self.histograms.len() as u64;
        self.samples.push(Gathered { series, t_ms, bits, is_histogram: true });
        self.histograms.push(Some(h));
    }
    pub fn is_full(&self, series: u64) -> bool {
        let wanted = (series as usize).saturating_mul(SAMPLES_PER_SERIES);
        self.samples.len() >= wanted.clamp(SAMPLES_MIN, SAMPLES_MAX) || self.histograms.len() >= SAMPLES_MIN / 4
    }

    /// Applies everything and empties itself.
    pub fn apply(&mut self, head: &Head) -> Applied {
        let order = self.order();
        // Histograms are few: one thread takes them all, series by series as well.
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(8);
        let mut total = Applied::nothing();
        if !self.histograms.is_empty() || threads == 1 || order.len() < PARALLEL_FROM {
            total = run(head, &order, (&self.samples, &self.starts), &mut self.histograms);
        } else {
            let samples = (&self.samples[..], &self.starts[..]);
            std::thread::scope(|scope| {
                let parts = parts(&order, &self.samples, threads);
                let running: Vec<_> =
                    parts.into_iter().map(|part| scope.spawn(move || run(head, part, samples, &mut []))).collect();
                for r in running {
                    match r.join() {
                        Ok(done) => total.merge(&done),
                        Err(panic) => std::panic::resume_unwind(panic),
                    }
                }
            });
        }
        total.stats.orphaned += std::mem::take(&mut self.impossible);
        self.samples.clear();
        self.starts.clear();
        self.histograms.clear();
        total
    }

    /// Places of the samples by series, those of one series in the order of the log.
    fn order(&self) -> Vec<u32> {
        let (mut low, mut high) = (u32::MAX, 0);
        for s in &self.samples {
            low = low.min(s.series);
            high = high.max(s.series);
        }
        let span = high.saturating_sub(low);
        let n = self.samples.len();
        if u64::from(span) > (n as u64).saturating_mul(16) {
            let mut order: Vec<u32> = (0..n as u32).collect();
            order.sort_by_key(|i| self.samples.get(*i as usize).map(|s| s.series));
            return order;
        }
        // References are dense: count, then place.
        let mut next = vec![0u32; span as usize + 2];
        let slot = |s: &Gathered| (s.series - low) as usize;
        for s in &self.samples {
            if let Some(c) = next.get_mut(slot(s) + 1) {
                *c += 1;
            }
        }
        let mut sum = 0;
        for c in &mut next {
            sum += *c;
            *c = sum;
        }
        let mut order = vec![0u32; n];
        for (i, s) in self.samples.iter().enumerate() {
            if let Some(at) = next.get_mut(slot(s)) {
                if let Some(place) = order.get_mut(*at as usize) {
                    *place = i as u32;
                }
                *at += 1;
            }
        }
        order
    }
}

/// Cuts the order into parts of about equal size, between series.
fn parts<'a>(order: &'a [u32], samples: &[Gathered], threads: usize) -> Vec<&'a [u32]> {
    let series = |i: &u32| samples.get(*i as usize).map(|s| s.series);
    let mut parts = Vec::with_capacity(threads);
    let mut rest = order;
    for left in (1..=threads).rev() {
        let mut end = rest.len() / left;
        while end > 0 && end < rest.len() && rest.get(end).map(series) == rest.get(end - 1).map(series) {
            end += 1;
        }
        let (part, more) = rest.split_at_checked(end).unwrap_or((rest, &[]));
        parts.push(part);
        rest = more;
    }
    parts
}

/// `samples` with their start times.
fn run(
    head: &Head,
    order: &[u32],
    (samples, starts): (&[Gathered], &[i64]),
    histograms: &mut [Option<Native>],
) -> Applied {
    let mut done = Applied::nothing();
    let rules = head.rules();
    let at = |i: &u32| samples.get(*i as usize);
    let mut rest = order;
    let (mut groups, mut found) = (Vec::with_capacity(SERIES_AT_ONCE), Vec::with_capacity(SERIES_AT_ONCE));
    while !rest.is_empty() {
        groups.clear();
        while let (true, Some(first)) = (groups.len() < SERIES_AT_ONCE, rest.first().and_then(at)) {
            let end = rest.iter().take_while(|i| at(i).is_some_and(|s| s.series == first.series)).count();
            let (group, more) = rest.split_at_checked(end.max(1)).unwrap_or((rest, &[]));
            groups.push((first.series, group));
            rest = more;
        }
        if groups.is_empty() {
            break; // no such place: cannot be
        }
        found.clear();
        head.series.by_refs(groups.iter().map(|(series, _)| u64::from(*series)), &mut found);
        let mut found = found.iter().peekable();
        for (number, group) in &groups {
            let number = u64::from(*number);
            let Some(series) = found.next_if(|s: &&std::sync::Arc<MemSeries>| s.series_ref() == number) else {
                done.stats.orphaned += group.len() as u64;
                head.note_ref(number);
                continue;
            };
            let mut store = |c| head.store_chunk(series.series_ref(), c);
            let mut state = series.state();
            for (i, s) in group.iter().filter_map(|i| Some((*i as usize, at(i)?))) {
                let start_ms = starts.get(i).copied().unwrap_or(0);
                if state.is_covered(s.t_ms) {
                    continue;
                }
                let mark = (0, u64::MAX); // seen by everybody
                let result = if s.is_histogram {
                    match histograms.get_mut(s.bits as usize).and_then(Option::take) {
                        Some(h) => state.append_histogram(start_ms, s.t_ms, h, mark, rules, &mut store),
                        None => continue,
                    }
                } else {
                    state.append_float(start_ms, s.t_ms, s.bits, mark, rules, &mut store)
                };
                if result == Ok(true) {
                    done.stats.samples += u64::from(!s.is_histogram);
                    done.stats.histograms += u64::from(s.is_histogram);
                    done.mint_ms = done.mint_ms.min(s.t_ms);
                    done.maxt_ms = done.maxt_ms.max(s.t_ms);
                }
            }
        }
    }
    done
}
