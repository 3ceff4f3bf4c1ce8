//! From a socket to a store: what a user of the whole sees.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use ferula_instrument::Registry;
use ferula_model::{Labels, SystemClock};
use ferula_scraper_scrape::config::ScrapeConfig;
use ferula_scraper_scrape::{Health, ScrapeManager, ScrapeOptions, TargetSnapshot};
use support::{Answer, Server, Store, job, until};

struct World {
    store: Store,
    registry: Registry,
    manager: Arc<ScrapeManager>,
}

impl World {
    fn new() -> World {
        let (store, registry) = (Store::default(), Registry::new());
        let options = ScrapeOptions { first_scrape_at_once: true, ..ScrapeOptions::default() };
        let manager = ScrapeManager::new(options, Arc::new(store.clone()), Arc::new(SystemClock), &registry).unwrap();
        World { store, registry, manager }
    }
    fn apply(&self, configs: Vec<ScrapeConfig>) {
        self.manager.apply(configs, &Labels::empty()).unwrap();
    }
    fn target(&self) -> Option<TargetSnapshot> {
        self.manager.targets().first().and_then(|p| p.active.first().cloned())
    }
    /// The printed labels of a series of the only target.
    fn series(&self, name: &str, server: &Server) -> String {
        format!("{{__name__=\"{name}\", instance=\"{}\", job=\"j\"}}", server.address())
    }
    async fn scrapes(&self, n: usize) {
        let reached = self.store.commits() + n;
        until(|| self.store.commits() >= reached).await;
    }
}

const PAGE: &str = "# HELP a Help of a.\n# TYPE a counter\na{x=\"1\"} 1\na{x=\"2\"} 2\nb 3\n";

#[tokio::test(flavor = "multi_thread")]
async fn samples_reports_and_snapshot() {
    let (world, server) = (World::new(), Server::start(Answer::text(PAGE)).await);
    world.apply(vec![job(&[server.address()], "")]);
    world.scrapes(3).await;
    world.manager.stop().await;
    let instance = server.address();
    let a1 = format!("{{__name__=\"a\", instance=\"{instance}\", job=\"j\", x=\"1\"}}");
    assert!(world.store.values(&a1).len() >= 3);
    assert_eq!(world.store.values(&world.series("b", &server))[0], "3");
    for (name, expect) in [
        ("up", ["1", "1"]),
        ("scrape_samples_scraped", ["3", "3"]),
        ("scrape_samples_post_metric_relabeling", ["3", "3"]),
        ("scrape_series_added", ["3", "0"]),
    ] {
        assert_eq!(world.store.values(&world.series(name, &server))[..2], expect, "{name}");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1, "the connection is kept");
    let head = server.last_head.lock().unwrap().to_lowercase();
    assert!(head.contains("x-prometheus-scrape-timeout-seconds: 0.1\r\n"), "{head}");
    assert!(head.contains("accept-encoding: gzip\r\n") && head.contains("user-agent: prometheus/"), "{head}");
    assert!(head.contains("accept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"), "{head}");
    // Regular stamps: every sample sits a whole number of intervals after the first, give or take a late timer.
    let up = &world.store.samples()[&world.series("up", &server)];
    assert!(up.windows(2).all(|w| w[1].0 > w[0].0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_sees_targets_metadata_and_errors() {
    let (world, server) = (World::new(), Server::start(Answer::text(PAGE)).await);
    let more = "relabel_configs: [{source_labels: [__address__], regex: 'gone.*', action: drop}]";
    world.apply(vec![job(&[server.address(), "gone:1".into()], more)]);
    until(|| world.target().is_some_and(|t| t.health == Health::Up)).await;
    let target = world.target().unwrap();
    assert_eq!(target.scrape_url, format!("http://{}/metrics", server.address()));
    assert_eq!(target.labels.to_string(), format!("{{instance=\"{}\", job=\"j\"}}", server.address()));
    assert_eq!(target.discovered_labels.get("__scrape_interval__"), Some("100ms"));
    let pool = &world.manager.targets()[0];
    assert_eq!((pool.dropped_count, pool.dropped[0].get("__address__")), (1, Some("gone:1")));
    assert!(pool.discovery[0].last_update_ms.is_some());
    let mut families = Vec::new();
    world
        .manager
        .for_each_family(&mut |_, family, m| families.push(format!("{family} {} {}", m.metric_type.as_str(), m.help)));
    assert_eq!(families, ["a counter Help of a."]);

    server.set(Answer::text("a 1\nb{ 2\n"));
    until(|| world.target().is_some_and(|t| t.health == Health::Down)).await;
    let error = world.target().unwrap().last_error;
    assert_eq!(error, "expected label name, got \"2\" (\"INVALID\") while parsing: \"b{ 2\" (line 2)");
    server.set(Answer::status("503 Service Unavailable"));
    until(|| world.target().is_some_and(|t| t.last_error == "server returned HTTP status 503 Service Unavailable"))
        .await;
    world.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn series_that_stop_are_marked_stale() {
    let (world, server) = (World::new(), Server::start(Answer::text("a 1\nb 2\nc 3 1000\n")).await);
    world.apply(vec![job(&[server.address()], "")]);
    world.scrapes(2).await;
    let (a, b) = (world.series("a", &server), world.series("b", &server));
    // Gone from the body.
    server.set(Answer::text("a 1\n"));
    until(|| world.store.values(&b).last().is_some_and(|v| v == "stale")).await;
    assert_eq!(world.store.values(&b).iter().filter(|v| *v == "stale").count(), 1);
    assert!(world.store.values(&world.series("c", &server)).iter().all(|v| v == "3"), "it has its own timestamps");
    // The scrape fails.
    server.set(Answer::status("500 Internal Server Error"));
    until(|| world.store.values(&a).last().is_some_and(|v| v == "stale")).await;
    world.scrapes(2).await;
    assert_eq!(world.store.values(&a).iter().filter(|v| *v == "stale").count(), 1);
    assert_eq!(world.store.values(&world.series("up", &server)).last().unwrap(), "0");
    // Back, then malformed in the middle.
    server.set(Answer::text("a 5\n"));
    until(|| world.store.values(&a).last().is_some_and(|v| v == "5")).await;
    server.set(Answer::text("a 6\n7&-\n"));
    until(|| world.store.values(&a).last().is_some_and(|v| v == "stale")).await;
    assert!(!world.store.values(&a).contains(&"6".to_owned()));
    // The target goes; its report series end too.
    server.set(Answer::text("a 7\n"));
    until(|| world.store.values(&a).last().is_some_and(|v| v == "7")).await;
    world.apply(vec![job(&[], "")]);
    until(|| world.store.values(&a).last().is_some_and(|v| v == "stale")).await;
    until(|| world.store.values(&world.series("up", &server)).last().is_some_and(|v| v == "stale")).await;
    world.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_relabelling_and_spoofed_reports() {
    let page = "up 42\nup{extra=\"1\"} 7\nm{instance=\"i\",exported_instance=\"e\"} 1\nsecret 1\n";
    let (world, server) = (World::new(), Server::start(Answer::text(page)).await);
    let more = "metric_relabel_configs: [{source_labels: [__name__], regex: secret, action: drop}]";
    world.apply(vec![job(&[server.address()], more)]);
    world.scrapes(3).await;
    world.manager.stop().await;
    let i = server.address();
    let m = format!(
        "{{__name__=\"m\", exported_exported_instance=\"i\", exported_instance=\"e\", instance=\"{i}\", job=\"j\"}}"
    );
    assert_eq!(world.store.values(&m)[0], "1", "{:?}", world.store.samples().keys());
    assert!(world.store.values(&world.series("up", &server)).iter().all(|v| v == "1"), "up is ours");
    assert_eq!(world.store.values(&format!("{{__name__=\"up\", extra=\"1\", instance=\"{i}\", job=\"j\"}}"))[0], "7");
    assert!(!world.store.samples().keys().any(|k| k.contains("secret")));
    assert_eq!(world.store.values(&world.series("scrape_samples_scraped", &server))[0], "4");
    assert_eq!(world.store.values(&world.series("scrape_samples_post_metric_relabeling", &server))[0], "2");
    assert_eq!(world.registry.counter("ferula_target_scrapes_report_series_spoofed_total", "").get(), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn honor_labels_and_limits() {
    let server = Server::start(Answer::text("m{instance=\"\",job=\"theirs\"} 1\nn 2\n")).await;
    let world = World::new();
    world.apply(vec![job(&[server.address()], "honor_labels: true")]);
    world.scrapes(1).await;
    assert_eq!(world.store.values("{__name__=\"m\", job=\"theirs\"}")[0], "1");
    for (more, error) in [
        ("sample_limit: 1", "sample limit exceeded"),
        ("label_limit: 2", "label_limit exceeded (metric: m, number of labels: 4, limit: 2)"),
        (
            "label_name_length_limit: 7",
            "label_name_length_limit exceeded (metric: m, label name: __name__, length: 8, limit: 7)",
        ),
        ("body_size_limit: 10B", "body size limit exceeded"),
        ("target_limit: 1", "target_limit exceeded (number of targets: 2, limit: 1)"),
        ("metric_relabel_configs: [{action: labeldrop, regex: __name__}]", "missing metric name (__name__ label)"),
    ] {
        let world = World::new();
        let addresses = [server.address(), format!("localhost:{}", server.port)];
        world.apply(vec![job(if more.starts_with("target") { &addresses } else { &addresses[..1] }, more)]);
        until(|| world.target().is_some_and(|t| t.health == Health::Down)).await;
        assert_eq!(world.target().unwrap().last_error, error, "{more}");
        assert!(!world.store.samples().keys().any(|k| k.contains("\"n\"")), "{more}: nothing of it is stored");
        assert_eq!(world.store.values(&world.series("up", &server))[0], "0");
        world.manager.stop().await;
    }
    world.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reloads_keep_what_did_not_change() {
    let (world, server) = (World::new(), Server::start(Answer::text("a 1\nb 2\n")).await);
    world.apply(vec![job(&[server.address()], "")]);
    world.scrapes(2).await;
    world.apply(vec![job(&[server.address()], "")]);
    world.apply(vec![job(&[server.address()], "sample_limit: 100")]);
    world.scrapes(2).await;
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    let added = world.store.values(&world.series("scrape_series_added", &server));
    assert_eq!(added.iter().filter(|v| *v != "0").count(), 1, "the cache was kept: {added:?}");
    // New rules make other series of the same lines; the old one is ended.
    world.apply(vec![job(
        &[server.address()],
        "metric_relabel_configs: [{source_labels: [__name__], regex: b, action: drop}]",
    )]);
    until(|| world.store.values(&world.series("b", &server)).last().is_some_and(|v| v == "stale")).await;
    assert!(!world.store.values(&world.series("a", &server)).contains(&"stale".to_owned()));
    // A store that forgot its references gets the labels again.
    world.store.forget_references();
    let before = world.store.values(&world.series("a", &server)).len();
    until(|| world.store.values(&world.series("a", &server)).len() > before + 1).await;
    assert!(world.manager.apply(vec![job(&[], ""), job(&[], "")], &Labels::empty()).is_err());
    world.manager.stop().await;
    let commits = world.store.commits();
    assert_eq!(commits, world.store.commits());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_names_a_unix_socket() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("exporter.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 4096];
                while socket.read(&mut head).await.is_ok_and(|n| n > 0) {
                    let answer = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\na 7\n";
                    let _ = socket.write_all(answer.as_bytes()).await;
                }
            });
        }
    });
    let world = World::new();
    let rule = format!("relabel_configs: [{{target_label: __unix_socket__, replacement: '{}'}}]", path.display());
    world.apply(vec![job(&["named.invalid:9".to_owned()], &rule)]);
    world.scrapes(1).await;
    assert_eq!(world.store.values("{__name__=\"a\", instance=\"named.invalid:9\", job=\"j\"}")[0], "7");
    world.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn over_budget_only_new_series_are_refused() {
    for (more, budget) in [("target_series_budget: 2", "target"), ("job_series_budget: 2", "job"), ("", "server")] {
        let (world, server) = (World::new(), Server::start(Answer::text("a 1\nb 2\n")).await);
        world.manager.set_series_budget(if more.is_empty() { 2 } else { 0 });
        world.apply(vec![job(&[server.address()], more)]);
        world.scrapes(2).await;
        server.set(Answer::text("a 1\nnew{x=\"1\"} 3\nb 5\n"));
        until(|| world.store.values(&world.series("b", &server)).last().is_some_and(|v| v == "5")).await;
        until(|| world.target().is_some_and(|t| t.series_refused == 1)).await;
        let target = world.target().unwrap();
        assert_eq!((target.health, target.series), (Health::Up, 2), "{budget}");
        assert!(target.refused_examples[0].starts_with("{__name__=\"new\", "), "{:?}", target.refused_examples);
        assert!(!world.store.samples().keys().any(|k| k.contains("new")), "{budget}");
        let refused =
            world.registry.counter_vec("ferula_target_scrapes_series_refused_total", "", &["scrape_job", "budget"]);
        assert!(refused.with(&["j", budget]).get() >= 1.0, "{budget}");
        // Room again: what leaves makes place for what is new.
        server.set(Answer::text("a 1\nnew{x=\"1\"} 3\n"));
        until(|| world.store.samples().keys().any(|k| k.contains("new"))).await;
        until(|| world.target().is_some_and(|t| t.series == 2 && t.series_refused == 0)).await;
        // The targets go, and their share with them.
        world.apply(vec![]);
        until(|| world.manager.series_budget().held == 0).await;
        world.manager.stop().await;
    }
}

/// Lines so long that a body of them is read in several steps.
fn long_page(lines: usize) -> String {
    let padding = "x".repeat(4000);
    (0..lines).map(|i| format!("long{{i=\"{i}\",padding=\"{padding}\"}} {i}\n")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_is_read_as_it_comes_and_is_one_batch() {
    let page = long_page(1000);
    for answer in [Answer::text(&page), Answer::gzip(page.as_bytes(), 1)] {
        let (world, server) = (World::new(), Server::start(answer).await);
        let mut config = job(&[server.address()], "");
        config.scrape_timeout = ferula_yaml::Duration::from_secs(50);
        config.scrape_interval = ferula_yaml::Duration::from_secs(50);
        world.apply(vec![config]);
        until(|| world.target().is_some_and(|t| t.health != Health::Unknown)).await;
        assert_eq!(world.target().unwrap().last_error, "");
        assert_eq!(world.store.commits(), 1);
        let samples = world.store.samples();
        assert_eq!(samples.keys().filter(|k| k.contains("\"long\"")).count(), 1000);
        // An error far behind says its line, and takes all of it back.
        let (world, broken) = (World::new(), Server::start(Answer::text(&format!("{page}\n7&-\n{page}"))).await);
        world.apply(vec![job(&[broken.address()], "")]);
        until(|| world.target().is_some_and(|t| t.last_error.contains("(line 1002)"))).await;
        assert!(!world.store.samples().values().any(|v| v.len() >= 1000));
        assert_eq!(world.store.values(&world.series("scrape_samples_scraped", &broken))[0], "1000");
        world.manager.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_leaves_in_the_middle_of_a_body_is_ended() {
    let page = long_page(600);
    let (world, server) = (World::new(), Server::start(Answer::text("a 1\n")).await);
    let slow = |addresses: &[String]| {
        let mut config = job(addresses, "");
        config.scrape_timeout = ferula_yaml::Duration::from_secs(2);
        config.scrape_interval = ferula_yaml::Duration::from_secs(2);
        config
    };
    world.apply(vec![slow(&[server.address()])]);
    world.scrapes(1).await;
    // Two megabytes come, the rest never does.
    let Answer(mut bytes) = Answer::text(&format!("a 2\n{page}{page}"));
    bytes.truncate(bytes.len() - 10_000);
    server.set(Answer(bytes));
    until(|| world.store.label_sets().keys().any(|k| k.contains("long"))).await;
    world.apply(vec![slow(&[])]);
    until(|| world.store.values(&world.series("a", &server)).last().is_some_and(|v| v == "stale")).await;
    until(|| world.store.values(&world.series("up", &server)).last().is_some_and(|v| v == "stale")).await;
    world.manager.stop().await;
}
