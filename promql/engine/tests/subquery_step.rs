//! The step of a subquery that gives none is the one the engine was last told.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use ferula_promql_engine::test_language::MemoryStore;
use ferula_promql_engine::{Engine, EngineOptions, QueryOptions};
use ferula_storage::QueryContext;

#[test]
fn follows_the_evaluation_interval() {
    let engine = Engine::new(EngineOptions::default());
    let expr = ferula_promql_parser::parse_expr("count_over_time(vector(1)[2m:])").unwrap();
    let count = || {
        let options = QueryOptions::default();
        let e = engine.instant(&QueryContext::background(), &MemoryStore::default(), &expr, 600_000, &options).unwrap();
        format!("{:?}", e.value)
    };
    assert!(count().contains("Float(2.0)"), "{}", count());
    engine.set_subquery_step_ms(10_000);
    assert!(count().contains("Float(12.0)"), "{}", count());
}
