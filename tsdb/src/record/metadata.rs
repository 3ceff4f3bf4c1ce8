//! Metadata (type 6): `u8 6 | { uvarint ref | u8 metric type | uvarint 2 | "UNIT" unit | "HELP" help }`, strings prefixed
//! with their length. Fields of other names are skipped.
use ferula_model::Metadata;

use super::{body, metric_type, metric_type_byte};
use crate::encoding::{Malformed, put_str, put_uvarint};
use crate::format::record::METADATA;

pub fn encode<'a>(metadata: impl Iterator<Item = (u64, &'a Metadata)>, out: &mut Vec<u8>) {
    out.push(METADATA);
    for (series, m) in metadata {
        put_uvarint(out, series);
        out.push(metric_type_byte(m.metric_type));
        put_uvarint(out, 2);
        for field in ["UNIT", &m.unit, "HELP", &m.help] {
            put_str(out, field);
        }
    }
}

pub fn decode(record: &[u8], mut each: impl FnMut(u64, Metadata)) -> Result<(), Malformed> {
    let mut r = body(record)?;
    while !r.is_empty() {
        let series = r.uvarint()?;
        let mut m = Metadata { metric_type: metric_type(r.u8()?), ..Metadata::default() };
        for _ in 0..r.count(2)? {
            match (r.str()?, r.str()?) {
                ("UNIT", unit) => unit.clone_into(&mut m.unit),
                ("HELP", help) => help.clone_into(&mut m.help),
                _ => {}
            }
        }
        each(series, m);
    }
    Ok(())
}
