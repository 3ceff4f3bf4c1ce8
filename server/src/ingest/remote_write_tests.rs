//! The receiver against a recording store: what is kept, what is refused, and what a bomb costs.
use std::sync::Mutex;

use ferula_model::ManualClock;
use ferula_proto::{Message as _, remote};
use ferula_storage::CommitStats;
use http_body_util::BodyExt;
use remote::{Label, TimeSeries, WriteRequest};

use super::*;

/// Keeps committed samples as text; refuses times below 100 as out of order. Series may be forgotten; references are
/// never used again.
#[derive(Clone, Default)]
struct Store {
    lines: Arc<Mutex<Vec<String>>>,
    series: Arc<Mutex<Vec<Option<String>>>>,
    /// How often labels had to be given.
    labelled: Arc<Mutex<usize>>,
}

impl Store {
    fn resolve(&self, series: SeriesRef, labels: Option<&Labels>) -> Option<(SeriesRef, String)> {
        let mut all = self.series.lock().unwrap();
        if let Some(Some(name)) = all.get((series.0 as usize).wrapping_sub(1)) {
            return Some((series, name.clone()));
        }
        let name = labels?.to_string();
        *self.labelled.lock().unwrap() += 1;
        let at = all.iter().position(|s| s.as_ref() == Some(&name)).unwrap_or_else(|| {
            all.push(Some(name.clone()));
            all.len() - 1
        });
        Some((SeriesRef(at as u64 + 1), name))
    }
}

struct Batch {
    store: Store,
    lines: Vec<String>,
}

impl Appendable for Store {
    fn appender(&self) -> Box<dyn Appender> {
        Box::new(Batch { store: self.clone(), lines: Vec::new() })
    }
}

impl Appender for Batch {
    fn append(
        &mut self,
        series: SeriesRef,
        labels: Option<&Labels>,
        start_ms: i64,
        t_ms: i64,
        value_in: Value<'_>,
        options: &AppendOptions<'_>,
    ) -> Result<SeriesRef, AppendError> {
        let (series, name) = self.store.resolve(series, labels).ok_or(AppendError::UnknownSeries)?;
        if t_ms < 100 {
            return Err(AppendError::OutOfOrder);
        }
        let value = match value_in {
            Value::Float(v) => v.to_string(),
            Value::Histogram(h) => format!("histogram {}", h.count),
            Value::FloatHistogram(h) => format!("float histogram {}", h.count),
        };
        if let Value::Histogram(h) = value_in {
            h.validate().map_err(|_| AppendError::InvalidHistogram)?;
        }
        let mut line = format!("{name} {value}@{t_ms}");
        if start_ms != 0 {
            line += &format!(" since {start_ms}");
        }
        if let Some(m) = options.metadata {
            line += &format!(" {} {:?} {:?}", m.metric_type.as_str(), m.help, m.unit);
        }
        self.lines.push(line);
        Ok(series)
    }
    fn append_exemplar(
        &mut self,
        series: SeriesRef,
        _: Option<&Labels>,
        exemplar: &Exemplar,
    ) -> Result<SeriesRef, AppendError> {
        if series.is_none() {
            return Err(AppendError::UnknownSeries);
        }
        self.lines.push(format!("exemplar {}@{}", exemplar.value, exemplar.t_ms.unwrap_or(0)));
        Ok(series)
    }
    fn commit(self: Box<Self>, durability: Durability) -> Result<CommitStats, StorageError> {
        assert_eq!(durability, Durability::Synced, "acknowledged means synced");
        self.store.lines.lock().unwrap().extend(self.lines);
        Ok(CommitStats::default())
    }
    fn rollback(self: Box<Self>) {}
}

fn series(labels: &[(&str, &str)], samples: &[(i64, f64)]) -> TimeSeries {
    TimeSeries {
        labels: labels.iter().map(|(n, v)| Label { name: (*n).into(), value: (*v).into() }).collect(),
        samples: samples.iter().map(|(t, v)| remote::Sample { value: *v, timestamp: *t }).collect(),
        ..TimeSeries::default()
    }
}

pub(super) fn snappy(bytes: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new().compress_vec(bytes).unwrap()
}

pub(super) struct Receiver {
    store: Arc<Store>,
    write: Arc<RemoteWrite>,
}

impl Receiver {
    pub(super) fn new() -> Receiver {
        Receiver::with(Limits::default())
    }
    pub(super) fn with(limits: Limits) -> Receiver {
        let store = Arc::new(Store::default());
        let clock = Arc::new(ManualClock::at(1_000_000));
        let write = RemoteWrite::new(Arc::clone(&store) as _, clock, limits, &Registry::new());
        Receiver { store, write: Arc::new(write) }
    }
    pub(super) async fn send(&self, headers: &[(&'static str, &'static str)], body: Vec<u8>) -> (u16, String, String) {
        let mut map = HeaderMap::new();
        for (n, v) in headers {
            map.insert(*n, HeaderValue::from_static(v));
        }
        let response = Arc::clone(&self.write).handle(&map, Body::from(body)).await;
        let written = |of: &str| {
            let value = response.headers().get(format!("x-prometheus-remote-write-{of}-written"));
            value.map_or("", |v| v.to_str().unwrap()).to_owned()
        };
        let written = ["samples", "histograms", "exemplars"].map(written).join(" ");
        let status = response.status().as_u16();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8_lossy(&text).trim_end().to_owned(), written)
    }
    async fn write(&self, timeseries: Vec<TimeSeries>) -> (u16, String, String) {
        self.send(PROTOBUF, snappy(&WriteRequest { timeseries, metadata: vec![] }.encode_to_vec())).await
    }
    pub(super) fn stored(&self) -> Vec<String> {
        self.store.lines.lock().unwrap().clone()
    }
}

const PROTOBUF: &[(&str, &str)] = &[("content-type", "application/x-protobuf"), ("content-encoding", "snappy")];

#[tokio::test]
async fn stores_samples_histograms_and_exemplars() {
    let r = Receiver::new();
    let mut full = series(&[("b", "2"), ("__name__", "m")], &[(100, 1.0), (200, 2.0)]);
    full.exemplars = vec![remote::Exemplar { labels: vec![], value: 1.0, timestamp: 150 }];
    full.histograms = vec![
        remote::Histogram {
            zero_count: Some(remote::histogram::ZeroCount::ZeroCountInt(3)),
            count: Some(remote::histogram::Count::CountInt(3)),
            timestamp: 300,
            ..Default::default()
        },
        remote::Histogram {
            count: Some(remote::histogram::Count::CountFloat(3.5)),
            timestamp: 400,
            ..Default::default()
        },
    ];
    assert_eq!(r.write(vec![full]).await, (204, String::new(), "2 2 1".into()));
    assert_eq!(
        r.stored(),
        [
            r#"{__name__="m", b="2"} 1@100"#,
            r#"{__name__="m", b="2"} 2@200"#,
            r#"{__name__="m", b="2"} histogram 3@300"#,
            r#"{__name__="m", b="2"} float histogram 3.5@400"#,
            "exemplar 1@150"
        ]
    );
    assert_eq!(r.write(vec![]).await.0, 204);

    let mut mixed = series(&[("__name__", "mixed")], &[(100, 1.0), (300, 2.0)]);
    mixed.histograms = vec![remote::Histogram { timestamp: 200, ..Default::default() }];
    assert_eq!(r.write(vec![mixed]).await.0, 204);
    let times: Vec<String> = r.stored().iter().skip(5).map(|l| l.rsplit('@').next().unwrap().into()).collect();
    assert_eq!(times, ["100", "200", "300"], "in order of time, whatever they are");
}

#[tokio::test]
async fn what_is_not_stored_is_never_acknowledged() {
    let r = Receiver::new();
    let (status, text, written) = r
        .write(vec![
            series(&[("__name__", "ok")], &[(100, 1.0)]),
            series(&[("__name__", "old")], &[(1, 1.0), (500, 1.0)]),
            series(&[("no", "name")], &[(100, 1.0), (200, 1.0)]),
            series(&[("__name__", "twice"), ("a", "1"), ("a", "2")], &[(100, 1.0)]),
            series(&[("__name__", "future")], &[(1_000_000 + 601_000, 1.0)]),
        ])
        .await;
    assert_eq!((status, written.as_str()), (400, "2 0 0"));
    assert_eq!(
        text.lines().collect::<Vec<_>>(),
        [
            r#"out of order sample for series {__name__="old"} at 1"#,
            r#"invalid metric name or labels, got {no="name"}"#,
            r#"invalid labels for series, labels {__name__="twice", a="2"}, duplicated label a"#,
            r#"out of bounds: timestamp is too far in the future for series {__name__="future"} at 1601000"#,
            "and 1 more",
        ]
    );
    assert_eq!(r.stored().len(), 2);
}

#[tokio::test]
async fn refuses_what_it_cannot_read() {
    let r = Receiver::new();
    for (headers, body, status, text) in [
        (
            &[("content-type", "text/plain")][..],
            vec![],
            415,
            "expected application/x-protobuf as the first (media) part, got text/plain content-type".to_owned(),
        ),
        (
            &[("content-encoding", "gzip")],
            vec![],
            415,
            "gzip encoding (compression) is not accepted by this server; only snappy is acceptable".to_owned(),
        ),
        (
            &[("content-type", "application/x-protobuf;proto=yolo")],
            vec![],
            415,
            "got application/x-protobuf;proto=yolo content type; unknown type for remote write protobuf message yolo, \
             supported: prometheus.WriteRequest, io.prometheus.write.v2.Request"
                .to_owned(),
        ),
        (
            &[("content-type", "application/x-protobuf; charset")],
            vec![],
            415,
            "as per https://www.rfc-editor.org/rfc/rfc9110#parameter expected parameters to be key-values, got charset \
             in application/x-protobuf; charset content-type"
                .to_owned(),
        ),
        (PROTOBUF, b"x".to_vec(), 400, "snappy: corrupt input".to_owned()),
        (PROTOBUF, snappy(b"x"), 400, "proto: unexpected EOF".to_owned()),
        (PROTOBUF, snappy(&[0x0a, 0x02, 0x0a, 0x05]), 400, "proto: unexpected EOF".to_owned()),
        (PROTOBUF, vec![0; 39 << 20], 413, "http: request body too large".to_owned()),
        // A length that is only a claim: four bytes that say four gigabytes.
        (PROTOBUF, vec![0xff, 0xff, 0xff, 0xff, 0x0f], 400, "snappy: decoded block is too large".to_owned()),
    ] {
        let (got, answer, _) = r.send(headers, body).await;
        assert_eq!((got, answer.as_str()), (status, text.as_str()));
    }
    assert_eq!(r.stored(), [""; 0]);
}

#[tokio::test]
async fn a_bomb_of_empty_messages_stays_small() {
    let r = Receiver::new();
    // 16 million empty series: 31 MB decoded, 1.5 MB on the wire; upstream needs gigabytes for it.
    let empty: Vec<u8> = [0x0a, 0x00].repeat(15 << 20);
    let (status, text, _) = r.send(PROTOBUF, snappy(&empty)).await;
    let too_many = "memory budget \"remote write request\" of 268435456 bytes exceeded";
    assert_eq!((status, text.as_str()), (400, too_many));
    // Millions of empty samples in one series.
    let mut one = [0x12, 0x00].repeat(6_000_000);
    let mut request = vec![0x0a];
    let mut n = one.len();
    while n > 0x7f {
        request.push((n & 0x7f) as u8 | 0x80);
        n >>= 7;
    }
    request.push(n as u8);
    request.append(&mut one);
    let (status, text, _) = r.send(PROTOBUF, snappy(&request)).await;
    assert_eq!((status, text.as_str()), (400, too_many));
}

#[tokio::test]
async fn what_does_not_fit_the_budget_is_refused_before_it_is_held() {
    let many: Vec<(i64, f64)> = (0..2000).map(|i| (1000 + i, 1.0)).collect();
    let body = || vec![series(&[("__name__", "m")], &many)];
    let budget = Budget::root("remote write", 1 << 20);
    // One request too large: it would not fit the next time either.
    let small = Limits { request_bytes_max: 50_000, budget: budget.clone(), ..Limits::default() };
    let r = Receiver::with(small);
    let (status, text, _) = r.write(body()).await;
    assert_eq!((status, text.as_str()), (400, "memory budget \"remote write request\" of 50000 bytes exceeded"));
    // All of them together: the sender shall come again.
    let r = Receiver::with(Limits { budget: budget.clone(), ..Limits::default() });
    let held = budget.charge((1 << 20) - 50_000).unwrap();
    let (status, text, _) = r.write(body()).await;
    assert_eq!((status, text.as_str()), (503, "memory budget \"remote write\" of 1048576 bytes exceeded"));
    assert!(r.stored().is_empty());
    drop(held);
    assert_eq!(r.write(body()).await.0, 204);
    assert_eq!(budget.used_bytes(), 0, "every request gives back what it held");
}

#[tokio::test]
async fn a_series_written_before_needs_no_labels() {
    let r = Receiver::new();
    let labels = |i: &'static str| [("__name__", "m"), ("i", i)];
    let round = |t: i64| vec![series(&labels("a"), &[(t, 1.0)]), series(&labels("b"), &[(t, 2.0)])];
    let lines = |t: i64| [format!(r#"{{__name__="m", i="a"}} 1@{t}"#), format!(r#"{{__name__="m", i="b"}} 2@{t}"#)];
    for t in [100, 200, 300] {
        assert_eq!(r.write(round(t)).await.0, 204);
        assert_eq!(r.stored().split_off(r.stored().len() - 2), lines(t));
        assert_eq!(*r.store.labelled.lock().unwrap(), 2, "only the first time");
    }
    // What the store forgot is made again, and never mistaken for another.
    r.store.series.lock().unwrap()[0] = None;
    assert_eq!(r.write(round(400)).await.0, 204);
    assert_eq!(r.stored().split_off(6), lines(400));
    assert_eq!(*r.store.labelled.lock().unwrap(), 3);
    // The name of a known series is there when it has to be shown.
    let refused = r.write(vec![series(&labels("b"), &[(50, 1.0)])]).await;
    assert_eq!(refused.0, 400);
    assert!(refused.1.contains(r#"{__name__="m", i="b"} at 50"#), "{}", refused.1);
    // Labels behind the samples are labels, too: the first of these messages is not series "a".
    let mut one = series(&labels("a"), &[(500, 5.0)]).encode_to_vec();
    one.extend(
        TimeSeries { labels: vec![Label { name: "z".into(), value: "1".into() }], ..TimeSeries::default() }
            .encode_to_vec(),
    );
    let mut request = vec![10, u8::try_from(one.len()).unwrap()];
    request.extend(one);
    assert_eq!(r.send(PROTOBUF, snappy(&request)).await.0, 204);
    assert_eq!(r.stored().last().unwrap(), r#"{__name__="m", i="a", z="1"} 5@500"#);
}
