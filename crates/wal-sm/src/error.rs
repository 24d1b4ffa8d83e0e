//! What can go wrong with page mode on one node.

use sqlrep_core::{MachineError, Retry};
use sqlrep_replica::ReplicaError;
use sqlrep_sql::SqlFailure;
use sqlrep_store::{Checksum, PageNumber, PageSize, StoreError};

/// Why this node can't follow. None of them is ever an answer to a client, and none of them refuses a set: that is decided
/// by the log alone (safety rule 22).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageModeError {
    /// A committed page set that this release can't read.
    #[error("a page set can't be read: {what}")]
    Malformed {
        /// What doesn't fit.
        what: String,
    },
    /// A page set of another database, or of another version of this one: this node or the leader differs.
    #[error(
        "this node's database had checksum {ours} before the page set, the leader's had {recorded}"
    )]
    Base {
        /// This node's.
        ours: Checksum,
        /// The one in the set.
        recorded: Checksum,
    },
    /// The set, applied, gives another database than the leader's.
    #[error(
        "this node's database has checksum {ours} after the page set, the leader's has {recorded}"
    )]
    Post {
        /// This node's.
        ours: Checksum,
        /// The one in the set.
        recorded: Checksum,
    },
    /// The set has pages of another size than the database.
    #[error("a page set of pages of {} bytes; the database's have {}", found.bytes(), ours.bytes())]
    PageSize {
        /// The set's.
        found: PageSize,
        /// The database's.
        ours: PageSize,
    },
    /// The set changes the previous image of a page that wasn't there before it.
    #[error("a page set names the previous image of page {page}, and there was none")]
    NoPrevious {
        /// Which page.
        page: PageNumber,
    },
    /// The previous image isn't the one that this node recorded the hash of.
    #[error("the previous image of page {page} has another hash than was recorded for it")]
    DamagedPrevious {
        /// Which page.
        page: PageNumber,
    },
    /// The database grew, and the set doesn't hold all of the new pages.
    #[error("a page set lets the database grow by {grown} pages and holds {held} of them")]
    Growth {
        /// Pages that are new, without the lock page.
        grown: u32,
        /// Those of them that the set holds.
        held: u32,
    },
    /// Parts of a split set that don't follow each other.
    #[error(
        "part {found} of {parts} of a page set came, part {next} of another or the same set was due"
    )]
    Parts {
        /// Which part came.
        found: u32,
        /// How many there are.
        parts: u32,
        /// Which part was due.
        next: u32,
    },
    /// Replicated state beside the pages that this release can't read.
    #[error("the state beside the pages can't be read: {what}")]
    Side {
        /// What doesn't fit.
        what: String,
    },
    /// The pages.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// SQLite failed in a way that says nothing about the statement.
    #[error(transparent)]
    Sql(#[from] SqlFailure),
    /// What both modes share.
    #[error(transparent)]
    Replica(#[from] ReplicaError),
}

impl PageModeError {
    /// Whether the same call may be made again; only the store knows of what heals by itself.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Store(error) => error.retry(),
            Self::Sql(error) => error.retry(),
            Self::Replica(error) => error.retry(),
            _ => Retry::Useless,
        }
    }

    /// Whether a write or sync failed, so that the process has to stop.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Store(error) => error.is_final(),
            Self::Sql(error) => error.is_final(),
            Self::Replica(error) => error.is_final(),
            _ => false,
        }
    }
}

impl From<PageModeError> for MachineError {
    fn from(error: PageModeError) -> Self {
        let (retry, is_final) = (error.retry(), error.is_final());
        Self::new(error, retry).with_final(is_final)
    }
}

/// Of a set that can't be read.
pub(crate) fn malformed(what: impl Into<String>) -> PageModeError {
    PageModeError::Malformed { what: what.into() }
}
