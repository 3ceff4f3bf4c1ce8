//! An in-memory file system that fails and crashes on demand.
//!
//! It keeps two states of everything: what a reader sees now, and what has been synced. [`Faulty::crash_image`] builds
//! the file system a machine might come back with: all that was synced and a random, seeded part of the rest, data in
//! sectors of 512 bytes, names folder by folder in order.
mod tree;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Entry, File, Fs, Held, Lock, Mapping, Metadata, Open};
use tree::{Tree, Write};

/// Clones share the same files.
#[derive(Clone, Debug)]
pub struct Faulty(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    tree: Tree,
    locked: Vec<PathBuf>,
    /// Changing operations so far: writes, truncations, syncs, renames, removals, creations.
    operations: u64,
    fail_at: Option<(u64, io::ErrorKind)>,
    crash_at: Option<u64>,
    crashed: bool,
    syncs_fail: bool,
    capacity_bytes: u64,
    rng: fastrand::Rng,
    log: Vec<String>,
}

impl Default for Faulty {
    fn default() -> Self {
        Faulty::new(0)
    }
}

impl Faulty {
    /// An empty root folder; `seed` decides how much of a failing write gets through.
    pub fn new(seed: u64) -> Faulty {
        Faulty::with_tree(Tree::new(), seed)
    }
    fn with_tree(tree: Tree, seed: u64) -> Faulty {
        Faulty(Arc::new(Mutex::new(State {
            tree,
            locked: Vec::new(),
            operations: 0,
            fail_at: None,
            crash_at: None,
            crashed: false,
            syncs_fail: false,
            capacity_bytes: u64::MAX,
            rng: fastrand::Rng::with_seed(seed),
            log: Vec::new(),
        })))
    }
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
    /// Changing operations so far: a crash test first counts them, then crashes at each.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }
    /// One line for each changing operation.
    pub fn log(&self) -> Vec<String> {
        self.state().log.clone()
    }
    /// Lets the `n`-th changing operation (counted from 0 over the whole life) fail once with `kind`.
    pub fn fail_at(&self, n: u64, kind: io::ErrorKind) {
        self.state().fail_at = Some((n, kind));
    }
    /// Lets every operation from the `n`-th on fail, as if the machine had stopped.
    pub fn crash_at(&self, n: u64) {
        self.state().crash_at = Some(n);
    }
    pub fn has_crashed(&self) -> bool {
        self.state().crashed
    }
    /// While set, every sync fails and the data it should have saved is lost at a crash.
    pub fn fail_syncs(&self, fail: bool) {
        self.state().syncs_fail = fail;
    }
    /// Bytes all files together may hold; what goes beyond gets [`io::ErrorKind::StorageFull`] after a short write.
    pub fn set_capacity(&self, bytes: u64) {
        self.state().capacity_bytes = bytes;
    }
    pub fn used_bytes(&self) -> u64 {
        self.state().tree.used_bytes()
    }
    /// What might be left after a crash now. The same seed gives the same image.
    pub fn crash_image(&self, seed: u64) -> Faulty {
        let mut rng = fastrand::Rng::with_seed(seed);
        let tree = self.state().tree.crash_image(&mut rng);
        Faulty::with_tree(tree, seed)
    }
    /// What a process that was killed leaves: everything it wrote.
    pub fn kill_image(&self) -> Faulty {
        Faulty::with_tree(self.state().tree.clone(), 0)
    }
}

impl State {
    /// Counts a changing operation and says whether it is to fail.
    fn step(&mut self, what: &str, path: &Path) -> io::Result<()> {
        let n = self.operations;
        self.operations += 1;
        self.log.push(format!("{n} {what} {}", path.display()));
        if self.crash_at.is_some_and(|c| n >= c) {
            self.crashed = true;
        }
        self.alive()?;
        match self.fail_at {
            Some((at, kind)) if at == n => Err(io::Error::new(kind, format!("injected failure of operation {n}"))),
            _ => Ok(()),
        }
    }
    fn alive(&self) -> io::Result<()> {
        if self.crashed { Err(io::Error::other("the machine has crashed")) } else { Ok(()) }
    }
    /// Writes, or writes a random prefix and fails.
    fn write(&mut self, path: &Path, node: usize, at: Option<u64>, bytes: &[u8]) -> io::Result<()> {
        let step = self.step("write", path);
        if self.crashed {
            return step; // what the crash image keeps of earlier writes is random enough
        }
        let offset = at.unwrap_or_else(|| self.tree.size(node));
        let grows = (offset + bytes.len() as u64).saturating_sub(self.tree.size(node));
        let room = self.capacity_bytes.saturating_sub(self.tree.used_bytes());
        let (take, result) = match step {
            Err(e) => (self.rng.usize(..=bytes.len()), Err(e)),
            Ok(()) if grows > room => {
                let short = (grows - room) as usize;
                (bytes.len().saturating_sub(short), Err(io::ErrorKind::StorageFull.into()))
            }
            Ok(()) => (bytes.len(), Ok(())),
        };
        let written = bytes.get(..take).unwrap_or(bytes);
        if !written.is_empty() {
            self.tree.write(node, Write::Bytes { offset, bytes: written.to_vec() });
        }
        result
    }
}

impl Fs for Faulty {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let mut s = self.state();
        s.alive()?;
        let found = s.tree.find(path);
        let node = match (found, how) {
            (Ok(_), Open::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Ok(node), _) => {
                s.tree.file(node)?;
                if how == Open::Truncate {
                    s.step("truncate", path)?;
                    s.tree.write(node, Write::Truncate(0));
                }
                node
            }
            (Err(e), Open::Read | Open::Write) => return Err(e),
            (Err(_), _) => {
                s.step("create", path)?;
                s.tree.create_file(path)?
            }
        };
        Ok(Arc::new(FaultyFile { fs: self.clone(), node, path: path.to_owned() }))
    }
    fn metadata(&self, path: &Path) -> io::Result<Metadata> {
        let s = self.state();
        s.alive()?;
        let node = s.tree.find(path)?;
        Ok(Metadata { len: s.tree.size(node), is_dir: s.tree.is_dir(node) })
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let s = self.state();
        s.alive()?;
        s.tree.list(dir)
    }
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut s = self.state();
        if s.tree.find(dir).is_ok() {
            return s.alive();
        }
        s.step("mkdir", dir)?;
        s.tree.create_dir_all(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut s = self.state();
        s.step("rename", to)?;
        s.tree.rename(from, to)
    }
    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut s = self.state();
        s.step("link", to)?;
        s.tree.hard_link(from, to)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut s = self.state();
        s.step("remove", path)?;
        s.tree.remove(path, false)
    }
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        let mut s = self.state();
        s.step("remove-all", dir)?;
        s.tree.remove(dir, true)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut s = self.state();
        s.step("sync-dir", dir)?;
        if s.syncs_fail {
            return Err(io::Error::other("injected sync failure"));
        }
        s.tree.sync_dir(dir)
    }
    fn free_space(&self, _: &Path) -> io::Result<u64> {
        let s = self.state();
        s.alive()?;
        Ok(s.capacity_bytes.saturating_sub(s.tree.used_bytes()))
    }
    fn total_space(&self, _: &Path) -> io::Result<u64> {
        let s = self.state();
        s.alive()?;
        Ok(s.capacity_bytes)
    }
    fn lock(&self, path: &Path) -> io::Result<Lock> {
        drop(self.open(path, Open::Append)?);
        let mut s = self.state();
        if s.locked.iter().any(|p| p == path) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        s.locked.push(path.to_owned());
        drop(s);
        let held = FaultyLock { fs: self.clone(), path: path.to_owned() };
        Ok(Lock { _held: Box::new(held), path: path.to_owned() })
    }
}

#[derive(Debug)]
struct FaultyLock {
    fs: Faulty,
    path: PathBuf,
}
impl Held for FaultyLock {}
impl Drop for FaultyLock {
    fn drop(&mut self) {
        self.fs.state().locked.retain(|p| *p != self.path);
    }
}

#[derive(Debug)]
struct FaultyFile {
    fs: Faulty,
    node: usize,
    path: PathBuf,
}

impl File for FaultyFile {
    fn append(&self, bytes: &[u8]) -> io::Result<()> {
        self.fs.state().write(&self.path, self.node, None, bytes)
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.fs.state().write(&self.path, self.node, Some(offset), bytes)
    }
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let s = self.fs.state();
        s.alive()?;
        let data = s.tree.file(self.node)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
        let from = data.get(start..).unwrap_or(&[]);
        let n = from.len().min(buf.len());
        for (to, from) in buf.iter_mut().zip(from) {
            *to = *from;
        }
        Ok(n)
    }
    fn size_bytes(&self) -> io::Result<u64> {
        let s = self.fs.state();
        s.alive()?;
        Ok(s.tree.size(self.node))
    }
    fn truncate(&self, size_bytes: u64) -> io::Result<()> {
        let mut s = self.fs.state();
        s.step("truncate", &self.path)?;
        s.tree.write(self.node, Write::Truncate(size_bytes));
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        let mut s = self.fs.state();
        let step = s.step("sync", &self.path);
        if step.is_err() && !s.crashed || s.syncs_fail {
            s.tree.lose_unsynced(self.node);
            return step.and(Err(io::Error::other("injected sync failure")));
        }
        step?;
        s.tree.sync_file(self.node);
        Ok(())
    }
    fn map(&self) -> io::Result<Mapping> {
        let s = self.fs.state();
        s.alive()?;
        Ok(Mapping::from(s.tree.file(self.node)?.to_vec()))
    }
}
