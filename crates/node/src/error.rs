//! Why a node can't start or had to stop.

use sqlrep_core::{MemberError, Retry, StorageError, TransportError};
use sqlrep_disk::DiskError;
use sqlrep_raft_log::LogError;
use sqlrep_store::StoreError;
use std::io;

/// What an embedder or an operator is told. Each says what to do, or what was found where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// Options that contradict each other or what the data directory holds.
    #[error("{what}")]
    Refused {
        /// What, and what to do.
        what: String,
    },
    /// An address can't be listened on.
    #[error("can't listen on {address}: {source}; choose another address or stop what uses it")]
    Listen {
        /// As given.
        address: String,
        /// What the network said.
        source: io::Error,
    },
    /// The data directory.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The data directory or a file in it may not be written, or not even read, by this process.
    #[error(
        "the data directory {directory} can't be used: {source}; give it to the user that runs sqlrep, mount it \
         writable, or choose another --data-dir"
    )]
    Denied {
        /// As the operator named it.
        directory: String,
        /// What was tried, and what the machine said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The page store, or SQLite on it.
    #[error("the database of this node can't be opened: {source}")]
    Database {
        /// What was found.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The log.
    #[error("the log of this node can't be opened: {source}")]
    Log {
        /// What was found.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file `identity` is damaged or from another release.
    #[error("the file identity of the data directory can't be used: {what}")]
    Identity {
        /// What doesn't fit.
        what: String,
    },
    /// Raft.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// The network between nodes.
    #[error(transparent)]
    Transport(#[from] TransportError),
}

impl NodeError {
    /// Whether the same may be tried again.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Disk(error) => error.retry(),
            Self::Member(error) => error.retry(),
            Self::Transport(error) => error.retry(),
            Self::Listen { .. } => Retry::Safe,
            Self::Refused { .. }
            | Self::Denied { .. }
            | Self::Database { .. }
            | Self::Log { .. }
            | Self::Identity { .. } => Retry::Useless,
        }
    }

    /// Whether the machine said that this process may not.
    pub(crate) fn is_denied(&self) -> bool {
        self.causes().any(|error| {
            let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
            matches!(
                kind,
                Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem)
            )
        })
    }

    /// Whether files of the data directory are whole and not for this node: of another node, format or page size.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.causes().any(|error| {
            let log = error.downcast_ref::<LogError>();
            let store = error.downcast_ref::<StoreError>();
            matches!(
                log,
                Some(LogError::Format { .. } | LogError::Foreign { .. })
            ) || matches!(
                store,
                Some(StoreError::Format { .. } | StoreError::PageSize { .. })
            )
        })
    }

    /// Whether the machine failed to read or write a file of log or database.
    #[must_use]
    pub fn is_disk_failure(&self) -> bool {
        self.causes().any(|error| {
            let of_log = error.downcast_ref::<LogError>();
            let of_store = error.downcast_ref::<StoreError>();
            let of_disk = error.downcast_ref::<DiskError>();
            matches!(of_disk, Some(DiskError::Io { .. }))
                || matches!(of_log, Some(LogError::Disk(DiskError::Io { .. })))
                || matches!(of_store, Some(StoreError::Disk(DiskError::Io { .. })))
        })
    }

    fn causes(&self) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
        let first: &(dyn std::error::Error + 'static) = self;
        std::iter::successors(Some(first), |error| error.source())
    }

    /// Damage or a failure of the database.
    pub(crate) fn database(source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Database {
            source: Box::new(source),
        }
    }

    pub(crate) fn refused(what: impl Into<String>) -> Self {
        Self::Refused { what: what.into() }
    }
}

/// Why a running node has to end its process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// A write or sync failed: nothing written since can be trusted.
    Disk(String),
    /// Bytes that were durable read back wrong.
    Corrupt(String),
    /// Raft stopped by itself.
    Raft(String),
    /// This node runs with other settings than its cluster agreed on.
    Settings(String),
}

impl Failure {
    pub(crate) fn of_log(error: &StorageError) -> Self {
        match error {
            StorageError::Corrupt { .. } => Self::Corrupt(error.to_string()),
            _ => Self::Disk(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sqlrep_disk::Operation;

    /// A log of another format ended a node with the code for corruption, and so did a disk that can't be read: a
    /// supervisor called somebody to replace the disk of a healthy node.
    #[test]
    fn what_is_foreign_and_what_the_machine_failed_at_are_told_from_damage() {
        let format = LogError::Format {
            file: "log/1.seg".to_owned(),
            found: 2,
            known: 1,
        };
        let of_log = |source| NodeError::Log {
            source: Box::new(source),
        };
        let error = of_log(format);
        assert!(error.is_foreign() && !error.is_disk_failure());
        let failed = || DiskError::from_io(Operation::Read, "f", io::ErrorKind::Other.into());
        let error = of_log(LogError::Disk(failed()));
        assert!(error.is_disk_failure() && !error.is_foreign());
        let error = NodeError::database(StoreError::Disk(failed()));
        assert!(error.is_disk_failure() && !error.is_denied());
        let damaged = NodeError::database(StoreError::Corrupt {
            file: "f".to_owned(),
            offset: 0,
            what: "x".to_owned(),
        });
        assert!(!damaged.is_disk_failure() && !damaged.is_foreign());
        let denied = io::ErrorKind::PermissionDenied.into();
        let denied = StoreError::Disk(DiskError::from_io(Operation::Open, "f", denied));
        assert!(NodeError::database(denied).is_denied());
    }
}
