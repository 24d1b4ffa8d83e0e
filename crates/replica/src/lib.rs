//! A page store as replicated state: what both modes share.
//!
//! # The life of a version
//!
//! ```text
//!  mode: SQLite commits on the VFS ─► Store::publish        a version, private to the apply worker
//!  mode: entry done               ─► Replica::finish        an entry end with its side state: readers see it
//!  policy: due                    ─► Replica::checkpoint_step …   journal, base file, position: a restart begins here
//!  a peer is far behind           ─► Replica::snapshot      pinned, streamed page by page, without those it has
//!  we are far behind              ─► Replica::receive, install   a new generation, switched to in one step
//! ```
//!
//! **Invariants.** 1. Side state is written with the version it was given with (safety rule 5). 2. A step of a
//! checkpoint and an install never overlap, and an install ends a checkpoint under way first (safety rule 2). 3. Readers
//! show entry ends only, and never an older one than they showed before.
//!
//! It doesn't know which mode made a version, what a command says, or who leads.
#![forbid(unsafe_code)]

mod at_hand;
mod chunk;
pub mod codec;
mod error;
mod made;
pub mod messages;
mod offer;
mod policy;
mod reader;
mod readers;
mod replica;
mod scenes;
mod seed;
mod snapshot;
mod stamp;

pub use error::ReplicaError;
pub use made::Checkpoints;
pub use policy::{CheckpointPolicy, Memory, Pressure};
pub use reader::LocalReader;
pub use readers::{
    QueryJob, ReadDone, ReadOnlyJob, ReadTicket, ReaderOptions, Readers, ReadersFull,
};
pub use replica::{Finished, Replica};
pub use scenes::Scenes;
pub use seed::request_seed;
pub use snapshot::{Sink, Source};
pub use stamp::leader_stamp;

use sqlrep_core::{EntryEnd, EntryId, KeyTable, LogIndex, Term};
use sqlrep_store::{Position, Table};

/// The store's name for where an entry stands.
#[must_use]
pub fn position(id: EntryId) -> Position {
    Position {
        term: id.term.0,
        index: id.index.0,
    }
}

/// The store's form of `core`'s keys: the same encoder, so that what is shared stays shared.
pub(crate) fn table(keys: &KeyTable) -> Table {
    Table::new(keys.encoder().cloned())
}

/// What `core` is told of an entry end of the store.
pub(crate) fn entry_end(end: &sqlrep_store::EntryEnd) -> EntryEnd {
    EntryEnd {
        id: end.position.map(entry_id),
        side: end.side.core.clone(),
        keys: KeyTable::new(end.side.table.encoder().cloned()),
    }
}

/// `core`'s name for where an entry stands.
#[must_use]
pub fn entry_id(position: Position) -> EntryId {
    EntryId {
        term: Term(position.term),
        index: LogIndex(position.index),
    }
}
