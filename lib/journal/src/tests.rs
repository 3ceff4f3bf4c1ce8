use std::path::Path;
use std::sync::Arc;

use ferula_fs::{Faulty, Fs, Open};
use proptest::prelude::*;

use super::*;

const DIR: &str = "/j";

fn open(fs: &Faulty) -> (Journal, Vec<Vec<u8>>, Recovered) {
    let mut records = Vec::new();
    let (journal, recovered) =
        Journal::open(Arc::new(fs.clone()), Path::new(DIR), Options::default(), |r| records.push(r.to_vec())).unwrap();
    (journal, records, recovered)
}

fn record(i: u32) -> Vec<u8> {
    format!("record {i} ").repeat(1 + i as usize % 40).into_bytes()
}

#[test]
fn what_was_synced_survives_every_crash() {
    for crash in 3..120 {
        let fs = Faulty::new(crash);
        let (journal, _, _) = open(&fs);
        fs.crash_at(crash);
        let mut acknowledged = 0;
        for i in 0..30 {
            match journal.append(&record(i)).and_then(|t| journal.sync(t)) {
                Ok(()) => acknowledged = i + 1,
                Err(_) => break,
            }
            if i == 12 {
                let _ = journal.rotate();
            }
        }
        let image = fs.crash_image(crash ^ 77);
        let (_, records, _) = open(&image);
        let expected: Vec<Vec<u8>> = (0..records.len() as u32).map(record).collect();
        assert!(records.len() as u32 >= acknowledged, "crash at {crash}: {} of {acknowledged}", records.len());
        assert_eq!(records, expected, "crash at {crash}");
        let (_, again, recovered) = open(&image);
        assert_eq!((again.len(), recovered.damage.len()), (records.len(), 0), "repaired once and for all");
    }
}

#[test]
fn a_failed_sync_moves_the_tail_and_a_second_one_poisons() {
    let fs = Faulty::new(1);
    let (journal, _, _) = open(&fs);
    journal.sync(journal.append(b"a").unwrap()).unwrap();
    let ticket = journal.append(b"b").unwrap();
    fs.fail_at(fs.operations(), std::io::ErrorKind::Other);
    journal.sync(ticket).unwrap();
    let (_, records, _) = open(&fs.crash_image(3));
    assert!(records.contains(&b"a".to_vec()) && records.contains(&b"b".to_vec()), "{records:?}");

    fs.fail_syncs(true);
    let ticket = journal.append(b"c").unwrap();
    assert!(matches!(journal.sync(ticket), Err(Error::Poisoned(_))));
    fs.fail_syncs(false);
    assert!(matches!(journal.append(b"d"), Err(Error::Poisoned(_))), "stays poisoned");
}

#[test]
fn a_sync_that_fails_in_a_rotation_loses_nothing() {
    let fs = Faulty::new(1);
    let (journal, _, _) = open(&fs);
    journal.append(b"a").unwrap();
    fs.fail_at(fs.operations(), std::io::ErrorKind::Other);
    journal.rotate().unwrap();
    assert_eq!(open(&fs.crash_image(4)).1, [b"a".to_vec()]);
}

#[test]
fn a_full_disk_refuses_and_recovers() {
    let fs = Faulty::new(1);
    let (journal, _, _) = open(&fs);
    journal.sync(journal.append(b"a").unwrap()).unwrap();
    fs.set_capacity(fs.used_bytes() + 5);
    assert!(journal.append(&record(9)).is_err());
    fs.set_capacity(u64::MAX);
    journal.sync(journal.append(b"b").unwrap()).unwrap();
    let (_, records, recovered) = open(&fs.crash_image(9));
    assert_eq!((records, recovered.damage), (vec![b"a".to_vec(), b"b".to_vec()], vec![]));
}

#[test]
fn segments_before_a_snapshot_go() {
    let fs = Faulty::new(1);
    let (journal, _, _) = open(&fs);
    journal.append(b"old").unwrap();
    let segment = journal.rotate().unwrap();
    journal.sync(journal.append(b"new").unwrap()).unwrap();
    journal.remove_before(segment).unwrap();
    assert_eq!(open(&fs).1, [b"new".to_vec()]);
}

#[test]
fn waiting_threads_share_syncs() {
    let fs = Faulty::new(1);
    let (journal, _, _) = open(&fs);
    std::thread::scope(|s| {
        for _ in 0..8 {
            s.spawn(|| (0..50).for_each(|i| journal.sync(journal.append(&record(i)).unwrap()).unwrap()));
        }
    });
    assert_eq!(open(&fs.crash_image(5)).1.len(), 400);
}

/// One synced segment of `n` records, as bytes.
fn segment(n: u32) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    (0..n).for_each(|i| format::frame(&record(i), &mut bytes));
    bytes
}

fn with_segment(bytes: &[u8]) -> Faulty {
    let fs = Faulty::new(1);
    fs.create_dir_all(Path::new(DIR)).unwrap();
    let file = fs.open(&Path::new(DIR).join("00000001.journal"), Open::CreateNew).unwrap();
    file.append(bytes).unwrap();
    fs
}

#[test]
fn damage_in_the_middle_costs_only_what_it_touches() {
    let mut bytes = segment(10);
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    let fs = with_segment(&bytes);
    let (_, records, recovered) = open(&fs);
    assert_eq!((records.len(), recovered.damage.len()), (9, 1));
    let kept = fs.list(Path::new("/j/quarantine")).unwrap();
    assert_eq!(
        kept.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(),
        ["00000001.journal.0", "00000001.journal.0.report"]
    );
    assert_eq!(fs.read(Path::new("/j/quarantine/00000001.journal.0")).unwrap(), bytes);
}

#[test]
fn forged_headers_do_not_cost_more_than_the_file() {
    // Every marker claims a long record whose checksum must be computed to be refuted.
    let mut bytes = MAGIC.to_vec();
    for _ in 0..200_000 {
        bytes.extend_from_slice(&MARKER);
        bytes.extend_from_slice(&1_000_000u32.to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
    }
    let (_, records, recovered) = open(&with_segment(&bytes));
    assert_eq!((records.len(), recovered.damage.len()), (0, 1));
}

proptest! {
    #[test]
    fn any_damage_keeps_untouched_records(n in 1u32..12, cut in any::<prop::sample::Index>(), noise in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut bytes = segment(n);
        let at = cut.index(bytes.len());
        let end = (at + noise.len()).min(bytes.len());
        let untouched_head = {
            let mut whole = MAGIC.len();
            (0..n).take_while(|i| { whole += HEADER_BYTES + record(*i).len(); whole <= at }).count()
        };
        bytes.splice(at..end, noise);
        let (_, records, _) = open(&with_segment(&bytes));
        let all: Vec<Vec<u8>> = (0..n).map(record).collect();
        prop_assert!(records.len() >= untouched_head);
        prop_assert_eq!(&records[..untouched_head], &all[..untouched_head]);
        prop_assert!(records.iter().all(|r| all.contains(r)));
    }

    #[test]
    fn foreign_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        open(&with_segment(&bytes));
    }
}

/// The seeds of the fuzz target, and what each must give.
#[test]
fn fuzz_seeds_are_read_as_before() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/segment");
    for (seed, records, damage) in [("whole", 2, 0), ("damaged", 2, 1), ("torn", 1, 1), ("headless", 1, 1)] {
        let fs = with_segment(&std::fs::read(folder.join(seed)).unwrap());
        let (_, read, recovered) = open(&fs);
        assert_eq!((read.len(), recovered.damage.len()), (records, damage), "{seed}");
        assert_eq!(open(&fs).1, read, "{seed}: repaired");
    }
}
