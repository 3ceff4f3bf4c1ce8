//! The real Prometheus scrapes our exporter, and the real promtool checks our page.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::io::Write;
use std::process::Stdio;
use std::time::{Duration, Instant};

use ferula_exporters_node::router;
use ferula_instrument::Registry;
use ferula_testkit::{Launch, Peer, skipped};
use support::{flags, page};

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_scrapes_us() {
    let suite = "node exporter scraped by prometheus";
    let peer = match Peer::find("prometheus", (3, 5, 0)) {
        Ok(peer) => peer,
        Err(why) => return skipped(suite, why),
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = listener.local_addr().unwrap();
    let router = router(flags(&[]), Registry::new()).unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    let samples = tokio::task::spawn_blocking(move || {
        let prometheus = peer.start(|l: &Launch<'_>| {
            let config = format!(
                "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: n, static_configs: [{{targets: ['{target}']}}]}}]\n"
            );
            vec![
                format!("--config.file={}", l.file("prometheus.yml", &config)),
                format!("--storage.tsdb.path={}", l.dir.join("tsdb").display()),
                format!("--web.listen-address={}", l.addr),
            ]
        });
        // Scrapes come when Prometheus likes: ask until the first has been stored.
        let ask = "/api/v1/query?query=scrape_samples_scraped%7Bjob%3D%22n%22%7D%20and%20on(instance)%20(up%3D%3D1)%20and%20on(instance)%20node_load1";
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            let (status, body) = prometheus.get(ask);
            assert_eq!(status, 200, "{body}");
            if let Some((_, value)) = body.split_once("\"value\":[") {
                return value.split('"').nth(1).unwrap().parse::<f64>().unwrap();
            }
            assert!(Instant::now() < end, "no scrape within 30 s: {body}\n{}", prometheus.output());
            std::thread::sleep(Duration::from_millis(50));
        }
    })
    .await
    .unwrap();
    println!("{suite}: up, {samples} samples scraped");
    assert!(samples > 300.0);
}

#[tokio::test]
async fn promtool_finds_the_page_in_order() {
    let suite = "node exporter checked by promtool";
    let peer = match Peer::find("promtool", (3, 5, 0)) {
        Ok(peer) => peer,
        Err(why) => return skipped(suite, why),
    };
    let page = page(&[], "").await;
    let mut child = peer
        .command()
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    // 3: the page is well-formed, but promtool does not like some names; upstream's are ours.
    assert!(matches!(output.status.code(), Some(0 | 3)), "{text}");
    println!("{suite}: {} lines accepted, {} remarks on names", page.lines().count(), text.lines().count());
}
