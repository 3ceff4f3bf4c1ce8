//! Broken kernel files: every file of upstream's fixture trees spoilt in several ways, through every collector.
//! Fewer metrics or an error are right answers; a panic is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod support;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use support::{Fixtures, ask, exporter};

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            files(&path, out);
        } else {
            out.push(path);
        }
    }
}

/// A small generator of our own: the same bytes on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn spoil(way: usize, bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let place = |random: &mut Random, len: usize| if len == 0 { 0 } else { random.next() as usize % len };
    match way {
        0 => Vec::new(),
        1 => bytes[..place(random, bytes.len())].to_vec(),
        2 => bytes.iter().map(|b| if b.is_ascii_digit() { b'-' } else { *b }).collect(),
        3 => bytes.iter().flat_map(|b| if b.is_ascii_digit() { vec![b'9'; 9] } else { vec![*b] }).collect(),
        4 => bytes.iter().map(|b| if *b == b' ' || *b == b':' { b'\n' } else { *b }).collect(),
        5 => bytes.iter().filter(|b| **b != b'\n').copied().collect(),
        6 => bytes.iter().map(|b| if random.next().is_multiple_of(20) { random.next() as u8 } else { *b }).collect(),
        _ => (0..random.next() % 600).map(|_| random.next() as u8).collect(),
    }
}

#[tokio::test]
async fn no_collector_panics() {
    let suite = "node exporter nonsense";
    let Some(fixtures) = Fixtures::unpack(suite) else { return };
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        print(info);
    }));
    let mut list = Vec::new();
    for tree in ["proc", "sys", "udev", "textfile", "usr"] {
        files(&fixtures.path(tree), &mut list);
    }
    let originals: Vec<Vec<u8>> = list.iter().map(|f| std::fs::read(f).unwrap()).collect();
    let mut flags = fixtures.flags();
    let off_by_default = "processes interrupts softirqs buddyinfo meminfo_numa cpu_vulnerabilities cgroups ksmd slabinfo \
                          lnstat xfrm zoneinfo";
    flags.extend(off_by_default.split_whitespace().map(|name| format!("--collector.{name}")));
    flags.push("--no-collector.filesystem".to_owned()); // the fixture's mounts are not this machine's
    let exporter = exporter(&flags);
    let mut random = Random(0x5eed);
    for way in 0..8 {
        for (file, original) in list.iter().zip(&originals) {
            std::fs::write(file, spoil(way, original, &mut random)).unwrap();
        }
        let page = ask(&exporter, "").await;
        assert!(page.contains("node_scrape_collector_success"), "way {way}");
        assert_eq!(PANICS.load(Ordering::SeqCst), 0, "way {way}");
    }
    println!("{suite}: {} files spoilt in 8 ways", list.len());
}
