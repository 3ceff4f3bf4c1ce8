//! Exemplars (type 4): as samples, each followed by its labels as in series records.
use ferula_model::Labels;

use super::series::{labels, put_labels};
use super::{Base, body};
use crate::encoding::Malformed;
use crate::format::record::EXEMPLARS;

#[derive(Clone, Debug, PartialEq)]
pub struct ExemplarRecord {
    pub series: u64,
    pub t_ms: i64,
    pub value: f64,
    pub labels: Labels,
}

pub fn encode<'a>(exemplars: impl Iterator<Item = &'a ExemplarRecord>, out: &mut Vec<u8>) {
    out.push(EXEMPLARS);
    let mut base: Option<Base> = None;
    for e in exemplars {
        let base = base.get_or_insert_with(|| {
            let b = Base { series: e.series, t_ms: e.t_ms };
            b.write(out);
            b
        });
        base.put_next(out, e.series, e.t_ms);
        out.extend_from_slice(&e.value.to_bits().to_be_bytes());
        put_labels(out, &e.labels);
    }
}

pub fn decode(record: &[u8], mut each: impl FnMut(ExemplarRecord)) -> Result<(), Malformed> {
    let mut r = body(record)?;
    if r.is_empty() {
        return Ok(());
    }
    let base = Base::read(&mut r)?;
    let mut pairs = Vec::new();
    while !r.is_empty() {
        let (series, t_ms) = base.next(&mut r)?;
        let value = r.f64()?;
        labels(&mut r, &mut pairs)?;
        each(ExemplarRecord { series, t_ms, value, labels: Labels::from_pairs(pairs.iter().copied()) });
    }
    Ok(())
}
