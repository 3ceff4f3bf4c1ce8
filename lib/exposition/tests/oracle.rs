//! An independent implementation agrees: `prometheus-parse`, on the subset of the format it reads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::BTreeMap;

use ferula_exposition::parse::{Entry, Limits, Parser, Syntax, check_protobuf, check_text};
use proptest::prelude::*;

type Found = Vec<(BTreeMap<String, String>, u64, Option<i64>)>;

fn ours(body: &str) -> Found {
    let mut parser = Parser::new(body.as_bytes(), Syntax::Text, Limits::default());
    let mut out = Found::new();
    while let Some(entry) = parser.next() {
        if let Entry::Sample(s) = entry.expect("subset parses") {
            let mut labels = BTreeMap::new();
            parser.labels(|n, v| {
                labels.insert(n.into_owned(), v.into_owned());
            });
            out.push((labels, s.value.to_bits(), s.t_ms));
        }
    }
    out
}

fn theirs(body: &str) -> Found {
    let scrape = prometheus_parse::Scrape::parse(body.lines().map(|l| Ok(l.to_owned()))).unwrap();
    let missing = 1; // the oracle stamps samples without a timestamp with "now"
    let mut out: Found = scrape
        .samples
        .into_iter()
        .map(|s| {
            let mut labels: BTreeMap<String, String> = s.labels.iter().map(|(n, v)| (n.clone(), v.clone())).collect();
            labels.insert("__name__".into(), s.metric);
            let value = match s.value {
                prometheus_parse::Value::Untyped(v)
                | prometheus_parse::Value::Gauge(v)
                | prometheus_parse::Value::Counter(v) => v,
                other => panic!("outside the subset: {other:?}"),
            };
            let t = s.timestamp.timestamp_millis();
            (labels, value.to_bits(), (t < 10_000_000_000).then_some(t).filter(|t| *t != missing))
        })
        .collect();
    out.sort();
    out
}

fn line() -> impl Strategy<Value = String> {
    let name = "[a-z_][a-z0-9_]{0,12}";
    let label = ("[a-z][a-z0-9_]{0,8}", "[a-zA-Z0-9 /.:+-]{1,12}");
    let labels = proptest::collection::btree_map(label.0, label.1, 0..4);
    let value = prop_oneof![
        any::<i32>().prop_map(|v| v.to_string()),
        any::<f64>().prop_filter("finite", |v| v.is_finite()).prop_map(|v| format!("{v:e}")),
        (-1e6f64..1e6).prop_map(|v| v.to_string()),
        Just("+Inf".to_owned()),
    ];
    (name, labels, value, proptest::option::of(2i64..9_999_999_999)).prop_map(|(name, labels, value, t)| {
        let pairs: Vec<String> = labels.iter().map(|(n, v)| format!("{n}=\"{v}\"")).collect();
        let braces = if pairs.is_empty() { String::new() } else { format!("{{{}}}", pairs.join(",")) };
        let t = t.map(|t| format!(" {t}")).unwrap_or_default();
        format!("{name}{braces} {value}{t}")
    })
}

proptest! {
    #[test]
    fn agrees_with_prometheus_parse(lines in proptest::collection::vec(line(), 1..20), typed in any::<bool>()) {
        let mut body = String::new();
        for (i, l) in lines.iter().enumerate() {
            if typed {
                body.push_str(&format!("# HELP m{i} some help\n# TYPE m{i} gauge\n"));
            }
            body.push_str(l);
            body.push('\n');
        }
        let mut mine = ours(&body);
        mine.sort();
        prop_assert_eq!(mine, theirs(&body));
    }

    #[test]
    fn the_short_cut_equals_the_full_parse(
        body in "([a-c{}=\", #\\\\\n0-9.]|a\\{b=\"c\"\\} 1\n|# TYPE a gauge\n){0,60}",
    ) {
        check_text(body.as_bytes(), Syntax::Text);
        check_text(body.as_bytes(), Syntax::OpenMetrics);
    }

    #[test]
    fn any_bytes_end(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        check_text(&body, Syntax::Text);
        check_text(&body, Syntax::OpenMetrics);
        check_protobuf(&body);
    }
}

/// The seeds of the fuzz targets, and whatever they once found, stay green.
#[test]
fn fuzz_seeds() {
    for (dir, syntax) in [("text", Syntax::Text), ("openmetrics", Syntax::OpenMetrics)] {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(dir);
        let mut seeds = 0;
        for entry in std::fs::read_dir(dir).unwrap() {
            check_text(&std::fs::read(entry.unwrap().path()).unwrap(), syntax);
            seeds += 1;
        }
        assert!(seeds >= 3);
    }
    let protobuf = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/protobuf");
    for entry in std::fs::read_dir(protobuf).unwrap() {
        check_protobuf(&std::fs::read(entry.unwrap().path()).unwrap());
    }
}

/// Nothing recurses: a quarter of a megabyte of stack is enough for any body.
#[test]
fn deep_and_long_bodies_need_no_stack() {
    let bodies = [
        "{".repeat(1 << 18),
        "\n".repeat(1 << 20),
        "#\n".repeat(1 << 18),
        format!("a{{{}}} 1\n", "a=\"\",".repeat(1 << 16)),
        format!("a{{b=\"{}\"}} 1\n", "\\\\".repeat(1 << 18)),
    ];
    let small = std::thread::Builder::new().stack_size(256 << 10);
    let done = small.spawn(move || {
        for body in bodies {
            check_text(body.as_bytes(), Syntax::Text);
            check_text(body.as_bytes(), Syntax::OpenMetrics);
        }
    });
    done.unwrap().join().unwrap();
}
