//! How the process ends. The numbers are part of the interface: supervisors act on them.
//!
//! The same table stands in `docs/operations.md`, and a test compares the two.

use std::process::ExitCode;

/// Why the process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or stopped on request.
    Ok,
    /// Something failed while running: an SQL error under `shell -c`, a node that doesn't answer.
    Failed,
    /// Flags, environment or configuration file.
    Usage,
    /// The data directory is in use, or belongs to another cluster, mode, node or format.
    DirectoryRefused,
    /// An address to listen on is taken or isn't this machine's.
    AddressInUse,
    /// A write or fsync failed.
    Disk,
    /// Bytes that were durable read back wrong.
    Corrupt,
    /// Raft stopped by itself.
    Raft,
}

impl Exit {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::Failed,
        Self::Usage,
        Self::DirectoryRefused,
        Self::AddressInUse,
        Self::Disk,
        Self::Corrupt,
        Self::Raft,
    ];

    /// The process's exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::DirectoryRefused => 3,
            Self::AddressInUse => 4,
            Self::Disk => 5,
            Self::Corrupt => 6,
            Self::Raft => 7,
        }
    }

    /// In a few words.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done, or stopped on request",
            Self::Failed => "failed while running",
            Self::Usage => "wrong flag, environment variable or configuration file",
            Self::DirectoryRefused => "data directory refused",
            Self::AddressInUse => "address can't be listened on",
            Self::Disk => "write or fsync failed",
            Self::Corrupt => "corruption found",
            Self::Raft => "Raft stopped",
        }
    }

    /// What a process that ended with `code` meant; none for codes that aren't ours.
    #[must_use]
    pub fn of_code(code: i32) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|exit| i32::from(exit.code()) == code)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_in_the_documentation_is_this_one() {
        let page = include_str!("../../../docs/operations.md");
        for exit in Exit::ALL {
            let row = format!("| {} | {} |", exit.code(), exit.meaning());
            assert!(page.contains(&row), "docs/operations.md lacks {row}");
        }
    }

    #[test]
    fn codes_are_distinct() {
        for exit in Exit::ALL {
            assert_eq!(Exit::of_code(i32::from(exit.code())), Some(exit));
        }
        assert_eq!(Exit::of_code(137), None);
    }
}
