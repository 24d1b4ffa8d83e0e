//! What can go wrong with files, and what the caller does then.

use sqlrep_env::Retry;
use std::fmt;
use std::io;

/// The call that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`Disk::open`](crate::Disk::open).
    Open,
    /// [`File::read_at`](crate::File::read_at).
    Read,
    /// [`File::write_at`](crate::File::write_at) or [`File::preallocate`](crate::File::preallocate).
    Write,
    /// [`File::set_len`](crate::File::set_len).
    SetLen,
    /// [`File::sync`](crate::File::sync).
    Sync,
    /// [`File::size`](crate::File::size).
    Size,
    /// [`Disk::rename`](crate::Disk::rename).
    Rename,
    /// [`Disk::remove`](crate::Disk::remove) or [`Disk::remove_dir`](crate::Disk::remove_dir).
    Remove,
    /// [`Disk::create_dir`](crate::Disk::create_dir).
    CreateDir,
    /// [`Disk::list`](crate::Disk::list).
    List,
    /// [`Disk::sync_dir`](crate::Disk::sync_dir).
    SyncDir,
    /// [`Disk::free_bytes`](crate::Disk::free_bytes).
    FreeBytes,
    /// [`Disk::lock`](crate::Disk::lock).
    Lock,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::SetLen => "set the length of",
            Self::Sync => "sync",
            Self::Size => "ask the size of",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::CreateDir => "make the folder",
            Self::List => "list",
            Self::SyncDir => "sync the folder",
            Self::FreeBytes => "ask the free space of",
            Self::Lock => "lock",
        })
    }
}

/// Why a file operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// There is no such file or folder.
    #[error("{path} doesn't exist")]
    NotFound {
        /// Relative to the data directory.
        path: String,
    },
    /// A file that should be new exists.
    #[error("{path} exists already")]
    Exists {
        /// Relative to the data directory.
        path: String,
    },
    /// The path would leave the data directory, or has characters that no format of ours uses.
    #[error("{path:?} is no path inside a data directory")]
    InvalidPath {
        /// As given.
        path: String,
    },
    /// No space is left.
    #[error("the disk is full (to {operation} {path})")]
    Full {
        /// What was tried.
        operation: Operation,
        /// Relative to the data directory.
        path: String,
    },
    /// Another process has the data directory.
    #[error(
        "another process uses the data directory {directory}; stop it first, or choose another --data-dir"
    )]
    Locked {
        /// As the operator named it.
        directory: String,
    },
    /// The file ends before the bytes that were asked for.
    #[error("only {read} of {wanted} bytes at offset {offset}: the file is cut short")]
    Short {
        /// Where reading began.
        offset: u64,
        /// Bytes asked for.
        wanted: usize,
        /// Bytes found.
        read: usize,
    },
    /// A disk that only shows another one has kept as much in memory as it may.
    #[error(
        "{path}: more than {limit_bytes} bytes would have to be kept in memory; the directory isn't written to"
    )]
    Overlay {
        /// Relative to the data directory.
        path: String,
        /// What may be kept.
        limit_bytes: u64,
    },
    /// The machine failed. For writes and syncs this is final (fsync rules 5 and 6).
    #[error("can't {operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: Operation,
        /// Relative to the data directory.
        path: String,
        /// What the machine said.
        source: io::Error,
    },
}

impl DiskError {
    /// Sorts an error of the machine into the cases that callers treat differently.
    #[must_use]
    pub fn from_io(operation: Operation, path: &str, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::NotFound { path },
            io::ErrorKind::AlreadyExists => Self::Exists { path },
            // A sync that reports a full disk has lost data like any other failed sync.
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                if !matches!(operation, Operation::Sync | Operation::SyncDir) =>
            {
                Self::Full { operation, path }
            }
            _ => Self::Io {
                operation,
                path,
                source,
            },
        }
    }

    /// Whether the same call may be made again.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Full { .. } | Self::Locked { .. } => Retry::Safe,
            Self::NotFound { .. }
            | Self::Exists { .. }
            | Self::InvalidPath { .. }
            | Self::Overlay { .. }
            | Self::Short { .. } => Retry::Useless,
            // What can't be read isn't expected to come back: whoever waited for it would wait for ever.
            Self::Io { operation, .. } => match operation {
                Operation::Rename | Operation::Remove | Operation::CreateDir => Retry::Ambiguous,
                _ => Retry::Useless,
            },
        }
    }

    /// Whether nothing written to this file can be trusted any more: the process has to stop (fsync rule 5).
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Io {
                operation: Operation::Write
                    | Operation::SetLen
                    | Operation::Sync
                    | Operation::SyncDir,
                ..
            }
        )
    }
}

impl From<DiskError> for io::Error {
    fn from(error: DiskError) -> Self {
        let kind = match &error {
            DiskError::NotFound { .. } => io::ErrorKind::NotFound,
            DiskError::Exists { .. } => io::ErrorKind::AlreadyExists,
            DiskError::InvalidPath { .. } => io::ErrorKind::InvalidInput,
            DiskError::Full { .. } => io::ErrorKind::StorageFull,
            DiskError::Overlay { .. } => io::ErrorKind::OutOfMemory,
            DiskError::Locked { .. } => io::ErrorKind::ResourceBusy,
            DiskError::Short { .. } => io::ErrorKind::UnexpectedEof,
            DiskError::Io { source, .. } => source.kind(),
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fsync rules 5 and 6: which errors stop the process.
    #[test]
    fn only_failed_writes_and_syncs_are_final() {
        let of = |operation, kind: io::ErrorKind| DiskError::from_io(operation, "a", kind.into());
        let (full, other) = (io::ErrorKind::StorageFull, io::ErrorKind::Other);
        for operation in [Operation::Write, Operation::SetLen] {
            assert!(of(operation, other).is_final());
            let error = of(operation, full);
            assert!(matches!(error, DiskError::Full { .. }) && !error.is_final());
            assert_eq!(error.retry(), Retry::Safe);
        }
        for operation in [Operation::Sync, Operation::SyncDir] {
            for kind in [full, other] {
                assert!(of(operation, kind).is_final());
                assert_eq!(of(operation, kind).retry(), Retry::Useless);
            }
        }
        assert!(!of(Operation::Read, other).is_final());
        assert_eq!(of(Operation::Rename, other).retry(), Retry::Ambiguous);
    }

    #[test]
    fn an_error_names_operation_and_path_and_keeps_its_kind() {
        let error = DiskError::from_io(Operation::Sync, "log/1", io::ErrorKind::Other.into());
        assert_eq!(error.to_string(), "can't sync log/1: other error");
        let error = DiskError::from_io(Operation::Open, "x", io::ErrorKind::NotFound.into());
        assert_eq!(error.to_string(), "x doesn't exist");
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::NotFound);
    }
}
