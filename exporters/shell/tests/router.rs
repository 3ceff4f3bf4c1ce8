//! The routes, asked without a socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use ferula_exporters_shell::{CollectError, Collector, Exporter, Options};
use ferula_exposition::family::Family;
use ferula_instrument::Registry;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tower::ServiceExt;

struct Fixed(&'static str, Result<(), CollectError>);

impl Collector for Fixed {
    fn name(&self) -> &'static str {
        self.0
    }
    fn collect(&self, out: &mut Vec<Family>) -> Result<(), CollectError> {
        out.push(Family::gauge(format!("x_{}", self.0), "A number.").with(1.0));
        self.1.clone()
    }
}

fn options() -> Options {
    Options {
        namespace: "x",
        program: "x_exporter",
        title: "X Exporter",
        version: "0 <test>".to_owned(),
        metrics_path: "/metrics".to_owned(),
        requests_max: 1,
        deadline: Duration::from_secs(60),
        disable_exporter_metrics: false,
    }
}

fn router() -> Router {
    let mut e = Exporter::new(options(), Registry::new());
    e.collector(Box::new(Fixed("a", Ok(()))));
    e.collector(Box::new(Fixed("b", Err(CollectError::NoData))));
    e.router()
}

async fn get(router: &Router, path: &str, headers: &[(&str, &str)]) -> Response<Body> {
    let mut request = Request::get(path);
    for (n, v) in headers {
        request = request.header(*n, *v);
    }
    router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap()
}

async fn bytes(response: Response<Body>) -> Vec<u8> {
    response.into_body().collect().await.unwrap().to_bytes().to_vec()
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(bytes(response).await).unwrap()
}

#[tokio::test]
async fn metrics_negotiate_and_report_collectors() {
    let router = router();
    let response = get(&router, "/metrics", &[]).await;
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8; escaping=underscores");
    let page = text(response).await;
    for line in [
        "# HELP x_scrape_collector_success x_exporter: Whether a collector succeeded.",
        "x_scrape_collector_success{collector=\"a\"} 1",
        "x_scrape_collector_success{collector=\"b\"} 0",
        "x_a 1",
        "x_b 1",
        "promhttp_metric_handler_requests_in_flight 1",
        "promhttp_metric_handler_requests_total{code=\"200\"} 0",
        "# TYPE process_resident_memory_bytes gauge",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} not in\n{page}");
    }
    let response = get(&router, "/metrics", &[("accept", "application/openmetrics-text; version=1.0.0")]).await;
    assert!(text(response).await.ends_with("# EOF\n"));
    let response = get(&router, "/metrics", &[("accept-encoding", "deflate, gzip;q=0.5")]).await;
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let mut unpacked = String::new();
    let packed = bytes(response).await;
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(packed.as_slice()), &mut unpacked).unwrap();
    assert!(unpacked.contains("x_a 1\n"));
    assert!(
        !get(&router, "/metrics", &[("accept-encoding", "gzip;q=0")]).await.headers().contains_key("content-encoding")
    );
}

#[tokio::test]
async fn queries_choose_collectors() {
    let router = router();
    let page = text(get(&router, "/metrics?collect[]=b", &[]).await).await;
    assert!(page.contains("x_b 1\n") && !page.contains("x_a 1\n"));
    let page = text(get(&router, "/metrics?exclude%5B%5D=b", &[]).await).await;
    assert!(page.contains("x_a 1\n") && !page.contains("x_b 1\n"));
    let response = get(&router, "/metrics?collect[]=nope", &[]).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert_eq!(
        text(response).await,
        "Couldn't create filtered metrics handler: couldn't create collector: missing collector: nope"
    );
    let response = get(&router, "/metrics?collect[]=a&exclude[]=b", &[]).await;
    assert_eq!(text(response).await, "Combined collect and exclude queries are not allowed.");
}

#[tokio::test]
async fn other_pages() {
    let router = router();
    let page = text(get(&router, "/", &[]).await).await;
    assert!(page.contains("<a href=\"/metrics\">Metrics</a>") && page.contains("0 &lt;test&gt;"));
    let response = get(&router, "/nothing", &[]).await;
    assert_eq!((response.status(), text(response).await.as_str()), (StatusCode::NOT_FOUND, "404 page not found\n"));
}

/// Says that it runs, then waits.
struct Gated(std::sync::mpsc::Sender<()>, Mutex<Receiver<()>>);

impl Collector for Gated {
    fn name(&self) -> &'static str {
        "gated"
    }
    fn collect(&self, _: &mut Vec<Family>) -> Result<(), CollectError> {
        let _ = self.0.send(());
        let _ = self.1.lock().unwrap().recv();
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_scrapes_than_allowed_get_503() {
    let (entered, is_in) = channel();
    let (open, gate) = channel();
    let mut e = Exporter::new(options(), Registry::new());
    e.collector(Box::new(Gated(entered, Mutex::new(gate))));
    let router = e.router();
    let first = tokio::spawn({
        let router = router.clone();
        async move { get(&router, "/metrics", &[]).await.status() }
    });
    tokio::task::spawn_blocking(move || is_in.recv().unwrap()).await.unwrap();
    let refused = get(&router, "/metrics", &[]).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text(refused).await, "Limit of concurrent requests reached (1), try again later.\n");
    drop(open);
    assert_eq!(first.await.unwrap(), StatusCode::OK);
    let page = text(get(&router, "/metrics", &[]).await).await;
    assert!(page.contains("promhttp_metric_handler_requests_total{code=\"503\"} 1\n"), "{page}");
}
