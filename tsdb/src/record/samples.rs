//! Float samples, without start times (type 2) and with them (type 11).
//!
//! ```text
//! u8 2  | u64 ref0 | u64 t0 | { varint ref-ref0 | varint t-t0 | f64 value }
//! u8 11 | varint ref0 | varint t0 | varint start0 | f64 value0 | { varint ref-previous ref | varint t-t0 | start | f64 value }
//! ```
use super::{Base, Chain, body};
use crate::encoding::Malformed;
use crate::format::record::{SAMPLES, SAMPLES_V2};

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub series: u64,
    /// 0 for none; type 2 drops it.
    pub start_ms: i64,
    pub t_ms: i64,
    pub value: f64,
}

/// `kind`: [`SAMPLES`] or [`SAMPLES_V2`].
pub fn encode(kind: u8, samples: impl Iterator<Item = Sample>, out: &mut Vec<u8>) {
    out.push(kind);
    if kind == SAMPLES_V2 {
        let mut chain = Chain::default();
        for s in samples {
            chain.put(out, s.series, s.start_ms, s.t_ms);
            out.extend_from_slice(&s.value.to_bits().to_be_bytes());
        }
        return;
    }
    let mut base: Option<Base> = None;
    for s in samples {
        let base = base.get_or_insert_with(|| {
            let b = Base { series: s.series, t_ms: s.t_ms };
            b.write(out);
            b
        });
        base.put_next(out, s.series, s.t_ms);
        out.extend_from_slice(&s.value.to_bits().to_be_bytes());
    }
}

pub fn decode(record: &[u8], mut each: impl FnMut(Sample)) -> Result<(), Malformed> {
    let mut r = body(record)?;
    if r.is_empty() {
        return Ok(());
    }
    if super::kind(record) != SAMPLES {
        let mut chain = Chain::default();
        while !r.is_empty() {
            let (series, start_ms, t_ms) = chain.next(&mut r)?;
            each(Sample { series, start_ms, t_ms, value: r.f64()? });
        }
        return Ok(());
    }
    let base = Base::read(&mut r)?;
    while !r.is_empty() {
        let (series, t_ms) = base.next(&mut r)?;
        each(Sample { series, start_ms: 0, t_ms, value: r.f64()? });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(samples in proptest::collection::vec((any::<u32>(), prop_oneof![Just(0i64), Just(5), any::<i64>()],
                any::<i64>(), any::<i32>()), 0..20)) {
            let samples: Vec<_> = samples.into_iter()
                .map(|(s, start_ms, t_ms, v)| Sample { series: u64::from(s), start_ms, t_ms, value: f64::from(v) }).collect();
            for kind in [SAMPLES, SAMPLES_V2] {
                let (mut bytes, mut back) = (Vec::new(), Vec::new());
                encode(kind, samples.iter().copied(), &mut bytes);
                decode(&bytes, |s| back.push(s)).unwrap();
                let start = |s: &Sample| if kind == SAMPLES { 0 } else { s.start_ms };
                let want: Vec<_> = samples.iter().map(|s| Sample { start_ms: start(s), ..*s }).collect();
                prop_assert_eq!(back, want);
            }
        }
    }

    #[test]
    fn bytes_are_upstreams() {
        // By the map above: the same start, none, and one of its own.
        let s = |series, start_ms, t_ms| Sample { series, start_ms, t_ms, value: 0.0 };
        let mut bytes = Vec::new();
        encode(SAMPLES_V2, [s(1, 2, 3), s(3, 2, 3), s(2, 0, 4), s(2, 3, 3)].into_iter(), &mut bytes);
        let value = [0u8; 8];
        let want =
            [&[11u8, 2, 6, 4][..], &value, &[4, 0, 1], &value, &[1, 2, 0], &value, &[0, 0, 2, 2], &value].concat();
        assert_eq!(bytes, want);
    }
}
