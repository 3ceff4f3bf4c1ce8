//! Sample counts as upstream counts them (the cases of its engine's statistics test).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use ferula_promql_engine::test_language::{MemoryStore, load_block};
use ferula_promql_engine::{Engine, EngineOptions, QueryOptions, SampleStats};
use ferula_promql_parser::parse_expr;
use ferula_storage::QueryContext;

fn engine_and_store() -> (Engine, MemoryStore) {
    let store = MemoryStore::new();
    load_block(
        &store,
        10_000,
        "one 1+1x100\nthree{a=\"1\",b=\"1\"} 1+1x100\nthree{a=\"2\",b=\"2\"} 1+1x100\nthree{a=\"3\",b=\"2\"} 1+1x100",
    )
    .unwrap();
    (Engine::new(EngineOptions::default()), store)
}

fn stats(text: &str, times: (i64, i64, i64)) -> SampleStats {
    let (engine, store) = engine_and_store();
    let expr = parse_expr(text).unwrap();
    let options = QueryOptions { per_step_stats: true, ..QueryOptions::default() };
    let (start, end, step) = times;
    let ctx = QueryContext::background();
    let answer = if step == 0 {
        engine.instant(&ctx, &store, &expr, start, &options)
    } else {
        engine.range(&ctx, &store, &expr, start, end, step, &options)
    };
    answer.unwrap().stats
}

#[test]
fn instant_queries() {
    for (text, total) in [
        ("1", 0),
        ("one", 1),
        ("one[60s]", 6),
        ("rate(one[60s])", 6),
        ("three", 3),
        ("max_over_time(three[60s])", 18),
        ("one[60s:5s]", 12),
        ("max_over_time(three[60s:5s])", 36),
        ("sum by (b) (max_over_time(three[60s:5s])) + sum by (b) (max_over_time(three[60s:5s]))", 72),
        ("sum(three) + sum(three)", 6),
    ] {
        let s = stats(text, (201_000, 201_000, 0));
        assert_eq!(s.total_queryable, total, "{text}");
        if !text.contains(':') {
            assert_eq!(s.per_step, [(201_000, total)], "{text}");
        }
    }
    assert_eq!(stats("max_over_time(one[60s])", (201_000, 201_000, 0)).peak, 7);
}

#[test]
fn range_queries() {
    let s = stats("one", (201_000, 220_000, 5_000));
    assert_eq!(s.total_queryable, 4);
    assert_eq!(s.per_step, [(201_000, 1), (206_000, 1), (211_000, 1), (216_000, 1)]);
    assert_eq!(stats("three", (201_000, 220_000, 5_000)).total_queryable, 12);
    assert_eq!(stats("rate(three[60s])", (201_000, 220_000, 5_000)).total_queryable, 72);
    assert_eq!(stats("max_over_time(three[60s:5s])", (201_000, 220_000, 5_000)).total_queryable, 144);
}

/// Of windows that overlap only what is new counts as read.
#[test]
fn samples_read() {
    let range = (201_000, 220_000, 5_000);
    assert_eq!(stats("one", range).read, 4);
    let s = stats("max_over_time(one[60s])", range);
    let by_step: Vec<u64> = s.read_per_step.iter().map(|(_, n)| *n).collect();
    assert_eq!(by_step.iter().sum::<u64>(), s.read);
    assert_eq!(by_step, [6, 0, 1, 0], "the first window is all new, later ones add what they did not overlap");
    let twice = stats("sum(rate(three[60s])) + sum(rate(three[60s]))", range);
    assert_eq!(twice.read_per_step.iter().map(|(_, n)| n).sum::<u64>(), twice.read);
    // 150..=200 at first, 210 later.
    assert_eq!(stats("rate(one[60s])", range).read, 7);
    assert_eq!(stats("rate(three[60s])", range).read, 21);
    assert_eq!(stats("sum(three) + sum(three)", (201_000, 201_000, 0)).read, 6);
}

/// A plan says what each expression gave and cost.
#[test]
fn plans() {
    let (engine, store) = engine_and_store();
    let text =
        "sum by (b) (rate(three[60s])) / (1 + sum by (b) (rate(three[60s]))) + on () group_left () sum(one @ 100)";
    let expr = parse_expr(text).unwrap();
    let options = QueryOptions { analyze: true, ..QueryOptions::default() };
    let ctx = QueryContext::background();
    let answer = engine.range(&ctx, &store, &expr, 200_000, 400_000, 50_000, &options).unwrap();
    let shown: Vec<String> = answer
        .plan
        .iter()
        .map(|n| {
            let m =
                n.measured.map_or_else(String::new, |m| format!(" {} {} {}", m.series, m.samples, m.samples_decoded));
            format!("{}{} {}{m} {}", "  ".repeat(n.depth), n.kind, n.expr, n.notes.join(", ")).trim_end().to_owned()
        })
        .collect();
    let want = [
        "operator sum by (b) (rate(three[1m])) / (1 + sum by (b) (rate(three[1m]))) + on () group_left () sum(one @ 100.000)",
        "  operator sum by (b) (rate(three[1m])) / (1 + sum by (b) (rate(three[1m])))",
        "    aggregation sum by (b) (rate(three[1m])) 2 10",
        "      function rate(three[1m]) 3 15",
        "        range selector three[1m]",
        "    operator 1 + sum by (b) (rate(three[1m])) 2 10",
        "      number 1 0 5",
        "      aggregation sum by (b) (rate(three[1m])) 2 10",
        "        function rate(three[1m])",
        "          range selector three[1m]",
        "  aggregation sum(one @ 100.000) 1 5",
        "    selector one @ 100.000 1 1",
    ];
    assert_eq!(shown.len(), want.len(), "{shown:#?}");
    for (shown, want) in shown.iter().zip(want) {
        assert!(shown.starts_with(want), "{shown}\nis not\n{want}");
    }
    assert!(shown[2].ends_with("shared with an equal expression"), "{shown:#?}");
    assert!(shown[10].ends_with("once for all steps"), "{shown:#?}");
    assert_eq!(engine.explain(&expr).len(), want.len());
}
