//! The corpora of the fuzz targets, replayed with every truncation and a flip of every byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::path::Path;

use ferula_tsdb::fuzzing;

/// Of larger seeds only so many bytes, spread over the file, are damaged.
const DAMAGES: usize = 2000;

fn replay(target: &str, run: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut seeds = 0;
    for entry in std::fs::read_dir(&dir).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        seeds += 1;
        run(&bytes);
        for i in (0..bytes.len()).step_by(bytes.len().div_ceil(DAMAGES).max(1)) {
            run(&bytes[..i]);
            for flip in [0x01, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[i] ^= flip;
                run(&damaged);
            }
        }
    }
    assert!(seeds > 1, "{target}: {seeds} seeds");
}

#[test]
fn chunks() {
    replay("chunk", fuzzing::chunk);
}
#[test]
fn records() {
    replay("record", fuzzing::record);
}
#[test]
fn segments() {
    replay("wal", fuzzing::wal);
}
#[test]
fn indices() {
    replay("index", fuzzing::index);
}
#[test]
fn restart_indices() {
    replay("restart", fuzzing::restart);
}
