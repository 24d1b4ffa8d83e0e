//! A disk over another one that is only read: what is written, renamed, made or removed stays in memory.
//!
//! Code that recovers as it opens runs on it as on any disk, and the directory below is as it was: that is how one is
//! checked. Invariant 1: of the disk below only `open` of what exists, `list` and reads are ever called, and `lock`.
//! Invariant 2: what is kept in memory is bounded by a named limit; beyond it writes fail with [`DiskError::Overlay`].
//!
//! It doesn't do: keeping anything. Syncs succeed, and everything is gone with the last handle.

mod file;

use crate::{Disk, DiskError, File, OpenMode, Operation, check_inner_path, check_path};
use file::{Memory, OverlayFile};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A disk whose changes are kept in memory.
pub struct OverlayDisk {
    below: Arc<dyn Disk>,
    memory: Arc<Memory>,
    names: Mutex<BTreeMap<String, Named>>,
}

/// What became of a name. One that isn't in the map is as the disk below has it, unless a folder above it isn't.
enum Named {
    /// A file that was opened, here or below.
    File(Arc<OverlayFile>),
    /// A folder that was made here: nothing of the disk below is seen in it.
    Made,
    /// Removed or renamed away.
    Gone,
}

/// What a path stands for now.
enum Found {
    File(Arc<OverlayFile>),
    Folder,
    Nothing,
}

impl OverlayDisk {
    /// A disk that shows `below`, and keeps up to `bytes_max` bytes of what is written in memory.
    #[must_use]
    pub fn new(below: Arc<dyn Disk>, bytes_max: u64) -> Self {
        Self {
            below,
            memory: Memory::new(bytes_max),
            names: Mutex::default(),
        }
    }

    fn names(&self) -> MutexGuard<'_, BTreeMap<String, Named>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The folder that `path` stands in.
fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn wrong_kind(operation: Operation, path: &str, kind: io::ErrorKind) -> DiskError {
    DiskError::from_io(operation, path, kind.into())
}

fn missing(path: &str) -> DiskError {
    let path = path.to_owned();
    DiskError::NotFound { path }
}

/// The names, locked, and what is below them.
struct Seen<'a> {
    disk: &'a OverlayDisk,
    names: MutexGuard<'a, BTreeMap<String, Named>>,
}

impl OverlayDisk {
    fn seen(&self) -> Seen<'_> {
        let names = self.names();
        Seen { disk: self, names }
    }
}

impl Seen<'_> {
    /// Whether what the disk below has in the folder `path` is seen.
    fn shows(&self, path: &str) -> bool {
        let here = matches!(self.names.get(path), Some(Named::Made | Named::Gone));
        !here && (path.is_empty() || self.shows(parent(path)))
    }

    fn find(&mut self, operation: Operation, path: &str) -> Result<Found, DiskError> {
        if path.is_empty() {
            return Ok(Found::Folder);
        }
        match self.names.get(path) {
            Some(Named::File(file)) => return Ok(Found::File(file.clone())),
            Some(Named::Made) => return Ok(Found::Folder),
            Some(Named::Gone) => return Ok(Found::Nothing),
            None => {}
        }
        match self.find(operation, parent(path))? {
            Found::Folder if self.shows(parent(path)) => self.find_below(path),
            Found::File(_) => Err(wrong_kind(operation, path, io::ErrorKind::NotADirectory)),
            Found::Folder | Found::Nothing => Ok(Found::Nothing),
        }
    }

    fn find_below(&mut self, path: &str) -> Result<Found, DiskError> {
        match self.disk.below.open(path, OpenMode::Existing) {
            Ok(file) => {
                let file = OverlayFile::over(file, path, self.disk.memory.clone())?;
                self.put(path, &file);
                Ok(Found::File(file))
            }
            Err(DiskError::NotFound { .. }) => Ok(Found::Nothing),
            Err(error) => match self.disk.below.list(path) {
                Ok(_) => Ok(Found::Folder),
                Err(_) => Err(error),
            },
        }
    }

    fn put(&mut self, path: &str, file: &Arc<OverlayFile>) {
        self.names
            .insert(path.to_owned(), Named::File(file.clone()));
    }

    /// Refuses a name whose folder isn't there.
    fn check_folder(&mut self, operation: Operation, path: &str) -> Result<(), DiskError> {
        match self.find(operation, parent(path))? {
            Found::Folder => Ok(()),
            Found::File(_) => Err(wrong_kind(operation, path, io::ErrorKind::NotADirectory)),
            Found::Nothing => Err(missing(path)),
        }
    }

    fn is_inside(folder: &str, path: &str) -> bool {
        path.strip_prefix(folder)
            .is_some_and(|rest| rest.starts_with('/'))
    }
}

impl Disk for OverlayDisk {
    fn open(&self, path: &str, mode: OpenMode) -> Result<Arc<dyn File>, DiskError> {
        check_inner_path(path)?;
        let mut seen = self.seen();
        match (seen.find(Operation::Open, path)?, mode) {
            (Found::File(_) | Found::Folder, OpenMode::New) => Err(DiskError::Exists {
                path: path.to_owned(),
            }),
            (Found::File(file), _) => Ok(file),
            (Found::Folder, _) => Err(wrong_kind(
                Operation::Open,
                path,
                io::ErrorKind::IsADirectory,
            )),
            (Found::Nothing, OpenMode::Existing) => Err(missing(path)),
            (Found::Nothing, _) => {
                seen.check_folder(Operation::Open, path)?;
                let file = OverlayFile::empty(path, self.memory.clone());
                seen.put(path, &file);
                Ok(file)
            }
        }
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        check_inner_path(from)?;
        check_inner_path(to)?;
        let mut seen = self.seen();
        let directory = |path| wrong_kind(Operation::Rename, path, io::ErrorKind::IsADirectory);
        let file = match seen.find(Operation::Rename, from)? {
            Found::File(file) => file,
            Found::Folder => return Err(directory(from)),
            Found::Nothing => return Err(missing(from)),
        };
        seen.check_folder(Operation::Rename, to)?;
        if let Found::Folder = seen.find(Operation::Rename, to)? {
            return Err(directory(to));
        }
        seen.names.insert(from.to_owned(), Named::Gone);
        seen.put(to, &file);
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<(), DiskError> {
        check_inner_path(path)?;
        let mut seen = self.seen();
        match seen.find(Operation::Remove, path)? {
            Found::File(_) => {
                seen.names.insert(path.to_owned(), Named::Gone);
                Ok(())
            }
            Found::Folder => Err(wrong_kind(
                Operation::Remove,
                path,
                io::ErrorKind::IsADirectory,
            )),
            Found::Nothing => Ok(()),
        }
    }

    fn create_dir(&self, path: &str) -> Result<(), DiskError> {
        check_path(path)?;
        let mut seen = self.seen();
        match seen.find(Operation::CreateDir, path)? {
            Found::Folder => Ok(()),
            Found::File(_) => Err(DiskError::Exists {
                path: path.to_owned(),
            }),
            Found::Nothing => {
                seen.check_folder(Operation::CreateDir, path)?;
                seen.names.insert(path.to_owned(), Named::Made);
                Ok(())
            }
        }
    }

    fn remove_dir(&self, path: &str) -> Result<(), DiskError> {
        check_inner_path(path)?;
        let mut seen = self.seen();
        match seen.find(Operation::Remove, path)? {
            Found::Folder => {
                seen.names.retain(|name, _| !Seen::is_inside(path, name));
                seen.names.insert(path.to_owned(), Named::Gone);
                Ok(())
            }
            Found::File(_) => Err(wrong_kind(
                Operation::Remove,
                path,
                io::ErrorKind::NotADirectory,
            )),
            Found::Nothing => Ok(()),
        }
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        check_path(dir)?;
        let mut seen = self.seen();
        match seen.find(Operation::List, dir)? {
            Found::Folder => {}
            Found::File(_) => {
                let kind = io::ErrorKind::NotADirectory;
                return Err(wrong_kind(Operation::List, dir, kind));
            }
            Found::Nothing => return Err(missing(dir)),
        }
        let mut names = BTreeSet::new();
        if seen.shows(dir) {
            names.extend(self.below.list(dir)?);
        }
        for (path, named) in seen.names.iter().filter(|(path, _)| parent(path) == dir) {
            let name = path.rsplit('/').next().unwrap_or(path);
            match named {
                Named::File(_) | Named::Made => names.insert(name.to_owned()),
                Named::Gone => names.remove(name),
            };
        }
        Ok(names.into_iter().collect())
    }

    fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        check_path(dir)?;
        match self.seen().find(Operation::SyncDir, dir)? {
            Found::Folder => Ok(()),
            Found::File(_) | Found::Nothing => Err(missing(dir)),
        }
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        Ok(self.memory.left())
    }

    fn lock(&self) -> Result<Box<dyn Send + Sync>, DiskError> {
        self.below.lock()
    }
}
