//! Figures for operators and measurements.

use std::time::Duration;

/// What a log has done since it was opened, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Segment files, the prepared ones included.
    pub segments: u64,
    /// Bytes of those files.
    pub file_bytes: u64,
    /// Entries made durable.
    pub entries_appended: u64,
    /// Bytes of frames written.
    pub bytes_written: u64,
    /// Batches written.
    pub batches: u64,
    /// Syncs of segments and votes by the writer.
    pub syncs: u64,
    /// How long the last sync of a batch took.
    pub last_sync: Duration,
    /// Calls that wait for the writer.
    pub queued: u64,
    /// Entries read back from files.
    pub entries_read: u64,
    /// Segments removed.
    pub segments_removed: u64,
    /// Appends and marks refused because the disk was full.
    pub refused_full: u64,
}
