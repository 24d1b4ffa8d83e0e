//! The simulated disk as storage code sees it: [`Disk`], call by call, each judged by the faults first.

use super::file::{FileState, SimulatedFile};
use super::folder::{Node, Tree, refused};
use super::{Shared, SimulatedDisk, State, held};
use crate::{Disk, DiskError, File, LOCK_FILE, OpenMode, Operation, check_inner_path, check_path};
use std::io;
use std::sync::{Arc, Mutex};

/// What a disk without a limit says it has free.
const UNLIMITED_FREE_BYTES: u64 = 1 << 40;

impl SimulatedDisk {
    /// Runs a call on names, which under a fault happens wholly or not at all.
    fn call<T>(
        &self,
        operation: Operation,
        path: &str,
        act: impl FnOnce(&mut State) -> Result<T, DiskError>,
    ) -> Result<T, DiskError> {
        let mut state = self.0.state();
        let verdict = state.faults.judge(operation, path)?;
        let result = if verdict.happens() {
            Some(act(&mut state))
        } else {
            None
        };
        verdict.answer()?;
        result.expect("a call that runs has a result")
    }

    fn handle(&self, path: &str, node: Arc<Mutex<FileState>>) -> Arc<dyn File> {
        Arc::new(SimulatedFile {
            disk: self.0.clone(),
            node,
            path: path.to_owned(),
        })
    }
}

/// The file that `open` means, made if that is what it means.
fn open_node(tree: &Tree, path: &str, mode: OpenMode) -> Result<Arc<Mutex<FileState>>, DiskError> {
    let found = tree.file(Operation::Open, path);
    let taken = found.is_ok() || tree.folder(Operation::Open, path).is_ok();
    match (found, mode) {
        (_, OpenMode::New) if taken => Err(DiskError::Exists {
            path: path.to_owned(),
        }),
        (Err(DiskError::NotFound { .. }), OpenMode::Create | OpenMode::New) => {
            let file = Arc::<Mutex<FileState>>::default();
            tree.create(Operation::Open, path, Node::File(file.clone()))?;
            Ok(file)
        }
        (found, _) => found,
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &str, mode: OpenMode) -> Result<Arc<dyn File>, DiskError> {
        check_inner_path(path)?;
        let node = self.call(Operation::Open, path, |state| {
            open_node(&state.tree, path, mode)
        })?;
        Ok(self.handle(path, node))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), DiskError> {
        check_inner_path(from)?;
        check_inner_path(to)?;
        self.call(Operation::Rename, from, |state| {
            let freed = state.tree.rename(from, to)?;
            state.resize(freed, 0);
            Ok(())
        })
    }

    fn remove(&self, path: &str) -> Result<(), DiskError> {
        check_inner_path(path)?;
        self.call(Operation::Remove, path, |state| {
            let freed = state.tree.remove(path)?;
            state.resize(freed, 0);
            Ok(())
        })
    }

    fn create_dir(&self, path: &str) -> Result<(), DiskError> {
        check_path(path)?;
        self.call(Operation::CreateDir, path, |state| {
            match state.tree.folder(Operation::CreateDir, path) {
                Err(DiskError::NotFound { .. }) => {
                    let folder = Node::Folder(Arc::default());
                    state.tree.create(Operation::CreateDir, path, folder)
                }
                // A file of that name, or one on the way to it.
                Err(_) if state.tree.file(Operation::CreateDir, path).is_ok() => {
                    let kind = io::ErrorKind::AlreadyExists;
                    Err(refused(Operation::CreateDir, path, kind))
                }
                other => other.map(drop),
            }
        })
    }

    fn remove_dir(&self, path: &str) -> Result<(), DiskError> {
        check_inner_path(path)?;
        let mut state = self.0.state();
        let verdict = state.faults.judge(Operation::Remove, path)?;
        let freed = state.tree.remove_dir(path, &verdict);
        if let Ok(freed) = &freed {
            state.resize(*freed, 0);
        }
        verdict.answer()?;
        freed.map(drop)
    }

    fn list(&self, dir: &str) -> Result<Vec<String>, DiskError> {
        check_path(dir)?;
        self.call(Operation::List, dir, |state| {
            let folder = state.tree.folder(Operation::List, dir)?;
            let names = held(&folder).current.keys().cloned().collect();
            Ok(names)
        })
    }

    fn sync_dir(&self, dir: &str) -> Result<(), DiskError> {
        check_path(dir)?;
        let mut state = self.0.state();
        let verdict = state.faults.judge(Operation::SyncDir, dir)?;
        let folder = state.tree.folder(Operation::SyncDir, dir);
        if let Ok(folder) = &folder {
            state.dir_syncs += u64::from(held(folder).sync(&verdict));
        }
        verdict.answer()?;
        folder.map(drop)
    }

    fn free_bytes(&self) -> Result<u64, DiskError> {
        self.call(Operation::FreeBytes, "", |state| {
            Ok(state.free_bytes.unwrap_or(UNLIMITED_FREE_BYTES))
        })
    }

    fn lock(&self) -> Result<Box<dyn Send + Sync>, DiskError> {
        let mut state = self.0.state();
        // A call that fails takes no lock, or nobody could give it back.
        state.faults.judge(Operation::Lock, LOCK_FILE)?.answer()?;
        open_node(&state.tree, LOCK_FILE, OpenMode::Create)?;
        if state.locked {
            return Err(DiskError::Locked {
                directory: "of the simulation".to_owned(),
            });
        }
        state.locked = true;
        Ok(Box::new(Lock(self.0.clone())))
    }
}

/// Gives the directory back when dropped.
struct Lock(Arc<Shared>);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.state().locked = false;
    }
}
