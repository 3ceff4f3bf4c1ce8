//! A registry's page, from registration to bytes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::sync::Arc;

use ferula_exposition::write;
use ferula_instrument::{CHILDREN_MAX, Registry};
use ferula_model::{Clock, ManualClock};

fn page(registry: &Registry) -> String {
    let mut out = Vec::new();
    write::text(&registry.gather(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn every_kind_gathers_sorted() {
    let clock = Arc::new(ManualClock::at(0));
    let registry = Registry::with_clock(clock as Arc<dyn Clock>);
    let requests = registry.counter_vec("requests_total", "Requests\nby code.", &["handler", "code"]);
    requests.with(&["/b", "200"]).inc();
    requests.with(&["/a", "500"]).add(2.5);
    requests.with(&["/a", "200"]).inc_by(3);
    registry.gauge("temperature", "Now.").set(-1.5);
    registry.gauge_fn("asked", "At gather.", || 7.0);
    registry.info("x_build_info", "Build.", &[("version", "1"), ("branch", "b\"")]);
    let h = registry.histogram("latency_seconds", "Latency.", &[0.5, 0.1]);
    h.observe(0.1);
    h.observe(0.3);
    h.observe(9.0);
    let s = registry.summary("wait_seconds", "Wait.", &[0.5, 0.99]);
    s.observe(2.0);
    registry.collector(|out| out.push(ferula_instrument::Family::gauge("from_collector", "C.").with(1.0)));
    assert_eq!(
        page(&registry),
        r#"# HELP asked At gather.
# TYPE asked gauge
asked 7
# HELP from_collector C.
# TYPE from_collector gauge
from_collector 1
# HELP latency_seconds Latency.
# TYPE latency_seconds histogram
latency_seconds_bucket{le="0.1"} 1
latency_seconds_bucket{le="0.5"} 2
latency_seconds_bucket{le="+Inf"} 3
latency_seconds_sum 9.4
latency_seconds_count 3
# HELP requests_total Requests\nby code.
# TYPE requests_total counter
requests_total{code="200",handler="/a"} 3
requests_total{code="200",handler="/b"} 1
requests_total{code="500",handler="/a"} 2.5
# HELP temperature Now.
# TYPE temperature gauge
temperature -1.5
# HELP wait_seconds Wait.
# TYPE wait_seconds summary
wait_seconds{quantile="0.5"} 2
wait_seconds{quantile="0.99"} 2
wait_seconds_sum 2
wait_seconds_count 1
# HELP x_build_info Build.
# TYPE x_build_info gauge
x_build_info{branch="b\"",version="1"} 1
"#
    );
}

#[test]
fn a_name_is_one_metric_and_children_are_bounded() {
    let registry = Registry::new();
    registry.counter("a_total", "A.").inc();
    registry.counter("a_total", "again").inc();
    assert_eq!(registry.counter("a_total", "A.").get(), 2.0);
    registry.counter("a_total", "A.").add(-1.0);
    assert_eq!(registry.counter("a_total", "A.").get(), 2.0);

    let vec = registry.gauge_vec("g", "G.", &["x"]);
    for i in 0..CHILDREN_MAX + 5 {
        vec.with(&[&i.to_string()]).inc();
    }
    assert_eq!(vec.with(&["other"]).get(), 5.0);
    assert!(vec.remove(&["other"]) && !vec.remove(&["other"]));
    vec.reset();
    registry.remove("a_total");
    assert_eq!(page(&registry), "");
}

#[test]
fn threads_lose_nothing() {
    let registry = Registry::new();
    std::thread::scope(|s| {
        for _ in 0..4 {
            let (c, h) = (registry.counter("c_total", ""), registry.histogram("h", "", &[1.0]));
            s.spawn(move || {
                for _ in 0..10_000 {
                    c.inc();
                    c.add(0.5);
                    h.observe(0.5);
                }
            });
        }
    });
    assert_eq!(registry.counter("c_total", "").get(), 60_000.0);
    let h = registry.histogram("h", "", &[1.0]);
    assert_eq!((h.count(), h.sum()), (40_000, 20_000.0));
}
