//! What can go wrong with a store, and what the caller does then.

use crate::{PageNumber, PageSize};
use sqlrep_disk::{DiskError, Operation};
use sqlrep_env::Retry;

/// Why the store can't do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file's content isn't what was written.
    #[error("{file} is damaged at offset {offset}: {what}")]
    Corrupt {
        /// Relative to the data directory.
        file: String,
        /// In bytes.
        offset: u64,
        /// What doesn't fit.
        what: String,
    },
    /// A page of the base file has another hash than was recorded for it.
    #[error("page {page} in {file} is damaged: its hash differs from main.sums")]
    DamagedPage {
        /// Relative to the data directory.
        file: String,
        /// Which page.
        page: PageNumber,
    },
    /// A file has a format that this release doesn't read.
    #[error("{file} has format {found}; this release reads format {known}")]
    Format {
        /// Relative to the data directory.
        file: String,
        /// What the file says.
        found: u8,
        /// What this release reads.
        known: u8,
    },
    /// The database has another page size than asked for.
    #[error("the database has pages of {} bytes, not of {}", found.bytes(), wanted.bytes())]
    PageSize {
        /// What the database has.
        found: PageSize,
        /// What was asked for.
        wanted: PageSize,
    },
    /// The pin was ended to make room: the reader was too old for the memory and disk there is.
    #[error(
        "the read was ended: it was too old to keep its pages; run it again, or raise --spill-limit"
    )]
    PinEnded,
    /// The side state of an entry end is larger than its record has room for.
    #[error("{bytes} bytes of replicated state beside the pages, the limit is {limit_bytes}")]
    SideTooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// A received database isn't what it was announced to be.
    #[error("the received database is incomplete or damaged: {what}")]
    Received {
        /// What doesn't fit.
        what: String,
    },
}

impl StoreError {
    /// Whether the same call may be made again.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Disk(error) => error.retry(),
            Self::PinEnded | Self::Received { .. } => Retry::Safe,
            Self::Corrupt { .. }
            | Self::DamagedPage { .. }
            | Self::Format { .. }
            | Self::PageSize { .. }
            | Self::SideTooLarge { .. } => Retry::Useless,
        }
    }

    /// Whether pages read back wrong: this database mustn't be used any more (safety rule 7).
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Corrupt { .. } | Self::DamagedPage { .. })
    }

    /// Whether something couldn't be read. It may be whole all the same: the next process may read it.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        matches!(
            self,
            Self::Disk(DiskError::Io {
                operation: Operation::Read,
                ..
            })
        )
    }

    /// Whether the process has to stop, since nothing written can be trusted any more.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Disk(error) if error.is_final())
    }
}
