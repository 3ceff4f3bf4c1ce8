//! One `check` per format; the corpus and the independent oracle are in `tests/`.
use super::*;

/// A line per entry, then the error if there is one.
fn dump(body: &str, syntax: Syntax) -> String {
    let mut out = String::new();
    let mut parser = Parser::new(body.as_bytes(), syntax, Limits { line_bytes_max: 200 });
    while let Some(entry) = parser.next() {
        match entry {
            Ok(Entry::Help { family, text }) => out.push_str(&format!("help {family} {text:?}\n")),
            Ok(Entry::Type { family, metric_type }) => {
                out.push_str(&format!("type {family} {}\n", metric_type.as_str()))
            }
            Ok(Entry::Unit { family, unit }) => out.push_str(&format!("unit {family} {unit}\n")),
            Ok(Entry::Comment) => out.push_str("comment\n"),
            Ok(Entry::Sample(s)) => {
                let mut labels = Vec::new();
                parser.labels(|n, v| labels.push(format!("{n}={v:?}")));
                out.push_str(&format!("{} {}", labels.join(" "), s.value));
                if let Some(t) = s.t_ms {
                    out.push_str(&format!(" @{t}"));
                }
                if let Some(e) = parser.exemplar() {
                    out.push_str(&format!(" ex {} {} {:?}", e.labels, e.value, e.t_ms));
                }
                out.push('\n');
            }
            Err(e) => out.push_str(&format!("error {e}\n")),
        }
    }
    out
}

#[track_caller]
fn check(syntax: Syntax, body: &str, expect: &str) {
    let expect: String = expect.lines().map(|l| format!("{}\n", l.trim_start())).collect();
    assert_eq!(dump(body, syntax), expect.trim_start_matches('\n'), "{body}");
}

#[test]
fn text() {
    check(
        Syntax::Text,
        "# HELP a a \\\\ \\n \\\" b\n#comment\n# TYPE a counter\n\n  \na{x=\"1\", y = \"q\\\"\\\\\\n\",} 1 1700\njob:b 2\n{\"http.req\",\"x.y\"=\"z\"} +Inf\na {x=\"1\"}3",
        r#"help a "a \\ \n \\\" b"
        comment
        type a counter
        __name__="a" x="1" y="q\"\\\n" 1 @1700
        __name__="job:b" 2
        __name__="http.req" x.y="z" inf
        __name__="a" x="1" 3
        "#
        .trim_end(),
    );
}

#[test]
fn text_normalises_buckets_and_quantiles_of_their_types_only() {
    check(
        Syntax::Text,
        "a_bucket{le=\"1\"} 1\n# TYPE a histogram\na_bucket{le=\"1\"} 1\na_bucket{le=\"1e6\"} 1\na{quantile=\"1\"} 1\n# TYPE a summary\na{quantile=\"0.50\"} 1\n",
        r#"__name__="a_bucket" le="1" 1
        type a histogram
        __name__="a_bucket" le="1.0" 1
        __name__="a_bucket" le="1e+06" 1
        __name__="a" quantile="1" 1
        type a summary
        __name__="a" quantile="0.5" 1"#,
    );
}

#[test]
fn openmetrics() {
    check(
        Syntax::OpenMetrics,
        "# TYPE a_seconds histogram\n# UNIT a_seconds seconds\n# HELP a_seconds x\na_seconds_bucket{le=\"1\"} 5 1.5 # {id=\"q\"} 0.5 2.25\n# EOF\n",
        r#"type a_seconds histogram
        unit a_seconds seconds
        help a_seconds "x"
        __name__="a_seconds_bucket" le="1.0" 5 @1500 ex {id="q"} 0.5 Some(2250)"#,
    );
}

#[test]
fn errors_say_line_and_reason() {
    let long = format!("a{{x=\"{}\"}} 1\n", "y".repeat(300));
    for (syntax, body, expect) in [
        (
            Syntax::Text,
            "a 1\n\nb x\n",
            "__name__=\"a\" 1\nerror strconv.ParseFloat: parsing \"x\": invalid syntax while parsing: \"b x\" (line 3)",
        ),
        (
            Syntax::Text,
            "a{b=\"c\"",
            "error expected label name, got \"\\n\" (\"INVALID\") while parsing: \"a{b=\\\"c\\\"\\n\" (line 1)",
        ),
        (Syntax::Text, "{} 1\n", "error metric name not set while parsing: \"{} 1\" (line 1)"),
        (Syntax::Text, "{a} 1\n", "error expected equal, got \"} \" (\"BCLOSE\") while parsing: \"{a} \" (line 1)"),
        (
            Syntax::Text,
            "\0\0",
            "error expected a valid start token, got \"\\x00\" (\"INVALID\") while parsing: \"\\x00\" (line 1)",
        ),
        (Syntax::Text, &long, "error line of 310 bytes exceeds the limit of 200 bytes (line 1)"),
        (Syntax::OpenMetrics, "a 1\n", "__name__=\"a\" 1\nerror data does not end with # EOF (line 2)"),
        (
            Syntax::OpenMetrics,
            "a 1 \n# EOF\n",
            "__name__=\"a\" 1\nerror expected a valid start token, got \"\\n#\" (\"LINEBREAK\") while parsing: \"\\n#\" (line 1)",
        ),
    ] {
        check(syntax, body, expect);
    }
}

#[test]
fn twelve_megabytes_of_blank_lines_are_nothing() {
    let body = "\n".repeat(12 << 20);
    assert_eq!(dump(&body, Syntax::Text), "");
}

#[test]
fn a_known_line_is_recognised_only_where_it_is_the_same_series() {
    for (body, expected, known) in [
        ("a{b=\"c\"} 1.5\n", "a{b=\"c\"}", true),
        ("a 1\n", "a", true),
        ("ab 1\n", "a", false),
        ("a {b=\"c\"} 1\n", "a", false),
        ("a 1 5\n", "a", false),
        ("a 1", "a", false),
        ("a  1\n", "a", false),
        ("# a 1\n", "a", false),
        ("a 1\n", "", false),
    ] {
        let mut plain = Parser::new(body.as_bytes(), Syntax::Text, Limits::default());
        let mut quick = plain.clone();
        let (full, short) = (
            plain.next(),
            quick.next_known(&mut |line: &[u8]| line.starts_with(expected.as_bytes()).then_some(expected.len())),
        );
        match (full, short) {
            (Some(Ok(Entry::Sample(full))), Some(Ok(Entry::Sample(short)))) => {
                assert_eq!(short.expected, known, "{body:?}");
                assert_eq!(Sample { expected: false, ..short }, full, "{body:?}");
                assert_eq!(quick.reread(), Some(Ok(Entry::Sample(full))));
                assert!(quick.next().is_none());
            }
            (full, short) => assert_eq!(full, short, "{body:?}"),
        }
    }
}
