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
    /// A record being made, and its compressed form: both larger than what is handed out in the end.
    raw: Vec<u8>,
    packed: Vec<u8>,
    /// Bytes that compression saved so far.
    pub saved: u64,
}

/// Buffers beyond this are given back.
const BUFFER_MAX: usize = 4 << 20;

impl Compressor {
    pub fn new(kind: Compression) -> Compressor {
        let zstd = if kind == Compression::Zstd { zstd::bulk::Compressor::new(1).ok() } else { None };
        let (raw, packed) = (Vec::new(), Vec::new());
        Compressor { kind, snappy: snap::raw::Encoder::new(), zstd, raw, packed, saved: 0 }
    }
    /// As [`Compressor::compress`], of what `fill` appends to an empty buffer.
    pub fn record(&mut self, fill: impl FnOnce(&mut Vec<u8>)) -> (Vec<u8>, u8) {
        let mut raw = std::mem::take(&mut self.raw);
        raw.clear();
        fill(&mut raw);
        let packed = self.compress(&raw);
        if raw.capacity() <= BUFFER_MAX {
            self.raw = raw;
        }
        packed
    }
    /// The bytes to frame and the flag that says how they were compressed. What does not get smaller stays plain, as
    /// upstream does it. The bytes take no more memory than they are long: they wait for the next sync.
    pub fn compress(&mut self, record: &[u8]) -> (Vec<u8>, u8) {
        let (n, flag) = match (self.kind, &mut self.zstd) {
            (Compression::None, _) => (None, 0),
            (Compression::Zstd, Some(z)) => {
                self.packed.resize(zstd::zstd_safe::compress_bound(record.len()), 0);
                (z.compress_to_buffer(record, &mut self.packed[..]).ok(), ZSTD)
            }
            (Compression::Snappy | Compression::Zstd, _) => {
                self.packed.resize(snap::raw::max_compress_len(record.len()), 0);
                (self.snappy.compress(record, &mut self.packed).ok(), SNAPPY)
            }
        };
        let result = match n.and_then(|n| self.packed.get(..n)) {
            Some(packed) if packed.len() < record.len() => {
                self.saved += (record.len() - packed.len()) as u64;
                (packed.to_vec(), flag)
            }
            _ => (record.to_vec(), 0),
        };
        if self.packed.capacity() > BUFFER_MAX {
            self.packed = Vec::new();
        }
        result
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Compressor({:?})", self.kind)
    }
}

/// Decompresses record by record: making the tables anew for each would cost more than the records.
#[derive(Default)]
pub struct Decompressor {
    zstd: Option<zstd::zstd_safe::DCtx<'static>>,
}

/// What a record says of its size is believed up to here; a larger one is decompressed step by step.
const BELIEVED_MAX_BYTES: u64 = 8 << 20;

impl Decompressor {
    /// Decompresses into `out`, which is replaced. Never makes more than [`RECORD_MAX_BYTES`].
    pub fn unpack(&mut self, flags: u8, packed: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        out.clear();
        if flags & SNAPPY != 0 {
            let len = snap::raw::decompress_len(packed).map_err(|_| Malformed("bad snappy header"))?;
            if len > RECORD_MAX_BYTES || len > packed.len().saturating_mul(64) {
                return Err(Malformed("record too large"));
            }
            out.resize(len, 0);
            snap::raw::Decoder::new().decompress(packed, out).map_err(|_| Malformed("bad snappy data"))?;
        } else if flags & ZSTD != 0 {
            self.zstd(packed, out)?;
        } else {
            out.extend_from_slice(packed);
        }
        Ok(())
    }

    fn zstd(&mut self, packed: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        use std::io::Read;
        use zstd::zstd_safe::{DCtx, ResetDirective, get_frame_content_size};
        let fresh = self.zstd.take().or_else(DCtx::try_create);
        let zstd = self.zstd.insert(fresh.ok_or(Malformed("no memory for zstd"))?);
        if let Ok(Some(len)) = get_frame_content_size(packed)
            && len <= BELIEVED_MAX_BYTES
        {
            out.reserve(len as usize);
            if zstd.decompress(out, packed).is_ok() {
                return Ok(());
            }
            out.clear(); // several frames, or damage
        }
        zstd.reset(ResetDirective::SessionOnly).map_err(|_| Malformed("bad zstd header"))?;
        let decoder = zstd::stream::read::Decoder::with_context(packed, zstd);
        let read = decoder.take(RECORD_MAX_BYTES as u64 + 1).read_to_end(out);
        if read.map_err(|_| Malformed("bad zstd data"))? > RECORD_MAX_BYTES {
            return Err(Malformed("record too large"));
        }
        Ok(())
    }
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decompressor")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_every_kind_come_back() {
        let long: Vec<u8> = (0..300_000u32).flat_map(|i| (i / 7).to_be_bytes()).collect();
        let mut unpacker = Decompressor::default();
        for kind in [Compression::None, Compression::Snappy, Compression::Zstd] {
            let mut compressor = Compressor::new(kind);
            for record in [&b"a"[..], &[7; 5000], &long] {
                let (packed, flags) = compressor.compress(record);
                let mut out = vec![1, 2, 3];
                unpacker.unpack(flags, &packed, &mut out).unwrap();
                assert!(out == record, "{kind:?}, {} bytes", record.len());
                if flags == ZSTD {
                    let cut = &packed[..packed.len() - 1];
                    assert!(unpacker.unpack(flags, cut, &mut out).is_err());
                }
            }
        }
        // A stream that does not say how long it is, and two frames.
        let mut streamed = zstd::stream::encode_all(&long[..], 1).unwrap();
        let mut out = Vec::new();
        unpacker.unpack(ZSTD, &streamed, &mut out).unwrap();
        assert!(out == long);
        streamed.extend(zstd::bulk::compress(b"more", 1).unwrap());
        unpacker.unpack(ZSTD, &streamed, &mut out).unwrap();
        assert!(out == [&long[..], b"more"].concat());
        assert!(unpacker.unpack(ZSTD, b"nothing", &mut out).is_err());
    }
}
