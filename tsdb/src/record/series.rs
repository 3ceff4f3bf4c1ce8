//! Series (type 1): `u8 1 | { u64 ref | uvarint labels | { uvarint-prefixed name, value } }`.
use std::borrow::Borrow;

use ferula_model::LabelView;

use super::body;
use crate::encoding::{Malformed, Reader, put_str, put_uvarint};
use crate::format::record::SERIES;

pub fn encode<L: LabelView, B: Borrow<L>>(series: impl Iterator<Item = (u64, B)>, out: &mut Vec<u8>) {
    out.push(SERIES);
    for (r, labels) in series {
        out.extend_from_slice(&r.to_be_bytes());
        put_labels(out, labels.borrow());
    }
}

pub fn decode<'a>(record: &'a [u8], mut each: impl FnMut(u64, &[(&'a str, &'a str)])) -> Result<(), Malformed> {
    let mut r = body(record)?;
    let mut pairs = Vec::new();
    while !r.is_empty() {
        let series = r.u64()?;
        labels(&mut r, &mut pairs)?;
        each(series, &pairs);
    }
    Ok(())
}

pub(super) fn put_labels(out: &mut Vec<u8>, labels: &dyn LabelView) {
    put_uvarint(out, labels.len() as u64);
    labels.each(&mut |n, v| {
        put_str(out, n);
        put_str(out, v);
    });
}

pub(super) fn labels<'a>(r: &mut Reader<'a>, pairs: &mut Vec<(&'a str, &'a str)>) -> Result<(), Malformed> {
    pairs.clear();
    for _ in 0..r.count(2)? {
        pairs.push((r.str()?, r.str()?));
    }
    Ok(())
}
