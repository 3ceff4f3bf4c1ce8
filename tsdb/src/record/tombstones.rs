//! Tombstones (type 3): `u8 3 | { u64 ref | varint mint | varint maxt }`, bounds inclusive.
use super::body;
use crate::encoding::{Malformed, put_varint};
use crate::format::record::TOMBSTONES;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tombstone {
    pub series: u64,
    pub mint_ms: i64,
    pub maxt_ms: i64,
}

pub fn encode(tombstones: impl Iterator<Item = Tombstone>, out: &mut Vec<u8>) {
    out.push(TOMBSTONES);
    for t in tombstones {
        out.extend_from_slice(&t.series.to_be_bytes());
        put_varint(out, t.mint_ms);
        put_varint(out, t.maxt_ms);
    }
}

pub fn decode(record: &[u8], mut each: impl FnMut(Tombstone)) -> Result<(), Malformed> {
    let mut r = body(record)?;
    while !r.is_empty() {
        each(Tombstone { series: r.u64()?, mint_ms: r.varint()?, maxt_ms: r.varint()? });
    }
    Ok(())
}
