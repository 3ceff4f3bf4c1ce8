//! When a metric began to count. OpenMetrics says so in a line of its own, `<family>_created`, after the metric's samples:
//! who wants to know it with a sample has to look ahead.
//!
//! The next such line of the family is looked for once and remembered, so a body is read at most twice. As upstream has
//! it, that line speaks only for samples of the same labels (but `le` and `quantile`) before it; those of another metric
//! have no start.
use std::ops::Range;

use super::grammar::{LabelSpan, Parser};
use super::{Entry, Syntax};
use ferula_model::MetricType;

/// How far a start is looked for. A metric is some lines long; a family may be endless.
const LOOK_AHEAD_BYTES_MAX: usize = 1 << 20;

const SUFFIX: &[u8] = b"_created";

/// What the look ahead found.
#[derive(Clone, Debug)]
pub(super) struct Ahead {
    /// No start line comes before this place of the piece.
    until: usize,
    created: Option<Created>,
}

#[derive(Clone, Debug)]
struct Created {
    t_ms: i64,
    /// Of the metric, without the suffix.
    name: Range<usize>,
    labels: Vec<LabelSpan>,
}

impl<'a> Parser<'a> {
    /// Whether the sample just returned is the start time of the samples before it, as a line. Never true of an
    /// `expected` sample: who wants starts leaves these lines out of what it expects.
    pub fn is_start_line(&self) -> bool {
        self.counts_from_a_start() && self.name.as_ref().is_some_and(|n| self.bytes(n).ends_with(SUFFIX))
    }

    /// When the sample just returned began to count, in ms since 1970; 0 if the body does not say. `None`: that is to be
    /// seen in the next piece; the caller stops here, [`Parser::pause`] leaves this sample to it.
    pub fn start_ms(&mut self) -> Option<i64> {
        if !self.counts_from_a_start() {
            return Some(0);
        }
        if self.ahead.as_ref().is_none_or(|a| a.until <= self.start) {
            self.ahead = None;
            self.ahead = Some(self.look_ahead()?);
        }
        if self.ahead.as_ref().is_some_and(|a| a.created.is_none()) {
            return Some(0);
        }
        if self.name.is_none() && !matches!(self.reread(), Some(Ok(_))) {
            return Some(0);
        }
        let (Some(name), Some(Ahead { created: Some(created), .. })) = (&self.name, &self.ahead) else {
            return Some(0);
        };
        let name = self.bytes(name);
        let family = name.get(..self.family_bytes).unwrap_or(name);
        let is_same = family == self.bytes(&created.name) && self.own(&self.labels).eq(self.own(&created.labels));
        Some(if is_same { created.t_ms } else { 0 })
    }

    fn counts_from_a_start(&self) -> bool {
        self.lexer.syntax == Syntax::OpenMetrics
            && matches!(self.metric_type, MetricType::Counter | MetricType::Histogram | MetricType::Summary)
    }

    /// The labels that tell one metric of a family from another, as written.
    fn own<'s>(&'s self, labels: &'s [LabelSpan]) -> impl Iterator<Item = (&'s [u8], &'s [u8])> {
        let of_sample: &[u8] = match self.metric_type {
            MetricType::Histogram => b"le",
            MetricType::Summary => b"quantile",
            _ => b"",
        };
        let pairs = labels.iter().map(|l| (self.bytes(&l.name), self.bytes(&l.value)));
        pairs.filter(move |(name, _)| *name != of_sample)
    }

    fn look_ahead(&self) -> Option<Ahead> {
        let mut ahead = self.clone();
        let max = LOOK_AHEAD_BYTES_MAX.min(self.limits.line_bytes_max);
        loop {
            let entry = ahead.next();
            let is_far = ahead.lexer.at.saturating_sub(self.start) > max;
            if entry.is_none() && ahead.is_partial && !ahead.has_ended && !is_far {
                return None;
            }
            let until = ahead.start;
            let Some(Ok(Entry::Sample(sample))) = entry else { return Some(Ahead { until, created: None }) };
            if let Some(name) = ahead.name.clone().filter(|n| ahead.bytes(n).ends_with(SUFFIX)) {
                let name = name.start..name.end - SUFFIX.len();
                let t_ms = (sample.value * 1000.0) as i64;
                return Some(Ahead { until, created: Some(Created { t_ms, name, labels: ahead.labels }) });
            }
            if is_far {
                return Some(Ahead { until, created: None });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, Progress};
    use super::*;

    /// `name start` of every sample that is none of the start lines, the body cut into pieces of so many lines.
    fn starts(body: &str, lines_a_piece: usize) -> Vec<String> {
        let (mut out, mut progress, mut at, mut end) = (Vec::new(), Progress::default(), 0, 0);
        while end < body.len() {
            end += body[end..].split_inclusive('\n').take(lines_a_piece).map(str::len).sum::<usize>();
            let is_last = end == body.len();
            let piece = &body.as_bytes()[at..end];
            let mut p = Parser::resume(piece, Syntax::OpenMetrics, Limits::default(), progress, is_last);
            while let Some(entry) = p.next() {
                let Entry::Sample(sample) = entry.expect("the body is well-formed") else { continue };
                if p.is_start_line() {
                    continue;
                }
                let Some(start) = p.start_ms() else { break };
                out.push(format!("{} {start}", String::from_utf8_lossy(sample.series)));
            }
            let (read, then) = p.pause();
            at += read;
            progress = then;
        }
        out
    }

    #[test]
    fn of_the_metric_before() {
        let body = "# TYPE c counter\n\
            c_total{a=\"1\"} 5\nc_created{a=\"1\"} 1.5\nc_total{a=\"2\"} 5\nc_total{a=\"3\"} 5\nc_created{a=\"3\"} 3\n\
            # TYPE h histogram\n\
            h_bucket{le=\"1\",b=\"x\"} 1\nh_bucket{le=\"+Inf\",b=\"x\"} 2\nh_count{b=\"x\"} 2\nh_sum{b=\"x\"} 2\nh_created{b=\"x\"} 7\n\
            # TYPE s summary\n\
            s{quantile=\"0.5\"} 1\ns_count 2\ns_sum 3\ns_created 9\n\
            # TYPE \"u.v\" counter\n{\"u.v_total\",x=\"1\"} 1\n{\"u.v_created\",x=\"1\"} 4\n\
            # TYPE g gauge\ng 1\ng_created 2\n# TYPE n counter\nn_total 1\n# EOF\n";
        let expect = [
            "c_total{a=\"1\"} 1500",
            "c_total{a=\"2\"} 0",
            "c_total{a=\"3\"} 3000",
            "h_bucket{le=\"1\",b=\"x\"} 7000",
            "h_bucket{le=\"+Inf\",b=\"x\"} 7000",
            "h_count{b=\"x\"} 7000",
            "h_sum{b=\"x\"} 7000",
            "s{quantile=\"0.5\"} 9000",
            "s_count 9000",
            "s_sum 9000",
            "{\"u.v_total\",x=\"1\"} 4000",
            "g 0",
            "g_created 0",
            "n_total 0",
        ];
        for lines in [1000, 1, 2, 3, 7] {
            assert_eq!(starts(body, lines), expect, "{lines} lines a piece");
        }
    }

    #[test]
    fn an_endless_family_without_starts_is_not_waited_for() {
        let family: String = (0..60_000).map(|i| format!("c_total{{i=\"{i:09}\"}} 1\n")).collect();
        let piece = format!("# TYPE c counter\n{family}");
        let mut p =
            Parser::resume(piece.as_bytes(), Syntax::OpenMetrics, Limits::default(), Progress::default(), false);
        let mut samples = 0;
        while let Some(entry) = p.next() {
            if matches!(entry, Ok(Entry::Sample(_))) {
                if p.start_ms().is_none() {
                    break;
                }
                samples += 1;
            }
        }
        assert!(samples > 20_000, "{samples}");
        assert!(piece.len() - p.pause().0 <= LOOK_AHEAD_BYTES_MAX);
    }
}
