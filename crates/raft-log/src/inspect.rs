//! Looking at a log without opening it: what an opening would find, vote and segments each by itself.
//!
//! The code is that of an opening, torn tail and all, so it writes: whoever only wants to look hands in a disk that keeps
//! changes to itself ([`sqlrep_disk::OverlayDisk`]). It starts no worker.

use crate::recover::{Ready, read_segments};
use crate::vote::VoteFile;
use crate::{LogError, LogIdentity};
use sqlrep_core::{EntryId, LogIndex, Term, Vote};
use sqlrep_disk::Disk;

/// What the segments hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogFound {
    /// The first entry that isn't purged; none if there is none.
    pub first: Option<LogIndex>,
    /// Last entry, purged or not.
    pub last: Option<EntryId>,
    /// Last purged entry.
    pub purged: Option<EntryId>,
    /// Segment files, the prepared ones included.
    pub segments: u64,
    /// Bytes of those files.
    pub file_bytes: u64,
    /// Bytes behind the last good frame that a crash left of writes it cut short; an opening overwrites them.
    pub torn_bytes: u64,
}

/// What `log/vote` holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VoteFound {
    /// The vote; none if there never was one.
    pub vote: Option<Vote>,
    /// Whether only one of its two copies is whole and newest, as a crash leaves it, or rot; an opening writes both.
    pub single: bool,
}

/// Reads the whole log of `identity` like an opening, every frame of it, and the vote.
///
/// # Errors
///
/// Each part its own: see [`RaftLog::open`](crate::RaftLog::open). The segments end at the first damage.
pub fn inspect(
    disk: &dyn Disk,
    identity: LogIdentity,
) -> (Result<LogFound, LogError>, Result<VoteFound, LogError>) {
    match read_segments(disk, identity) {
        Ok(None) => (Ok(LogFound::default()), Ok(VoteFound::default())),
        Ok(Some(read)) => {
            let bytes = |ready: &Ready| ready.bytes;
            let found = LogFound {
                first: read.index.first(),
                last: read.index.last(),
                purged: read.index.purged(),
                segments: read.files.len() as u64,
                file_bytes: read.files.values().map(bytes).sum(),
                torn_bytes: read.torn_bytes,
            };
            (Ok(found), vote(disk, identity, read.term))
        }
        Err(error) => (Err(error), vote(disk, identity, None)),
    }
}

fn vote(
    disk: &dyn Disk,
    identity: LogIdentity,
    log_term: Option<Term>,
) -> Result<VoteFound, LogError> {
    let single = !VoteFile::is_doubled(disk, identity)?;
    let (_, vote) = VoteFile::open(disk, identity, log_term)?;
    Ok(VoteFound { vote, single })
}
