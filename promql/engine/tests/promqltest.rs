//! The promqltest scripts of a corpus, run on the store in memory: `FERULA_CORPUS` names the folder that holds `promqltest/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::sync::Arc;

use ferula_promql_engine::test_language::{MemoryStore, run, test_engine};

#[test]
fn corpus() {
    let Some(folder) = std::env::var_os("FERULA_CORPUS").map(|c| std::path::Path::new(&c).join("promqltest")) else {
        println!("SKIPPED promqltest: FERULA_CORPUS is not set");
        return;
    };
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .expect("the corpus has promqltest scripts")
        .map(|f| f.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "test"))
        .collect();
    files.sort();
    let only = std::env::var("PROMQLTEST_ONLY").unwrap_or_default();
    let (mut passed, mut all, mut failures) = (0, 0, Vec::new());
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if !name.contains(&only) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let outcomes = match run(&text, &test_engine(), &|| Arc::new(MemoryStore::new())) {
            Ok(o) => o,
            Err(e) => {
                failures.push(format!("{name}: {e}"));
                continue;
            }
        };
        let ok = outcomes.iter().filter(|o| o.failure.is_none()).count();
        println!("{name:30} {ok:4} of {}", outcomes.len());
        passed += ok;
        all += outcomes.len();
        for o in outcomes {
            if let Some(why) = o.failure {
                failures.push(format!("{name}:{} {}\n      {why}", o.line, o.expr));
            }
        }
    }
    for f in &failures {
        println!("{f}");
    }
    println!("promqltest: {passed} of {all}");
    assert!(failures.is_empty(), "{} failures", failures.len());
}
