//! `tsdb create-blocks-from openmetrics`: an exposition with timestamps becomes blocks of two hours.
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use ferula_exposition::parse::{Entry, Limits, Parser, Syntax};
use ferula_fs::Disk;
use ferula_model::{LabelView, Labels, LabelsBuilder};
use ferula_tsdb::block::Meta;
use ferula_tsdb::block::meta::Compaction;
use ferula_tsdb::chunk::{Encoding, xor};
use ferula_tsdb::compact::source::{Piece, Source, SourceSeries};
use ferula_tsdb::compact::write;
use ferula_tsdb::head::series::Bytes;
use ferula_tsdb::{BLOCK_RANGE_MS, Block, Error};

use super::list;
use crate::Streams;
use crate::command_line::Parsed;

/// Samples in a chunk.
const SAMPLES_PER_CHUNK: usize = 120;

type Samples = BTreeMap<i64, f64>;

pub(super) fn run(parsed: &Parsed, streams: &mut Streams<'_>) -> Result<(), String> {
    let file = parsed.arg("input file");
    let body = std::fs::read(file).map_err(|_| format!("stat {file}: no such file or directory"))?;
    let dir = Path::new(parsed.arg("output directory"));
    let mut ranges: BTreeMap<i64, BTreeMap<Labels, Samples>> = BTreeMap::new();
    let extra = parsed.pairs("label");
    let mut parser = Parser::new(&body, Syntax::OpenMetrics, Limits::default());
    while let Some(entry) = parser.next() {
        let Entry::Sample(s) = entry.map_err(|e| format!("getting min and max timestamp: next: {}", e.reason))? else {
            continue;
        };
        let mut labels = LabelsBuilder::new();
        parser.labels(|n, v| {
            labels.set(&n, &v);
        });
        for (n, v) in &extra {
            labels.set(n, v);
        }
        let labels = labels.labels();
        let Some(t_ms) = s.t_ms else {
            return Err(format!("getting min and max timestamp: expected timestamp for series {labels}, got none"));
        };
        let start = t_ms.div_euclid(BLOCK_RANGE_MS) * BLOCK_RANGE_MS;
        ranges.entry(start).or_default().entry(labels).or_default().insert(t_ms, s.value);
    }
    std::fs::create_dir_all(dir).map_err(|e| format!("create output dir: {e}"))?;
    let mut made: Vec<Arc<Block>> = Vec::new();
    for series in ranges.into_values() {
        let times = || series.values().flat_map(|s| s.keys().copied());
        let (Some(first), Some(last)) = (times().min(), times().max()) else { continue };
        let ulid = ulid::Ulid::generate().to_string();
        let meta = Meta {
            ulid: ulid.clone(),
            min_time_ms: first,
            max_time_ms: last + 1,
            compaction: Compaction { level: 1, sources: vec![ulid], ..Compaction::default() },
            version: 1,
            ..Meta::default()
        };
        let source = Imported { symbols: symbols(&series), series: series.into_iter() };
        let block = write::block(&Disk, dir, meta, vec![Box::new(source)]).map_err(|e| format!("create block: {e}"))?;
        made.extend(block.map(Arc::new));
    }
    list::print(&made, false, streams);
    Ok(())
}

fn symbols(series: &BTreeMap<Labels, Samples>) -> BTreeSet<Box<str>> {
    let mut symbols = BTreeSet::new();
    for labels in series.keys() {
        labels.each(&mut |n, v| {
            symbols.insert(Box::from(n));
            symbols.insert(Box::from(v));
        });
    }
    symbols
}

/// The series of one block, in label order.
struct Imported {
    symbols: BTreeSet<Box<str>>,
    series: std::collections::btree_map::IntoIter<Labels, Samples>,
}

impl Source for Imported {
    fn symbols(&self, into: &mut BTreeSet<Box<str>>) {
        into.extend(self.symbols.iter().cloned());
    }
    fn next(&mut self) -> Result<Option<SourceSeries>, Error> {
        let Some((labels, samples)) = self.series.next() else { return Ok(None) };
        let samples: Vec<(i64, f64)> = samples.into_iter().collect();
        let mut pieces = Vec::new();
        for part in samples.chunks(SAMPLES_PER_CHUNK) {
            let (mut data, mut state) = (Vec::new(), xor::State::default());
            part.iter().for_each(|(t, v)| xor::append(&mut data, &mut state, *t, v.to_bits()));
            let (Some(first), Some(last)) = (part.first(), part.last()) else { continue };
            pieces.push(Piece {
                mint_ms: first.0,
                maxt_ms: last.0,
                encoding: Encoding::Xor,
                data: Bytes::Memory(data.into()),
            });
        }
        Ok(Some(SourceSeries { labels, pieces, deleted: Vec::new() }))
    }
}
