//! Asking how a node is, and changing who belongs to the cluster.

use async_trait::async_trait;
use serde::Serialize;
use sqlrep_core::{ClusterId, Comparison, DirectoryId, EntryId, LogIndex, NodeId, Retry, Term};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a node is in Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Role {
    /// Leads.
    Leader,
    /// Follows.
    Follower,
    /// Stands for election.
    Candidate,
    /// Follows without a vote: a read replica.
    Learner,
    /// Stopped.
    Shutdown,
}

/// One member as this node sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeStatus {
    /// Who.
    pub id: NodeId,
    /// `host:port` for the other members.
    pub raft_address: String,
    /// `host:port` for clients; none if it couldn't be asked.
    pub http_address: Option<String>,
    /// Its release; none if it couldn't be asked.
    pub version: Option<String>,
    /// Whether it votes.
    pub voter: bool,
    /// Whether it answered.
    pub reachable: bool,
    /// Whether it leads.
    pub leader: bool,
    /// How long its answer took.
    pub took: Option<Duration>,
    /// Why it didn't answer.
    pub error: Option<String>,
}

/// The log as `/status` shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LogStatus {
    /// Last entry.
    pub last: Option<EntryId>,
    /// Last committed index that this node knows.
    pub committed: Option<LogIndex>,
    /// Last entry that this node's database contains.
    pub applied: Option<EntryId>,
    /// Entry that a restart begins from.
    pub durable: Option<EntryId>,
    /// Last deleted entry.
    pub purged: Option<EntryId>,
    /// Entries that are committed and that Raft hasn't handed to the database yet.
    pub unapplied: u64,
    /// Bytes of the log's files.
    pub bytes: u64,
}

/// SQLite and its database.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SqliteStatus {
    /// SQLite's version.
    pub version: String,
    /// How it was built.
    pub compile_options: Vec<String>,
    /// Bytes of a page.
    pub page_bytes: u32,
    /// Pages of the database.
    pub pages: u32,
    /// The database file, as the last checkpoint left it.
    pub path: String,
    /// Bytes of that file.
    pub file_bytes: u64,
    /// Bytes of the log behind it: what a restart applies again.
    pub log_bytes_behind: u64,
    /// Connections that read, and how many of them are at work.
    pub readers: (usize, usize),
    /// What connections that read answer to pragmas, by name.
    pub reading_pragmas: BTreeMap<String, String>,
    /// And the one that writes.
    pub writing_pragmas: BTreeMap<String, String>,
    /// Bytes of page versions held in memory.
    pub version_bytes: u64,
    /// Whole-database checksum at `LogStatus::applied`.
    pub checksum: u64,
}

/// How long something took, as Prometheus counts it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Histogram {
    /// Upper bounds in seconds, ascending.
    pub bounds_seconds: Vec<f64>,
    /// Observations at or below each bound; one more: all of them.
    pub counts: Vec<u64>,
    /// All observations together, in seconds.
    pub sum_seconds: f64,
}

/// Everything a node tells about itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Status {
    /// Who.
    pub node: NodeId,
    /// Its data directory.
    pub directory: DirectoryId,
    /// Its cluster; zero before one is formed.
    pub cluster: ClusterId,
    /// `statement` or `page`.
    pub mode: String,
    /// `host:port` for the other members.
    pub raft_address: String,
    /// `host:port` for clients.
    pub http_address: String,
    /// What it is.
    pub role: Role,
    /// Whether it votes.
    pub voter: bool,
    /// Its term.
    pub term: Term,
    /// Who leads, as far as this node knows.
    pub leader: Option<NodeStatus>,
    /// Time since the leader was last heard of; zero on the leader, none if never.
    pub last_contact: Option<Duration>,
    /// Members, by id.
    pub members: Vec<NodeStatus>,
    /// Why this node's state isn't trusted, so that it serves nothing until it is repaired; none if it is.
    pub out_of_service: Option<String>,
    /// Why this node's state may be wrong, while that is being judged.
    pub in_doubt: Option<String>,
    /// The log.
    pub log: LogStatus,
    /// The database.
    pub sqlite: SqliteStatus,
    /// Replicated cluster settings by name.
    pub settings: BTreeMap<String, String>,
    /// Counters and gauges by name, as `/metrics` shows them.
    pub metrics: BTreeMap<String, f64>,
    /// Latencies by name, as `/metrics` shows them.
    pub histograms: BTreeMap<String, Histogram>,
    /// Milliseconds since the Unix epoch at which the node started.
    pub started_unix_ms: u64,
    /// Time since then.
    pub uptime: Duration,
    /// The data directory's path.
    pub directory_path: String,
}

/// Whether a node can serve, each point by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// A leader is known.
    pub leader: bool,
    /// The leader answers; else why not.
    pub leader_contact: Result<(), String>,
    /// What was committed before the start is applied.
    pub store: bool,
    /// With `sync`: what the leader had committed is applied here; else why not.
    pub sync: Option<Result<(), String>>,
    /// A local `SELECT 1`; else why not.
    pub database: Result<(), String>,
}

/// Why an administrative call failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdminError {
    /// Nobody leads.
    #[error("leader not found")]
    NoLeader,
    /// No such member.
    #[error("node {0} not found in cluster")]
    UnknownNode(String),
    /// The node named leads already.
    #[error("cannot step down to the current Leader")]
    AlreadyLeader,
    /// It isn't known whether it was done.
    #[error("timeout after {0:?}")]
    Timeout(Duration),
    /// It can't be done; says why.
    #[error("{0}")]
    Refused(String),
}

impl AdminError {
    /// Whether the same call may be made again.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::NoLeader => Retry::Safe,
            Self::Timeout(_) => Retry::Ambiguous,
            Self::UnknownNode(_) | Self::AlreadyLeader | Self::Refused(_) => Retry::Useless,
        }
    }
}

/// One node's administration.
#[async_trait]
pub trait Admin: Send + Sync {
    /// How this node is. Never waits for the network.
    fn status(&self) -> Status;

    /// What this node is. Cheap enough for each request.
    fn role(&self) -> Role;

    /// Its cluster; zero before one is formed. As cheap.
    fn cluster(&self) -> ClusterId;

    /// All members, each asked for its addresses and answering within `wait_max`.
    async fn nodes(&self, wait_max: Duration) -> Vec<NodeStatus>;

    /// Whether this node can serve. `sync` also waits until the leader's commit index is applied.
    async fn health(&self, sync: bool, wait_max: Duration) -> Health;

    /// Who leads, with its client address, if it can be learnt.
    async fn leader(&self, wait_max: Duration) -> Option<NodeStatus>;

    /// Every member's checksum at one entry, asked for a few times within `wait_max`. A member that differs judges itself
    /// from then on.
    async fn compare(&self, wait_max: Duration) -> Comparison;

    /// Removes a member; no error if it is none.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    async fn remove(&self, node: NodeId, wait_max: Duration) -> Result<(), AdminError>;

    /// Hands leadership to `to`, or to the most caught-up voter.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    async fn step_down(&self, to: Option<NodeId>, wait_max: Duration) -> Result<(), AdminError>;
}
