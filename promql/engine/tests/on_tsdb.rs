//! The corpus's scripts on the real store: the engine and the store agree on everything that memory alone would hide.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::sync::Arc;

use ferula_model::SystemClock;
use ferula_promql_engine::test_language::{Store, run, test_engine};
use ferula_storage::{Appendable, Appender, Querier, Queryable, StorageError};

/// What the store does not do yet, by where it shows; to be emptied.
const KNOWN: [(&str, &str); 3] = [
    ("start_timestamps.test:", "start timestamps are not stored"),
    ("extended_vectors.test:5", "floats and histograms of one series in one commit"),
    ("native_histograms.test:1300", "floats and histograms of one series in one commit"),
];

/// A store in a folder of its own, deleted with it.
struct OnDisk {
    db: Arc<ferula_tsdb::Db>,
    _folder: tempfile::TempDir,
}

impl Appendable for OnDisk {
    fn appender(&self) -> Box<dyn Appender> {
        self.db.appender()
    }
}

impl Queryable for OnDisk {
    fn querier(&self, mint_ms: i64, maxt_ms: i64) -> Result<Box<dyn Querier>, StorageError> {
        self.db.querier(mint_ms, maxt_ms)
    }
}

fn open() -> Arc<dyn Store> {
    let folder = tempfile::tempdir().unwrap();
    // As wide as upstream gives its test storage: scripts load a day, then go back to its start.
    let options = ferula_tsdb::Options { background: false, block_range_ms: 86_400_000, ..Default::default() };
    let registry = ferula_instrument::Registry::new();
    let disk = Arc::new(ferula_fs::Disk);
    let db = ferula_tsdb::Db::open(folder.path(), options, disk, Arc::new(SystemClock), &registry).unwrap();
    Arc::new(OnDisk { db, _folder: folder })
}

#[test]
fn corpus_on_tsdb() {
    let Some(folder) = std::env::var_os("FERULA_CORPUS").map(|c| std::path::Path::new(&c).join("promqltest")) else {
        println!("SKIPPED promqltest on tsdb: FERULA_CORPUS is not set");
        return;
    };
    let (mut passed, mut all, mut failures) = (0, 0, Vec::new());
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    for file in files.iter().filter(|p| p.extension().is_some_and(|e| e == "test")) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        match run(&std::fs::read_to_string(file).unwrap(), &test_engine(), &open) {
            Err(e) => failures.push(format!("{name}: {e}")),
            Ok(outcomes) => {
                all += outcomes.len();
                for o in outcomes {
                    match o.failure {
                        None => passed += 1,
                        Some(why) => failures.push(format!("{name}:{} {}\n      {why}", o.line, o.expr)),
                    }
                }
            }
        }
    }
    println!("promqltest on tsdb: {passed} of {all}");
    failures.retain(|f| {
        let known = KNOWN.iter().find(|(place, _)| f.starts_with(place));
        match known {
            Some((_, why)) => println!("KNOWN ({why}): {f}"),
            None => println!("{f}"),
        }
        known.is_none()
    });
    assert!(failures.is_empty(), "{} failures", failures.len());
}
