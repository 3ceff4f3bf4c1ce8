//! Real pages (`FERULA_CORPUS`) and generated ones, line by line beside `prometheus-parse`: where the two differ, the table
//! of what that crate gets wrong must say why.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ferula_exposition::parse::{Entry, Limits, Parser, Syntax};
use proptest::prelude::*;

/// Labels with the name, value bits, time.
type Line = (BTreeMap<String, String>, u64, Option<i64>);

fn ours(body: &[u8]) -> Result<Option<Line>, String> {
    let mut parser = Parser::new(body, Syntax::Text, Limits::default());
    match parser.next() {
        Some(Ok(Entry::Sample(s))) => {
            let mut labels = BTreeMap::new();
            parser.labels(|n, v| {
                labels.insert(n.into_owned(), v.into_owned());
            });
            let nan = if s.value.is_nan() { f64::NAN } else { s.value };
            Ok(Some((labels, nan.to_bits(), s.t_ms)))
        }
        Some(Ok(_)) | None => Ok(None),
        Some(Err(e)) => Err(e.reason),
    }
}

fn theirs(line: &str) -> Option<Line> {
    let scrape = prometheus_parse::Scrape::parse(std::iter::once(Ok(line.to_owned()))).unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    let sample = scrape.samples.into_iter().next()?;
    let mut labels: BTreeMap<String, String> = sample.labels.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
    labels.insert("__name__".into(), sample.metric);
    let prometheus_parse::Value::Untyped(v) = sample.value else { panic!("a line alone has no type") };
    let t = sample.timestamp.timestamp_millis(); // of a sample without a time: now
    Some((labels, if v.is_nan() { f64::NAN } else { v }.to_bits(), (now.abs_diff(t) > 60_000).then_some(t)))
}

/// What that crate does with a line that the format says otherwise about; `None` if nothing excuses a difference.
fn its_mistake(line: &str, ours: &Result<Option<Line>, String>) -> Option<&'static str> {
    let Ok(Some((labels, _, t_ms))) = ours else {
        return ours.is_err().then_some("takes what it can of a malformed line, or skips it");
    };
    let value = |what: &[char]| labels.iter().any(|(n, v)| n != "__name__" && v.contains(what));
    let name = labels.get("__name__").map_or("", String::as_str);
    let is_word = |n: &str| n.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
    Some(match () {
        _ if !is_word(name) => "reads no metric name with a colon or of UTF-8",
        _ if labels.keys().any(|n| !is_word(n)) => "keeps the quotes of UTF-8 label names",
        _ if value(&['}']) => "ends the labels at a brace inside a value",
        _ if value(&[',']) => "splits label values at commas",
        _ if value(&['=']) => "drops labels whose value has an equals sign",
        _ if value(&['\\', '"', '\n']) => "resolves no escapes",
        _ if line.contains("{}") => "reads no empty braces",
        _ if line.contains(" =") || line.contains("= ") || line.contains(", ") || line.contains("{ ") => {
            "keeps blanks around names and values"
        }
        _ if labels.values().any(|v| v.starts_with(' ') || v.ends_with(' ')) => "trims values",
        _ if t_ms.is_some_and(|t| t.abs() > 8_000_000_000_000_000) => "has no such years",
        _ if line.contains(['\t', '\r']) => "takes other blanks",
        _ if line.contains("0x") || line.contains("0X") || line.contains('_') => "reads decimal numbers only",
        _ => return None,
    })
}

#[derive(Default)]
struct Tally {
    equal: usize,
    excused: BTreeMap<&'static str, usize>,
    differ: Vec<String>,
}

impl Tally {
    fn compare(&mut self, line: &str) {
        let (mine, other) = (ours(format!("{line}\n").as_bytes()), theirs(line));
        if mine.as_ref().is_ok_and(|m| *m == other) {
            self.equal += 1;
        } else if let Some(why) = its_mistake(line, &mine) {
            *self.excused.entry(why).or_default() += 1;
        } else {
            self.differ.push(format!("{line}\n  ours   {mine:?}\n  theirs {other:?}"));
        }
    }
    fn show(&self) {
        println!("prometheus-parse: {} lines equal", self.equal);
        for (why, n) in &self.excused {
            println!("  {n:6} where it {why}");
        }
        for d in self.differ.iter().take(10) {
            println!("{d}");
        }
    }
}

fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { files(&path, out) } else { out.push(path) }
    }
}

#[test]
fn real_pages() {
    let Ok(corpus) = std::env::var("FERULA_CORPUS").map(PathBuf::from) else {
        println!("SKIPPED oracle over the corpus: FERULA_CORPUS is not set");
        return;
    };
    let (mut paths, mut tally) = (Vec::new(), Tally::default());
    for dir in ["exposition", "parser"] {
        files(&corpus.join(dir), &mut paths);
    }
    for path in paths {
        let is_other = path.extension().is_some_and(|e| e == "yaml" || e == "md" || e == "gz" || e == "json");
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        if is_other || text.starts_with("{\n") {
            continue;
        }
        // Comments and metadata say nothing about a line; a blank one is none.
        for line in text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()) {
            tally.compare(line);
        }
    }
    tally.show();
    assert!(tally.differ.is_empty(), "{} lines differ without a reason", tally.differ.len());
    assert!(tally.equal > 10_000, "{}", tally.equal);
}

fn any_line() -> impl Strategy<Value = String> {
    let value = "[a-zA-Z0-9 /.:+,=}{_-]{0,8}|\\\\\\\\x|\\\\\"q|\\\\n";
    let labels = proptest::collection::btree_map("[a-z][a-z0-9_]{0,6}", value, 0..4);
    let number = prop_oneof![
        any::<f64>().prop_map(|v| format!("{v:e}")),
        "[0-9]{1,20}[.][0-9]{0,20}",
        "[+-]?(inf|Inf|NaN|nan|INF)",
        "[0-9a-fx_.e+-]{1,8}",
    ];
    ("[a-z_:][a-z0-9_:]{0,8}", labels, number, proptest::option::of(any::<i64>())).prop_map(|(name, labels, v, t)| {
        let pairs: Vec<String> = labels.iter().map(|(n, v)| format!("{n}=\"{v}\"")).collect();
        let braces = if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
        format!("{name}{braces} {v}{}", t.map(|t| format!(" {t}")).unwrap_or_default())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn generated_lines(line in any_line()) {
        let mut tally = Tally::default();
        tally.compare(&line);
        prop_assert!(tally.differ.is_empty(), "{}", tally.differ[0]);
    }
}
