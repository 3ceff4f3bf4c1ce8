//! Version 2.0 of the receiver: what is carried along, which requests are refused whole, and what references may cost.
use ferula_proto::Message as _;
use ferula_proto::remote_v2::histogram::{Count, ZeroCount};
use ferula_proto::remote_v2::{BucketSpan, Exemplar, Histogram, Metadata, Request, Sample, TimeSeries};

use super::tests::{Receiver, snappy};
use super::{Limits, Message};

const V2: &[(&str, &str)] =
    &[("content-type", "application/x-protobuf;proto=io.prometheus.write.v2.Request"), ("content-encoding", "snappy")];
const SYMBOLS: [&str; 9] = ["", "__name__", "m", "a", "1", "some help", "bytes", "trace_id", "abc"];

fn request(timeseries: Vec<TimeSeries>) -> Vec<u8> {
    Request { symbols: SYMBOLS.map(str::to_owned).to_vec(), timeseries }.encode_to_vec()
}
fn sample(start_timestamp: i64, timestamp: i64, value: f64) -> Sample {
    Sample { value, timestamp, start_timestamp }
}
fn series(labels_refs: &[u32], samples: Vec<Sample>) -> TimeSeries {
    TimeSeries { labels_refs: labels_refs.to_vec(), samples, ..TimeSeries::default() }
}
/// The series that every bad request also has, to see that it is not stored.
fn good() -> TimeSeries {
    series(&[1, 2, 3, 4], vec![sample(0, 200, 1.0)])
}

async fn write(r: &Receiver, timeseries: Vec<TimeSeries>) -> (u16, String, String) {
    r.send(V2, snappy(&request(timeseries))).await
}

#[tokio::test]
async fn carries_starts_metadata_and_exemplars() {
    let r = Receiver::new();
    let mut floats = series(&[3, 4, 1, 2], vec![sample(50, 100, 1.0), sample(-5, 200, 2.0), sample(0, 300, 3.0)]);
    floats.metadata = Some(Metadata { r#type: 1, help_ref: 5, unit_ref: 6 });
    floats.exemplars = vec![Exemplar { labels_refs: vec![7, 8], value: 1.0, timestamp: 90 }];
    let spans = vec![BucketSpan { offset: 0, length: 2 }];
    let mut histograms = series(&[1, 2], vec![]);
    histograms.histograms = vec![
        Histogram {
            count: Some(Count::CountInt(3)),
            zero_count: Some(ZeroCount::ZeroCountInt(0)),
            schema: -53,
            custom_values: vec![0.5, 1.0],
            positive_spans: spans.clone(),
            positive_deltas: vec![1, 1],
            timestamp: 400,
            start_timestamp: 60,
            ..Histogram::default()
        },
        Histogram {
            count: Some(Count::CountFloat(3.5)),
            positive_spans: spans,
            positive_counts: vec![1.5, 2.0],
            timestamp: 500,
            ..Histogram::default()
        },
    ];
    histograms.exemplars = vec![Exemplar { labels_refs: vec![], value: 1.0, timestamp: 0 }];
    histograms.metadata = Some(Metadata::default());
    assert_eq!(write(&r, vec![floats, histograms]).await, (204, String::new(), "3 2 2".into()));
    let described = r#"counter "some help" "bytes""#;
    assert_eq!(
        r.stored(),
        [
            format!(r#"{{__name__="m", a="1"}} 1@100 since 50 {described}"#),
            format!(r#"{{__name__="m", a="1"}} 2@200 since -5 {described}"#),
            format!(r#"{{__name__="m", a="1"}} 3@300 {described}"#),
            "exemplar 1@90".to_owned(),
            r#"{__name__="m"} histogram 3@400 since 60"#.to_owned(),
            r#"{__name__="m"} float histogram 3.5@500"#.to_owned(),
            "exemplar 1@0".to_owned(),
        ]
    );
    assert_eq!(r.send(V2, snappy(&[])).await, (204, String::new(), "0 0 0".into()));
}

#[tokio::test]
async fn a_request_with_a_bad_reference_leaves_nothing_behind() {
    let with = |change: fn(&mut TimeSeries)| {
        let mut bad = good();
        change(&mut bad);
        request(vec![good(), bad])
    };
    for (body, why) in [
        (with(|s| s.labels_refs = vec![1, 2, 3]), "invalid labelRefs length 3"),
        (with(|s| s.labels_refs = vec![1, 999]), "labelRefs 1 (name) = 999 (value) outside of symbols table (size 9)"),
        (with(|s| s.labels_refs = vec![9, 1]), "labelRefs 9 (name) = 1 (value) outside of symbols table (size 9)"),
        (
            with(|s| s.metadata = Some(Metadata { r#type: 1, help_ref: 9, unit_ref: 0 })),
            "metadata help_ref 9 outside of symbols table (size 9)",
        ),
        (
            with(|s| s.metadata = Some(Metadata { r#type: 1, help_ref: 0, unit_ref: 1 << 31 })),
            "metadata unit_ref 2147483648 outside of symbols table (size 9)",
        ),
        (
            with(|s| s.exemplars = vec![Exemplar { labels_refs: vec![7, 99], value: 1.0, timestamp: 1 }]),
            "labelRefs 7 (name) = 99 (value) outside of symbols table (size 9)",
        ),
        (
            with(|s| s.exemplars = vec![Exemplar { labels_refs: vec![7], value: 1.0, timestamp: 1 }]),
            "invalid labelRefs length 1",
        ),
        // A symbol that is not UTF-8, a reference cut short, and a histogram that is none (field 3 of field 5).
        ([request(vec![good()]), vec![0x22, 1, 0xff]].concat(), "proto: invalid UTF-8 in a label"),
        ([request(vec![good()]), vec![0x2a, 3, 0x0a, 1, 0x80]].concat(), "proto: unexpected EOF"),
        (
            [request(vec![good()]), vec![0x2a, 9, 0x0a, 2, 1, 2, 0x1a, 3, 0x0a, 1, 0]].concat(),
            "proto: malformed histogram",
        ),
    ] {
        let r = Receiver::new();
        assert_eq!(r.send(V2, snappy(&body)).await, (400, why.to_owned(), "0 0 0".to_owned()));
        assert_eq!(r.stored(), [""; 0], "{why}");
    }
}

#[tokio::test]
async fn writes_in_part_and_says_how_much() {
    let mut broken = series(&[1, 2], vec![]);
    let histogram = |count, timestamp| Histogram {
        count: Some(Count::CountInt(count)),
        positive_spans: vec![BucketSpan { offset: 0, length: 1 }],
        positive_deltas: vec![5],
        timestamp,
        ..Histogram::default()
    };
    broken.histograms = vec![histogram(1, 100), histogram(5, 200)];
    let mut lonely = series(&[1, 2], vec![]);
    lonely.exemplars = vec![Exemplar::default()];
    let long = Exemplar { labels_refs: [7, 8].repeat(12), value: 1.0, timestamp: 0 };
    let mut long_exemplar = good();
    long_exemplar.exemplars = vec![long, Exemplar::default()];
    for (timeseries, written, why) in [
        (
            vec![series(&[1, 2], vec![sample(0, 1, 1.0), sample(0, 100, 1.0)]), good()],
            "2 0 0",
            r#"out of order sample for series {__name__="m"} at 1"#,
        ),
        (
            vec![series(&[3, 4], vec![sample(0, 100, 1.0)]), good()],
            "1 0 0",
            r#"invalid metric name or labels, got {a="1"}"#,
        ),
        (
            vec![good(), series(&[1, 2, 3, 4, 3, 2], vec![sample(0, 100, 1.0)])],
            "1 0 0",
            r#"invalid labels for series, labels {__name__="m", a="m"}, duplicated label a"#,
        ),
        (
            vec![good(), series(&[1, 2, 0, 4], vec![sample(0, 100, 1.0)])],
            "1 0 0",
            r#"invalid metric name or labels, got {""="1", __name__="m"}"#,
        ),
        (
            vec![series(&[1, 2], vec![sample(0, 1_600_001, 1.0)]), good()],
            "1 0 0",
            r#"out of bounds: timestamp is too far in the future for series {__name__="m"} at 1600001"#,
        ),
        (
            vec![lonely, good()],
            "1 0 0",
            r#"TimeSeries must contain at least one sample or histogram for series {__name__="m"}"#,
        ),
        (
            vec![broken, good()],
            "1 1 0",
            r#"histogram's observation count should equal the number of observations found in the buckets (in absence of NaN): 5 observations found in buckets, but the Count field is 1 for series {__name__="m"} at 100"#,
        ),
    ] {
        let r = Receiver::new();
        assert_eq!(write(&r, timeseries).await, (400, why.to_owned(), written.to_owned()));
    }
    // An exemplar that is too long is not kept and not counted; its sample is.
    let r = Receiver::new();
    assert_eq!(write(&r, vec![long_exemplar]).await, (204, String::new(), "1 0 1".to_owned()));
}

#[tokio::test]
async fn takes_only_accepted_messages() {
    let v1 = &[("content-type", "application/x-protobuf")][..];
    for (accepted, headers, status, text) in [
        (vec![Message::V2], V2, 204, ""),
        (vec![Message::V1], v1, 204, ""),
        (
            vec![Message::V1],
            V2,
            415,
            "io.prometheus.write.v2.Request protobuf message is not accepted by this server; only accepts prometheus.WriteRequest",
        ),
        (
            vec![Message::V2],
            v1,
            415,
            "prometheus.WriteRequest protobuf message is not accepted by this server; only accepts io.prometheus.write.v2.Request",
        ),
        (
            vec![Message::V2],
            &[],
            415,
            "prometheus.WriteRequest protobuf message is not accepted by this server; only accepts io.prometheus.write.v2.Request",
        ),
    ] {
        let r = Receiver::with(Limits { accepted, ..Limits::default() });
        let body = if status == 204 && headers == v1 { vec![] } else { request(vec![good()]) };
        let (got, answer, _) = r.send(headers, snappy(&body)).await;
        assert_eq!((got, answer.as_str()), (status, text));
        assert_eq!(r.stored().is_empty(), headers == v1 || status == 415);
    }
}

#[tokio::test]
async fn bombs_of_references_stay_small() {
    let r = Receiver::new();
    // Fifteen million empty symbols in 30 MB.
    let (status, text, _) = r.send(V2, snappy(&[0x22, 0x00].repeat(15 << 20))).await;
    assert_eq!((status, text.as_str()), (400, "memory budget \"remote write request\" of 268435456 bytes exceeded"));
    // One symbol of a megabyte, twice in a series of four bytes.
    let heavy = |refs: &[u32], series_count| {
        let symbols = vec![String::new(), "__name__".to_owned(), "x".repeat(600_000)];
        let timeseries = vec![series(refs, vec![sample(0, 100, 1.0)]); series_count];
        Request { symbols, timeseries }.encode_to_vec()
    };
    let (status, text, _) = r.send(V2, snappy(&heavy(&[1, 2, 2, 2], 1))).await;
    assert_eq!((status, text.as_str()), (400, "a series has more than 1048576 bytes of labels"));
    // A thousand series that name it once: 600 MB.
    let (status, text, _) = r.send(V2, snappy(&heavy(&[1, 2], 1000))).await;
    let too_many = "memory budget \"remote write request\" of 268435456 bytes exceeded";
    assert_eq!((status, text.as_str()), (400, too_many));
    // Five thousand labels that weigh nothing.
    let (status, text, _) = r.send(V2, snappy(&heavy(&[0; 10_000], 1))).await;
    assert_eq!((status, text.as_str()), (400, "a series has more than 4096 labels"));
    assert_eq!(r.stored(), [""; 0]);
}
