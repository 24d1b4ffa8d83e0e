//! The log as `core` needs it: synchronous and object-safe. Results come through [`Done`], so that a log is
//! plain code with a worker and the simulation runs the same one.

use crate::{Entry, EntryId, LogIndex, Retry, Vote};
use std::error::Error;
use std::ops::Range;
use std::sync::Arc;

/// Called exactly once, from any thread; it only hands the value over.
pub type Done<T> = Box<dyn FnOnce(Result<T, StorageError>) + Send>;

/// Why a log can't do what was asked. One failure answers many calls, hence the shared source.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The disk is full; nothing was changed. Heals when space is back.
    #[error("the log's disk is full: free some space, writes go on by themselves")]
    Full {
        /// Which file, which call.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// A write or sync failed, or an earlier call did: the process has to stop.
    #[error("the log failed and the process has to stop: {source}")]
    Failed {
        /// Which file, which call.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// Bytes that were durable read back wrong.
    #[error("the log is damaged: {source}")]
    Corrupt {
        /// Which file, which offset.
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The range begins with entries that are deleted.
    #[error("entries up to {purged} are purged")]
    Purged {
        /// The last deleted one.
        purged: EntryId,
    },
}

impl StorageError {
    /// Whether the same call may be made again.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Full { .. } => Retry::Safe,
            Self::Failed { .. } | Self::Corrupt { .. } | Self::Purged { .. } => Retry::Useless,
        }
    }
}

/// What a log holds. Invariant: `purged <= committed <= last` where they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogState {
    /// Last entry deleted by [`LogStore::purge`].
    pub purged: Option<EntryId>,
    /// Last entry; `purged` if there is none behind it.
    pub last: Option<EntryId>,
    /// Newest durable vote.
    pub vote: Option<Vote>,
    /// The saved mark, never above `last` (safety rule 9).
    pub committed: Option<EntryId>,
}

/// Durable log and vote of one node.
///
/// Duties of an implementation:
/// 1. Operations take effect in call order, votes and entries alike; there is one queue.
/// 2. Appended entries are readable when `append` returns and durable when its `done` is called.
/// 3. `save_vote` and `truncate_after` are durable at `done`; truncation lowers the durable mark before it
///    returns (safety rule 8).
/// 4. There are no holes: `append` of anything but the entry behind the last is refused by assertion.
/// 5. After one [`StorageError::Failed`] every later call fails with it.
/// 6. `purge` is a hint: never a byte above the floor goes (safety rules 15 and 17), and what stays may be
///    whole files more.
/// 7. `read` of entries in memory calls `done` before it returns; older ones are read on a worker. At
///    least one entry of a non-empty range is answered, and no more than about `bytes_max`.
/// 8. `state().last` and entries readable never differ between two calls without an operation between.
pub trait LogStore: Send + Sync {
    /// What the log holds now.
    fn state(&self) -> LogState;

    /// Entries of `range` in order, starting with its first.
    fn read(&self, range: Range<LogIndex>, bytes_max: usize, done: Done<Vec<Entry>>);

    /// Adds entries behind the last one.
    fn append(&self, entries: Vec<Entry>, done: Done<()>);

    /// Saves the vote.
    fn save_vote(&self, vote: Vote, done: Done<()>);

    /// Removes everything behind `last`; all of it for none.
    fn truncate_after(&self, last: Option<EntryId>, done: Done<()>);

    /// Allows everything up to `upto` to be deleted. `upto` may lie behind the last entry: after a
    /// snapshot install the log goes on behind it.
    fn purge(&self, upto: EntryId, done: Done<()>);

    /// Notes what is committed; lazily written, never synced for its own sake.
    fn save_committed(&self, committed: Option<EntryId>);

    /// Nothing above this index may be deleted; none: nothing at all. A purge behind a snapshot
    /// install raises the floor first.
    fn set_floor(&self, floor: Option<LogIndex>);

    /// The last entry that a power loss can't take: the upper bound of checkpoints.
    fn durable(&self) -> Option<EntryId>;

    /// Bytes of the entries behind `index`, of all for none. A log that is in memory anyway may say 0.
    fn bytes_behind(&self, index: Option<LogIndex>) -> u64 {
        let _ = index;
        0
    }

    /// Whether an operation waits for its sync, or a sync is under way. A checkpoint lets it go first (safety rule 12).
    fn is_syncing(&self) -> bool {
        false
    }

    /// Whether space for further entries is missing. `core` then proposes nothing and takes in no entries of a leader, so
    /// that none is refused half way; what is under way still fits, votes are saved, and reads go on. It ends by itself
    /// when space is back.
    fn is_full(&self) -> bool {
        false
    }
}
