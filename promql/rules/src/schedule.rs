//! When a group is due: at its own offset within the interval, so that groups spread over time and keep their slots
//! over restarts.
use ferula_model::{LabelView, Labels};

/// The group's place within its interval, in milliseconds. Same file and name, same place.
pub(crate) fn offset_ms(file: &str, name: &str, interval_ms: i64) -> i64 {
    let hash = Labels::from_pairs([("file", file), ("name", name)]).stable_hash();
    let interval_ns = interval_ms.max(1).unsigned_abs().saturating_mul(1_000_000);
    i64::try_from(hash % interval_ns / 1_000_000).unwrap_or(0)
}

/// The first due time after `now_ms`.
pub(crate) fn first_after(now_ms: i64, interval_ms: i64, offset_ms: i64) -> i64 {
    let interval = interval_ms.max(1);
    now_ms - (now_ms - offset_ms).rem_euclid(interval) + interval
}

/// The due time after `due_ms`, when the clock says `now_ms`, and how many were missed. A clock that was set back by
/// more than an interval starts the schedule anew.
pub(crate) fn next(due_ms: i64, now_ms: i64, interval_ms: i64, offset_ms: i64) -> (i64, u64) {
    let interval = interval_ms.max(1);
    if due_ms - now_ms > interval {
        return (first_after(now_ms, interval, offset_ms), 0);
    }
    let late = ((now_ms - due_ms) / interval).max(1);
    (due_ms + late * interval, (late - 1).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_its_slot() {
        let offset = offset_ms("f", "g", 15_000);
        assert!((0..15_000).contains(&offset));
        assert_eq!(offset, offset_ms("f", "g", 15_000));
        for now in [0, 1, 14_999, 15_000, 1_700_000_000_123] {
            let due = first_after(now, 15_000, offset);
            assert_eq!((due - offset).rem_euclid(15_000), 0);
            assert!(due > now && due <= now + 15_000);
        }
    }

    #[test]
    fn counts_what_it_missed() {
        assert_eq!(next(100_000, 100_010, 15_000, 0), (115_000, 0));
        assert_eq!(next(100_000, 114_999, 15_000, 0), (115_000, 0));
        assert_eq!(next(100_000, 116_000, 15_000, 0), (115_000, 0)); // late, but not missed
        assert_eq!(next(100_000, 131_000, 15_000, 0), (130_000, 1));
        assert_eq!(next(100_000, 175_500, 15_000, 0), (175_000, 4));
    }

    #[test]
    fn a_clock_set_back_starts_anew() {
        assert_eq!(next(1_000_000, 100_000, 15_000, 0), (105_000, 0));
    }
}
