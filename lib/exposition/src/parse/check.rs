//! What fuzzing and property tests ask of any body.
use super::{Entry, Limits, Parser, Syntax};

/// Parses `body` in full and, beside it, expecting at every line the series before it: both must agree on everything, and
/// labels and exemplars must be readable. Panics if not; for tests and fuzz targets.
#[doc(hidden)]
pub fn check_short_cut(body: &[u8], syntax: Syntax) {
    let mut full = Parser::new(body, syntax, Limits::default());
    let mut quick = full.clone();
    let mut last: Vec<u8> = Vec::new();
    loop {
        let (a, b) = (full.next(), quick.next_expecting(&last));
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
