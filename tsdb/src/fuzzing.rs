//! What the fuzz targets call, and the test that replays their corpora: foreign bytes, any bytes, never panic.
use std::path::Path;

use ferula_fs::Mapping;
use ferula_storage::{Column, SampleBatch};

use crate::chunk::{self, Encoding};
use crate::index::IndexReader;
use crate::query::select::LabelIndex;
use crate::record;
use crate::wal::compress::Decompressor;
use crate::wal::reader::SegmentReader;

/// The first byte is the encoding. What was decoded before an error stays, in parallel columns.
pub fn chunk(data: &[u8]) {
    let Some((encoding, data)) = data.split_first() else { return };
    let Some(encoding) = Encoding::from_byte(*encoding) else { return };
    let mut batch = SampleBatch::default();
    let result = chunk::decode(encoding, data, usize::MAX, &mut batch);
    let values = match &batch.values {
        Column::Floats(v) => v.len(),
        Column::Histograms(v) => v.len(),
    };
    if result.is_ok() {
        assert_eq!(values, batch.t_ms.len());
        assert!(batch.start_ms.is_empty() || batch.start_ms.len() == values);
        assert_eq!(values, usize::from(encoding.count(data)));
    }
}

pub fn record(data: &[u8]) {
    let _ = record::check(data);
    let _ = record::chunk_snapshot::series(data);
    let _ = record::chunk_snapshot::tombstones(data, |_| {});
}

/// A segment; every record in it is decoded too.
pub fn wal(data: &[u8]) {
    let mut reader = SegmentReader::new(data);
    let mut bytes = Vec::new();
    while reader.next(&mut bytes) {
        record(&bytes);
    }
    let mut out = Vec::new();
    for flags in [crate::format::wal::SNAPPY, crate::format::wal::ZSTD] {
        let _ = Decompressor::default().unpack(flags, data, &mut out);
    }
}

/// The restart index, and its uncompressed parts.
pub fn restart(data: &[u8]) {
    crate::restart::load::check(data);
}

/// A block's index: opened, and everything in it read.
pub fn index(data: &[u8]) {
    let Ok(index) = IndexReader::open(Path::new("index"), Mapping::from(data.to_vec())) else { return };
    let mut chunks = Vec::new();
    for series in index.all().unwrap_or_default() {
        let _ = index.series(series, &mut chunks);
    }
    for name in index.label_names().map(str::to_owned).collect::<Vec<_>>() {
        for value in index.label_values(&name).unwrap_or_default() {
            let _ = index.list(&name, &value);
        }
        let _ = index.lists(&name, &["a".to_owned()], &|v| v.len() > 1);
    }
}
