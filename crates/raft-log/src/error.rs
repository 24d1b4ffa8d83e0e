//! Why a log can't be opened or went down.

use sqlrep_core::{Retry, StorageError, Term};
use sqlrep_disk::DiskError;
use std::sync::Arc;

/// What is wrong with a log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// A call on a file failed.
    #[error("the log: {0}")]
    Disk(#[from] DiskError),
    /// Bytes that were durable read back wrong.
    #[error("{file} is damaged at offset {offset}: {what}")]
    Corrupt {
        /// Relative to the data directory.
        file: String,
        /// Where the damage begins.
        offset: u64,
        /// What was found.
        what: String,
    },
    /// A file of the log is gone.
    #[error("{file} is missing: the log has entries before and behind it")]
    Missing {
        /// Relative to the data directory.
        file: String,
    },
    /// Written by another release.
    #[error("{file} has format {found}, this release knows {known}")]
    Format {
        /// Relative to the data directory.
        file: String,
        /// The number in the file.
        found: u8,
        /// The number of this release.
        known: u8,
    },
    /// Another node's file.
    #[error("{file} belongs to {found}, this is {expected}")]
    Foreign {
        /// Relative to the data directory.
        file: String,
        /// As the file has it.
        found: String,
        /// Who asks.
        expected: String,
    },
    /// The vote on disk is older than the log proves (safety rule 6): this node may have voted in between.
    #[error(
        "log/vote is damaged: its newest vote is of term {vote}, but the log has an entry of term {log}; \
         this node must not vote, replace it by a new one"
    )]
    VoteLost {
        /// Term of the newest vote that is whole; 0 for none.
        vote: Term,
        /// Highest term of an entry.
        log: Term,
    },
    /// A limit that no log can keep.
    #[error("{what}")]
    Options {
        /// Which one, and its range.
        what: String,
    },
    /// The log was closed before the call.
    #[error("the log is closed")]
    Closed,
}

impl LogError {
    /// Whether the same call may be made again.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Disk(error) => error.retry(),
            _ => Retry::Useless,
        }
    }
}

impl From<LogError> for StorageError {
    fn from(error: LogError) -> Self {
        let full = matches!(error, LogError::Disk(DiskError::Full { .. }));
        let corrupt = matches!(error, LogError::Corrupt { .. });
        let source = Arc::new(error);
        match (full, corrupt) {
            (true, _) => Self::Full { source },
            (_, true) => Self::Corrupt { source },
            _ => Self::Failed { source },
        }
    }
}
