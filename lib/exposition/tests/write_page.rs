//! Whole pages as upstream writes them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use ferula_exposition::family::{Bucket, Family, Histogram, Metric, MetricValue, Summary};
use ferula_exposition::write::{Escaping, Exposition, Format};
use ferula_model::{Exemplar, Labels, MetricType};

fn families() -> Vec<Family> {
    let mut requests = Family::counter("http.requests_total", "How many\n\"requests\" \\ so far.");
    requests.push_with([("code", "200".into()), ("pa.th", "a\\b\n\"c\"".into()), ("empty", "".into())], 1_234_567.0);
    requests.metrics[0].timestamp_ms = Some(1_700_000_000_123);
    requests.metrics[0].exemplar = Some(Exemplar {
        labels: Labels::from_pairs([("trace_id", "x\"y")]),
        value: 1.0,
        t_ms: Some(1_700_000_000_500),
    });
    let mut gauge = Family::gauge("room_celsius", "Warm.");
    gauge.unit = "celsius".into();
    gauge.push(20.0);
    let mut histogram = Family::new("wait_seconds", "", MetricType::Histogram);
    let exemplar = Some(Exemplar { labels: Labels::empty(), value: 0.2, t_ms: None });
    histogram.metrics.push(Metric::new(
        vec![("a".into(), "b".into())],
        MetricValue::Histogram(Histogram {
            count: 3_000_000.0,
            sum: 2.0,
            buckets: vec![Bucket { upper_bound: 1.0, cumulative_count: 2.0, exemplar }],
            native: None,
        }),
    ));
    let mut summary = Family::new("took_seconds", "T.", MetricType::Summary);
    let quantiles = vec![(0.5, f64::NAN), (1.0, 3.0)];
    summary.metrics.push(Metric::new(vec![], MetricValue::Summary(Summary { count: 2.0, sum: 4.0, quantiles })));
    let info = Family::new("build_info", "I.", MetricType::Info).with(1.0);
    vec![
        requests,
        gauge,
        histogram,
        summary,
        info,
        Family::unknown("old", "U.").with(-0.0),
        Family::counter("plain", "P.").with(1.0),
    ]
}

fn page(exposition: Exposition, escaping: Escaping) -> String {
    let mut out = Vec::new();
    Format { exposition, escaping }.write(&families(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn text_0_0_4() {
    assert_eq!(
        page(Exposition::Text0_0_4, Escaping::Underscores),
        r#"# HELP http_requests_total How many\n"requests" \\ so far.
# TYPE http_requests_total counter
http_requests_total{code="200",pa_th="a\\b\n\"c\"",empty=""} 1.234567e+06 1700000000123
# HELP room_celsius Warm.
# TYPE room_celsius gauge
room_celsius 20
# TYPE wait_seconds histogram
wait_seconds_bucket{a="b",le="1"} 2
wait_seconds_bucket{a="b",le="+Inf"} 3e+06
wait_seconds_sum{a="b"} 2
wait_seconds_count{a="b"} 3e+06
# HELP took_seconds T.
# TYPE took_seconds summary
took_seconds{quantile="0.5"} NaN
took_seconds{quantile="1"} 3
took_seconds_sum 4
took_seconds_count 2
# HELP build_info I.
# TYPE build_info gauge
build_info 1
# HELP old U.
# TYPE old untyped
old 0
# HELP plain P.
# TYPE plain counter
plain 1
"#
    );
}

#[test]
fn text_1_0_0_quotes_names() {
    let page = page(Exposition::Text1_0_0, Escaping::AllowUtf8);
    let want = r#"# HELP "http.requests_total" How many\n"requests" \\ so far.
# TYPE "http.requests_total" counter
{"http.requests_total",code="200","pa.th"="a\\b\n\"c\"",empty=""} 1.234567e+06 1700000000123
"#;
    assert_eq!(&page[..want.len()], want);
}

#[test]
fn openmetrics() {
    assert_eq!(
        page(Exposition::OpenMetrics1_0_0, Escaping::Underscores),
        r##"# HELP http_requests How many\n\"requests\" \\ so far.
# TYPE http_requests counter
http_requests_total{code="200",pa_th="a\\b\n\"c\"",empty=""} 1.234567e+06 1.700000000123e+09 # {trace_id="x\"y"} 1.0 1.7000000005e+09
# HELP room_celsius Warm.
# TYPE room_celsius gauge
# UNIT room_celsius celsius
room_celsius 20.0
# TYPE wait_seconds histogram
wait_seconds_bucket{a="b",le="1.0"} 2 # {} 0.2
wait_seconds_bucket{a="b",le="+Inf"} 3000000
wait_seconds_sum{a="b"} 2.0
wait_seconds_count{a="b"} 3000000
# HELP took_seconds T.
# TYPE took_seconds summary
took_seconds{quantile="0.5"} NaN
took_seconds{quantile="1.0"} 3.0
took_seconds_sum 4.0
took_seconds_count 2
# HELP build I.
# TYPE build info
build_info 1.0
# HELP old U.
# TYPE old unknown
old 0.0
# HELP plain P.
# TYPE plain unknown
plain 1.0
# EOF
"##
    );
}

/// The old text format, read back by somebody else's parser.
#[test]
fn another_parser_reads_it() {
    let text = page(Exposition::Text0_0_4, Escaping::Underscores);
    let scrape = prometheus_parse::Scrape::parse(text.lines().map(|l| Ok(l.to_owned()))).unwrap();
    let mut names: Vec<&str> = scrape.samples.iter().map(|s| s.metric.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    for name in ["http_requests_total", "room_celsius", "wait_seconds", "took_seconds", "old", "plain"] {
        assert!(names.contains(&name), "{name} not in {names:?}");
    }
}
