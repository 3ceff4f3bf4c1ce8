//! A segment of foreign bytes: opening reads what it can, repairs once, and finds the same the second time.
#![no_main]
use std::path::Path;
use std::sync::Arc;

use ferula_fs::{Faulty, Fs, Open};
use ferula_journal::{Journal, Options};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let fs = Faulty::new(1);
    fs.create_dir_all(Path::new("/j")).unwrap();
    fs.open(Path::new("/j/00000001.journal"), Open::CreateNew).unwrap().append(bytes).unwrap();
    let mut open = || {
        let mut records = Vec::new();
        Journal::open(Arc::new(fs.clone()), Path::new("/j"), Options::default(), |r| records.push(r.to_vec())).unwrap();
        records
    };
    let first = open();
    assert_eq!(open(), first);
});
