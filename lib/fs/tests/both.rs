//! The same behaviour on the disk and in memory, and what only the faulty one does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::io::ErrorKind;
use std::path::Path;

use ferula_fs::{Disk, Faulty, Fs, Open};

fn behaves(fs: &dyn Fs, root: &Path) {
    let dir = root.join("a/b");
    fs.create_dir_all(&dir).unwrap();
    let path = dir.join("f");
    assert_eq!(fs.open(&path, Open::Read).unwrap_err().kind(), ErrorKind::NotFound);
    let f = fs.open(&path, Open::CreateNew).unwrap();
    assert_eq!(fs.open(&path, Open::CreateNew).unwrap_err().kind(), ErrorKind::AlreadyExists);
    f.append(b"hello ").unwrap();
    f.append(b"world").unwrap();
    f.write_at(0, b"J").unwrap();
    let map = f.map().unwrap();
    f.append(b"!").unwrap();
    assert_eq!(&map[..], b"Jello world");
    assert_eq!(&map.slice(6..11).unwrap()[..], b"world");
    assert!(map.slice(6..12).is_none());
    assert_eq!(fs.read(&path).unwrap(), b"Jello world!");
    f.truncate(5).unwrap();
    f.append(b"y").unwrap();
    f.sync_data().unwrap();
    assert_eq!(fs.read(&path).unwrap(), b"Jelloy");
    let mut buf = [0; 3];
    assert_eq!(f.read_exact_at(4, &mut buf).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    f.read_exact_at(3, &mut buf).unwrap();
    assert_eq!(&buf, b"loy");

    fs.hard_link(&path, &dir.join("link")).unwrap();
    fs.rename(&path, &root.join("a/moved")).unwrap();
    let names: Vec<_> = fs.list(&root.join("a")).unwrap().into_iter().map(|e| (e.name, e.is_dir)).collect();
    assert_eq!(names, [("b".to_owned(), true), ("moved".to_owned(), false)]);
    assert_eq!(fs.read(&dir.join("link")).unwrap(), b"Jelloy");
    fs.write_atomically(&dir.join("link"), b"new").unwrap();
    assert_eq!(fs.read(&dir.join("link")).unwrap(), b"new");
    fs.sync_dir(&dir).unwrap();
    fs.remove_dir_all(&dir).unwrap();
    fs.remove_file(&root.join("a/moved")).unwrap();
    assert!(fs.list(&root.join("a")).unwrap().is_empty());
    assert!(fs.free_space(root).unwrap() > 0);
    assert_eq!(
        fs.map(&{
            fs.open(&root.join("empty"), Open::Truncate).unwrap();
            root.join("empty")
        })
        .unwrap()
        .len(),
        0
    );

    let lock = fs.lock(&root.join("lock")).unwrap();
    assert_eq!(fs.lock(&root.join("lock")).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(lock);
    fs.lock(&root.join("lock")).unwrap();
}

#[test]
fn disk_behaves() {
    let dir = tempfile::tempdir().unwrap();
    behaves(&Disk, dir.path());
}

#[test]
fn faulty_behaves() {
    let fs = Faulty::default();
    fs.create_dir_all(Path::new("/data")).unwrap();
    behaves(&fs, Path::new("/data"));
}

#[test]
fn a_crash_keeps_what_was_synced_and_a_part_of_the_rest() {
    let fs = Faulty::default();
    let dir = Path::new("/d");
    fs.create_dir_all(dir).unwrap();
    fs.sync_dir(Path::new("/")).unwrap();
    let f = fs.open(&dir.join("f"), Open::CreateNew).unwrap();
    f.append(&[1; 1000]).unwrap();
    f.sync_data().unwrap();
    fs.sync_dir(dir).unwrap();
    f.append(&[2; 5000]).unwrap();
    fs.open(&dir.join("unsynced"), Open::CreateNew).unwrap();
    let (mut kept, mut lost, mut torn) = (0, 0, 0);
    for seed in 0..60 {
        let image = fs.crash_image(seed);
        let data = image.read(&dir.join("f")).unwrap();
        assert_eq!(data[..1000], [1; 1000]);
        match data.iter().filter(|b| **b == 2).count() {
            0 => lost += 1,
            5000 => kept += 1,
            _ => torn += 1,
        }
        assert_eq!(image.read(&dir.join("f")).unwrap(), fs.crash_image(seed).read(&dir.join("f")).unwrap());
    }
    assert!(kept > 0 && lost > 0 && torn > 0, "{kept} {lost} {torn}");
    assert!((0..60).any(|s| fs.crash_image(s).exists(&dir.join("unsynced"))));
    assert!((0..60).any(|s| !fs.crash_image(s).exists(&dir.join("unsynced"))));
    assert_eq!(fs.kill_image().read(&dir.join("f")).unwrap().len(), 6000);
}

#[test]
fn failures_come_when_asked_for() {
    let fs = Faulty::new(3);
    let path = Path::new("/f");
    let f = fs.open(path, Open::CreateNew).unwrap();
    fs.fail_at(fs.operations(), ErrorKind::Other);
    assert!(f.append(&[7; 100]).is_err());
    assert!(fs.read(path).unwrap().len() <= 100);
    f.truncate(0).unwrap();
    fs.set_capacity(10);
    assert_eq!(f.append(&[7; 100]).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!((fs.read(path).unwrap().len(), fs.free_space(path).unwrap()), (10, 0));
    fs.set_capacity(u64::MAX);
    fs.fail_syncs(true);
    assert!(f.sync_data().is_err());
    fs.fail_syncs(false);
    f.sync_data().unwrap();
    fs.sync_dir(Path::new("/")).unwrap();
    assert!(fs.crash_image(1).read(path).unwrap().is_empty(), "a failed sync loses what it should have saved");
    fs.crash_at(fs.operations());
    assert!(f.append(b"x").is_err());
    assert!(fs.read(path).is_err() && fs.has_crashed());
}

#[test]
fn a_rename_is_atomic_over_a_crash() {
    let fs = Faulty::default();
    fs.create_dir_all(Path::new("/a")).unwrap();
    fs.create_dir_all(Path::new("/b")).unwrap();
    fs.open(Path::new("/a/f"), Open::CreateNew).unwrap();
    for d in ["/", "/a", "/b"] {
        fs.sync_dir(Path::new(d)).unwrap();
    }
    fs.rename(Path::new("/a/f"), Path::new("/b/f")).unwrap();
    for seed in 0..40 {
        let image = fs.crash_image(seed);
        assert!(image.exists(Path::new("/a/f")) != image.exists(Path::new("/b/f")));
    }
}
