//! A disk in memory that loses power, tears writes, fails calls and fills up, all from one seed.
//!
//! It keeps apart what the process sees and what the drive has: a file is durable bytes plus a list of
//! unsynced writes, a folder is durable names plus a list of unsynced changes of names.
//! [`SimulatedDisk::crash`] makes of that what fsync rules 1 to 4 allow, as a new disk. Whatever real disks do,
//! the outcomes tried here include it, and more: unsynced writes to one sector survive one without the other.
//!
//! It doesn't do: time (a slow sync is a cost of the simulated executor), rot by itself (tests flip bytes).

mod calls;
mod content;
mod fault;
mod file;
mod folder;
mod loss;
mod unsynced;

#[cfg(test)]
mod tests;

pub use fault::Fault;
pub use loss::Loss;

use crate::Operation;
use content::Content;
use fault::Faults;
use file::FileState;
use folder::{Folder, Node, Tree};
use sqlrep_env::{Entropy, SimulatedEntropy};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Locks one part of the disk. Every call holds the lock of the whole disk meanwhile, so none of these is contended.
fn held<T>(part: &Mutex<T>) -> MutexGuard<'_, T> {
    part.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One simulated data directory; clones are handles to the same.
#[derive(Clone)]
pub struct SimulatedDisk(Arc<Shared>);

struct Shared {
    seed: u64,
    /// Unsynced changes that the crash before this disk's life took or tore.
    lost: u64,
    state: Mutex<State>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        held(&self.state)
    }
}

struct State {
    tree: Tree,
    faults: Faults,
    /// None is no limit.
    free_bytes: Option<u64>,
    locked: bool,
    syncs: u64,
    dir_syncs: u64,
    written_bytes: u64,
}

impl State {
    /// How far a file of `len` bytes gets that wants to reach `end`.
    fn reach(&self, len: u64, end: u64) -> u64 {
        match self.free_bytes {
            Some(free) if end > len => end.min(len.saturating_add(free)),
            _ => end,
        }
    }

    /// Books that a file changes its length.
    fn resize(&mut self, from: u64, to: u64) {
        if let Some(free) = &mut self.free_bytes {
            *free = free
                .saturating_add(from)
                .checked_sub(to)
                .expect("growth was limited by reach");
        }
    }
}

impl SimulatedDisk {
    /// An empty disk. The seed decides how much of a failing call happens nevertheless.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with(seed, Arc::default(), 0)
    }

    fn with(seed: u64, root: Arc<Mutex<Folder>>, lost: u64) -> Self {
        let state = State {
            tree: Tree { root },
            faults: Faults::new(seed),
            free_bytes: None,
            locked: false,
            syncs: 0,
            dir_syncs: 0,
            written_bytes: 0,
        };
        Self(Arc::new(Shared {
            seed,
            lost,
            state: Mutex::new(state),
        }))
    }

    /// Kills the process that uses this disk and returns the disk that the next one finds: without faults, without a
    /// limit of its space, unlocked, counters at zero. Calls on the old one fail from now on.
    ///
    /// The old one keeps its state, so one crash can be tried with several losses.
    #[must_use]
    pub fn crash(&self, loss: Loss) -> Self {
        let mut state = self.0.state();
        state.faults.kill();
        let (root, lost) = loss::after(&state.tree.root, loss);
        let salt = match loss {
            Loss::Random { seed } => seed,
            Loss::Nothing | Loss::Everything => 0,
        };
        let seed = SimulatedEntropy::new(self.0.seed ^ salt.rotate_left(32)).next();
        Self::with(seed, root, lost)
    }

    /// Orders a fault. Several may be armed; where two strike at once, the older one does.
    pub fn inject(&self, fault: Fault) {
        self.0.state().faults.arm(fault);
    }

    /// Takes back all faults and the [`crash_at`](Self::crash_at) that haven't struck, and the limit of the space.
    pub fn heal(&self) {
        let mut state = self.0.state();
        state.faults.disarm();
        state.free_bytes = None;
    }

    /// Lets the process die in the `nth` call from now (1 is the next): a part of that call may happen, it and
    /// all later calls fail. [`crash`](Self::crash) then gives the disk that the next process finds.
    ///
    /// # Panics
    ///
    /// If `nth` is 0.
    pub fn crash_at(&self, nth: u64) {
        self.0.state().faults.crash_in(nth);
    }

    /// Whether the process died, by [`crash_at`](Self::crash_at) or by [`crash`](Self::crash).
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.0.state().faults.is_dead()
    }

    /// Calls of [`Disk`](crate::Disk) and [`File`](crate::File) so far. Those that a dead process makes don't count.
    #[must_use]
    pub fn calls(&self) -> u64 {
        self.0.state().faults.calls
    }

    /// Faults that calls really got, a death by [`crash_at`](Self::crash_at) included.
    #[must_use]
    pub fn injected(&self) -> u64 {
        self.0.state().faults.injected
    }

    /// Unsynced changes, of bytes and of names, that the crash which made this disk took or tore.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.lost
    }

    /// Syncs of files that succeeded.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        self.0.state().syncs
    }

    /// Syncs of folders that succeeded.
    #[must_use]
    pub fn dir_syncs(&self) -> u64 {
        self.0.state().dir_syncs
    }

    /// Bytes written, those of preallocation included.
    #[must_use]
    pub fn written_bytes(&self) -> u64 {
        self.0.state().written_bytes
    }

    /// Limits the growth of files from now on; what is removed or cut is free again. None lifts the limit.
    pub fn set_free_bytes(&self, free_bytes: Option<u64>) {
        self.0.state().free_bytes = free_bytes;
    }

    /// A file's bytes as the process sees them; none if there is no such file.
    #[must_use]
    pub fn read_file(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.0.state();
        let file = state.tree.file(Operation::Read, path).ok()?;
        let bytes = held(&file).current.to_vec();
        Some(bytes)
    }

    /// Puts a file there as if it had always been: bytes and name are durable at once. No call, no fault.
    ///
    /// # Panics
    ///
    /// If the folder around it doesn't exist, or the path is a folder's.
    pub fn write_file(&self, path: &str, bytes: &[u8]) {
        let state = self.0.state();
        let mut content = Content::default();
        content.write(0, bytes);
        let (folder, name) = state
            .tree
            .parent(Operation::Write, path)
            .expect("a test writes into a folder that exists");
        let mut folder = held(&folder);
        let file = match folder.current.get(name) {
            Some(Node::Folder(_)) => panic!("{path} is a folder"),
            Some(Node::File(file)) => file.clone(),
            None => Arc::default(),
        };
        *held(&file) = FileState::durable(content);
        folder.link_durably(name, Node::File(file));
    }

    /// Rot: changes the byte at `offset` by `xor`, on the drive and in the process's view.
    ///
    /// # Panics
    ///
    /// If there is no such byte, or `xor` is 0: the test would test nothing.
    pub fn flip(&self, path: &str, offset: u64, xor: u8) {
        let state = self.0.state();
        let file = state
            .tree
            .file(Operation::Write, path)
            .expect("a test rots a file that exists");
        let mut file = held(&file);
        assert!(
            xor != 0 && offset < file.current.len(),
            "no byte of {path} would change"
        );
        file.flip(offset, xor);
    }

    /// Paths of all files, sorted.
    #[must_use]
    pub fn list_all(&self) -> Vec<String> {
        self.0.state().tree.files()
    }
}

impl fmt::Debug for SimulatedDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SimulatedDisk").field(&self.0.seed).finish()
    }
}
