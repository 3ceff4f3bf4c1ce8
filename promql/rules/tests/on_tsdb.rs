//! The same rules on the real store: unit tests of the corpus, and alerts over a real restart.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod bench;

use std::cell::RefCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bench::{Bench, settings};
use ferula_instrument::Registry;
use ferula_model::{Budget, Clock, Labels, ManualClock, SeriesRef, Value};
use ferula_promql_engine::{Engine, EngineOptions};
use ferula_promql_rules::unit_test::{UnitTestOptions, run};
use ferula_promql_rules::{AlertState, EngineQuery, Environment, Group};
use ferula_storage::{AppendOptions, Appendable, CancelFlag, Durability};
use ferula_tsdb::{Db, Options};

fn open(dir: &Path, clock: Arc<dyn Clock>) -> Arc<Db> {
    let options = Options { background: false, ..Options::default() };
    Db::open(dir, options, Arc::new(ferula_fs::Disk), clock, &Registry::new()).unwrap()
}

#[test]
fn unit_tests_pass_on_the_store() {
    let Some(corpus) = std::env::var_os("FERULA_CORPUS").map(std::path::PathBuf::from).filter(|p| p.is_dir()) else {
        println!("SKIPPED rules/on_tsdb: FERULA_CORPUS names no directory");
        return;
    };
    let dirs = RefCell::new(Vec::new());
    for name in ["unittest.yml", "at-modifier-test.yml", "negative-offset-test.yml", "start-time-test.yml"] {
        let result = run(&corpus.join("rules/promtool").join(name), &UnitTestOptions::default(), &|| {
            let dir = tempfile::tempdir().unwrap();
            let db = open(dir.path(), Arc::new(ManualClock::at(0)));
            dirs.borrow_mut().push(dir);
            db
        });
        assert!(result.is_success(), "{name}: {}", result.report());
    }
    println!("rule unit tests on the store: 4 of 4 corpus files");
}

/// A server with one group: its store, and the group on it.
fn start(b: &Bench, dir: &Path, clock: Arc<ManualClock>, rules: &str, restores: bool) -> (Arc<Db>, Group) {
    let db = open(dir, clock.clone());
    let query = EngineQuery {
        engine: Arc::new(Engine::new(EngineOptions::default())),
        queryable: db.clone(),
        timeout: Duration::from_secs(30),
        budget: Budget::unlimited(),
        cancel: CancelFlag::new(),
    };
    let env = Environment {
        query: Arc::new(query),
        queryable: db.clone(),
        appendable: db.clone(),
        clock,
        ..b.environment(1)
    };
    (db, Group::alone(Arc::new(env), settings(), b.config("", rules), &b.registry, restores))
}

fn put(db: &Db, t_ms: i64, v: f64) {
    let mut a = db.appender();
    let labels = Labels::from_pairs([("__name__", "up"), ("job", "x")]);
    a.append(SeriesRef::NONE, Some(&labels), 0, t_ms, Value::Float(v), &AppendOptions::default()).unwrap();
    a.commit(Durability::Written).unwrap();
}

#[test]
fn alerts_survive_a_restart_of_the_store() {
    const MINUTE: i64 = 60_000;
    let begin = 1_700_000_000_000;
    let (b, dir) = (Bench::new(), tempfile::tempdir().unwrap());
    let clock = Arc::new(ManualClock::at(begin));
    let rules = "- {alert: Down, expr: up == 0, for: 5m}\n- {record: up:sum, expr: sum(up)}";
    let (db, mut g) = start(&b, dir.path(), clock.clone(), rules, false);
    for i in 0..=6 {
        put(&db, begin + i * MINUTE, 0.0);
        clock.set_wall(begin + i * MINUTE);
        g.evaluate(begin + i * MINUTE);
    }
    assert_eq!(b.alerts(&g), [format!("firing {{alertname=\"Down\", job=\"x\"}} since {begin}")]);
    assert_eq!(g.snapshot().rules[1].last_error, None);
    b.sent();
    drop(g);
    db.close().unwrap();
    drop(db);

    let (db, mut g) = start(&b, dir.path(), clock.clone(), rules, true);
    for i in 8..=9 {
        put(&db, begin + i * MINUTE, 0.0);
        g.evaluate(begin + i * MINUTE);
    }
    let pending = g.snapshot().rules[0].alerting.clone().unwrap();
    assert_eq!(pending.state, AlertState::Pending);
    g.restore(begin + 9 * MINUTE);
    put(&db, begin + 10 * MINUTE, 0.0);
    g.evaluate(begin + 10 * MINUTE);
    assert_eq!(b.alerts(&g), [format!("firing {{alertname=\"Down\", job=\"x\"}} since {begin}")]);
    assert_eq!(b.sent().len(), 1, "it is sent again at once");
    for rule in g.snapshot().rules {
        assert_eq!(rule.last_error, None);
    }
}
