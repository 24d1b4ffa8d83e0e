//! Why a measurement came to no end.

use sqlrep_core::{MachineError, ReadError, Retry, StorageError, WriteError};
use sqlrep_disk::DiskError;
use sqlrep_node::NodeError;
use sqlrep_raft_log::LogError;
use sqlrep_replica::ReplicaError;
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
    /// The node inside this process failed.
    #[error("the measured node: {0}")]
    Node(#[from] NodeError),
    /// It refused a write.
    #[error("the measured node: {0}")]
    Write(#[from] WriteError),
    /// A mode's state machine failed.
    #[error("the measured state machine: {0}")]
    Machine(#[from] MachineError),
    /// It couldn't read.
    #[error("the measured node: {0}")]
    Read(#[from] ReplicaError),
    /// It refused a read.
    #[error("the measured node: {0}")]
    Query(#[from] ReadError),
    /// A thread, a folder or a process wasn't to be had.
    #[error("the machine refuses: {0}")]
    Runtime(std::io::Error),
    /// A connection to a node failed.
    #[error("a node of the measured cluster doesn't answer: {0}")]
    Http(std::io::Error),
    /// What came back isn't what was asked for.
    #[error("a node answered with something else: {0}")]
    Answer(String),
    /// A node does nothing now, and says that it didn't.
    #[error("a node refused: {0}")]
    Unavailable(String),
    /// A node ended by itself.
    #[error("node {node} ended with {status}")]
    Ended {
        /// Which, from 1.
        node: usize,
        /// How.
        status: std::process::ExitStatus,
    },
    /// What has to come didn't.
    #[error("after {waited:?} still not: {what}")]
    Late {
        /// What was waited for.
        what: &'static str,
        /// How long.
        waited: std::time::Duration,
    },
    /// A guarantee is broken.
    #[error("{acknowledged} rows were acknowledged, but only {found} are there")]
    Lost {
        /// Acknowledged inserts.
        acknowledged: u64,
        /// Rows in the table.
        found: u64,
    },
    /// Every round was left out.
    #[error(
        "all {rounds} rounds were unsteady: the machine is too busy to measure on; try again, or with longer slices"
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
            Self::Node(error) => error.retry(),
            Self::Machine(error) => error.retry,
            Self::Read(error) => error.retry(),
            Self::Write(error) => error.retry(),
            Self::Query(error) => error.retry(),
            Self::Sqlite(_) | Self::NoAnswer | Self::Answer(_) | Self::Lost { .. } => {
                Retry::Useless
            }
            Self::Unsteady { .. }
            | Self::Runtime(_)
            | Self::Unavailable(_)
            | Self::Http(_)
            | Self::Ended { .. }
            | Self::Late { .. } => Retry::Safe,
        }
    }
}
