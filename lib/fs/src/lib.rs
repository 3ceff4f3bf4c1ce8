#![doc = include_str!("../README.md")]
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

mod disk;
pub mod faulty;
mod guard;
mod mapping;

pub use disk::Disk;
pub use faulty::Faulty;
pub use guard::faults_caught;
pub use mapping::{Behind, Mapping};

/// How [`Fs::open`] opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// Existing file, reading only.
    Read,
    /// Existing file, reading and writing; `append` goes to its end.
    Write,
    /// Reading and writing; created if missing, kept if there.
    Append,
    /// Reading and writing; created if missing, emptied if there.
    Truncate,
    /// Reading and writing; [`io::ErrorKind::AlreadyExists`] if there.
    CreateNew,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    pub len: u64,
    pub is_dir: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub is_dir: bool,
}

/// A tree of files. Paths are absolute or relative to the process's folder, as with std.
pub trait Fs: Send + Sync + fmt::Debug {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>>;
    fn metadata(&self, path: &Path) -> io::Result<Metadata>;
    /// What the folder holds, sorted by name; names that are not UTF-8 are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Replaces a file of the new name atomically.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in this folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes an ordinary user may still write on the file system that holds `path`.
    fn free_space(&self, path: &Path) -> io::Result<u64>;
    /// Bytes of the file system that holds `path`, used or not.
    fn total_space(&self, path: &Path) -> io::Result<u64>;
    /// Takes an exclusive lock on the file (created if missing) until the answer is dropped, or until the process
    /// dies. Held by someone else: [`io::ErrorKind::WouldBlock`].
    fn lock(&self, path: &Path) -> io::Result<Lock>;

    fn exists(&self, path: &Path) -> bool {
        self.metadata(path).is_ok()
    }
    /// The whole file, mapped read-only.
    fn map(&self, path: &Path) -> io::Result<Mapping> {
        self.open(path, Open::Read)?.map()
    }
    /// The whole file in memory. For small files; map large ones.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, Open::Read)?;
        let mut out = Vec::new();
        let mut block = vec![0; 64 * 1024];
        loop {
            match file.read_at(out.len() as u64, &mut block)? {
                0 => return Ok(out),
                n => out.extend_from_slice(block.get(..n).unwrap_or(&[])),
            }
        }
    }
    /// Writes, syncs, renames over `path` and syncs the folder: afterwards either the old or the new content is
    /// there, whatever happens. Leaves `<path>.tmp` behind only if it fails.
    fn write_atomically(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".tmp");
        let temporary = path.with_file_name(name);
        let file = self.open(&temporary, Open::Truncate)?;
        file.append(bytes)?;
        file.sync_data()?;
        self.rename(&temporary, path)?;
        self.sync_dir(parent(path))
    }
}

/// The folder that holds `path`, `.` for a bare name.
pub fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// One open file. Closed by dropping the last reference.
pub trait File: Send + Sync + fmt::Debug {
    /// Writes all bytes at the end. After an error a prefix may be in the file.
    fn append(&self, bytes: &[u8]) -> io::Result<()>;
    /// Writes all bytes at `offset`, extending the file if need be.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Reads up to `buf.len()` bytes; 0 at the end.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
    fn size_bytes(&self) -> io::Result<u64>;
    /// Cuts, or extends with zeros.
    fn truncate(&self, size_bytes: u64) -> io::Result<()>;
    /// Returns when data and length are durable (fdatasync).
    fn sync_data(&self) -> io::Result<()>;
    /// A read-only mapping of the present length. Later appends are not in it.
    fn map(&self) -> io::Result<Mapping>;

    /// Reads exactly `buf.len()` bytes or fails with [`io::ErrorKind::UnexpectedEof`].
    fn read_exact_at(&self, mut offset: u64, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            match self.read_at(offset, buf) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    offset += n as u64;
                    buf = buf.get_mut(n..).unwrap_or_default();
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Held as long as the lock is wanted.
#[derive(Debug)]
pub struct Lock {
    _held: Box<dyn Held>,
    path: PathBuf,
}

trait Held: Send + Sync + fmt::Debug {}

impl Lock {
    pub fn path(&self) -> &Path {
        &self.path
    }
}
