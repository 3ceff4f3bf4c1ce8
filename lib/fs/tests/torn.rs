//! A file cut under a mapping: zeros and a flag, and the process lives.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use ferula_fs::{Disk, Fs, Open};

#[test]
fn a_file_cut_under_a_mapping_reads_as_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let file = Disk.open(&path, Open::CreateNew).unwrap();
    file.append(&vec![7; 300_000]).unwrap();
    let (map, other) = (file.map().unwrap(), Disk.map(&path).unwrap());
    let part = map.slice(100_000..200_000).unwrap();
    assert!(part.iter().all(|b| *b == 7) && !map.is_torn());
    file.truncate(5000).unwrap();
    assert!(!part.is_torn(), "nothing was read yet");
    assert!(part.iter().all(|b| *b == 0));
    assert!(part.is_torn() && map.is_torn() && !other.is_torn());
    assert_eq!((map[0], map[4999]), (7, 7), "what is left of the file is still there");
    // Many threads at once, and mappings that come and go.
    let before = ferula_fs::faults_caught();
    std::thread::scope(|scope| {
        for i in 0..8 {
            let path = dir.path().join(format!("t{i}"));
            scope.spawn(move || {
                for _ in 0..20 {
                    let file = Disk.open(&path, Open::Truncate).unwrap();
                    file.append(&vec![1; 100_000]).unwrap();
                    let map = file.map().unwrap();
                    file.truncate(0).unwrap();
                    assert_eq!(map.iter().map(|b| usize::from(*b)).sum::<usize>(), 0);
                    assert!(map.is_torn());
                }
            });
        }
    });
    assert!(ferula_fs::faults_caught() >= before + 8 * 20);
    assert!(!Disk.map(&path).unwrap().is_torn(), "a region that is used again begins whole");
}
