//! What a transport is told, and what it counts.

use sqlrep_core::{DirectoryId, NodeId};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The longest text of an [`Identity`], in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = 512;

/// What this node tells of itself in every handshake. Each text has at most 512 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its id.
    pub node: NodeId,
    /// Its data directory.
    pub directory: DirectoryId,
    /// How changes travel: `statement` or `page`. Nodes of different modes refuse each other.
    pub mode: String,
    /// SQLite's source id.
    pub engine: String,
    /// Digest of SQLite's compile options. Another engine is warned of, not refused.
    pub engine_digest: u64,
    /// Release of the program.
    pub release: String,
}

/// The limits of a transport; none of them is zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Links at once, in both directions together.
    pub links_max: usize,
    /// Incoming handshakes at once; further callers wait in the kernel's backlog.
    pub handshakes_max: usize,
    /// Incoming links that wait for [`accept`](sqlrep_core::Transport::accept); further ones wait in their handshake.
    pub arrivals_max: usize,
    /// How long a name may take to resolve and a connection to open.
    pub connect_timeout: Duration,
    /// How long a handshake may take, from its first byte to its last.
    pub handshake_timeout: Duration,
    /// A peer that takes no byte of a frame for this long loses its link, and so does one that the network
    /// doesn't reach for this long.
    pub write_stall_max: Duration,
    /// An idle link is probed this often by the kernel, so that a peer that vanished is noticed. In whole seconds, at least
    /// one.
    pub keepalive: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            links_max: 1024,
            handshakes_max: 64,
            arrivals_max: 64,
            connect_timeout: Duration::from_secs(3),
            handshake_timeout: Duration::from_secs(5),
            write_stall_max: Duration::from_secs(10),
            keepalive: Duration::from_secs(5),
        }
    }
}

/// What a transport did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Links there are now.
    pub links: u64,
    /// Bytes of frames received, lengths included.
    pub bytes_in: u64,
    /// Bytes of frames sent, lengths included.
    pub bytes_out: u64,
    /// Links refused by either side, asked for here or there.
    pub refused: u64,
}

/// The counts behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) links: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) refused: AtomicU64,
}

impl Counters {
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            links: self.links.load(Ordering::Relaxed),
            bytes_in: self.bytes_in.load(Ordering::Relaxed),
            bytes_out: self.bytes_out.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
        }
    }
}

/// Adds the bytes of a frame and its length.
pub(crate) fn count(counter: &AtomicU64, frame_bytes: usize) {
    counter.fetch_add(frame_bytes as u64 + 4, Ordering::Relaxed);
}
