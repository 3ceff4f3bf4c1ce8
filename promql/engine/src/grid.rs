//! The times an expression is evaluated at.

/// `n` steps from `start_ms` on, `step_ms` apart. An instant has one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Grid {
    pub start_ms: i64,
    pub step_ms: i64,
    pub n: usize,
}

impl Grid {
    pub fn instant(t_ms: i64) -> Grid {
        Grid { start_ms: t_ms, step_ms: 1, n: 1 }
    }
    /// All steps up to and including `end_ms`.
    pub fn range(start_ms: i64, end_ms: i64, step_ms: i64) -> Grid {
        let step_ms = step_ms.max(1);
        let n = if end_ms < start_ms { 0 } else { (end_ms.saturating_sub(start_ms) / step_ms) as usize + 1 };
        Grid { start_ms, step_ms, n }
    }
    pub fn at(&self, i: usize) -> i64 {
        self.start_ms.saturating_add(self.step_ms.saturating_mul(i as i64))
    }
    pub fn times(&self) -> impl Iterator<Item = i64> {
        let g = *self;
        (0..g.n).map(move |i| g.at(i))
    }
}
