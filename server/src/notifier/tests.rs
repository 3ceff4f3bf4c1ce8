//! Flapping alerts, dead Alertmanagers, full queues: what arrives in the end.
use std::collections::VecDeque;

use ferula_model::ManualClock;
use tokio::sync::Notify;

use super::*;

/// Answers from a script, then accepts everything; remembers what was accepted.
struct Fake {
    url: String,
    script: Mutex<VecDeque<Result<(), SendError>>>,
    accepted: Mutex<Vec<Vec<Alert>>>,
    asked: Notify,
    gate: Option<Arc<tokio::sync::Semaphore>>,
}

impl Fake {
    fn new(url: &str, script: Vec<Result<(), SendError>>) -> Arc<Fake> {
        Fake::gated(url, script, None)
    }
    fn gated(url: &str, script: Vec<Result<(), SendError>>, gate: Option<Arc<tokio::sync::Semaphore>>) -> Arc<Fake> {
        Arc::new(Fake {
            url: url.into(),
            script: Mutex::new(script.into()),
            accepted: Mutex::default(),
            asked: Notify::new(),
            gate,
        })
    }
    fn accepted(&self) -> Vec<(String, i64)> {
        let batches = self.accepted.lock().unwrap();
        batches.iter().flatten().map(|a| (a.labels.to_string(), a.ends_at_ms)).collect()
    }
}

impl Transport for Fake {
    fn url(&self) -> &str {
        &self.url
    }
    fn send(&self, batch: Vec<Alert>) -> BoxFuture<'_, Result<(), SendError>> {
        Box::pin(async move {
            self.asked.notify_one();
            if let Some(gate) = &self.gate {
                gate.acquire().await.unwrap().forget();
            }
            let result = self.script.lock().unwrap().pop_front().unwrap_or(Ok(()));
            if result.is_ok() {
                self.accepted.lock().unwrap().push(batch);
            }
            result
        })
    }
}

fn alert(name: &str, ends_at_ms: i64) -> Alert {
    Alert {
        labels: Labels::from_pairs([("alertname", name)]),
        annotations: Labels::from_pairs([("summary", "s")]),
        starts_at_ms: 1_000,
        ends_at_ms,
        generator_url: "http://p/graph".into(),
    }
}

fn notifier(queue_capacity: usize, registry: &Registry) -> Arc<Notifier> {
    let options = NotifierOptions {
        queue_capacity,
        batch_max: 2,
        backoff_min: Duration::from_millis(1),
        backoff_max: Duration::from_millis(2),
        seed: 7,
    };
    Notifier::new(options, Arc::new(ManualClock::at(100_000)), tokio::runtime::Handle::current(), registry, None)
}

/// One with a spool on `fs`.
fn spooled(fs: &ferula_fs::Faulty) -> Arc<Notifier> {
    let spool = Spool::open(Arc::new(fs.clone()), std::path::Path::new("/p/notifications")).unwrap();
    let options = NotifierOptions { backoff_min: Duration::from_millis(1), ..NotifierOptions::default() };
    let (clock, runtime) = (Arc::new(ManualClock::at(100_000)), tokio::runtime::Handle::current());
    Notifier::new(options, clock, runtime, &Registry::new(), Some(spool))
}

#[tokio::test]
async fn an_outage_with_restarts_on_the_way_loses_no_begin_and_no_end() {
    let fs = ferula_fs::Faulty::new(1);
    let n = spooled(&fs);
    let down = Fake::gated("http://am", vec![], Some(Arc::new(tokio::sync::Semaphore::new(0))));
    n.set_targets(vec![to(&down)]);
    for i in 0..5_000 {
        n.send(vec![alert(&format!("a{i}"), 200_000)]);
    }
    down.asked.notified().await; // and never answers
    n.send((0..2_500).map(|i| alert(&format!("a{i}"), 99_000)).collect());
    // Killed: nothing was synced, and a killed process keeps what it wrote.
    let fs2 = fs.clone();
    drop(n);
    let n = spooled(&fs2);
    n.set_targets(vec![to(&down)]);
    n.send((2_500..3_000).map(|i| alert(&format!("a{i}"), 99_000)).collect());
    // Discovery loses sight of it, the server is restarted in good order, and then it is back.
    n.set_targets(vec![]);
    n.stop(None).await;
    drop(n);
    let n = spooled(&fs);
    let back = Fake::new("http://am", vec![]);
    n.set_targets(vec![]);
    n.set_targets(vec![to(&back)]);
    drained(&n).await;
    let mut got = back.accepted();
    got.sort();
    let mut want: Vec<(String, i64)> =
        (0..5_000).map(|i| (format!("{{alertname=\"a{i}\"}}"), if i < 3_000 { 99_000 } else { 200_000 })).collect();
    want.sort();
    assert!(got == want, "{} of {}", got.len(), want.len());
    // And what was accepted is not said again.
    let n = spooled(&fs);
    let again = Fake::new("http://am", vec![]);
    n.set_targets(vec![to(&again)]);
    drained(&n).await;
    assert!(again.accepted().is_empty());
}

fn to(fake: &Arc<Fake>) -> Target {
    Target { transport: Arc::clone(fake) as _, relabel: None }
}

async fn drained(n: &Notifier) {
    n.stop(Some(Duration::from_secs(30))).await;
}

fn metric(registry: &Registry, name: &str) -> f64 {
    let mut text = Vec::new();
    ferula_exposition::write::text(&registry.gather(), &mut text);
    let text = String::from_utf8(text).unwrap();
    let line = text.lines().find(|l| l.starts_with(name) && !l.starts_with('#'));
    line.and_then(|l| l.rsplit(' ').next()).map_or(0.0, |v| v.parse().unwrap())
}

#[tokio::test]
async fn keeps_trying_until_accepted_and_sends_the_latest_state() {
    let registry = Registry::new();
    let n = notifier(100, &registry);
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let down = || Err(SendError::Failed("connection refused".into()));
    let am = Fake::gated("http://am", vec![down(), down()], Some(Arc::clone(&gate)));
    n.set_targets(vec![to(&am)]);
    n.send(vec![alert("a", 200_000), alert("b", 200_000), alert("c", 200_000)]);
    am.asked.notified().await; // a and b are on their way
    n.send(vec![alert("a", 99_000)]); // a is resolved meanwhile
    gate.add_permits(100);
    drained(&n).await;
    let mut got = am.accepted();
    got.sort();
    let of = |name: &str, end| (format!("{{alertname=\"{name}\"}}"), end);
    assert_eq!(got, [of("a", 99_000), of("b", 200_000), of("c", 200_000)]);
    assert_eq!(metric(&registry, "prometheus_notifications_sent_total"), 3.0);
    assert_eq!(metric(&registry, "prometheus_notifications_errors_total"), 4.0);
    assert_eq!(metric(&registry, "prometheus_notifications_dropped_total"), 0.0);
}

#[tokio::test]
async fn a_dead_alertmanager_does_not_hold_up_another() {
    let n = notifier(100, &Registry::new());
    let dead = Fake::gated("http://dead", vec![], Some(Arc::new(tokio::sync::Semaphore::new(0))));
    let alive = Fake::new("http://alive", vec![]);
    n.set_targets(vec![to(&dead), to(&alive)]);
    assert_eq!(n.urls(), ["http://alive", "http://dead"]);
    n.send((0..5).map(|i| alert(&i.to_string(), 200_000)).collect());
    while alive.accepted().len() < 5 {
        alive.asked.notified().await;
        tokio::task::yield_now().await;
    }
    assert!(alive.accepted.lock().unwrap().iter().all(|batch| batch.len() <= 2));
    n.stop(None).await;
}

#[tokio::test]
async fn a_full_queue_drops_the_oldest_and_counts_it() {
    let registry = Registry::new();
    let n = notifier(2, &registry);
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let am = Fake::gated("http://am", vec![], Some(Arc::clone(&gate)));
    n.set_targets(vec![to(&am)]);
    n.send(vec![alert("first", 200_000)]);
    am.asked.notified().await; // taken: no longer in the queue's order
    n.send(["a", "b", "c", "b"].map(|name| alert(name, 200_000)).to_vec());
    assert_eq!(metric(&registry, "prometheus_notifications_dropped_total"), 1.0);
    assert_eq!(metric(&registry, "prometheus_notifications_queue_length"), 3.0);
    gate.add_permits(100);
    drained(&n).await;
    let names: Vec<String> = am.accepted().into_iter().map(|(l, _)| l).collect();
    assert_eq!(names, ["first", "b", "c"].map(|n| format!("{{alertname=\"{n}\"}}")));
}

#[tokio::test]
async fn what_is_rejected_or_stale_is_not_repeated() {
    let registry = Registry::new();
    let n = notifier(100, &registry);
    let am = Fake::new("http://am", vec![Err(SendError::Rejected("400".into()))]);
    n.set_targets(vec![to(&am)]);
    n.send(vec![alert("bad", 200_000)]);
    n.send(vec![alert("good", 200_000), alert("long gone", 100_000 - 3_600_001)]);
    drained(&n).await;
    assert!(am.accepted().len() <= 1, "{:?}", am.accepted());
    assert!(metric(&registry, "prometheus_notifications_dropped_total") >= 2.0);
}

#[tokio::test]
async fn labels_are_completed_and_relabelled() {
    let n = notifier(100, &Registry::new());
    let (one, two) = (Fake::new("http://1", vec![]), Fake::new("http://2", vec![]));
    let rename: Relabel = Arc::new(|b| {
        b.set("alertname", "other");
        true
    });
    let drop_all: Relabel = Arc::new(|b| b.get("drop").is_none());
    n.configure(Labels::from_pairs([("dc", "x"), ("alertname", "not over an existing one")]), Some(drop_all));
    n.set_targets(vec![to(&one), Target { relabel: Some(rename), ..to(&two) }]);
    let dropped = Alert { labels: Labels::from_pairs([("drop", "me")]), ..alert("", 0) };
    n.send(vec![alert("a", 200_000), dropped]);
    drained(&n).await;
    assert_eq!(one.accepted(), [(r#"{alertname="a", dc="x"}"#.to_owned(), 200_000)]);
    assert_eq!(two.accepted(), [(r#"{alertname="other", dc="x"}"#.to_owned(), 200_000)]);
}

#[tokio::test]
async fn a_reload_keeps_the_queue_of_an_alertmanager_that_stays() {
    let n = notifier(100, &Registry::new());
    let never = Fake::gated("http://am", vec![], Some(Arc::new(tokio::sync::Semaphore::new(0))));
    n.set_targets(vec![to(&never)]);
    n.send(vec![alert("a", 200_000)]);
    never.asked.notified().await;
    n.send(vec![alert("b", 200_000), alert("c", 200_000)]);
    let after = Fake::new("http://am", vec![]);
    n.set_targets(vec![to(&after)]);
    // The batch in flight belongs to the old transport; let it through.
    never.gate.as_ref().unwrap().add_permits(100);
    drained(&n).await;
    assert_eq!(never.accepted().len(), 1);
    assert_eq!(after.accepted().len(), 2);
}

#[test]
fn json_is_what_alertmanager_reads() {
    let text = String::from_utf8(to_json(&[alert("a", 1_795_199_719_426)])).unwrap();
    assert_eq!(
        text,
        r#"[{"annotations":{"summary":"s"},"endsAt":"2026-11-20T18:35:19.426Z","startsAt":"1970-01-01T00:00:01Z","generatorURL":"http://p/graph","labels":{"alertname":"a"}}]"#
    );
}

/// From a rule to the body of the request, as the alert-generator programme wants it: begins at the firing, ends four
/// resend delays ahead while it fires, at the resolving evaluation afterwards; all as RFC 3339.
#[tokio::test]
async fn what_a_rule_finds_is_posted_with_begin_and_end() {
    use ferula_promql_engine::{Engine, EngineOptions, test_language::MemoryStore};
    use ferula_promql_rules::{EngineQuery, Environment, Group, Settings, file};
    use ferula_storage::{AppendOptions, Appendable, CancelFlag, Durability};

    let (registry, store) = (Registry::new(), Arc::new(MemoryStore::new()));
    let n = notifier(100, &registry);
    let am = Fake::new("http://am", vec![]);
    n.set_targets(vec![to(&am)]);
    let query = EngineQuery {
        engine: Arc::new(Engine::new(EngineOptions::default())),
        queryable: store.clone(),
        timeout: Duration::from_secs(30),
        budget: ferula_model::Budget::unlimited(),
        cancel: CancelFlag::new(),
    };
    let environment = Environment {
        query: Arc::new(query),
        queryable: store.clone(),
        appendable: store.clone(),
        notify: Arc::new(crate::run::ToNotifier(n.clone())),
        clock: Arc::new(ManualClock::at(0)),
        resend_delay_ms: 60_000,
        outage_tolerance_ms: 3_600_000,
        for_grace_ms: 600_000,
        parse_options: Default::default(),
        concurrent_rules: 1,
    };
    let settings = Settings {
        interval_ms: 30_000,
        query_offset_ms: 0,
        external_labels: Labels::default(),
        external_url: "http://p:9090".into(),
    };
    let rules =
        "groups:\n- name: g\n  rules:\n  - {alert: A, expr: v > 10, for: 30s, annotations: {s: '{{ $value }}'}}\n";
    let config = file::parse("f.yml", rules).unwrap().remove(0);
    let mut group = Group::alone(Arc::new(environment), settings, config, &registry, false);
    let posted = |ends: &str| {
        format!(
            r#"[{{"annotations":{{"s":"15"}},"endsAt":"{ends}","startsAt":"1970-01-01T00:00:30Z","generatorURL":"http://p:9090/graph?g0.expr=v+%3E+10&g0.tab=1","labels":{{"alertname":"A","i":"1"}}}}]"#
        )
    };
    for (t_ms, value, ends) in [
        (0, 15.0, None), // pending
        (30_000, 15.0, Some("1970-01-01T00:04:30Z")),
        (90_000, 15.0, None), // not more than the resend delay
        (120_000, 15.0, Some("1970-01-01T00:06:00Z")),
        (150_000, 5.0, Some("1970-01-01T00:02:30Z")),
        (180_000, 5.0, None),
        (240_000, 5.0, Some("1970-01-01T00:02:30Z")),
    ] {
        let mut appender = store.appender();
        let labels = Labels::from_pairs([("__name__", "v"), ("i", "1")]);
        let value = ferula_model::Value::Float(value);
        appender
            .append(ferula_model::SeriesRef::NONE, Some(&labels), 0, t_ms, value, &AppendOptions::default())
            .unwrap();
        appender.commit(Durability::Written).unwrap();
        group.evaluate(t_ms);
        if ends.is_some() {
            am.asked.notified().await;
        }
        for _ in 0..10 {
            tokio::task::yield_now().await; // whatever else there is to send has its turn
        }
        let batches = std::mem::take(&mut *am.accepted.lock().unwrap());
        let bodies: Vec<String> = batches.iter().map(|b| String::from_utf8(to_json(b)).unwrap()).collect();
        assert_eq!(bodies, ends.map(posted).into_iter().collect::<Vec<_>>(), "{t_ms}");
    }
}
