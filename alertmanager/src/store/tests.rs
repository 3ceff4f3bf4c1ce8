use std::path::Path;

use ferula_fs::{Faulty, Open};
use ferula_instrument::Registry;

use super::*;
use crate::alert::PostableAlert;
use crate::config::Config;
use crate::core::{CoreOptions, Now};
use crate::nflog::{LogEntry, LogKey};
use crate::silence::SilenceLimits;

const DIR: &str = "/am";
const HOUR: i64 = 3_600_000;
const NOW: Now = Now { wall_ms: 1_000 * HOUR, mono_ms: 0 };

fn core() -> Core {
    let config = Config::parse(
        "t",
        "route: {receiver: r, group_wait: 1m}\nreceivers: [{name: r, webhook_configs: [{url: 'http://x'}]}]",
    )
    .unwrap();
    let options = CoreOptions {
        retention_ms: HOUR,
        alerts_gc_interval_ms: HOUR,
        maintenance_interval_ms: HOUR,
        start_delay_ms: 0,
        per_alertname_limit: 0,
        alerts_max: 0,
        alert_size_bytes_max: 1 << 20,
        silences: SilenceLimits::default(),
    };
    Core::new(&config, options, Metrics::new(&Registry::new()), NOW)
}

fn open(fs: &Faulty) -> (Store, Core) {
    let mut core = core();
    let store = Store::open_on(Arc::new(fs.clone()), Path::new(DIR), HOUR, &mut core, NOW.wall_ms).unwrap();
    core.restored(NOW);
    (store, core)
}

fn silence(id: &str) -> Silence {
    Silence {
        id: id.into(),
        matcher_sets: vec![crate::matcher::parse_matchers("a=b,c!=d,e=~f.*,g!~h", "t").unwrap()],
        starts_at_ms: NOW.wall_ms - 5,
        ends_at_ms: NOW.wall_ms + HOUR,
        updated_at_ms: NOW.wall_ms - 5,
        created_by: "me".into(),
        comment: "why".into(),
        annotations: [("k".to_owned(), "v".to_owned())].into(),
    }
}
fn entry(group: &str) -> LogChange {
    let key = LogKey { group_key: group.into(), receiver: "r".into(), integration: "webhook".into(), index: 3 };
    (
        key,
        LogEntry {
            timestamp_ms: NOW.wall_ms,
            expires_at_ms: NOW.wall_ms + HOUR,
            firing: vec![1, 2],
            resolved: vec![3],
            data: [("threadTs".to_owned(), "1.2".to_owned())].into(),
        },
    )
}

#[test]
fn everything_survives_a_crash_and_a_snapshot() {
    let fs = Faulty::new(1);
    let (store, mut core) = open(&fs);
    store.write_silences(&[Arc::new(silence("1"))]).unwrap();
    store.write_log(&[entry("{}:{a=\"b\"}")]).unwrap();
    let posted = PostableAlert {
        labels: ferula_model::Labels::from_pairs([("alertname", "A"), ("x", "y")]),
        annotations: ferula_model::Labels::from_pairs([("s", "t")]),
        generator_url: "http://g".into(),
        ..Default::default()
    };
    let inserted = core.insert(vec![posted], NOW);
    store.write_alerts(&inserted.changed).unwrap();
    // The group's timer, as if it had been due long ago.
    let mut timers = core.take_unsaved_timers(NOW);
    timers[0].has_flushed = true;
    store.sync(store.write_groups(&timers).unwrap().unwrap()).unwrap();

    let image = fs.crash_image(7);
    for round in 0..3 {
        let (store, core) = open(&image);
        assert_eq!(**core.silences.get("1").unwrap(), silence("1"), "round {round}");
        assert_eq!(core.nflog.iter().map(|(k, e)| (k.clone(), e.clone())).collect::<Vec<_>>(), [entry("{}:{a=\"b\"}")]);
        let alerts: Vec<_> = core.firing_alerts(NOW.wall_ms).map(|(a, _)| a.clone()).collect();
        assert_eq!(alerts.len(), 1);
        assert_eq!((&*alerts[0].generator_url, alerts[0].annotations.get("s")), ("http://g", Some("t")));
        assert_eq!(core.timers(NOW), timers, "round {round}");
        store.snapshot(&Metrics::new(&Registry::new()), &ferula_model::SystemClock, || State {
            silences: core.silences.iter().cloned().collect(),
            log: core.nflog.iter().map(|(k, e)| (k.clone(), e.clone())).collect(),
            alerts,
            groups: core.timers(NOW),
        });
    }
    assert!(fs.exists(Path::new("/am/journal")));
}

#[test]
fn a_damaged_snapshot_is_kept_and_its_whole_entries_are_read() {
    let fs = Faulty::new(1);
    fs.create_dir_all(Path::new(DIR)).unwrap();
    let mut bytes = encode::delimit(&[encode::silence(&silence("1"), HOUR), encode::silence(&silence("2"), HOUR)]);
    bytes.truncate(bytes.len() - 3);
    fs.open(Path::new("/am/silences"), Open::CreateNew).unwrap().append(&bytes).unwrap();
    for name in ["nflog", "alerts", "groups"] {
        fs.open(&Path::new(DIR).join(name), Open::CreateNew).unwrap().append(&[0xff; 40]).unwrap();
    }
    fs.create_dir_all(Path::new("/am/journal")).unwrap();
    fs.open(Path::new("/am/journal/00000003.journal"), Open::CreateNew).unwrap().append(b"no journal at all").unwrap();
    let (_store, core) = open(&fs);
    assert!(core.silences.get("1").is_some() && core.silences.get("2").is_none());
    assert_eq!(fs.read(Path::new("/am/quarantine/silences.0")).unwrap(), bytes);
    for kept in
        ["quarantine/nflog.0", "quarantine/alerts.0", "quarantine/groups.0", "journal/quarantine/00000003.journal.0"]
    {
        assert!(fs.exists(&Path::new(DIR).join(kept)), "{kept}");
    }
}

#[test]
fn a_folder_has_one_owner() {
    let fs = Faulty::new(1);
    let (_store, _) = open(&fs);
    let again = Store::open_on(Arc::new(fs.clone()), Path::new(DIR), HOUR, &mut core(), 0);
    assert!(matches!(again, Err(StoreError::InUse { .. })));
}

#[test]
fn what_expired_is_left_behind() {
    let fs = Faulty::new(1);
    let (store, _) = open(&fs);
    let old = Silence { ends_at_ms: NOW.wall_ms - HOUR, ..silence("old") };
    store.write_silences(&[Arc::new(old)]).unwrap();
    drop(store);
    assert!(open(&fs).1.silences.is_empty());
}

#[test]
fn foreign_bytes_are_no_alert() {
    let (_, mut core) = open(&Faulty::new(1));
    let posted = PostableAlert { labels: ferula_model::Labels::from_pairs([("a", "b")]), ..Default::default() };
    let whole = encode::alert(&core.insert(vec![posted], NOW).changed[0]);
    assert!(encode::read_alert(&whole).is_some());
    for cut in 0..whole.len() {
        assert!(encode::read_alert(&whole[..cut]).is_none(), "{cut}");
    }
}
