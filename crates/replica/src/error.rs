//! What can go wrong with the replicated state of one node.

use sqlrep_core::{MachineError, Retry};
use sqlrep_sql::SqlFailure;
use sqlrep_store::{PageNumber, StoreError};
use sqlrep_vfs::VfsError;

/// Why this node can't follow or serve. None of them is ever an answer to a client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplicaError {
    /// The page store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// SQLite on the page store.
    #[error(transparent)]
    Vfs(#[from] VfsError),
    /// A reader connection.
    #[error(transparent)]
    Sql(#[from] SqlFailure),
    /// The readers are closed, or were while the read waited.
    #[error("the readers of this node are closed")]
    Closed,
    /// A snapshot's bytes aren't one.
    #[error("the snapshot is damaged: {what}")]
    Snapshot {
        /// What doesn't fit.
        what: String,
    },
    /// A forwarded request, or its reply, that this release can't read.
    #[error("a peer's message can't be read: {what}")]
    Message {
        /// What doesn't fit.
        what: String,
    },
    /// Pages of the base file read back wrong.
    #[error("{count} pages of main.db read back wrong, the first is page {first}")]
    Damaged {
        /// The first of them.
        first: PageNumber,
        /// How many.
        count: usize,
    },
    /// The durable state is described, not held: only newest ends are sent.
    #[error("the durable position has been passed; only the newest snapshot can be sent")]
    NotHeld,
}

impl ReplicaError {
    /// Whether the same call may be made again.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Store(error) => error.retry(),
            Self::Vfs(error) => error.retry(),
            Self::Sql(error) => error.retry(),
            Self::Snapshot { .. } | Self::NotHeld => Retry::Safe,
            Self::Closed | Self::Message { .. } | Self::Damaged { .. } => Retry::Useless,
        }
    }

    /// Whether this node's own pages read back wrong: it mustn't serve them any more (safety rule 7).
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. }) || self.of_store().is_some_and(StoreError::is_damage)
    }

    /// Whether something of this node's couldn't be read. It may be whole all the same.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        self.of_store().is_some_and(StoreError::is_unreadable)
    }

    fn of_store(&self) -> Option<&StoreError> {
        match self {
            Self::Store(error)
            | Self::Vfs(VfsError::Store { source: error, .. })
            | Self::Sql(
                SqlFailure::Store { source: error }
                | SqlFailure::Connection {
                    source: VfsError::Store { source: error, .. },
                    ..
                },
            ) => Some(error),
            _ => None,
        }
    }

    /// Whether a write or sync failed, so that the process has to stop.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Store(error) | Self::Vfs(VfsError::Store { source: error, .. }) => {
                error.is_final()
            }
            Self::Sql(error) => error.is_final(),
            Self::Vfs(_)
            | Self::Snapshot { .. }
            | Self::Damaged { .. }
            | Self::NotHeld
            | Self::Closed
            | Self::Message { .. } => false,
        }
    }
}

impl From<ReplicaError> for MachineError {
    fn from(error: ReplicaError) -> Self {
        let (retry, is_final) = (error.retry(), error.is_final());
        Self::new(error, retry).with_final(is_final)
    }
}
