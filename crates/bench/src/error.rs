//! Why a measurement came to no end.

use sqlrep_core::{Retry, StorageError};
use sqlrep_disk::DiskError;
use sqlrep_raft_log::LogError;
use sqlrep_store::StoreError;
use sqlrep_vfs::{VfsError, rusqlite};

/// What stopped a measurement.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// A file of the raw probe failed.
    #[error("the raw probe: {0}")]
    Disk(#[from] DiskError),
    /// The log couldn't be opened.
    #[error("the measured log: {0}")]
    Log(#[from] LogError),
    /// The log refused an entry.
    #[error("the measured log: {0}")]
    Storage(#[from] StorageError),
    /// The page store failed.
    #[error("the measured store: {0}")]
    Store(#[from] StoreError),
    /// A connection on the page store failed.
    #[error("the measured store: {0}")]
    Vfs(#[from] VfsError),
    /// SQLite failed, plain or on the store.
    #[error("SQLite: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The log ended without an answer.
    #[error("the measured log ended without an answer")]
    NoAnswer,
    /// Every round was left out.
    #[error(
        "the raw probes of all {rounds} rounds differ too much: the machine is too busy to measure on"
    )]
    Unsteady {
        /// Rounds run.
        rounds: usize,
    },
}

impl BenchError {
    /// Whether measuring again may work.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Disk(error) => error.retry(),
            Self::Log(error) => error.retry(),
            Self::Storage(error) => error.retry(),
            Self::Store(error) => error.retry(),
            Self::Vfs(error) => error.retry(),
            Self::Sqlite(_) | Self::NoAnswer => Retry::Useless,
            Self::Unsteady { .. } => Retry::Safe,
        }
    }
}
