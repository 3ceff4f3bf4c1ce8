//! `tsdb dump` and `dump-openmetrics`: every sample as a line.
use std::path::Path;
use std::sync::Arc;

use ferula_fs::Disk;
use ferula_instrument::Registry;
use ferula_model::labels::{METRIC_NAME, quoted};
use ferula_model::{Labels, SystemClock, is_stale_nan};
use ferula_promql_parser::parse_metric_selector;
use ferula_storage::merge::MergeQuerier;
use ferula_storage::{Column, Querier, QueryContext, Queryable, SampleBatch, SelectHints};
use ferula_tsdb::query::block_querier::BlockQuerier;
use ferula_tsdb::{Db, Options};

use crate::Streams;
use crate::command_line::Parsed;

pub(super) fn run(parsed: &Parsed, openmetrics: bool, streams: &mut Streams<'_>) -> Result<(), String> {
    let dir = super::folder(parsed)?;
    let bound = |name: &str| parsed.flag(name).parse::<i64>().map_err(|e| format!("{name}: {e}"));
    let (mint, maxt) = (bound("min-time")?, bound("max-time")?);
    let mut sets = Vec::new();
    for selector in parsed.flags("match") {
        sets.push(parse_metric_selector(selector).map_err(|e| e.to_string())?);
    }
    // The log is replayed from a copy: whoever owns the directory is not disturbed.
    if !dir.join("wal").exists() {
        return Err(format!(
            "read WAL: find last checkpoint: open {}: no such file or directory",
            dir.join("wal").display()
        ));
    }
    let root = parsed.flag("sandbox-dir-root");
    let sandbox = if root.is_empty() { tempfile::tempdir() } else { tempfile::tempdir_in(root) };
    let sandbox = sandbox.map_err(|e| format!("setting up sandbox dir: {e}"))?;
    for part in ["wal", "wbl", "chunks_head"] {
        copy(&dir.join(part), &sandbox.path().join(part)).map_err(|e| format!("setting up sandbox dir: {e}"))?;
    }
    let options =
        Options { background: false, out_of_order_window_ms: i64::MAX / 4, retention_ms: 0, ..Options::default() };
    let db = Db::open(sandbox.path(), options, Arc::new(Disk), Arc::new(SystemClock), &Registry::new())
        .map_err(|e| format!("read WAL: {e}"))?;
    let mut queriers: Vec<Box<dyn Querier>> = vec![db.querier(mint, maxt).map_err(|e| e.to_string())?];
    for block in super::blocks(&dir)?.into_iter().filter(|b| b.overlaps(mint, maxt)) {
        queriers.push(Box::new(BlockQuerier::new(block, mint, maxt)));
    }
    let querier = MergeQuerier::new(queriers);
    let ctx = QueryContext::background();
    let hints = SelectHints { start_ms: mint, end_ms: maxt, ..SelectHints::default() };
    // Series that several selectors match are printed once.
    let mut all: std::collections::BTreeMap<Labels, ferula_storage::Series> = std::collections::BTreeMap::new();
    for matchers in &sets {
        let mut found = querier.select(&ctx, true, &hints, matchers).map_err(|e| e.to_string())?;
        while let Some(series) = found.next() {
            let series = series.map_err(|e| e.to_string())?;
            all.entry(series.labels.to_labels()).or_insert(series);
        }
    }
    let mut batch = SampleBatch::default();
    for (labels, mut series) in all {
        let name = if openmetrics { metric(&labels) } else { labels.to_string() };
        while series.samples.next_batch(&mut batch).map_err(|e| e.to_string())? {
            for (i, t) in batch.t_ms.iter().enumerate() {
                match &batch.values {
                    Column::Floats(v) => {
                        let v = v.get(i).copied().unwrap_or(f64::NAN);
                        if !openmetrics {
                            streams.say(format_args!("{name} {} {t}", ferula_model::number::format_g(v)));
                        } else if !is_stale_nan(v) {
                            let seconds = format!("{}.{:03}", t.div_euclid(1000), t.rem_euclid(1000));
                            streams.say(format_args!("{name} {} {seconds}", ferula_model::number::format_g(v)));
                        }
                    }
                    Column::Histograms(h) => {
                        if let (false, Some(h)) = (openmetrics, h.get(i)) {
                            streams.say(format_args!("{name} {h} {t}"));
                        }
                    }
                }
            }
        }
    }
    if openmetrics {
        streams.say("# EOF");
    }
    drop(querier);
    db.close().map_err(|e| e.to_string())
}

/// `name{a="b",c="d"}`
fn metric(labels: &Labels) -> String {
    let mut pairs = Vec::new();
    for (n, v) in labels {
        if n != METRIC_NAME {
            pairs.push(format!("{n}={}", quoted(v)));
        }
    }
    format!("{}{{{}}}", labels.get(METRIC_NAME).unwrap_or(""), pairs.join(","))
}

/// Copies a folder with all that is in it, if it is there.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    if !from.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
