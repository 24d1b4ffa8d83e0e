//! What a client is told of a write or a read that gave no reply, and what a read may ask for.

use crate::{ClusterId, EntryId, LogIndex, NodeId, Retry};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Why a write has no reply. Sent between nodes, so it is data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// Not proposed: another node leads, or none does.
    #[error("leader not found")]
    NotLeader {
        /// Who leads, if this node knows.
        leader: Option<NodeId>,
    },
    /// Not proposed, or refused by the log on every node alike, because leadership changed.
    #[error("not done: the leadership changed before it was proposed")]
    NotDone,
    /// Not proposed: a queue is full.
    #[error("too many requests are waiting")]
    Overloaded,
    /// Not proposed: the deadline passed while the request waited.
    #[error("not done: it waited for {waited:?} without being proposed")]
    Expired {
        /// How long.
        waited: Duration,
    },
    /// Not proposed: larger than the request limit.
    #[error("the request has {bytes} bytes, the limit is {limit_bytes}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The cluster's limit.
        limit_bytes: u64,
    },
    /// Not proposed: this node's disk is full.
    #[error("the disk is full")]
    DiskFull,
    /// Committed, and undone alike on every node: what it was computed from had changed.
    #[error("conflict: the transaction's base changed; nothing was done, run it again")]
    Conflict,
    /// The idempotency key is older than what the cluster remembers: whether it was done isn't known any more.
    #[error("the idempotency key is expired, the outcome of its request is unknown")]
    KeyExpired,
    /// The idempotency key was used for another request.
    #[error("the idempotency key belongs to another request")]
    KeyReused,
    /// It was done, and what a repeated request is told of it wasn't kept (safety rule 29).
    #[error("done at index {}, reply not kept", at.index)]
    ReplyNotKept {
        /// The entry that did it.
        at: EntryId,
    },
    /// It may have been done, or may still be.
    #[error("the outcome is unknown: {cause}")]
    Unknown {
        /// Why nobody knows.
        cause: String,
    },
    /// Not proposed: this node is stopping.
    #[error("the node is stopping")]
    Stopped,
    /// Not available on this node or in this release; says what isn't.
    #[error("{what}")]
    Unsupported {
        /// For the client.
        what: String,
    },
    /// Not proposed: the leader couldn't execute it, for a reason of its own; says why.
    #[error("not done: the leader couldn't execute it: {what}")]
    Failed {
        /// For the client.
        what: String,
    },
}

impl WriteError {
    /// Whether the client may send the same request again.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::NotLeader { .. }
            | Self::NotDone
            | Self::Overloaded
            | Self::Expired { .. }
            | Self::DiskFull
            | Self::Conflict
            | Self::Stopped
            | Self::Failed { .. } => Retry::Safe,
            Self::KeyExpired | Self::Unknown { .. } => Retry::Ambiguous,
            Self::TooLarge { .. }
            | Self::KeyReused
            | Self::ReplyNotKept { .. }
            | Self::Unsupported { .. } => Retry::Useless,
        }
    }
}

/// What a read promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadLevel {
    /// A committed prefix of this node.
    None,
    /// The leader's state under its lease.
    Weak,
    /// Strict, on any node: a read index, then this node has applied it.
    Linearizable,
    /// Strict, through the log: a barrier entry.
    Strong,
    /// `None` on a read replica, else `Weak`.
    Auto,
}

/// How old what a read shows may be, besides its level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadBound {
    /// At level none on a follower: refused if the last contact with the leader is longer ago.
    pub freshness: Option<Duration>,
    /// With `freshness`: refused also if what is applied here is older than that.
    pub freshness_strict: bool,
    /// Waits until this index of this cluster is applied here (safety rule 43).
    pub at_least: Option<(ClusterId, LogIndex)>,
    /// How long the read may wait. None: 10 s.
    pub wait_max: Option<Duration>,
}

/// Why a read isn't served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// Weak, linearizable or strong, and nobody is known to lead, or not this node.
    #[error("leader not found")]
    NotLeader {
        /// Who leads, if this node knows.
        leader: Option<NodeId>,
    },
    /// Older than the bound.
    #[error("stale read")]
    Stale,
    /// What was asked for wasn't applied, or leadership not confirmed, in time.
    #[error("timeout after {waited:?}")]
    Timeout {
        /// How long.
        waited: Duration,
    },
    /// The index belongs to another cluster, one from before a recovery perhaps.
    #[error("the index belongs to cluster {theirs}, this is {ours}")]
    OtherCluster {
        /// This cluster.
        ours: ClusterId,
        /// The one named.
        theirs: ClusterId,
    },
    /// This node doesn't trust its own pages (safety rule 16).
    #[error("this node is being repaired")]
    Quarantined,
    /// Too many reads wait.
    #[error("too many requests are waiting")]
    Overloaded,
    /// This node couldn't compute it, or the leader that was asked didn't answer; another node, or the same one later, may.
    #[error("{what}")]
    Failed {
        /// What went wrong.
        what: String,
    },
    /// This node is stopping.
    #[error("the node is stopping")]
    Stopped,
}

impl ReadError {
    /// Whether the client may send the same read again; a read changes nothing, so it is never ambiguous.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::OtherCluster { .. } => Retry::Useless,
            _ => Retry::Safe,
        }
    }
}
