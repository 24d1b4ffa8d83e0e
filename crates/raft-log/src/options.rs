//! Limits of a log, and whose it is.

use crate::LogError;
use sqlrep_core::{DirectoryId, NodeId};

/// The smallest segment that holds its own frames and an entry.
const SEGMENT_BYTES_MIN: u64 = 4 << 10;
/// A segment is read whole when the log is opened.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// Named limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Length of a segment file; 4 KiB to 1 GiB. One append is never split, so a larger one gets a larger segment.
    pub segment_bytes: u64,
    /// Newest entries kept in memory, beside those that aren't durable yet.
    pub cache_bytes_max: usize,
    /// A batch is closed once it holds this many bytes.
    pub batch_bytes_max: usize,
    /// A purge leaves the newest segments that together hold this much, for followers that were away; 0
    /// purges exactly. A purge behind the log's end, after a snapshot install, leaves nothing.
    pub retention_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            cache_bytes_max: 32 << 20,
            batch_bytes_max: 4 << 20,
            retention_bytes: 0,
        }
    }
}

impl Options {
    pub(crate) fn check(&self) -> Result<(), LogError> {
        if (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&self.segment_bytes) {
            return Ok(());
        }
        Err(LogError::Options {
            what: format!(
                "a log segment of {} bytes: it has {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}",
                self.segment_bytes
            ),
        })
    }
}

/// Whose log it is: written into each file, and part of every checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogIdentity {
    /// The node.
    pub node: NodeId,
    /// Its data directory.
    pub directory: DirectoryId,
}
