//! Compression of single records.
use crate::encoding::Malformed;
use crate::format::wal::{RECORD_MAX_BYTES, SNAPPY, ZSTD};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    None,
    #[default]
    Snappy,
    Zstd,
}

impl Compression {
    /// As flags and metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Snappy => "snappy",
            Compression::Zstd => "zstd",
        }
    }
}

/// Compresses record by record, keeping its state and memory.
pub struct Compressor {
    kind: Compression,
    snappy: snap::raw::Encoder,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    /// Bytes that compression saved so far.
    pub saved: u64,
}

impl Compressor {
    pub fn new(kind: Compression) -> Compressor {
        let zstd = if kind == Compression::Zstd { zstd::bulk::Compressor::new(1).ok() } else { None };
        Compressor { kind, snappy: snap::raw::Encoder::new(), zstd, saved: 0 }
    }
    /// The bytes to frame and the flag that says how they were compressed. What does not get smaller stays plain, as
    /// upstream does it.
    pub fn compress(&mut self, record: Vec<u8>) -> (Vec<u8>, u8) {
        let packed = match (self.kind, &mut self.zstd) {
            (Compression::None, _) => None,
            (Compression::Zstd, Some(z)) => z.compress(&record).ok().map(|p| (p, ZSTD)),
            (Compression::Snappy | Compression::Zstd, _) => self.snappy.compress_vec(&record).ok().map(|p| (p, SNAPPY)),
        };
        match packed {
            Some((p, flag)) if p.len() < record.len() => {
                self.saved += (record.len() - p.len()) as u64;
                (p, flag)
            }
            _ => (record, 0),
        }
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Compressor({:?})", self.kind)
    }
}

/// Decompresses into `out`, which is replaced. Never makes more than [`RECORD_MAX_BYTES`].
pub fn decompress(flags: u8, packed: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    out.clear();
    if flags & SNAPPY != 0 {
        let len = snap::raw::decompress_len(packed).map_err(|_| Malformed("bad snappy header"))?;
        if len > RECORD_MAX_BYTES || len > packed.len().saturating_mul(64) {
            return Err(Malformed("record too large"));
        }
        out.resize(len, 0);
        snap::raw::Decoder::new().decompress(packed, out).map_err(|_| Malformed("bad snappy data"))?;
    } else if flags & ZSTD != 0 {
        use std::io::Read;
        let decoder = zstd::stream::read::Decoder::with_buffer(packed).map_err(|_| Malformed("bad zstd header"))?;
        let read = decoder.take(RECORD_MAX_BYTES as u64 + 1).read_to_end(out);
        if read.map_err(|_| Malformed("bad zstd data"))? > RECORD_MAX_BYTES {
            return Err(Malformed("record too large"));
        }
    } else {
        out.extend_from_slice(packed);
    }
    Ok(())
}
