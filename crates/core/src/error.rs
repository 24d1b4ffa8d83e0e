//! Why a member can't start, or an operator's request to it failed.

use crate::{MachineError, NodeId, Retry, StorageError};
use bytes::Bytes;
use std::time::Duration;

/// What a member answers outside of writes and reads, which have [`WriteError`](crate::WriteError) and
/// [`ReadError`](crate::ReadError).
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MemberError {
    /// The settings contradict themselves.
    #[error("the settings can't work: {what}")]
    Settings {
        /// Which, and why.
        what: String,
    },
    /// The log failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The state failed.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// What log and state hold doesn't fit together, or can't be read.
    #[error("node {node} can't start on what it has stored: {what}")]
    Stored {
        /// This node.
        node: NodeId,
        /// What doesn't fit.
        what: String,
    },
    /// Refused as it stands; nothing was done.
    #[error("{what}")]
    Refused {
        /// What, and what to do.
        what: String,
    },
    /// Nothing was done: what all members have to agree on is something else elsewhere. Whoever can read the
    /// settings names what differs.
    #[error("the cluster settings differ from those of {with}: start this node with the same ones")]
    Disagrees {
        /// Whose settings they are.
        with: String,
        /// Theirs, opaque to `core`.
        settings: Bytes,
    },
    /// Another node leads, or none does; nothing was done.
    #[error("leader not found")]
    NotLeader {
        /// Who leads, if this node knows.
        leader: Option<NodeId>,
    },
    /// It wasn't finished in time, and may still be.
    #[error("not finished after {waited:?}: look at the status before you ask again")]
    Timeout {
        /// How long.
        waited: Duration,
    },
    /// The member has stopped, or stops.
    #[error("node {node} has stopped: {why}")]
    Stopped {
        /// This node.
        node: NodeId,
        /// Why.
        why: String,
    },
}

impl MemberError {
    /// Whether the same may be asked again.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::NotLeader { .. } => Retry::Safe,
            Self::Timeout { .. } => Retry::Ambiguous,
            Self::Storage(error) => error.retry(),
            Self::Machine(error) => error.retry,
            Self::Settings { .. }
            | Self::Stored { .. }
            | Self::Refused { .. }
            | Self::Disagrees { .. }
            | Self::Stopped { .. } => Retry::Useless,
        }
    }
}
