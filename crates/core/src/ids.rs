//! Names for positions in the log and for members of the cluster.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A member of the cluster, 0 to 2^63-1, so that it fits SQLite's and JSON readers' signed integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct NodeId(u64);

/// A number beyond what ids, terms and indexes may be. All three end at 2^63-1, so that they fit SQLite's
/// and JSON readers' signed integers and that counting on never overflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{number} is no {what}: they end at 9223372036854775807")]
pub struct OutOfRange {
    /// What it was given as.
    pub what: &'static str,
    /// What was given.
    pub number: u64,
}

fn bounded(what: &'static str, number: u64) -> Result<u64, OutOfRange> {
    if number <= NodeId::MAX.0 {
        Ok(number)
    } else {
        Err(OutOfRange { what, number })
    }
}

impl TryFrom<u64> for NodeId {
    type Error = OutOfRange;

    fn try_from(number: u64) -> Result<Self, OutOfRange> {
        bounded("node id", number).map(Self)
    }
}

impl From<NodeId> for u64 {
    fn from(node: NodeId) -> Self {
        node.0
    }
}

impl NodeId {
    /// The largest id.
    pub const MAX: Self = Self(i64::MAX.cast_unsigned());

    /// None if `id` is above [`MAX`](Self::MAX).
    #[must_use]
    pub const fn new(id: u64) -> Option<Self> {
        if id <= Self::MAX.0 {
            Some(Self(id))
        } else {
            None
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One data directory, drawn at random when it is made. A node id that comes back with another directory
/// id has lost or copied its disk and must not vote under its old name.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct DirectoryId(pub u64);

impl fmt::Display for DirectoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One cluster, drawn at random when it is formed; zero before.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ClusterId(pub u64);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A Raft term.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "u64", into = "u64")]
pub struct Term(pub u64);

impl TryFrom<u64> for Term {
    type Error = OutOfRange;

    fn try_from(number: u64) -> Result<Self, OutOfRange> {
        bounded("term", number).map(Self)
    }
}

impl From<Term> for u64 {
    fn from(term: Term) -> Self {
        term.0
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A position in the log. Index 0 is an entry (the first membership); "nothing" is an `Option`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "u64", into = "u64")]
pub struct LogIndex(pub u64);

impl TryFrom<u64> for LogIndex {
    type Error = OutOfRange;

    fn try_from(number: u64) -> Result<Self, OutOfRange> {
        bounded("log index", number).map(Self)
    }
}

impl From<LogIndex> for u64 {
    fn from(index: LogIndex) -> Self {
        index.0
    }
}

impl LogIndex {
    /// The position behind this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where an entry stands. One leader per term, so an entry's id needs no node. The order is the log's.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct EntryId {
    /// Term of the leader that wrote it.
    pub term: Term,
    /// Position.
    pub index: LogIndex,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.index)
    }
}

/// How to reach a member, and which data directory it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// `host:port` for the other members.
    pub raft: String,
    /// `host:port` for clients.
    pub http: String,
    /// Its data directory.
    pub directory: DirectoryId,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.raft)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ids_end_at_2_to_the_63() {
        assert_eq!(NodeId::new(0).map(NodeId::get), Some(0));
        assert_eq!(NodeId::new(i64::MAX as u64), Some(NodeId::MAX));
        assert_eq!(NodeId::new(i64::MAX as u64 + 1), None);
    }
}
