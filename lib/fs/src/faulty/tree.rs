//! Files and folders with a present and a durable state, and how a crash mixes the two.
use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};

use crate::Entry;

const ROOT: usize = 0;
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
pub(super) enum Write {
    Bytes { offset: u64, bytes: Vec<u8> },
    Truncate(u64),
}

impl Write {
    fn apply(&self, data: &mut Vec<u8>) {
        match self {
            Write::Truncate(len) => data.resize(*len as usize, 0),
            Write::Bytes { offset, bytes } => {
                let (start, end) = (*offset as usize, *offset as usize + bytes.len());
                if data.len() < end {
                    data.resize(end, 0);
                }
                if let Some(target) = data.get_mut(start..end) {
                    target.copy_from_slice(bytes);
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
struct FileNode {
    data: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Write>,
}

#[derive(Clone, Debug, Default)]
struct DirNode {
    entries: BTreeMap<String, usize>,
    durable: BTreeMap<String, usize>,
}

#[derive(Clone, Debug)]
enum Node {
    File(FileNode),
    Dir(DirNode),
}

/// One atomic change of names, in up to two folders.
#[derive(Clone, Debug)]
struct DirChange {
    unlink: Option<(usize, String)>,
    link: Option<(usize, String, usize)>,
}

impl DirChange {
    fn dirs(&self) -> impl Iterator<Item = usize> {
        self.unlink.iter().map(|u| u.0).chain(self.link.iter().map(|l| l.0))
    }
}

#[derive(Clone, Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    pending: Vec<DirChange>,
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

fn names(path: &Path) -> Vec<String> {
    path.components()
        .filter_map(|c| match c {
            Component::Normal(n) => Some(n.to_string_lossy().into_owned()),
            _ => None,
        })
        .collect()
}

impl Tree {
    pub(super) fn new() -> Tree {
        Tree { nodes: vec![Node::Dir(DirNode::default())], pending: Vec::new() }
    }

    fn dir(&self, node: usize) -> io::Result<&DirNode> {
        match self.nodes.get(node) {
            Some(Node::Dir(d)) => Ok(d),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }
    pub(super) fn file(&self, node: usize) -> io::Result<&[u8]> {
        match self.nodes.get(node) {
            Some(Node::File(f)) => Ok(&f.data),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }
    fn file_mut(&mut self, node: usize) -> Option<&mut FileNode> {
        match self.nodes.get_mut(node) {
            Some(Node::File(f)) => Some(f),
            _ => None,
        }
    }
    pub(super) fn is_dir(&self, node: usize) -> bool {
        matches!(self.nodes.get(node), Some(Node::Dir(_)))
    }
    pub(super) fn size(&self, node: usize) -> u64 {
        self.file(node).map_or(0, |d| d.len() as u64)
    }
    /// Bytes of the files that have a name.
    pub(super) fn used_bytes(&self) -> u64 {
        let mut seen = std::collections::BTreeSet::new();
        for node in &self.nodes {
            if let Node::Dir(d) = node {
                seen.extend(d.entries.values().copied());
            }
        }
        seen.iter().map(|n| self.size(*n)).sum()
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<usize> {
        let mut at = ROOT;
        for name in names(path) {
            at = *self.dir(at)?.entries.get(&name).ok_or_else(not_found)?;
        }
        Ok(at)
    }
    fn find_parent(&self, path: &Path) -> io::Result<(usize, String)> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
        let dir = self.find(path.parent().unwrap_or(Path::new("")))?;
        self.dir(dir)?;
        Ok((dir, name))
    }
    pub(super) fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let dir = self.dir(self.find(dir)?)?;
        Ok(dir.entries.iter().map(|(n, id)| Entry { name: n.clone(), is_dir: self.is_dir(*id) }).collect())
    }

    fn change(&mut self, change: DirChange) {
        apply(&mut self.nodes, &change, |d| &mut d.entries);
        self.pending.push(change);
    }
    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<usize> {
        let (dir, name) = self.find_parent(path)?;
        let node = self.nodes.len();
        self.nodes.push(Node::File(FileNode { data: Vec::new(), durable: Vec::new(), pending: Vec::new() }));
        self.change(DirChange { unlink: None, link: Some((dir, name, node)) });
        Ok(node)
    }
    pub(super) fn create_dir_all(&mut self, path: &Path) -> io::Result<()> {
        let mut at = ROOT;
        for name in names(path) {
            at = match self.dir(at)?.entries.get(&name) {
                Some(next) => *next,
                None => {
                    let node = self.nodes.len();
                    self.nodes.push(Node::Dir(DirNode::default()));
                    self.change(DirChange { unlink: None, link: Some((at, name, node)) });
                    node
                }
            };
        }
        self.dir(at).map(|_| ())
    }
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.find(from)?;
        let (from_dir, from_name) = self.find_parent(from)?;
        let (to_dir, to_name) = self.find_parent(to)?;
        if let Ok(old) = self.find(to)
            && self.dir(old).is_ok_and(|d| !d.entries.is_empty())
        {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        self.change(DirChange { unlink: Some((from_dir, from_name)), link: Some((to_dir, to_name, node)) });
        Ok(())
    }
    pub(super) fn hard_link(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.find(from)?;
        self.file(node)?;
        if self.find(to).is_ok() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let (dir, name) = self.find_parent(to)?;
        self.change(DirChange { unlink: None, link: Some((dir, name, node)) });
        Ok(())
    }
    /// A folder goes whole: its names are one change each, the children's first.
    pub(super) fn remove(&mut self, path: &Path, whole_dir: bool) -> io::Result<()> {
        let node = self.find(path)?;
        if self.is_dir(node) != whole_dir {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if whole_dir {
            for child in self.list(path)? {
                self.remove(&path.join(&child.name), child.is_dir)?;
            }
        }
        let (dir, name) = self.find_parent(path)?;
        self.change(DirChange { unlink: Some((dir, name)), link: None });
        Ok(())
    }

    pub(super) fn write(&mut self, node: usize, write: Write) {
        if let Some(f) = self.file_mut(node) {
            write.apply(&mut f.data);
            f.pending.push(write);
        }
    }
    pub(super) fn sync_file(&mut self, node: usize) {
        if let Some(f) = self.file_mut(node) {
            for w in f.pending.drain(..) {
                w.apply(&mut f.durable);
            }
        }
    }
    /// After a failed sync the kernel calls the pages clean: readers still see them, a crash loses them.
    pub(super) fn lose_unsynced(&mut self, node: usize) {
        if let Some(f) = self.file_mut(node) {
            f.pending.clear();
        }
    }
    /// Makes durable every change in this folder, and whatever went before it in the other folder of a rename.
    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        let dir = self.find(path)?;
        self.dir(dir)?;
        let mut wanted = vec![dir];
        let mut keep = Vec::new();
        for change in std::mem::take(&mut self.pending).into_iter().rev() {
            if change.dirs().any(|d| wanted.contains(&d)) {
                wanted.extend(change.dirs());
                keep.push(Err(change));
            } else {
                keep.push(Ok(change));
            }
        }
        for change in keep.into_iter().rev() {
            match change {
                Err(durable) => apply(&mut self.nodes, &durable, |d| &mut d.durable),
                Ok(still_pending) => self.pending.push(still_pending),
            }
        }
        Ok(())
    }

    pub(super) fn crash_image(&self, rng: &mut fastrand::Rng) -> Tree {
        let mut image = self.clone();
        let mut stopped = vec![false; image.nodes.len()];
        let stop_chance = [0.0, 0.2, 1.0][rng.usize(..3)];
        for change in std::mem::take(&mut image.pending) {
            let stop = change.dirs().any(|d| stopped.get(d) == Some(&true)) || rng.f64() < stop_chance;
            if stop {
                change.dirs().for_each(|d| stopped[d] = true);
            } else {
                apply(&mut image.nodes, &change, |d| &mut d.durable);
            }
        }
        for node in &mut image.nodes {
            match node {
                Node::Dir(d) => d.entries = d.durable.clone(),
                Node::File(f) => {
                    f.data = survive(f, rng);
                    f.durable = f.data.clone();
                    f.pending.clear();
                }
            }
        }
        image
    }
}

fn apply(nodes: &mut [Node], change: &DirChange, state: impl Fn(&mut DirNode) -> &mut BTreeMap<String, usize>) {
    if let Some((dir, name)) = &change.unlink
        && let Some(Node::Dir(d)) = nodes.get_mut(*dir)
    {
        state(d).remove(name);
    }
    if let Some((dir, name, node)) = &change.link
        && let Some(Node::Dir(d)) = nodes.get_mut(*dir)
    {
        state(d).insert(name.clone(), *node);
    }
}

/// The durable bytes and a random part of the later writes.
fn survive(f: &FileNode, rng: &mut fastrand::Rng) -> Vec<u8> {
    let mut data = f.durable.clone();
    let keep_chance = [0.0, 0.5, 1.0][rng.usize(..3)];
    for write in &f.pending {
        match write {
            Write::Truncate(_) if rng.f64() < keep_chance => write.apply(&mut data),
            Write::Truncate(_) => {}
            Write::Bytes { offset, bytes } => {
                for (i, sector) in bytes.chunks(SECTOR).enumerate() {
                    if rng.f64() < keep_chance {
                        let offset = offset + (i * SECTOR) as u64;
                        Write::Bytes { offset, bytes: sector.to_vec() }.apply(&mut data);
                    }
                }
            }
        }
    }
    data
}
