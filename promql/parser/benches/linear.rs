//! Whether parsing is linear: for every way in which a query can be long, the time for text of n and of 2n elements and
//! their proportion, which is 2 for a linear parser and 4 for a quadratic one.
//! `cargo bench -p ferula-promql-parser --bench linear`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::time::{Duration, Instant};

use ferula_promql_parser::{ParseOptions, parse_expr_with};

/// A name, the number of elements, and the query of so many of them.
type Shape = (&'static str, usize, fn(usize) -> String);

/// `one(0) between one(1) between ...`
fn list(n: usize, between: &str, one: impl Fn(usize) -> String) -> String {
    (0..n).map(one).collect::<Vec<_>>().join(between)
}

const SHAPES: [Shape; 11] = [
    ("operators in a row", 400, |n| list(n, " + ", |i| format!("m{i}"))),
    ("powers, nesting to the right", 50, |n| list(n, " ^ ", |i| i.to_string())),
    ("parentheses", 50, |n| format!("{}m{}", "(".repeat(n), ")".repeat(n))),
    ("functions in each other", 50, |n| format!("{}m{}", "abs(".repeat(n), ")".repeat(n))),
    ("subqueries in each other", 20, |n| format!("{}m{}", "rate(".repeat(n), "[5m:1m])".repeat(n))),
    ("matchers", 10_000, |n| format!("m{{{}}}", list(n, ",", |i| format!("l{i}=\"v\"")))),
    ("regular expressions", 200, |n| format!("m{{{}}}", list(n, ",", |i| format!("l{i}=~\"a.*{i}|b+\"")))),
    ("labels to group by", 10_000, |n| format!("sum by ({}) (m)", list(n, ",", |i| format!("l{i}")))),
    ("arguments", 10_000, |n| format!("label_join(m, \"d\", \"-\", {})", list(n, ",", |i| format!("\"l{i}\"")))),
    ("a long string", 200_000, |n| format!("m{{l=\"{}\"}}", "ü\\n".repeat(n / 4))),
    ("comments", 10_000, |n| format!("{}\nm", list(n, "\n", |_| "# nothing".to_owned()))),
];

/// The least of several times: what else runs on the machine only adds.
fn time(query: &str, options: &ParseOptions) -> Duration {
    parse_expr_with(query, options).unwrap_or_else(|e| panic!("{}: {e}", &query[..query.len().min(60)]));
    let once = || {
        let begin = Instant::now();
        let parsed = parse_expr_with(std::hint::black_box(query), options);
        let took = begin.elapsed();
        drop(parsed);
        took
    };
    (0..20).map(|_| once()).min().unwrap()
}

fn main() {
    let options = ParseOptions::default();
    println!("{:32} {:>9} {:>12} {:>12} {:>6}", "", "n", "time(n)", "time(2n)", "ratio");
    for (name, n, of) in SHAPES {
        let (one, two) = (time(&of(n), &options), time(&of(2 * n), &options));
        println!("{name:32} {n:9} {one:>12.1?} {two:>12.1?} {:6.2}", two.as_secs_f64() / one.as_secs_f64());
    }
}
