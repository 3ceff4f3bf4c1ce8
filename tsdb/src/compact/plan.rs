//! Which blocks to merge: upstream's levels, each three times the one below.
use crate::block::Meta;

/// Ranges of the levels: `min`, three times that, and so on up to `max`.
pub fn ranges(min_ms: i64, max_ms: i64) -> Vec<i64> {
    let mut out = vec![min_ms.max(1)];
    while let Some(next) = out.last().and_then(|r| r.checked_mul(3)).filter(|r| *r <= max_ms) {
        out.push(next);
    }
    out
}

/// Indices of blocks to merge into one, or nothing. Blocks that overlap come first; then those that fill a range of a
/// level, or lie in a range that is over. The newest block is left alone, so that there is time to back it up.
pub fn plan(metas: &[&Meta], ranges: &[i64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..metas.len()).collect();
    let meta = |i: &usize| metas.get(*i);
    order.sort_by_key(|i| meta(i).map(|m| (m.min_time_ms, m.max_time_ms)));
    let overlapping = overlapping(metas, &order);
    if !overlapping.is_empty() {
        return overlapping;
    }
    order.pop();
    let high = order.last().and_then(meta).map_or(i64::MIN, |m| m.min_time_ms);
    for range in ranges.iter().skip(1) {
        let mut rest = &order[..];
        while let Some(first) = rest.first().and_then(meta) {
            let start = first.min_time_ms.div_euclid(*range) * range;
            let part: Vec<usize> =
                rest.iter().take_while(|i| meta(i).is_some_and(|m| m.min_time_ms < start + range)).copied().collect();
            rest = rest.get(part.len().max(1)..).unwrap_or(&[]);
            // A block that reaches beyond the range is of a higher level.
            let inside = part.iter().all(|i| meta(i).is_some_and(|m| m.max_time_ms <= start + range));
            let failed = part.iter().any(|i| meta(i).is_some_and(|m| m.compaction.failed));
            if !inside || failed || part.len() < 2 {
                continue;
            }
            let end = part.iter().filter_map(|i| meta(i).map(|m| m.max_time_ms)).max().unwrap_or(start);
            if end - first.min_time_ms == *range || end <= high {
                return part;
            }
        }
    }
    Vec::new()
}

fn overlapping(metas: &[&Meta], order: &[usize]) -> Vec<usize> {
    let mut found: Vec<usize> = Vec::new();
    let mut end = i64::MIN;
    let mut last = None;
    for i in order {
        let Some(m) = metas.get(*i) else { continue };
        if m.min_time_ms < end {
            if found.is_empty() {
                found.extend(last);
            }
            found.push(*i);
        } else if !found.is_empty() {
            return found;
        }
        end = end.max(m.max_time_ms);
        last = Some(*i);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(blocks: &[(i64, i64)], want: &[usize]) {
        let metas: Vec<Meta> =
            blocks.iter().map(|(a, b)| Meta { min_time_ms: *a, max_time_ms: *b, ..Meta::default() }).collect();
        let got = plan(&metas.iter().collect::<Vec<_>>(), &ranges(20, 540));
        assert_eq!(got, want, "{blocks:?}");
    }

    #[test]
    fn levels_as_upstream() {
        assert_eq!(ranges(20, 540), [20, 60, 180, 540]);
        check(&[(0, 20)], &[]);
        check(&[(0, 20), (20, 40), (40, 60)], &[]); // the newest may still get company
        check(&[(0, 20), (20, 40), (40, 60), (60, 80)], &[0, 1, 2]);
        check(&[(0, 20), (20, 40), (60, 80)], &[]);
        check(&[(0, 20), (20, 40), (60, 80), (80, 100)], &[0, 1]); // the range is over although it is not full
        check(&[(0, 20), (60, 80), (80, 100)], &[]);
        check(&[(0, 60), (60, 120), (120, 180), (180, 200)], &[0, 1, 2]);
        check(&[(60, 120), (0, 60), (120, 180), (180, 200)], &[1, 0, 2]);
        check(&[(0, 60), (120, 180), (180, 200), (540, 560)], &[0, 1]);
        check(&[(0, 180), (180, 240), (240, 260)], &[]);
        check(&[(0, 20), (10, 30), (40, 60)], &[0, 1]); // overlapping
        check(&[(0, 100), (10, 20), (90, 110), (110, 120)], &[0, 1, 2]);
    }
}
