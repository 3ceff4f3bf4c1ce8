//! The real file system.
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Entry, File, Fs, Held, Lock, Mapping, Metadata, Open};

/// Files of the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

#[derive(Debug)]
struct DiskFile {
    file: fs::File,
    /// Where `append` writes next. Kept here so that a failed append can be cut away by the caller with `truncate`.
    end: AtomicU64,
}

#[derive(Debug)]
struct DiskLock {
    _file: fs::File, // closing it releases the lock
}
impl Held for DiskLock {}

impl Fs for Disk {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true);
        match how {
            Open::Read => &mut options,
            Open::Write => options.write(true),
            Open::Append => options.write(true).create(true),
            Open::Truncate => options.write(true).create(true).truncate(true),
            Open::CreateNew => options.write(true).create_new(true),
        };
        let file = options.open(path)?;
        let end = AtomicU64::new(file.metadata()?.len());
        Ok(Arc::new(DiskFile { file, end }))
    }
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let m = fs::metadata(path)?;
        Ok(Metadata { len: m.len(), is_dir: m.is_dir() })
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut out = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if let Ok(name) = entry.file_name().into_string() {
                out.push(Entry { name, is_dir: fs::metadata(entry.path()).is_ok_and(|m| m.is_dir()) });
            }
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }
    fn free_space(&self, path: &Path) -> io::Result<u64> {
        let s = rustix::fs::statvfs(path)?;
        Ok(s.f_bavail.saturating_mul(s.f_frsize))
    }
    fn total_space(&self, path: &Path) -> io::Result<u64> {
        let s = rustix::fs::statvfs(path)?;
        Ok(s.f_blocks.saturating_mul(s.f_frsize))
    }
    fn lock(&self, path: &Path) -> io::Result<Lock> {
        let file = fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _held: Box::new(DiskLock { _file: file }), path: path.to_owned() }),
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(e)) => Err(e),
        }
    }
}

impl File for DiskFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        let at = self.end.load(Ordering::Acquire);
        self.file.write_all_at(bytes, at)?;
        self.end.store(at + bytes.len() as u64, Ordering::Release);
        Ok(())
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        self.end.fetch_max(offset + bytes.len() as u64, Ordering::AcqRel);
        Ok(())
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }
    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }
    fn truncate(&self, size_bytes: u64) -> io::Result<()> {
        self.file.set_len(size_bytes)?;
        self.end.store(size_bytes, Ordering::Release);
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }
    fn map(&self) -> io::Result<Mapping> {
        Mapping::of_file(&self.file)
    }
}
