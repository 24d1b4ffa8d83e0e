//! The state of a database right behind one log entry.

use crate::{Checksum, PageCount, Position, Table, Version};
use bytes::Bytes;

/// Replicated state beside the pages, opaque here: `core`'s part and the mode's, and a table that may be large.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Membership, settings.
    pub core: Bytes,
    /// Stamp, tail, last rowid.
    pub mode: Bytes,
    /// Keys; a file of its own.
    pub table: Table,
}

impl Side {
    /// The parts that stand in the position record.
    pub(crate) fn bytes(&self) -> usize {
        self.core.len() + self.mode.len()
    }
}

/// The state right behind one log entry, and all that must be known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryEnd {
    /// The entry; none before the first.
    pub position: Option<Position>,
    /// Its pages.
    pub version: Version,
    /// Size of the database.
    pub pages: PageCount,
    /// Checksum of the database.
    pub checksum: Checksum,
    /// Replicated state beside the pages.
    pub side: Side,
    /// Whether it may be checkpointed and sent.
    pub anchor: bool,
}
