//! Quantiles of a stream in bounded memory: the targeted quantiles of Cormode, Korn, Muthukrishnan and Srivastava,
//! "Effective Computation of Biased Quantiles over Data Streams" (2005).
//!
//! A sample stands for `width` observations up to its value; `delta` is how uncertain its rank is. Neighbours are merged
//! while their joint uncertainty stays under what the wanted quantiles tolerate at that rank.

/// A wanted quantile and the rank error it tolerates, both as fractions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Target {
    pub quantile: f64,
    pub error: f64,
}

impl Target {
    /// A tenth of the distance to the nearer end: 0.5 ± 0.05, 0.9 ± 0.01, 0.99 ± 0.001, as upstream chooses.
    pub(crate) fn of(quantile: f64) -> Target {
        Target { quantile, error: quantile.min(1.0 - quantile) / 10.0 }
    }
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    value: f64,
    width: f64,
    delta: f64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Sketch {
    samples: Vec<Sample>,
    /// Sum of all widths.
    count: f64,
}

impl Sketch {
    pub(crate) fn clear(&mut self) {
        self.samples.clear();
        self.count = 0.0;
    }

    /// Adds observations that are already in ascending order.
    pub(crate) fn merge(&mut self, ascending: &[f64], targets: &[Target]) {
        let old = std::mem::take(&mut self.samples);
        let mut merged = Vec::with_capacity(old.len() + ascending.len());
        let mut old = old.into_iter().peekable();
        let mut rank = 0.0; // of the last merged sample
        for &value in ascending {
            while let Some(s) = old.next_if(|s| s.value <= value) {
                rank += s.width;
                merged.push(s);
            }
            let is_end = merged.is_empty() || old.peek().is_none();
            let delta = if is_end { 0.0 } else { (allowed(targets, rank, self.count).floor() - 1.0).max(0.0) };
            merged.push(Sample { value, width: 1.0, delta });
            self.count += 1.0;
            rank += 1.0;
        }
        merged.extend(old);
        self.samples = merged;
        self.compress(targets);
    }

    /// From the right, joins a sample into its right neighbour where the tolerance allows.
    fn compress(&mut self, targets: &[Target]) {
        let mut kept: Vec<Sample> = Vec::with_capacity(self.samples.len());
        let mut rank = self.count;
        for s in self.samples.iter().rev() {
            rank -= s.width; // observations before this sample
            match kept.last_mut() {
                Some(right) if s.width + right.width + right.delta <= allowed(targets, rank, self.count) => {
                    right.width += s.width;
                }
                _ => kept.push(*s),
            }
        }
        kept.reverse();
        self.samples = kept;
    }

    /// NaN when empty.
    pub(crate) fn query(&self, q: f64, targets: &[Target]) -> f64 {
        let Some(first) = self.samples.first() else { return f64::NAN };
        let wanted = (q * self.count).ceil();
        let limit = wanted + allowed(targets, wanted, self.count) / 2.0;
        let (mut previous, mut rank) = (first, 0.0);
        for s in self.samples.iter().skip(1) {
            rank += previous.width;
            if rank + s.width + s.delta > limit {
                break;
            }
            previous = s;
        }
        previous.value
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.samples.len()
    }
}

/// How many observations a sample at `rank` of `count` may stand for.
fn allowed(targets: &[Target], rank: f64, count: f64) -> f64 {
    let mut least = f64::MAX;
    for t in targets {
        let f = if t.quantile * count <= rank {
            2.0 * t.error * rank / t.quantile
        } else {
            2.0 * t.error * (count - rank) / (1.0 - t.quantile)
        };
        if f < least {
            least = f;
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fixed, full-period walk through 0..n.
    fn scattered(n: u64) -> Vec<f64> {
        (0..n).map(|i| (i * 7_919 % n) as f64).collect()
    }

    #[test]
    fn ranks_stay_within_the_tolerance_and_the_memory_small() {
        let targets: Vec<Target> = [0.5, 0.9, 0.99].map(Target::of).to_vec();
        let n = 100_000u64;
        let mut sketch = Sketch::default();
        for part in scattered(n).chunks(500) {
            let mut part = part.to_vec();
            part.sort_by(f64::total_cmp);
            sketch.merge(&part, &targets);
        }
        for t in &targets {
            let got = sketch.query(t.quantile, &targets) / n as f64; // the value is its own rank
            assert!((got - t.quantile).abs() <= 1.5 * t.error, "{} got {got}", t.quantile);
        }
        assert!(sketch.len() < 1_000, "{} samples", sketch.len());
    }

    #[test]
    fn few_values_are_exact() {
        let targets: Vec<Target> = [0.5, 0.9, 0.99].map(Target::of).to_vec();
        let mut sketch = Sketch::default();
        assert!(sketch.query(0.5, &targets).is_nan());
        sketch.merge(&[15.0], &targets);
        assert_eq!(sketch.query(0.99, &targets), 15.0);
        sketch.merge(&[1.0, 2.0, 3.0], &targets);
        assert_eq!(sketch.query(0.5, &targets), 2.0);
    }
}
