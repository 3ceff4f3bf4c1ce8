//! The heap that `topk` and `bottomk` keep their best in, `limitk` its first. Which of several equal values survive, and in which order an
//! instant query shows them, follows from how it moves its elements, so a dashboard's lines depend on it: the moves are
//! those of the binary heap of Go's `container/heap`, on which Prometheus builds them.

/// The best `k` of the values offered so far, each with the series it came from. At the root is the one to go next.
pub(super) struct Ranked {
    heap: Vec<(f64, usize)>,
    k: usize,
    lowest: bool,
}

impl Ranked {
    /// Keeps the greatest values, or the least if `lowest`. `k` is at least 1.
    pub(super) fn new(k: usize, lowest: bool) -> Self {
        Self { heap: Vec::new(), k, lowest }
    }

    /// Empty again, for the next step's `k`.
    pub(super) fn restart(&mut self, k: usize) {
        self.heap.clear();
        self.k = k;
    }

    pub(super) fn is_full(&self) -> bool {
        self.heap.len() >= self.k
    }

    /// Keeps it whatever there is. O(log n).
    pub(super) fn push(&mut self, v: f64, series: usize) {
        self.heap.push((v, series));
        self.rise();
    }

    /// What equals the least of the best does not replace it. O(log k), O(1) for a value that is not among the best.
    pub(super) fn offer(&mut self, v: f64, series: usize) {
        if !self.is_full() {
            return self.push(v, series);
        }
        let Some(root) = self.heap.first_mut() else { return };
        let better = if self.lowest { v < root.0 } else { v > root.0 };
        if better || (root.0.is_nan() && !v.is_nan()) {
            *root = (v, series);
            self.sink();
        }
    }

    /// The series kept, in the order of the heap.
    pub(super) fn series(&self) -> impl Iterator<Item = usize> {
        self.heap.iter().map(|(_, series)| *series)
    }

    /// The series kept, the best first, equals in the order of the heap, NaN last and the last of them first.
    pub(super) fn in_order(&mut self) -> impl Iterator<Item = usize> {
        let lowest = self.lowest;
        self.heap.sort_by(|(x, _), (y, _)| {
            // Two numbers compare; of a NaN and a number the number is first.
            let order = x.partial_cmp(y).map(|o| if lowest { o } else { o.reverse() });
            order.unwrap_or_else(|| x.is_nan().cmp(&y.is_nan()))
        });
        let numbers = self.heap.partition_point(|(v, _)| !v.is_nan());
        self.heap[numbers..].reverse();
        self.series()
    }

    /// Whether the element at `i` goes before the one at `j`; a NaN before everything, another NaN too.
    fn goes_first(&self, i: usize, j: usize) -> bool {
        let (x, y) = (self.heap[i].0, self.heap[j].0);
        x.is_nan() || if self.lowest { x > y } else { x < y }
    }

    fn rise(&mut self) {
        let mut i = self.heap.len() - 1;
        while i > 0 {
            let parent = (i - 1) / 2;
            if !self.goes_first(i, parent) {
                return;
            }
            self.heap.swap(i, parent);
            i = parent;
        }
    }

    fn sink(&mut self) {
        let mut i = 0;
        loop {
            let (left, right) = (2 * i + 1, 2 * i + 2);
            if left >= self.heap.len() {
                return;
            }
            let child = if right < self.heap.len() && self.goes_first(right, left) { right } else { left };
            if !self.goes_first(child, i) {
                return;
            }
            self.heap.swap(i, child);
            i = child;
        }
    }
}
