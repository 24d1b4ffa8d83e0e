//! What a machine finds after its power came back.

use super::content::Content;
use super::file::FileState;
use super::folder::{Folder, NameChange, Node};
use super::held;
use sqlrep_env::SimulatedEntropy;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// What a crash takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nothing: the process died, the kernel still has what it wrote. It is as unsynced as before.
    Nothing,
    /// Everything that wasn't synced.
    Everything,
    /// Each unsynced write is kept, lost or torn, and each unsynced name kept or lost (fsync rules 2 and 4).
    Random {
        /// One seed, one outcome.
        seed: u64,
    },
}

/// Copies a tree of names as `loss` leaves it.
///
/// If only the process died, copies are remembered by address: what is one node in the current, the durable and the
/// changed names stays one. After power loss each name gets a file of its own, so that a file has one name
/// even where a move between folders left both; what is remembered there is the content, which both share.
struct Copy {
    loss: Loss,
    luck: Option<SimulatedEntropy>,
    files: BTreeMap<usize, Arc<Mutex<FileState>>>,
    folders: BTreeMap<usize, Arc<Mutex<Folder>>>,
    contents: BTreeMap<usize, Content>,
    lost: u64,
}

/// The tree after `loss`, and how many unsynced changes it took or tore.
pub(super) fn after(root: &Arc<Mutex<Folder>>, loss: Loss) -> (Arc<Mutex<Folder>>, u64) {
    let luck = match loss {
        Loss::Random { seed } => Some(SimulatedEntropy::new(seed)),
        Loss::Nothing | Loss::Everything => None,
    };
    let mut copy = Copy {
        loss,
        luck,
        files: BTreeMap::new(),
        folders: BTreeMap::new(),
        contents: BTreeMap::new(),
        lost: 0,
    };
    let root = copy.folder(root);
    (root, copy.lost)
}

impl Copy {
    fn node(&mut self, node: &Node) -> Node {
        match node {
            Node::File(file) => Node::File(self.file(file)),
            Node::Folder(folder) => Node::Folder(self.folder(folder)),
        }
    }

    fn file(&mut self, old: &Arc<Mutex<FileState>>) -> Arc<Mutex<FileState>> {
        let address = Arc::as_ptr(old).addr();
        if self.loss == Loss::Nothing {
            let copy = || Arc::new(Mutex::new(held(old).clone()));
            return self.files.entry(address).or_insert_with(copy).clone();
        }
        let content = self.contents.entry(address).or_insert_with(|| {
            let (content, lost) = held(old).after_power_loss(self.luck.as_ref());
            self.lost += lost;
            content
        });
        Arc::new(Mutex::new(FileState::durable(content.clone())))
    }

    fn folder(&mut self, old: &Arc<Mutex<Folder>>) -> Arc<Mutex<Folder>> {
        let address = Arc::as_ptr(old).addr();
        if let Some(known) = self.folders.get(&address) {
            return known.clone();
        }
        let old = held(old);
        let folder = if self.loss == Loss::Nothing {
            self.whole(&old)
        } else {
            let (names, lost) = old.after_power_loss(self.luck.as_ref());
            self.lost += lost;
            Folder::durable(self.names(&names))
        };
        let new = Arc::new(Mutex::new(folder));
        self.folders.insert(address, new.clone());
        new
    }

    fn whole(&mut self, old: &Folder) -> Folder {
        let translate = |change: &NameChange| change.translate(|node| self.node(node));
        let unsynced = old.unsynced.translate(translate);
        Folder {
            current: self.names(&old.current),
            durable: self.names(&old.durable),
            unsynced,
        }
    }

    fn names(&mut self, old: &BTreeMap<String, Node>) -> BTreeMap<String, Node> {
        old.iter()
            .map(|(name, node)| (name.clone(), self.node(node)))
            .collect()
    }
}
