//! Float samples (type 2): `u8 2 | u64 ref0 | u64 t0 | { varint ref-ref0 | varint t-t0 | f64 value }`.
use super::{Base, body};
use crate::encoding::Malformed;
use crate::format::record::SAMPLES;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub series: u64,
    pub t_ms: i64,
    pub value: f64,
}

pub fn encode(samples: impl Iterator<Item = Sample>, out: &mut Vec<u8>) {
    out.push(SAMPLES);
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
    let base = Base::read(&mut r)?;
    while !r.is_empty() {
        let (series, t_ms) = base.next(&mut r)?;
        each(Sample { series, t_ms, value: r.f64()? });
    }
    Ok(())
}
