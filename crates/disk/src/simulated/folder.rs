//! The names of a simulated disk: what the process sees, what is durable, what lies between.

use super::fault::Verdict;
use super::file::FileState;
use super::held;
use super::unsynced::{Fate, Unsynced};
use crate::{DiskError, Operation};
use sqlrep_env::SimulatedEntropy;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

/// What a name stands for. A node lives as long as a name, an unsynced change or a handle has it.
#[derive(Clone)]
pub(super) enum Node {
    File(Arc<Mutex<FileState>>),
    Folder(Arc<Mutex<Folder>>),
}

impl Node {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(a), Self::File(b)) => Arc::ptr_eq(a, b),
            (Self::Folder(a), Self::Folder(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// Bytes that files in here take from the free space.
    fn size_bytes(&self) -> u64 {
        match self {
            Self::File(file) => held(file).current.len(),
            Self::Folder(folder) => held(folder).current.values().map(Self::size_bytes).sum(),
        }
    }
}

pub(super) type Names = BTreeMap<String, Node>;

/// One unsynced change of a folder.
#[derive(Clone)]
pub(super) enum NameChange {
    Link {
        name: String,
        node: Node,
    },
    Unlink {
        name: String,
    },
    /// Both names change at once or neither does (fsync rule 3).
    Rename {
        from: String,
        to: String,
        node: Node,
    },
}

impl NameChange {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Link { name, node } => {
                names.insert(name.clone(), node.clone());
            }
            Self::Unlink { name } => {
                names.remove(name);
            }
            Self::Rename { from, to, node } => {
                names.remove(from);
                // Of two renames in a row only the second may have survived: the file still has one name.
                names.retain(|_, other| !other.is(node));
                names.insert(to.clone(), node.clone());
            }
        }
    }

    pub(super) fn translate(&self, mut node: impl FnMut(&Node) -> Node) -> Self {
        let mut change = self.clone();
        if let Self::Link { node: old, .. } | Self::Rename { node: old, .. } = &mut change {
            *old = node(old);
        }
        change
    }
}

/// Invariant 1: without a failed sync, `durable` with all of `unsynced` applied is `current`.
#[derive(Default)]
pub(super) struct Folder {
    pub(super) current: Names,
    pub(super) durable: Names,
    pub(super) unsynced: Unsynced<NameChange>,
}

impl Folder {
    /// A folder whose names are durable.
    pub(super) fn durable(names: Names) -> Self {
        Self {
            current: names.clone(),
            durable: names,
            unsynced: Unsynced::default(),
        }
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.current);
        self.unsynced.push(change);
    }

    pub(super) fn link(&mut self, name: &str, node: Node) {
        let name = name.to_owned();
        self.change(NameChange::Link { name, node });
    }

    /// As if the name had always been there; other names stay as unsynced as they are.
    pub(super) fn link_durably(&mut self, name: &str, node: Node) {
        let name = name.to_owned();
        let change = NameChange::Link { name, node };
        change.apply(&mut self.current);
        self.unsynced.push_synced(change);
    }

    fn unlink(&mut self, name: &str) {
        let name = name.to_owned();
        self.change(NameChange::Unlink { name });
    }

    pub(super) fn sync(&mut self, verdict: &Verdict) -> bool {
        if matches!(verdict, Verdict::Fails { .. }) {
            self.unsynced.fail_sync();
            return false;
        }
        if verdict.happens() {
            for change in self.unsynced.sync() {
                change.apply(&mut self.durable);
            }
        }
        verdict.happens()
    }

    /// The names after power loss, and how many changes are gone.
    pub(super) fn after_power_loss(&self, luck: Option<&SimulatedEntropy>) -> (Names, u64) {
        let (mut names, mut lost) = (self.durable.clone(), 0);
        for (change, fate) in self.unsynced.fates(luck) {
            // A change of a name can't be torn.
            if fate == Fate::Kept {
                change.apply(&mut names);
            } else {
                lost += 1;
            }
        }
        (names, lost)
    }

    /// Removes up to `names_max` names with everything under them, and returns the bytes that this frees.
    fn clear(&mut self, names_max: usize) -> u64 {
        let names: Vec<String> = self.current.keys().take(names_max).cloned().collect();
        let mut freed = 0;
        for name in names {
            match self.current.get(&name) {
                Some(Node::Folder(folder)) => freed += held(folder).clear(usize::MAX),
                Some(file) => freed += file.size_bytes(),
                None => {}
            }
            self.unlink(&name);
        }
        freed
    }
}

/// The whole tree of names.
pub(super) struct Tree {
    pub(super) root: Arc<Mutex<Folder>>,
}

/// `a/b/c` is `c` in `a/b`.
fn split(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}

impl Tree {
    pub(super) fn folder(
        &self,
        operation: Operation,
        path: &str,
    ) -> Result<Arc<Mutex<Folder>>, DiskError> {
        let mut folder = self.root.clone();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let node = held(&folder).current.get(name).cloned();
            folder = match node {
                Some(Node::Folder(inner)) => inner,
                Some(Node::File(_)) => {
                    return Err(refused(operation, path, io::ErrorKind::NotADirectory));
                }
                None => return Err(refused(operation, path, io::ErrorKind::NotFound)),
            };
        }
        Ok(folder)
    }

    /// The folder around `path`, and the last name.
    pub(super) fn parent<'p>(
        &self,
        operation: Operation,
        path: &'p str,
    ) -> Result<(Arc<Mutex<Folder>>, &'p str), DiskError> {
        let (dir, name) = split(path);
        match self.folder(operation, dir) {
            Err(DiskError::NotFound { .. }) => {
                Err(refused(operation, path, io::ErrorKind::NotFound))
            }
            other => Ok((other?, name)),
        }
    }

    pub(super) fn file(
        &self,
        operation: Operation,
        path: &str,
    ) -> Result<Arc<Mutex<FileState>>, DiskError> {
        let (folder, name) = self.parent(operation, path)?;
        match held(&folder).current.get(name) {
            Some(Node::File(file)) => Ok(file.clone()),
            Some(Node::Folder(_)) => Err(refused(operation, path, io::ErrorKind::IsADirectory)),
            None => Err(refused(operation, path, io::ErrorKind::NotFound)),
        }
    }

    /// Makes an empty file, or a folder, under a name that is free.
    pub(super) fn create(
        &self,
        operation: Operation,
        path: &str,
        node: Node,
    ) -> Result<(), DiskError> {
        let (folder, name) = self.parent(operation, path)?;
        held(&folder).link(name, node);
        Ok(())
    }

    /// Returns the bytes that the replaced file frees.
    pub(super) fn rename(&self, from: &str, to: &str) -> Result<u64, DiskError> {
        let node = Node::File(self.file(Operation::Rename, from)?);
        let (source, from_name) = self.parent(Operation::Rename, from)?;
        let (target, to_name) = self.parent(Operation::Rename, to)?;
        let replaced = held(&target).current.get(to_name).cloned();
        if matches!(replaced, Some(Node::Folder(_))) {
            let kind = io::ErrorKind::IsADirectory;
            return Err(refused(Operation::Rename, from, kind));
        }
        if from == to {
            return Ok(0);
        }
        if Arc::ptr_eq(&source, &target) {
            let (from, to) = (from_name.to_owned(), to_name.to_owned());
            held(&source).change(NameChange::Rename { from, to, node });
        } else {
            // Two folders, two syncs: each name survives for itself (fsync rule 2), so power loss may leave both or
            // neither. Journaling file systems are kinder, but no standard makes them.
            held(&target).link(to_name, node);
            held(&source).unlink(from_name);
        }
        Ok(replaced.map_or(0, |node| node.size_bytes()))
    }

    /// Returns the bytes that the file frees; nothing if there is none.
    pub(super) fn remove(&self, path: &str) -> Result<u64, DiskError> {
        let file = match self.file(Operation::Remove, path) {
            Err(DiskError::NotFound { .. }) => return Ok(0),
            other => other?,
        };
        let (folder, name) = self.parent(Operation::Remove, path)?;
        held(&folder).unlink(name);
        Ok(Node::File(file).size_bytes())
    }

    /// Removes as much of the folder `path` as `verdict` lets happen, and returns the bytes that this frees.
    pub(super) fn remove_dir(&self, path: &str, verdict: &Verdict) -> Result<u64, DiskError> {
        let folder = match self.folder(Operation::Remove, path) {
            Err(DiskError::NotFound { .. }) => return Ok(0),
            other => other?,
        };
        let mut inner = held(&folder);
        let count = inner.current.len() + 1;
        let part = usize::try_from(verdict.part(count as u64)).expect("no more than the names");
        let freed = inner.clear(part);
        drop(inner);
        if part == count {
            let (parent, name) = self.parent(Operation::Remove, path)?;
            held(&parent).unlink(name);
        }
        Ok(freed)
    }

    /// Paths of all files, sorted.
    pub(super) fn files(&self) -> Vec<String> {
        let mut paths = Vec::new();
        collect(&held(&self.root), "", &mut paths);
        paths.sort();
        paths
    }
}

fn collect(folder: &Folder, prefix: &str, into: &mut Vec<String>) {
    for (name, node) in &folder.current {
        match node {
            Node::File(_) => into.push(format!("{prefix}{name}")),
            Node::Folder(inner) => collect(&held(inner), &format!("{prefix}{name}/"), into),
        }
    }
}

/// What a real machine would say.
pub(super) fn refused(operation: Operation, path: &str, kind: io::ErrorKind) -> DiskError {
    DiskError::from_io(operation, path, kind.into())
}
