//! Failures of this node. They never become an answer (safety rule 36).

use sqlrep_env::Retry;
use sqlrep_store::StoreError;
use sqlrep_vfs::{Refusal, VfsError};

/// Why a request couldn't be run here. What SQL itself refuses is an [`Outcome`](crate::Outcome) instead.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SqlFailure {
    /// A setting makes no sense.
    #[error("setting {name} = {value}: {reason}")]
    Setting {
        /// Which.
        name: &'static str,
        /// What it was to be.
        value: u64,
        /// What it may be.
        reason: String,
    },
    /// A function of the program's own can't be added.
    #[error("the function {name:?} can't be registered: {reason}")]
    Function {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
    /// The connection couldn't be opened or prepared for a request.
    #[error("can't {operation}: {source}")]
    Connection {
        /// What was tried.
        operation: &'static str,
        /// What the VFS said.
        source: VfsError,
    },
    /// SQLite failed for a reason that lies in this node.
    #[error("SQLite failed on this node (code {code}): {message}")]
    Sqlite {
        /// Extended result code.
        code: i32,
        /// SQLite's text.
        message: String,
    },
    /// The page store failed under SQLite.
    #[error("the page store failed under SQLite: {source}")]
    Store {
        /// What it said.
        source: StoreError,
    },
    /// The VFS refused a commit for a reason that lies in this node.
    #[error("a commit was refused: {refusal}")]
    Commit {
        /// Why.
        refusal: Refusal,
    },
    /// A callback of SQLite panicked; the connection is unusable.
    #[error("a callback of SQLite panicked: {message}")]
    Panicked {
        /// What with.
        message: String,
    },
}

impl SqlFailure {
    /// Whether the same request may be run again, on a new connection.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Setting { .. } | Self::Function { .. } => Retry::Useless,
            Self::Connection { source, .. } => source.retry(),
            Self::Store { source } => source.retry(),
            Self::Sqlite { .. } | Self::Commit { .. } | Self::Panicked { .. } => Retry::Safe,
        }
    }

    /// Whether a write or sync failed, so that the process has to stop.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Store { source }
            | Self::Connection {
                source: VfsError::Store { source, .. },
                ..
            } => source.is_final(),
            _ => false,
        }
    }
}
