//! Stale markers and report series, case by case. Beside these, `slice.rs` has: gone from the body, a failed scrape, a
//! malformed one, a target that leaves, a reload that changes the rules.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use ferula_instrument::Registry;
use ferula_model::{Clock, Labels, SystemClock};
use ferula_scraper_scrape::{Health, ScrapeManager, ScrapeOptions};
use ferula_tsdb::{Db, Options};
use support::{Answer, Server, Store, job, until};

struct World {
    store: Store,
    registry: Registry,
    manager: Arc<ScrapeManager>,
    server: Server,
}

impl World {
    async fn new(answer: Answer, more: &str) -> World {
        World::with_clock(answer, more, Arc::new(SystemClock)).await
    }
    async fn with_clock(answer: Answer, more: &str, clock: Arc<dyn Clock>) -> World {
        let (store, registry, server) = (Store::default(), Registry::new(), Server::start(answer).await);
        let options = ScrapeOptions { first_scrape_at_once: true, ..ScrapeOptions::default() };
        let manager = ScrapeManager::new(options, Arc::new(store.clone()), clock, &registry).unwrap();
        let world = World { store, registry, manager, server };
        world.apply(true, more);
        world
    }
    fn apply(&self, has_target: bool, more: &str) {
        let addresses = if has_target { vec![self.server.address()] } else { Vec::new() };
        self.manager.apply(vec![job(&addresses, more)], &Labels::empty()).unwrap();
    }
    fn values(&self, name: &str) -> Vec<String> {
        self.store.values(&format!("{{__name__=\"{name}\", instance=\"{}\", job=\"j\"}}", self.server.address()))
    }
    fn last(&self, name: &str) -> String {
        self.values(name).last().cloned().unwrap_or_default()
    }
    async fn until_last(&self, name: &str, value: &str) {
        until(|| self.last(name) == value).await;
    }
    async fn scrapes(&self, n: usize) {
        let reached = self.store.commits() + n;
        until(|| self.store.commits() >= reached).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn series_with_times_of_their_own_end_where_that_is_asked_for() {
    let time = SystemClock.now_ms() - 60_000;
    let page = format!("own 1 {time}\nplain 2\n");
    for (more, expect) in [("", 0), ("track_timestamps_staleness: true", 1)] {
        let world = World::new(Answer::text(&page), more).await;
        world.scrapes(2).await;
        world.server.set(Answer::text("other 3\n"));
        world.until_last("plain", "stale").await;
        world.scrapes(2).await;
        world.manager.stop().await;
        assert_eq!(world.values("own").iter().filter(|v| *v == "stale").count(), expect, "{more}");
    }
    // Not honoured, a time is none: the series ends like any other.
    let world = World::new(Answer::text(&page), "honor_timestamps: false").await;
    world.scrapes(2).await;
    world.server.set(Answer::text("other 3\n"));
    world.until_last("own", "stale").await;
    let all = world.store.samples();
    assert!(all.values().flatten().all(|(t, _)| *t > time));
    world.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_body_ends_all_series_and_is_no_failure() {
    let world = World::new(Answer::text("a 1\nb 2\n"), "").await;
    world.scrapes(2).await;
    world.server.set(Answer::text(""));
    world.until_last("a", "stale").await;
    assert_eq!(
        (world.last("b"), world.last("up"), world.last("scrape_samples_scraped")),
        ("stale".into(), "1".into(), "0".into())
    );
    world.server.set(Answer::text("a 3\n"));
    world.until_last("a", "3").await;
    assert_eq!(world.last("b"), "stale");
    world.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_comes_back_in_time_is_not_ended() {
    let world = World::new(Answer::text("a 1\n"), "").await;
    world.scrapes(2).await;
    for _ in 0..3 {
        world.apply(false, "");
        until(|| world.manager.targets()[0].active.is_empty()).await;
        world.apply(true, "");
        world.scrapes(4).await; // the first of them is later than the markers would be
    }
    // The loops that left would have written theirs by now.
    tokio::time::timeout(Duration::from_secs(30), world.scrapes(6)).await.unwrap();
    world.manager.stop().await;
    let values = world.values("a");
    let after: Vec<&String> = values.iter().skip_while(|v| *v != "stale").collect();
    assert!(after.is_empty() || after.iter().any(|v| *v == "1"), "the newest is a sample: {values:?}");
    assert_eq!(values.last().unwrap(), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_ends_nothing() {
    let world = World::new(Answer::text("a 1\n"), "").await;
    world.scrapes(2).await;
    world.manager.stop().await;
    assert!(!world.values("a").contains(&"stale".to_owned()) && !world.values("up").contains(&"stale".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_extra_reports() {
    let more = "extra_scrape_metrics: true\nsample_limit: 5\nbody_size_limit: 1KB";
    let page = "a 1\nb 2\n";
    let world = World::new(Answer::text(page), more).await;
    world.scrapes(2).await;
    let reports = || ["scrape_timeout_seconds", "scrape_sample_limit", "scrape_body_size_bytes"].map(|n| world.last(n));
    assert_eq!(reports(), ["0.1", "5", "8"]);
    world.server.set(Answer::text(&"a 1\n".repeat(1000)));
    world.until_last("scrape_body_size_bytes", "-1").await;
    assert_eq!(world.last("up"), "0");
    world.server.set(Answer::status("500 Internal Server Error"));
    world.until_last("scrape_body_size_bytes", "0").await;
    assert_eq!(world.last("scrape_timeout_seconds"), "0.1");
    // They end with the target, too.
    world.apply(false, more);
    world.until_last("scrape_sample_limit", "stale").await;
    world.manager.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn single_samples_are_refused_and_counted() {
    let (now, registry_name) = (SystemClock.now_ms(), |n: &str| format!("prometheus_target_scrapes_sample_{n}_total"));
    let page = format!("a 1\na 2\nahead 3 {}\nsoon 4 {}\nlong_ago 5 1000\n", now + 700_000, now + 500_000);
    let world = World::new(Answer::text(&page), "").await;
    world.scrapes(2).await;
    world.manager.stop().await;
    assert!(world.values("a").iter().all(|v| v == "1"));
    assert_eq!((world.values("ahead").len(), world.last("soon"), world.last("long_ago")), (0, "4".into(), "5".into()));
    assert_eq!(world.last("scrape_samples_post_metric_relabeling"), "5", "the refused ones are counted");
    for n in ["duplicate_timestamp", "out_of_bounds"] {
        assert!(world.registry.counter(&registry_name(n), "").get() >= 2.0, "{n}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn late_exemplars_are_counted() {
    let (dir, clock, registry) = (tempfile::tempdir().unwrap(), Arc::new(SystemClock), Registry::new());
    let options = Options { max_exemplars: 100, background: false, ..Options::default() };
    let db = Db::open(dir.path(), options, Arc::new(ferula_fs::Disk), clock.clone(), &registry).unwrap();
    let page = |t: i64| {
        let body = format!("# TYPE c counter\nc_total 5 # {{trace=\"{t}\"}} 1 {t}\n# EOF\n");
        Answer::typed("application/openmetrics-text; version=1.0.0", &body)
    };
    let now_s = SystemClock.now_ms() / 1000;
    let server = Server::start(page(now_s)).await;
    let options = ScrapeOptions { first_scrape_at_once: true, ..ScrapeOptions::default() };
    let manager = ScrapeManager::new(options, db, clock, &registry).unwrap();
    manager.apply(vec![job(&[server.address()], "")], &Labels::empty()).unwrap();
    until(|| manager.targets().first().is_some_and(|p| p.active.first().is_some_and(|t| t.health == Health::Up))).await;
    let late = registry.counter("prometheus_target_scrapes_exemplar_out_of_order_total", "");
    assert_eq!(late.get(), 0.0);
    server.set(page(now_s - 100));
    until(|| late.get() >= 1.0).await;
    manager.stop().await;
}

/// A clock that somebody sets.
#[derive(Debug, Default)]
struct SetClock(AtomicI64);

impl Clock for SetClock {
    fn now_ms(&self) -> i64 {
        SystemClock.now_ms() + self.0.load(Ordering::SeqCst)
    }
    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_stops_no_scrape() {
    let clock = Arc::new(SetClock::default());
    let world = World::with_clock(Answer::text("a 1\n"), "", clock.clone()).await;
    world.scrapes(3).await;
    let requests = || world.server.requests.load(Ordering::SeqCst);
    for by_ms in [-3_600_000, 0, 7_200_000] {
        clock.0.store(by_ms, Ordering::SeqCst);
        let (before, stored) = (requests(), world.values("a").len());
        until(|| requests() >= before + 5).await;
        let ups = world.manager.targets()[0].active[0].health;
        assert_eq!(ups, Health::Up, "{by_ms}");
        // Samples older than the newest are refused; as soon as they are newer again, they come.
        if by_ms >= 0 {
            until(|| world.values("a").len() > stored + 1).await;
        }
    }
    world.manager.stop().await;
}
