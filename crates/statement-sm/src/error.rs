//! What can go wrong with statement mode on one node.

use sqlrep_core::{MachineError, Retry};
use sqlrep_replica::ReplicaError;
use sqlrep_sql::SqlFailure;
use sqlrep_vfs::VfsError;
use std::sync::Arc;

/// Why this node can't follow. None of them is ever an answer to a client (safety rule 36).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StatementError {
    /// A committed command that this release can't read.
    #[error("an entry's body can't be read: {what}")]
    Body {
        /// What doesn't fit.
        what: String,
    },
    /// Replicated state beside the pages that this release can't read.
    #[error("the state beside the pages can't be read: {what}")]
    Side {
        /// What doesn't fit.
        what: String,
    },
    /// SQLite failed in a way that says nothing about the statement.
    #[error(transparent)]
    Sql(#[from] SqlFailure),
    /// The pages.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
    /// The apply connection was lost in the middle between two reset points, so that its history is no longer that of
    /// the other nodes (safety rule 33). A restart begins at a reset point and heals it.
    #[error(
        "the apply connection was lost between two reset points; restart this node to replay from the last one ({cause})"
    )]
    HistoryLost {
        /// How it was lost.
        #[source]
        cause: Arc<StatementError>,
    },
}

impl StatementError {
    /// Whether the same call may be made again. [`Retry::Safe`] is what heals by itself, such as a full disk; a failure of
    /// SQLite itself is tried once more at most (safety rule 36), which is what `core` makes of [`Retry::Useless`].
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Sql(SqlFailure::Store { source })
            | Self::Sql(SqlFailure::Connection {
                source: VfsError::Store { source, .. },
                ..
            }) => source.retry(),
            Self::Sql(_) => Retry::Useless,
            Self::Replica(error) => error.retry(),
            Self::Body { .. } | Self::Side { .. } | Self::HistoryLost { .. } => Retry::Useless,
        }
    }

    /// Whether a write or sync failed, so that the process has to stop.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Sql(error) => error.is_final(),
            Self::Replica(error) => error.is_final(),
            Self::HistoryLost { cause } => cause.is_final(),
            Self::Body { .. } | Self::Side { .. } => false,
        }
    }
}

impl From<StatementError> for MachineError {
    fn from(error: StatementError) -> Self {
        let (retry, is_final) = (error.retry(), error.is_final());
        Self::new(error, retry).with_final(is_final)
    }
}
