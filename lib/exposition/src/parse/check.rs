//! What fuzzing and property tests ask of any body.
use ferula_model::{MetricType, Value};

use super::protobuf::{FamilySink, HistogramForms, ProtoSeries, read_families};
use super::{Entry, Limits, ParseError, Parser, Progress, Syntax};

/// All that must hold of any body in a text format. Panics if it does not; for tests and fuzz targets.
#[doc(hidden)]
pub fn check_text(body: &[u8], syntax: Syntax) {
    check_short_cut(body, syntax);
    for piece_bytes in [1, 40, 1000] {
        check_pieces(body, syntax, piece_bytes);
        assert_eq!(starts(body, syntax, piece_bytes), starts(body, syntax, body.len()));
    }
}

/// When every sample of `body` began, read in pieces of about `piece_bytes`.
fn starts(body: &[u8], syntax: Syntax, piece_bytes: usize) -> Vec<i64> {
    let (mut out, mut rest, mut progress) = (Vec::new(), body, Progress::default());
    let mut window_bytes = piece_bytes.max(1);
    loop {
        let window = rest.get(..window_bytes).unwrap_or(rest);
        let is_last = window.len() == rest.len();
        let end = if is_last { window.len() } else { memchr::memrchr(b'\n', window).map_or(0, |i| i + 1) };
        let piece = rest.get(..end).unwrap_or_default();
        let mut parser = Parser::resume(piece, syntax, Limits::default(), progress, is_last);
        while let Some(entry) = parser.next() {
            match entry {
                Ok(Entry::Sample(_)) if parser.is_start_line() => {}
                Ok(Entry::Sample(_)) => match parser.start_ms() {
                    Some(start) => out.push(start),
                    None => break,
                },
                Ok(_) => {}
                Err(_) => return out,
            }
        }
        if is_last {
            return out;
        }
        let (read, now) = parser.pause();
        progress = now;
        rest = rest.get(read..).unwrap_or_default();
        window_bytes = if read == 0 { window_bytes * 2 } else { piece_bytes.max(1) };
    }
}

/// Parses `body` in full and, beside it, expecting at every line the series before it: both must agree on everything, and
/// labels and exemplars must be readable.
fn check_short_cut(body: &[u8], syntax: Syntax) {
    let mut full = Parser::new(body, syntax, Limits::default());
    let mut quick = full.clone();
    let mut last: Vec<u8> = Vec::new();
    loop {
        let (a, b) = (full.next(), quick.next_known(&mut |line: &[u8]| line.starts_with(&last).then_some(last.len())));
        match (&a, &b) {
            (Some(Ok(Entry::Sample(x))), Some(Ok(Entry::Sample(y)))) => {
                assert_eq!(x.series, y.series);
                assert_eq!((x.value.to_bits(), x.t_ms), (y.value.to_bits(), y.t_ms));
                let mut labels = 0;
                full.labels(|_, _| labels += 1);
                assert!(labels > 0, "a sample without a name");
                assert_eq!(full.exemplar().is_some(), x.has_exemplar);
                last = x.series.to_vec();
            }
            (None, None) => return,
            _ => assert_eq!(format!("{a:?}"), format!("{b:?}")),
        }
    }
}

/// Reads `body` in pieces of about `piece_bytes` and as a whole: entries, errors and line numbers must be the same.
fn check_pieces(body: &[u8], syntax: Syntax, piece_bytes: usize) {
    let mut whole = Parser::new(body, syntax, Limits::default());
    let (mut rest, mut window_bytes, mut progress) = (body, piece_bytes.max(1), Progress::default());
    loop {
        let window = rest.get(..window_bytes).unwrap_or(rest);
        let is_last = window.len() == rest.len();
        let end = if is_last { window.len() } else { memchr::memrchr(b'\n', window).map_or(0, |i| i + 1) };
        let mut parser =
            Parser::resume(rest.get(..end).unwrap_or_default(), syntax, Limits::default(), progress, is_last);
        while let Some(entry) = parser.next() {
            let failed = entry.is_err();
            assert_eq!(format!("{:?}", Some(entry)), format!("{:?}", whole.next()));
            if failed {
                return;
            }
        }
        if is_last {
            assert_eq!(whole.next(), None);
            return;
        }
        let (read, now) = parser.pause();
        progress = now;
        rest = rest.get(read..).unwrap_or_default();
        window_bytes = if read == 0 { window_bytes * 2 } else { piece_bytes.max(1) };
    }
}

/// Reads `body` as protobuf families with everything on: histograms that come out must be valid. Panics if not; for tests
/// and fuzz targets.
#[doc(hidden)]
pub fn check_protobuf(body: &[u8]) {
    let forms = HistogramForms { native: true, always_classic: true };
    let _ = read_families(body, Limits::default(), forms, &mut Validating); // malformed bodies may end in an error
}

struct Validating;

impl FamilySink for Validating {
    type Error = ParseError;
    fn family(&mut self, _name: &str, _metric_type: MetricType, _help: &str, _unit: &str) -> Result<(), ParseError> {
        Ok(())
    }
    fn series(&mut self, series: &ProtoSeries<'_>) -> Result<(), ParseError> {
        let mut labels = 0;
        series.labels(|_, _| labels += 1);
        assert!(labels > 0, "a sample without a name");
        match series.value {
            Value::Float(_) => {}
            Value::Histogram(h) => assert_eq!(h.validate(), Ok(())),
            Value::FloatHistogram(h) => assert_eq!(h.validate(), Ok(())),
        }
        Ok(())
    }
}
