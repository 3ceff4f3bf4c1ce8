//! Upstream's own formatting and trees of thousands of real expressions (`FERULA_CORPUS`/exprs).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::io::Read;

use ferula_promql_parser::{ParseOptions, parse_expr_with, pretty, to_json};
use serde_json::Value;

fn records(file: &str) -> Option<Vec<Value>> {
    let Some(dir) = std::env::var_os("FERULA_CORPUS") else {
        println!("SKIPPED promql-parser corpus {file}: FERULA_CORPUS is not set");
        return None;
    };
    let mut text = String::new();
    let packed = std::fs::File::open(std::path::Path::new(&dir).join("exprs").join(file)).unwrap();
    flate2::read::GzDecoder::new(packed).read_to_string(&mut text).unwrap();
    Some(text.lines().map(|l| serde_json::from_str(l).unwrap()).collect())
}

fn everything() -> ParseOptions {
    ParseOptions {
        experimental_functions: true,
        extended_range_selectors: true,
        fill_modifiers: true,
        ..ParseOptions::default()
    }
}

#[test]
fn formats_as_upstream() {
    let (mut equal, mut newer, mut total) = (0, 0, 0);
    let mut wrong = Vec::new();
    for file in ["promqltest.jsonl.gz", "realworld.jsonl.gz"] {
        for r in records(file).unwrap_or_default() {
            total += 1;
            let text = r["expr"].as_str().unwrap();
            let parsed = match parse_expr_with(text, &everything()) {
                Ok(e) => e,
                Err(e) => {
                    wrong.push(format!("{text}\n   {e}"));
                    continue;
                }
            };
            // Whatever is printed parses back to the same text.
            for printed in [parsed.to_string(), pretty(&parsed)] {
                let again = parse_expr_with(&printed, &everything()).map(|e| e.to_string());
                assert_eq!(again.as_deref(), Ok(parsed.to_string().as_str()), "{text}");
            }
            match r["formatted"].as_str() {
                // Upstream 3.5, which wrote the file, did not know this expression yet; 3.14 does.
                None => newer += 1,
                Some(want) if want == pretty(&parsed) => equal += 1,
                Some(want) => wrong.push(format!("{text}\n got  {}\n want {want}", pretty(&parsed))),
            }
        }
    }
    println!(
        "promql-parser corpus: {equal} of {total} formatted equally, {newer} newer than the corpus parse, {} differ",
        wrong.len()
    );
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}

/// Keys of 3.14 that the corpus, written by 3.5, does not have.
fn forget_newer_keys(v: &mut Value) {
    match v {
        Value::Object(map) => {
            for key in ["anchored", "smoothed", "fillValues"] {
                map.remove(key);
            }
            map.values_mut().for_each(forget_newer_keys);
        }
        Value::Array(list) => list.iter_mut().for_each(forget_newer_keys),
        _ => {}
    }
}

#[test]
fn trees_as_upstream() {
    let (mut equal, mut total) = (0, 0);
    let mut wrong = Vec::new();
    for r in records("ast.jsonl.gz").unwrap_or_default() {
        total += 1;
        let text = r["expr"].as_str().unwrap();
        let mut got: Value = match parse_expr_with(text, &everything()) {
            Ok(e) => serde_json::from_str(&to_json(&e)).unwrap(),
            Err(e) => Value::from(e.to_string()),
        };
        forget_newer_keys(&mut got);
        if got == r["ast"] {
            equal += 1;
        } else {
            wrong.push(format!("{text}\n got  {got}\n want {}", r["ast"]));
        }
    }
    println!("promql-parser corpus: {equal} of {total} trees equal");
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong[..wrong.len().min(5)].join("\n"));
}

/// Every line of every `load` of upstream's test scripts.
#[test]
fn series_descriptions_parse() {
    let Some(dir) = std::env::var_os("FERULA_CORPUS") else {
        println!("SKIPPED promql-parser series descriptions: FERULA_CORPUS is not set");
        return;
    };
    let (mut lines, mut values) = (0, 0);
    for entry in std::fs::read_dir(std::path::Path::new(&dir).join("promqltest")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "test") {
            continue;
        }
        let mut in_load = false;
        for line in std::fs::read_to_string(&path).unwrap().lines() {
            let text = line.trim();
            if !line.starts_with([' ', '\t']) {
                in_load = text.starts_with("load");
            } else if in_load && !text.is_empty() && !text.starts_with('#') {
                let d = ferula_promql_parser::series_description::parse(text);
                let d = d.unwrap_or_else(|e| panic!("{}: {text}: {e}", path.display()));
                lines += 1;
                values += d.values.len();
            }
        }
    }
    println!("promql-parser corpus: {lines} series descriptions with {values} values parse");
    assert!(lines > 400);
}
