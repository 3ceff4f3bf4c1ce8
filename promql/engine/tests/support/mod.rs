//! Generated expressions over a small set of series with gaps, resets, stale markers, histograms and mixtures.
use std::sync::Arc;

use ferula_promql_engine::test_language::{MemoryStore, load_block};

/// Samples 15 s apart from time 0 on.
pub const DATA: &str = "
  c_total{i=\"0\", z=\"a\"} 0+7x20 3+5x30 _x8 1+2x40
  c_total{i=\"1\", z=\"a\"} _x5 10+1x30 stale _x4 0+3x60
  c_total{i=\"2\", z=\"b\"} 1 1 1 _ _ 4 NaN 5 2 2 _x40 9+1x20
  g{i=\"0\", z=\"a\"} 5-1x50 -Inf 3 2 1 Inf 0x30
  g{i=\"1\", z=\"a\"} 1+1x100
  g{i=\"2\", z=\"b\"} _x20 3 1 4 1 5 9 2 6 5 3 5 8 9 7 9 _x30 2+1x20
  b_bucket{le=\"1\", z=\"a\"} 0+1x100
  b_bucket{le=\"2\", z=\"a\"} 0+3x60 10+3x40
  b_bucket{le=\"+Inf\", z=\"a\"} 0+4x100
  h{i=\"0\"} {{schema:0 count:3 sum:5 buckets:[1 2]}}+{{schema:0 count:3 sum:5 buckets:[1 2]}}x60 {{schema:1 count:1 sum:1 buckets:[1]}}x20
  mix{i=\"0\"} 1 2 3 {{schema:0 count:3 sum:5 buckets:[1 2]}}x10 4 5 6 7x30
";

/// A linear congruential generator: the seed is printed with a failure.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }
    fn of<'t>(&mut self, all: &[&'t str]) -> &'t str {
        all[self.below(all.len())]
    }
    fn selector(&mut self) -> String {
        let metric =
            self.of(&["c_total", "g", "g{z=\"a\"}", "b_bucket", "h", "mix", "{i=\"0\"}", "c_total{i=~\"[01]\"}"]);
        metric.to_owned()
    }
    fn modifier(&mut self) -> &'static str {
        self.of(&["", "", "", " offset 90s", " offset -1m", " @ 600", " @ 300 offset 30s"])
    }
    pub fn vector(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.selector() + self.modifier();
        }
        match self.below(14) {
            0 => self.selector() + self.modifier(),
            1 => {
                let f = self.of(&["rate", "increase", "delta", "irate", "idelta", "deriv", "changes", "resets"]);
                format!("{f}({})", self.matrix(depth))
            }
            2 => {
                let f = self.of(&[
                    "avg",
                    "sum",
                    "min",
                    "max",
                    "count",
                    "last",
                    "first",
                    "stddev",
                    "mad",
                    "present",
                    "ts_of_max",
                ]);
                format!("{f}_over_time({})", self.matrix(depth))
            }
            3 => {
                let op = self.of(&["sum", "avg", "min", "max", "count", "stddev", "group"]);
                let by = self.of(&["", " by (z)", " without (i)", " by (i, le)"]);
                format!("{op}{by} ({})", self.vector(depth - 1))
            }
            4 => {
                let op = self.of(&["+", "-", "*", "/", "%", ">", "== bool", "<= bool", "and", "or", "unless", "atan2"]);
                format!("({} {op} on (i, z) {})", self.vector(depth - 1), self.selector())
            }
            5 => {
                let op = self.of(&["+ 1", "* -2", "> 3", ">= bool 3", "^ 2", "% 5"]);
                format!("({} {op})", self.vector(depth - 1))
            }
            6 => {
                let f = self.of(&[
                    "abs",
                    "sgn",
                    "ceil",
                    "-",
                    "timestamp",
                    "histogram_count",
                    "histogram_quantile",
                    "minute",
                ]);
                match f {
                    "histogram_quantile" => format!("histogram_quantile(0.9, {})", self.vector(depth - 1)),
                    "-" => format!("-({})", self.vector(depth - 1)),
                    _ => format!("{f}({})", self.vector(depth - 1)),
                }
            }
            8 => {
                let f = self.of(&[
                    "quantile_over_time(0.3, #)",
                    "predict_linear(#, 60)",
                    "quantile_over_time(1.5, #)",
                    "stdvar_over_time(#)",
                    "absent_over_time(#)",
                    "rate(#)",
                    "increase(#)",
                    "avg_over_time(#)",
                ]);
                f.replace('#', &self.matrix(depth))
            }
            9 => {
                let f = self.of(&[
                    "quantile by (z) (0.7, #)",
                    "count_values without (i) (\"v\", #)",
                    "clamp(#, 2, 7)",
                    "clamp_min(#, 4)",
                    "round(#, 0.3)",
                    "histogram_fraction(0.5, 1.7, #)",
                    "histogram_quantile(0.2, #)",
                    "histogram_sum(#)",
                    "histogram_avg(#)",
                    "histogram_stddev(#)",
                    "label_join(#, \"j\", \"-\", \"z\", \"i\")",
                    "sqrt(#)",
                    "ln(#)",
                    "exp(#)",
                    "vector(scalar(#))",
                    "stdvar(#)",
                    "3 - #",
                    "2 > #",
                    "2 ^ #",
                ]);
                f.replace('#', &self.vector(depth - 1))
            }
            10 => {
                let op = self.of(&["+", "-", "*", "/", "==", ">", "< bool", "!="]);
                let how = self.of(&[
                    "on (i) group_left",
                    "on (i, z) group_left (le)",
                    "ignoring (le, z) group_right",
                    "ignoring (z)",
                    "",
                ]);
                format!("({} {op} {how} {})", self.vector(depth - 1), self.vector(depth - 1))
            }
            11 => {
                let op = self.of(&["and", "or", "unless"]);
                let how = self.of(&["on (z)", "ignoring (i)", "", "on ()"]);
                format!("({} {op} {how} {})", self.vector(depth - 1), self.vector(depth - 1))
            }
            7 => format!("label_replace({}, \"n\", \"$1\", \"i\", \"(.)\")", self.vector(depth - 1)),
            _ => format!("absent({})", self.vector(depth - 1)),
        }
    }
    fn matrix(&mut self, depth: usize) -> String {
        if self.below(3) > 0 || depth < 2 {
            let range = self.of(&["[2m]", "[5m]", "[30s]", "[61s]"]);
            return self.selector() + range + self.modifier();
        }
        let range = self.of(&["[5m:1m]", "[3m:17s]", "[10m:]", "[4m:30s] offset 1m"]);
        format!("({}){range}", self.vector(depth - 1))
    }
}

pub fn store() -> Arc<MemoryStore> {
    let store = Arc::new(MemoryStore::new());
    load_block(&*store, 15_000, DATA).expect("the data is well formed");
    store
}

/// The expression of a seed, of 0 to 3 levels of operators.
pub fn expression(seed: u64) -> String {
    Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)).vector(1 + seed as usize % 4)
}
