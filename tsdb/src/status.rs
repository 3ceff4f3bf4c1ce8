//! Numbers for the status pages.
use std::sync::atomic::Ordering;

use ferula_model::labels::METRIC_NAME;

use crate::head::Head;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadStats {
    pub series: u64,
    pub chunks: u64,
    pub label_pairs: u64,
    /// Milliseconds; upstream's extremes while the head is empty.
    pub min_time_ms: i64,
    pub max_time_ms: i64,
}

impl HeadStats {
    pub fn of(head: &Head) -> HeadStats {
        HeadStats {
            series: head.series_count(),
            chunks: head.chunk_count(),
            label_pairs: head.index().postings().pairs() as u64,
            min_time_ms: head.min_time(),
            max_time_ms: head.max_time(),
        }
    }
}

/// Name and count, largest first.
pub type Ranking = Vec<(String, u64)>;

#[derive(Clone, Debug, Default)]
pub struct TsdbStatus {
    pub head: HeadStats,
    pub series_count_by_metric_name: Ranking,
    pub label_value_count_by_label_name: Ranking,
    pub memory_in_bytes_by_label_name: Ranking,
    /// `name=value`.
    pub series_count_by_label_value_pair: Ranking,
}

impl TsdbStatus {
    pub fn of(head: &Head, limit: usize) -> TsdbStatus {
        let limit = limit.min(10_000);
        let mut status = TsdbStatus { head: HeadStats::of(head), ..TsdbStatus::default() };
        let index = head.index();
        let (postings, symbols) = (index.postings(), index.texts());
        let (mut values, mut memory, mut pairs, mut metrics) = (vec![], vec![], vec![], vec![]);
        for name in postings.names() {
            let text = symbols.get(name);
            let Some(lists) = postings.values(name) else { continue };
            values.push((text.to_owned(), lists.len() as u64));
            let of = |v: &u32| encoded_bytes(text) + encoded_bytes(symbols.get(*v));
            let bytes = lists.iter().map(|(v, l)| (of(v) * l.len()) as u64).sum();
            memory.push((text.to_owned(), bytes));
            // Only the largest matter: names are made for these, not for every pair.
            let mut largest: Vec<(u32, u64)> = lists.iter().map(|(v, l)| (*v, l.len() as u64)).collect();
            largest.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| symbols.get(a.0).cmp(symbols.get(b.0))));
            for (v, n) in largest.into_iter().take(limit) {
                if text == METRIC_NAME {
                    metrics.push((symbols.get(v).to_owned(), n));
                }
                pairs.push((format!("{text}={}", symbols.get(v)), n));
            }
        }
        drop(index);
        status.series_count_by_metric_name = top(metrics, limit);
        status.label_value_count_by_label_name = top(values, limit);
        status.memory_in_bytes_by_label_name = top(memory, limit);
        status.series_count_by_label_value_pair = top(pairs, limit);
        status
    }
}

/// What a string takes in upstream's labels, its length before it.
fn encoded_bytes(text: &str) -> usize {
    text.len() + if text.len() < 255 { 1 } else { 4 }
}

fn top(mut ranking: Ranking, limit: usize) -> Ranking {
    ranking.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    ranking.truncate(limit);
    ranking
}

impl Head {
    /// Full and open chunks.
    pub fn chunk_count(&self) -> u64 {
        let c = &self.counts;
        let full = c.chunks_created.load(Ordering::Relaxed).saturating_sub(c.chunks_removed.load(Ordering::Relaxed));
        full + self.series_count()
    }
}
