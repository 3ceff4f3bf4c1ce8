//! A disk that fills up: samples are refused in time, everything else goes on, and it recovers by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::path::Path;
use std::sync::Arc;

use ferula_fs::{Faulty, Fs};
use ferula_instrument::Registry;
use ferula_model::{Labels, ManualClock};
use ferula_storage::{Appendable, Durability, StorageError};
use ferula_tsdb::{Db, Options};
use support::*;

const DIR: &str = "/data";
const MINUTE: i64 = 60_000;

fn commit(db: &Db, l: &Labels, t_ms: i64) -> Result<(), StorageError> {
    let mut app = db.appender();
    append(&mut *app, l, t_ms, 1.0).unwrap();
    app.commit(Durability::Synced).map(|_| ())
}

fn metric(registry: &Registry, name: &str) -> String {
    let mut page = Vec::new();
    ferula_exposition::write::Format::negotiate("").write(&registry.gather(), &mut page);
    let page = String::from_utf8(page).unwrap();
    page.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')).unwrap_or("absent").to_owned()
}

#[test]
fn samples_are_refused_before_the_disk_is_full() {
    let fs = Arc::new(Faulty::default());
    let options = Options { free_space_min_bytes: Some(400_000), reserve_bytes: 20_000, ..options() };
    let registry = Registry::new();
    let clock = Arc::new(ManualClock::at(0));
    let db = Db::open(Path::new(DIR), options.clone(), fs.clone(), clock, &registry).unwrap();
    let l = labels("__name__=x");
    fs.set_capacity(1_200_000);
    db.space.look();
    let reserve = Path::new("/data/reserve");
    assert_eq!(fs.metadata(reserve).unwrap().len, 20_000);
    let many: Vec<Labels> = (0..60).map(|i| labels(&format!("__name__=m,i={i}"))).collect();
    let (mut taken, mut t_ms, mut rng) = (0, 0, fastrand::Rng::with_seed(1));
    let count = |db: &Db| read_all(db).values().map(Vec::len).sum::<usize>();
    let told = loop {
        t_ms += MINUTE;
        if t_ms % (5 * MINUTE) == 0 {
            db.space.look(); // once a second, in real life
        }
        let mut app = db.appender();
        for l in &many {
            append(&mut *app, l, t_ms, rng.f64()).unwrap();
        }
        match app.commit(Durability::Synced).map(|_| ()) {
            Ok(()) => taken += 1,
            Err(e) => break e,
        }
    };
    assert!(matches!(&told, StorageError::NotReady(why) if why.contains("nearly full")), "{told}");
    assert!(taken > 200, "{taken}");
    assert!(!fs.exists(reserve), "the reserve is given up");
    assert!(fs.free_space(Path::new(DIR)).unwrap() > 380_000, "it was refused in time");
    assert_eq!(metric(&registry, "ferula_tsdb_read_only"), "1");
    // Reading goes on, and compaction has room.
    assert_eq!(count(&db), taken * 60);
    db.compact().unwrap();
    assert!(!db.blocks().is_empty() && count(&db) == taken * 60);
    assert!(commit(&db, &l, t_ms + MINUTE).is_err());
    // Room again: without a restart, without anybody asking.
    fs.set_capacity(10_000_000);
    commit(&db, &l, t_ms + 2 * MINUTE).unwrap();
    assert_eq!(metric(&registry, "ferula_tsdb_read_only"), "0");
    assert!(fs.exists(reserve));
    let again = open(Arc::new(fs.kill_image()), Path::new(DIR), options);
    assert_eq!(count(&again), taken * 60 + 1);
}

#[test]
fn a_write_that_fails_for_want_of_room_says_so_too() {
    let fs = Arc::new(Faulty::default());
    let options = Options { free_space_min_bytes: Some(10), ..options() };
    let db = open(fs.clone(), Path::new(DIR), options);
    let l = labels("__name__=x");
    commit(&db, &l, 1000).unwrap();
    fs.set_capacity(fs.used_bytes() + 20);
    let told = commit(&db, &l, 2000).unwrap_err();
    assert!(matches!(told, StorageError::NotReady(_)), "{told}");
    assert!(db.space.is_low());
    fs.set_capacity(u64::MAX);
    commit(&db, &l, 3000).unwrap();
    assert_eq!(floats(&read_all(&*db), &l), "1000=1 3000=1");
}
