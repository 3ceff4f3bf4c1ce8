//! `tsdb analyze`: which labels a block's series and their churn are made of.
use std::collections::BTreeMap;

use ferula_promql_parser::parse_metric_selector;
use ferula_tsdb::query::select::{LabelIndex, select};

use super::list::go_duration;
use crate::Streams;
use crate::command_line::Parsed;

pub(super) fn run(parsed: &Parsed, streams: &mut Streams<'_>) -> Result<(), String> {
    let dir = super::folder(parsed)?;
    let limit: usize = parsed.flag("limit").parse().map_err(|e| format!("--limit: {e}"))?;
    let id = parsed.arg("block id");
    let blocks = super::blocks(&dir)?;
    let block = match (id, blocks.last()) {
        ("", None) => return Err("no blocks found".to_owned()),
        ("", Some(last)) => last,
        (id, _) => blocks.iter().find(|b| b.meta.ulid == id).ok_or_else(|| {
            if ulid::Ulid::from_string(id).is_ok() {
                format!("block {id} not found")
            } else {
                format!("invalid block ID {id}")
            }
        })?,
    };
    let matchers = match parsed.flag("match") {
        "" => Vec::new(),
        text => parse_metric_selector(text).map_err(|e| e.to_string())?,
    };
    let (meta, index) = (&block.meta, &block.index);
    let failed = |e: ferula_tsdb::Error| e.to_string();
    streams.say(format_args!("Block ID: {}", meta.ulid));
    let length = meta.max_time_ms - meta.min_time_ms;
    streams.say(format_args!("Duration: {}", go_duration(length)));
    streams.say(format_args!("Total Series: {}", meta.stats.num_series));
    let series = if matchers.is_empty() {
        LabelIndex::all(index).map_err(failed)?
    } else {
        streams.say(format_args!("Matcher: {}", parsed.flag("match")));
        select(index, &matchers).map_err(failed)?
    };

    let mut names: BTreeMap<String, Name> = BTreeMap::new();
    let mut pairs: BTreeMap<(String, String), Pair> = BTreeMap::new();
    let (mut entries, mut chunks) = (0u64, Vec::new());
    for s in &series {
        let labels = index.series(*s, &mut chunks).map_err(failed)?;
        // How much of the block's time the series is not there for.
        let covered: i64 = chunks.iter().map(|c| c.maxt_ms - c.mint_ms).sum();
        let missing = if covered < length { 1.0 - covered as f64 / length as f64 } else { 0.0 };
        for (n, v) in &labels {
            entries += 1;
            names.entry(n.to_owned()).or_default().uncovered += missing;
            let pair = pairs.entry((n.to_owned(), v.to_owned())).or_default();
            pair.series += 1;
            pair.uncovered += missing;
        }
    }
    for (n, v) in pairs.keys() {
        let name = names.entry(n.clone()).or_default();
        name.values += 1;
        name.bytes += v.len() as u64;
    }
    streams.say(format_args!("Label names: {}", names.len()));
    if !matchers.is_empty() {
        streams.say(format_args!("Matched series: {}", series.len()));
    }
    streams.say(format_args!("Postings (unique label pairs): {}", pairs.len()));
    streams.say(format_args!("Postings entries (total label pairs): {entries}"));

    let mut table = |title: &str, mut rows: Vec<(u64, String)>| {
        rows.sort_by_key(|r| std::cmp::Reverse(r.0));
        streams.say(format_args!("\n{title}:"));
        for (n, what) in rows.iter().take(limit) {
            streams.say(format_args!("{n} {what}"));
        }
    };
    let pair = |(n, v): &(String, String)| format!("{n}={v}");
    let of_pairs = |f: &dyn Fn(&Pair) -> u64| pairs.iter().map(|(k, p)| (f(p), pair(k))).collect::<Vec<_>>();
    let of_names = |f: &dyn Fn(&Name) -> u64| names.iter().map(|(k, n)| (f(n), k.clone())).collect::<Vec<_>>();
    let churning = |mut rows: Vec<(u64, String)>| {
        rows.retain(|r| r.0 >= 1);
        rows
    };
    table("Label pairs most involved in churning", churning(of_pairs(&|p| p.uncovered as u64)));
    table("Label names most involved in churning", churning(of_names(&|n| n.uncovered as u64)));
    table("Most common label pairs", of_pairs(&|p| p.series));
    table("Label names with highest cumulative label value length", of_names(&|n| n.bytes));
    table("Highest cardinality labels", of_names(&|n| n.values));
    let metrics = pairs.iter().filter(|((n, _), _)| n == "__name__").map(|((_, v), p)| (p.series, v.clone()));
    let metrics = metrics.collect();
    table("Highest cardinality metric names", metrics);
    Ok(())
}

#[derive(Default)]
struct Name {
    values: u64,
    /// Of all values together.
    bytes: u64,
    /// Sum, over its series, of the share of time they are not there for.
    uncovered: f64,
}

#[derive(Default)]
struct Pair {
    series: u64,
    uncovered: f64,
}
