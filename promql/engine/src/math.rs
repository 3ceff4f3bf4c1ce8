//! Numeric kernels: compensated sums, quantiles, regression.

/// A Kahan-Babuška-Neumaier sum.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    pub sum: f64,
    pub comp: f64,
}

impl Sum {
    pub fn of(first: f64) -> Sum {
        Sum { sum: first, comp: 0.0 }
    }
    #[inline(always)]
    pub fn add(&mut self, x: f64) {
        let t = self.sum + x;
        if t.is_infinite() {
            self.comp = 0.0;
        } else if self.sum.abs() >= x.abs() {
            self.comp += (self.sum - t) + x;
        } else {
            self.comp += (x - t) + self.sum;
        }
        self.sum = t;
    }
    /// [`add`](Self::add) as long as the sum stays finite; the caller checks in the end: once infinite or NaN, a sum
    /// never is finite again.
    #[inline(always)]
    pub fn add_finite(self, x: f64) -> Sum {
        let t = self.sum + x;
        let lost = if self.sum.abs() >= x.abs() { (self.sum - t) + x } else { (x - t) + self.sum };
        Sum { sum: t, comp: self.comp + lost }
    }
    #[inline(always)]
    pub fn value(self) -> f64 {
        self.sum + self.comp
    }
}

/// Folds the values of many windows, four windows at a time: each fold waits for its own previous step only, so four
/// of them take little longer than one. Order within a window is kept. `done` gets each window's number and result;
/// empty windows are left out. An error of `done` ends it.
pub fn fold_windows<S: Copy, E>(
    values: &[f64],
    bounds: &[(u32, u32)],
    init: S,
    step: impl Fn(S, f64) -> S,
    mut done: impl FnMut(usize, &[f64], S) -> Result<(), E>,
) -> Result<(), E> {
    let window = |(from, to): (u32, u32)| values.get(from as usize..to as usize).unwrap_or(&[]);
    let mut n = 0;
    for four in bounds.chunks(4) {
        let mut windows: [&[f64]; 4] = [&[]; 4];
        four.iter().zip(&mut windows).for_each(|(b, w)| *w = window(*b));
        let shared = windows.iter().map(|w| w.len()).min().unwrap_or(0);
        let mut states = [init; 4];
        let [a, b, c, d] = windows.map(|w| &w[..shared]);
        for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
            states = [step(states[0], *a), step(states[1], *b), step(states[2], *c), step(states[3], *d)];
        }
        for (i, (w, s)) in windows.iter().zip(states).take(four.len()).enumerate() {
            if !w.is_empty() {
                done(n + i, w, w[shared..].iter().fold(s, |s, v| step(s, *v)))?;
            }
        }
        n += 4;
    }
    Ok(())
}

/// A mean that sums as long as the sum is finite and continues incrementally from there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Mean {
    sum: Sum,
    count: f64,
    incremental: bool,
}

impl Mean {
    pub fn add(&mut self, x: f64) {
        self.count += 1.0;
        if self.count == 1.0 {
            self.sum = Sum::of(x);
            return;
        }
        if !self.incremental {
            let mut next = self.sum;
            next.add(x);
            if !next.sum.is_infinite() {
                self.sum = next;
                return;
            }
            self.incremental = true;
            self.sum.sum /= self.count - 1.0;
            self.sum.comp /= self.count - 1.0;
        }
        if self.sum.sum.is_infinite() {
            // An infinite mean stays: only the other infinity or NaN can change it.
            if (x.is_infinite() && (self.sum.sum > 0.0) == (x > 0.0)) || x.is_finite() {
                return;
            }
        }
        let share = (self.count - 1.0) / self.count;
        let mut next = Sum { sum: share * self.sum.sum, comp: share * self.sum.comp };
        next.add(x / self.count);
        self.sum = next;
    }
    pub fn value(self) -> f64 {
        if self.incremental { self.sum.value() } else { self.sum.sum / self.count + self.sum.comp / self.count }
    }
    pub fn of(values: &[f64]) -> f64 {
        let mut m = Mean::default();
        values.iter().for_each(|v| m.add(*v));
        m.value()
    }
}

/// The `q`-quantile of `values` (reordered), interpolating linearly; NaN sorts lowest. Outside 0..=1: the infinities.
pub fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_by(nan_first);
    let n = values.len() as f64;
    let rank = q * (n - 1.0);
    let lower = rank.floor().max(0.0);
    let upper = (lower + 1.0).min(n - 1.0);
    let weight = rank - rank.floor();
    values[lower as usize] * (1.0 - weight) + values[upper as usize] * weight
}

/// Rising order with NaN before everything.
pub fn nan_first(a: &f64, b: &f64) -> std::cmp::Ordering {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        _ => a.partial_cmp(b).unwrap_or(std::cmp::Ordering::Equal),
    }
}

/// Slope per second and value at `intercept_ms` of the least-squares line through the points.
pub fn linear_regression(times: &[i64], values: &[f64], intercept_ms: i64) -> (f64, f64) {
    let (mut x, mut y, mut xy, mut x2) = (Sum::default(), Sum::default(), Sum::default(), Sum::default());
    let Some(first) = values.first().copied() else { return (f64::NAN, f64::NAN) };
    let mut constant = true;
    let mut n = 0.0;
    for (i, (t, v)) in times.iter().zip(values).enumerate() {
        // A constant line must have slope exactly zero, which the sums would miss by rounding.
        if constant && i > 0 && *v != first {
            constant = false;
        }
        n += 1.0;
        let dx = (t - intercept_ms) as f64 / 1e3;
        x.add(dx);
        y.add(*v);
        xy.add(dx * v);
        x2.add(dx * dx);
    }
    if constant {
        if first.is_infinite() {
            return (f64::NAN, f64::NAN);
        }
        return (0.0, first);
    }
    let (sx, sy, sxy, sx2) = (x.value(), y.value(), xy.value(), x2.value());
    let cov = sxy - sx * sy / n;
    let var = sx2 - sx * sx / n;
    let slope = cov / var;
    (slope, sy / n - slope * sx / n)
}

/// Population variance with compensated sums (Welford); NaN input gives NaN.
pub fn variance(values: &[f64]) -> f64 {
    let (mut mean, mut m2, mut n) = (Sum::default(), Sum::default(), 0.0);
    for v in values {
        n += 1.0;
        let delta = v - mean.value();
        mean.add(delta / n);
        m2.add(delta * (v - mean.value()));
    }
    m2.value() / n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_keep_small_terms() {
        let mut s = Sum::default();
        [1.0, 1e100, 1.0, -1e100].iter().for_each(|x| s.add(*x));
        assert_eq!(s.value(), 2.0);
    }

    #[test]
    fn means_survive_overflow() {
        assert!((Mean::of(&[f64::MAX; 3]) / f64::MAX - 1.0).abs() < 1e-15);
        assert_eq!(Mean::of(&[f64::INFINITY, 1.0, f64::INFINITY]), f64::INFINITY);
        assert!(Mean::of(&[f64::INFINITY, f64::NEG_INFINITY]).is_nan());
        assert_eq!(Mean::of(&[1.0, 2.0, 6.0]), 3.0);
    }

    #[test]
    fn quantiles() {
        let mut v = [3.0, 1.0, f64::NAN, 2.0];
        assert!(quantile(0.0, &mut v).is_nan());
        assert_eq!(quantile(1.0, &mut v), 3.0);
        assert_eq!(quantile(0.5, &mut [1.0, 2.0]), 1.5);
        assert_eq!(quantile(-1.0, &mut [1.0]), f64::NEG_INFINITY);
        assert!(quantile(0.5, &mut []).is_nan());
    }

    #[test]
    fn regression() {
        assert_eq!(linear_regression(&[0, 1000, 2000], &[1.0, 3.0, 5.0], 1000), (2.0, 3.0));
        assert_eq!(linear_regression(&[0, 1000], &[7.0, 7.0], 0), (0.0, 7.0));
    }
}
