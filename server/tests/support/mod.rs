//! A whole server in this process, with a store in a temporary directory and a clock that stands still.
#![allow(dead_code)]
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ferula_instrument::Registry;
use ferula_model::ManualClock;
use ferula_net::client::{BodyLimits, Client, ClientConfig, Request};
use ferula_proto::Message;
use ferula_proto::remote::{Label, Sample, TimeSeries, WriteRequest};
use ferula_server::config::Source;
use ferula_server::{Error, ServerOptions};
use tokio::sync::oneshot;

/// The time of the standing clock: 2023-11-14T22:13:20Z.
pub const NOW_MS: i64 = 1_700_000_000_000;

pub struct Server {
    pub address: SocketAddr,
    pub dir: Arc<tempfile::TempDir>,
    client: Client,
    stop: oneshot::Sender<()>,
    done: tokio::task::JoinHandle<Result<(), Error>>,
}

/// Labels, then `(seconds before now, value)`.
pub type Written<'a> = (&'a [(&'a str, &'a str)], &'a [(i64, f64)]);

pub struct Answer {
    pub status: u16,
    pub headers: http::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }
    pub fn data(&self) -> serde_json::Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()["data"].clone()
    }
}

pub fn options(dir: PathBuf, config: Source) -> ServerOptions {
    let mut o = ServerOptions::new(config, dir.join("data"));
    o.clock = Arc::new(ManualClock::at(NOW_MS));
    o.load.environment = Arc::new(|_| None);
    o.storage.max_exemplars = 1000;
    o.listen_addresses = vec!["127.0.0.1:0".to_owned()];
    o.web.external_url = "http://ferula.test".to_owned();
    o.web.enable_lifecycle = true;
    o.web.enable_remote_write = true;
    o.web.flags = [("config.file".to_owned(), "test.yml".to_owned())].into();
    o.engine.timeout = Duration::from_secs(20);
    o.query_concurrency = 4;
    o.query_memory_bytes_max = 256 << 20;
    o.scrape.first_scrape_at_once = true;
    o
}

impl Server {
    pub async fn start(config: &str) -> Server {
        Server::start_with(config, |_| {}).await
    }

    pub async fn start_with(config: &str, change: impl FnOnce(&mut ServerOptions)) -> Server {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let file = dir.path().join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        Server::start_in(dir, change).await
    }

    /// The one line a server says that cannot start on this directory.
    pub async fn refused(dir: Arc<tempfile::TempDir>) -> String {
        let options = options(dir.path().to_owned(), Source::File(dir.path().join("prometheus.yml")));
        let never = std::future::pending();
        ferula_server::run(options, Registry::new(), |_| {}, never).await.unwrap_err().to_string()
    }

    /// Starts on a directory that holds a configuration, and perhaps data, already.
    pub async fn start_in(dir: Arc<tempfile::TempDir>, change: impl FnOnce(&mut ServerOptions)) -> Server {
        let mut options = options(dir.path().to_owned(), Source::File(dir.path().join("prometheus.yml")));
        change(&mut options);
        let ready = format!("{}/-/ready", options.web.route_prefix);
        let (bound, address) = oneshot::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let listening = move |addresses: &[SocketAddr]| bound.send(addresses[0]).unwrap();
        let done = tokio::spawn(ferula_server::run(options, Registry::new(), listening, async {
            let _ = stopped.await;
        }));
        let address = match address.await {
            Ok(a) => a,
            Err(_) => panic!("{}", done.await.unwrap().unwrap_err()),
        };
        let client = Client::new(&ClientConfig { follow_redirects: false, ..ClientConfig::default() }).unwrap();
        let server = Server { address, dir, client, stop, done };
        while server.get(&ready).await.status != 200 {
            tokio::task::yield_now().await;
        }
        server
    }

    pub async fn stop(self) -> Arc<tempfile::TempDir> {
        self.stop.send(()).unwrap();
        self.done.await.unwrap().unwrap();
        self.dir
    }

    pub fn url(&self, path: &str) -> url::Url {
        url::Url::parse(&format!("http://{}{path}", self.address)).unwrap()
    }

    pub async fn send(&self, request: Request) -> Answer {
        let response = self.client.send(request).await.unwrap();
        let (status, headers) = (response.status.as_u16(), response.headers.clone());
        let body = response.uncompressed(&BodyLimits::unlimited()).await.unwrap();
        Answer { status, headers, text: String::from_utf8(body.bytes).unwrap() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(self.url(path))).await
    }

    /// GET with parameters that are encoded here.
    pub async fn ask(&self, path: &str, params: &[(&str, &str)]) -> Answer {
        let mut url = self.url(path);
        url.query_pairs_mut().extend_pairs(params);
        self.send(Request::get(url)).await
    }

    pub async fn post(&self, path: &str, content_type: &'static str, body: impl Into<bytes::Bytes>) -> Answer {
        self.send(Request::post(self.url(path), content_type, body)).await
    }

    /// Stores samples through the remote-write receiver.
    pub async fn store(&self, series: &[Written<'_>]) {
        let answer = self.try_store(series).await;
        assert_eq!(answer.status, 204, "{}", answer.text);
    }

    /// As [`Server::store`]; it may be refused.
    pub async fn try_store(&self, series: &[Written<'_>]) -> Answer {
        let timeseries = series
            .iter()
            .map(|(labels, samples)| TimeSeries {
                labels: labels.iter().map(|(n, v)| Label { name: (*n).into(), value: (*v).into() }).collect(),
                samples: samples
                    .iter()
                    .map(|(ago, value)| Sample { value: *value, timestamp: NOW_MS - ago * 1000 })
                    .collect(),
                ..TimeSeries::default()
            })
            .collect();
        let body = WriteRequest { timeseries, metadata: vec![] }.encode_to_vec();
        let packed = snap::raw::Encoder::new().compress_vec(&body).unwrap();
        self.post("/api/v1/write", "application/x-protobuf", packed).await
    }
}

/// Percent-encoded, for a form or a query string.
pub fn form(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() { out.push(char::from(b)) } else { out.push_str(&format!("%{b:02X}")) }
    }
    out
}

/// 7 × 10^11 samples of subqueries, of which few are held: only the clock or the client ends it. (Levels add up, they do
/// not multiply; what makes it long is the window.)
pub const ENDLESS: &str = "sum_over_time(sum_over_time(vector(1)[10d:1s])[10d:1s])";

pub const CONFIG: &str = "global:\n  external_labels: {dc: x}\n";

/// A server with a few series: `up` of two instances, a counter, and a label name with a dot.
pub async fn with_data() -> Server {
    let s = Server::start(CONFIG).await;
    let up = |i: &'static str| [("__name__", "up"), ("instance", i), ("job", "a")];
    s.store(&[
        (&up("h1"), &[(60, 1.0), (30, 1.0), (0, 1.0)]),
        (&up("h2"), &[(60, 0.0), (30, 1.0), (0, 0.0)]),
        (&[("__name__", "c_total"), ("job", "b")], &[(60, 0.0), (30, 30.0), (0, 60.0)]),
        (&[("__name__", "dotted"), ("a.b", "v")], &[(0, 0.5)]),
    ])
    .await;
    s
}
