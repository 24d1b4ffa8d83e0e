//! What can go wrong with a connection, and why a commit was refused.

use sqlrep_env::Retry;
use sqlrep_store::{StoreError, Version};
use std::fmt;

/// Why a connection couldn't be opened or set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VfsError {
    /// The SQLite that this program is linked with can't be used.
    #[error("SQLite {version} of this build can't be used: {reason}")]
    Engine {
        /// What `sqlite3_libversion` says.
        version: String,
        /// What is missing or too much, and where it is set.
        reason: String,
    },
    /// SQLite took no VFS.
    #[error("SQLite didn't accept the VFS of a new connection (code {code})")]
    Register {
        /// SQLite's result code.
        code: i32,
    },
    /// SQLite refused a step of opening or setting.
    #[error("can't {operation}: {source}")]
    Sqlite {
        /// What was tried.
        operation: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The store failed under a step of opening or setting.
    #[error("can't {operation}: {source}")]
    Store {
        /// What was tried.
        operation: &'static str,
        /// What the store said.
        source: StoreError,
    },
}

impl VfsError {
    /// Whether the same call may be made again.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Engine { .. } => Retry::Useless,
            Self::Register { .. } | Self::Sqlite { .. } => Retry::Safe,
            Self::Store { source, .. } => source.retry(),
        }
    }
}

/// Why this VFS refused a commit. SQLite has rolled the transaction back, nothing of it will ever be seen, and
/// the connection is good for the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The transaction changed more pages than [`set_transaction_pages_max`](crate::Connection::set_transaction_pages_max)
    /// allows. SQLite reports `SQLITE_FULL`.
    TooLarge {
        /// Distinct pages it changed.
        pages: u64,
        /// The limit.
        pages_max: u32,
    },
    /// Another writer published meanwhile. SQLite reports `SQLITE_IOERR`.
    Overtaken {
        /// The version that the transaction was computed on.
        began_on: Version,
        /// The newest one.
        newest: Version,
    },
    /// The store took no version; [`take_store_error`](crate::Connection::take_store_error) has its reason. SQLite reports
    /// `SQLITE_IOERR`.
    StoreFailed,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { pages, pages_max } => write!(
                f,
                "the transaction changes {pages} pages, more than the limit of {pages_max}; split it"
            ),
            Self::Overtaken { began_on, newest } => write!(
                f,
                "the transaction was computed on version {}, but another writer published version {}",
                began_on.0, newest.0
            ),
            Self::StoreFailed => f.write_str("the page store failed to take the transaction"),
        }
    }
}
