//! What the log keeps: entries and votes, opaque to storage.

use crate::{EntryId, NodeId, Term};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One log entry as storage sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it stands.
    pub id: EntryId,
    /// What it says.
    pub payload: Payload,
}

/// An entry's content: opaque to storage, cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Payload {
    /// A new leader's first entry.
    Blank,
    /// Clients' requests in `core`'s envelope.
    Command(Bytes),
    /// The members, encoded by `core`.
    Membership(Bytes),
}

impl Payload {
    /// The content's length in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        match self {
            Self::Blank => 0,
            Self::Command(bytes) | Self::Membership(bytes) => bytes.len(),
        }
    }
}

/// A vote, or a leadership that a quorum granted (Raft, section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// Term voted in.
    pub term: Term,
    /// Candidate; none if this node only learnt of the term.
    pub node: Option<NodeId>,
    /// Whether a quorum granted it.
    pub committed: bool,
}
