//! The durable Raft log of one node: segments written with zeros before use, one queue, one writer, one sync per batch.
//!
//! ```text
//!  append, truncate, purge, vote ─► Front: places, cache, queue ─► writer: drain ─► one write ─► one sync ─► callbacks
//!                                      ▲            ▲
//!            files: next segment, old ones removed  └─ reader: older entries, checked by their checksums
//! ```
//!
//! Promises, as [`sqlrep_core::LogStore`] numbers its duties, and these about disks:
//! 1. The first write of batch n+1 is issued after the sync of batch n returned. So a frame of batch n+1 proves batch n:
//!    a bad frame in a proven batch is [`LogError::Corrupt`] by file and offset, in the last batch a torn tail.
//! 2. A torn tail is overwritten with zeros and synced before anything is appended, so no frame of it comes back.
//! 3. What was read at open is written and synced again before it counts as durable: the process before may have died
//!    of a failed sync, after which the kernel shows bytes that the drive never got.
//! 4. A failed write or sync is final: nothing is acknowledged after it, and [`RaftLog::on_failure`] hears of it.
//! 5. A full disk is met before the write: only preparing a segment needs space. Entries that would need a segment that
//!    can't be had are refused unchanged, and accepted again once there is space. Votes need none, but have their turn
//!    behind what was accepted before the disk filled up and waits for a segment.
//!
//! Limit: rot in the very last batch of one node looks like a torn tail. The other voters cover it; a cluster of
//! one node can't tell.
//!
//! It doesn't do: interpreting entries, repairing from peers, deciding what may be purged.
#![forbid(unsafe_code)]

mod error;
mod files;
mod frame;
mod front;
mod index;
mod inspect;
mod log;
mod options;
mod reader;
mod recover;
mod segment;
mod stats;
mod vote;
mod writer;

pub use error::LogError;
pub use inspect::{LogFound, VoteFound, inspect};
pub use log::RaftLog;
pub use options::{LogIdentity, Options};
pub use stats::Stats;
