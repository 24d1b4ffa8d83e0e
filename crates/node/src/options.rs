//! What a node is started with.

use crate::NodeError;
use sqlrep_core::{NodeId, Settings, Transport};
use sqlrep_disk::Disk;
use sqlrep_env::Env;
use sqlrep_replica::CheckpointPolicy;
use sqlrep_sql::Functions;
use sqlrep_transport_tcp::Sockets;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// How changes travel: a property of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The log carries SQL, every node executes it.
    Statement,
    /// The log carries changed pages, the leader executes.
    Page,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Statement => "statement",
            Self::Page => "page",
        })
    }
}

impl FromStr for Mode {
    type Err = NodeError;

    fn from_str(text: &str) -> Result<Self, NodeError> {
        match text {
            "statement" => Ok(Self::Statement),
            "page" => Ok(Self::Page),
            other => Err(NodeError::refused(format!(
                "{other:?} is no mode; they are statement and page"
            ))),
        }
    }
}

/// Times that suit a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// Machines that share a disk or a network with others: writes go on about 1.5 s after a leader is lost.
    #[default]
    Standard,
    /// Quiet machines with fast disks: within 0.5 s.
    Fast,
    /// Up to 150 ms for a round trip between the nodes, or 200 ms for a sync: within 4 s.
    Wide,
}

impl Profile {
    pub(crate) fn settings(self) -> Settings {
        match self {
            Self::Standard => Settings::default(),
            Self::Fast => Settings::fast(),
            Self::Wide => Settings::wide(),
        }
    }
}

/// A network that isn't this machine's.
#[derive(Clone)]
pub enum Net {
    /// Links as they are, without handshake.
    Links(Arc<dyn Transport>),
    /// Sockets; the node's own handshake and frames run on them.
    Sockets(Arc<dyn Sockets>),
}

/// Where a node's disk, time and network come from, if not from this machine: for simulations, and for several
/// nodes in one process without sockets.
#[derive(Clone)]
pub struct Surroundings {
    /// The data directory.
    pub disk: Arc<dyn Disk>,
    /// Towards the other nodes.
    pub network: Net,
    /// Time, randomness, threads.
    pub env: Env,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Surroundings")
    }
}

/// Everything a node is started with. The same options start and restart it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NodeOptions {
    /// The data directory.
    pub directory: PathBuf,
    /// The cluster's mode; none: what the directory holds.
    pub mode: Option<Mode>,
    /// This node; none: what the directory holds, else drawn.
    pub node_id: Option<NodeId>,
    /// `host:port` to listen on for the other nodes.
    pub raft_address: String,
    /// `host:port` under which the others reach it; none: as listened on.
    pub raft_advertised: Option<String>,
    /// `host:port` under which clients reach this node: what `/nodes` and redirects show.
    pub http_advertised: String,
    /// Raft addresses of members to join, the own one may be among them.
    pub join: Vec<String>,
    /// Form a cluster of this many nodes once all of `join` are reached and empty.
    pub bootstrap_expect: Option<u32>,
    /// False: a read replica.
    pub voter: bool,
    /// Cluster settings by name; what isn't named is as the cluster has it, or its default.
    pub cluster_settings: BTreeMap<String, String>,
    /// Times.
    pub profile: Profile,
    /// Bytes of page images in memory. Default 128 MiB.
    pub version_bytes_max: u64,
    /// Bytes that a transaction holds in memory, its journal and temporary files included; more goes to scratch files. Default
    /// 32 MiB.
    pub transaction_bytes_max: u64,
    /// Bytes of page images in the spill file. Default 4 GiB.
    pub spill_bytes_max: u64,
    /// Reader connections. Default 4.
    pub readers: usize,
    /// Queries that wait for a reader; one more is refused at once. Default 4,096.
    pub read_queue_max: usize,
    /// Writes that wait on the leader to be proposed; one more is refused at once. Default 16,384.
    pub queue_requests_max: usize,
    /// Requests that the leader puts into one entry of the log, at most. Default 4,096; 1 switches group commit off.
    pub gather_requests_max: usize,
    /// Entries of the leader that wait to be applied, at most. Default 3: one is applied, one synced, one gathered.
    pub in_flight_entries_max: usize,
    /// So many entries stay in the log behind what is durable, for nodes that were away; one that needs older
    /// ones is sent a snapshot. Default 100,000.
    pub log_retention_entries: u64,
    /// And so many bytes of them; whichever is less. Default 64 MiB.
    pub log_retention_bytes: u64,
    /// So many bytes of it can a node hold that is slow or takes in a snapshot; then it is cut off and sent a new one
    /// (safety rule 17). Never less than what stays anyway. Default 1 GiB.
    pub log_retention_max_bytes: u64,
    /// Length of a segment file of the log. Default 64 MiB.
    pub log_segment_bytes: u64,
    /// When the state is written into the database file.
    pub checkpoint: CheckpointPolicy,
    /// Functions of the program's own, on every connection of the node. Page mode alone: in statement mode every node would have
    /// to compute the same, which can't be checked.
    pub functions: Functions,
    /// How long a node tries to enter a cluster before it gives up. Default ten years: as long as it takes.
    pub enter_wait_max: Duration,
    /// Each sync of this machine's disk lasts at least this long: shows on a fast disk how a cluster behaves on a slow
    /// one. None, the default: as long as it takes.
    pub sync_floor: Option<Duration>,
    /// None: this machine.
    pub surroundings: Option<Surroundings>,
}

impl NodeOptions {
    /// A lone node on loopback with free ports, its data in `directory`.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let settings = Settings::default();
        Self {
            directory: directory.into(),
            mode: None,
            node_id: None,
            raft_address: "127.0.0.1:0".to_owned(),
            raft_advertised: None,
            http_advertised: String::new(),
            join: Vec::new(),
            bootstrap_expect: None,
            voter: true,
            cluster_settings: BTreeMap::new(),
            profile: Profile::Standard,
            version_bytes_max: 128 << 20,
            transaction_bytes_max: 32 << 20,
            spill_bytes_max: 4 << 30,
            readers: 4,
            read_queue_max: 4096,
            queue_requests_max: settings.queue_requests_max,
            gather_requests_max: settings.gather_requests_max,
            in_flight_entries_max: settings.in_flight_entries_max,
            log_retention_entries: settings.log_retention_entries,
            log_retention_bytes: settings.log_retention_bytes,
            log_retention_max_bytes: settings.log_retention_max_bytes,
            log_segment_bytes: 64 << 20,
            checkpoint: CheckpointPolicy::default(),
            functions: Functions::default(),
            enter_wait_max: Duration::from_secs(10 * 365 * 24 * 3600),
            sync_floor: None,
            surroundings: None,
        }
    }

    /// What the member is tuned by. What a snapshot on its way holds is never less than what stays anyway.
    pub(crate) fn settings(&self) -> Settings {
        let mut settings = self.profile.settings();
        settings.log_retention_entries = self.log_retention_entries;
        settings.log_retention_bytes = self.log_retention_bytes;
        settings.queue_requests_max = self.queue_requests_max;
        settings.gather_requests_max = self.gather_requests_max;
        settings.in_flight_entries_max = self.in_flight_entries_max;
        settings.log_retention_max_bytes =
            self.log_retention_max_bytes.max(self.log_retention_bytes);
        settings
    }

    /// Whether what is registered suits the mode.
    pub(crate) fn check_functions(&self, mode: Mode) -> Result<(), NodeError> {
        match self.functions.first() {
            Some(name) if mode == Mode::Statement => Err(NodeError::refused(format!(
                "the function {name} can't be registered in statement mode: every node executes each write there and would \
                 have to get the same from it, which sqlrep can't check; use page mode, where the leader alone executes"
            ))),
            _ => Ok(()),
        }
    }

    /// What can be told without looking at the machine.
    pub(crate) fn check(&self) -> Result<(), NodeError> {
        let functions = self.functions.check();
        functions.map_err(|failure| NodeError::refused(failure.to_string()))?;
        self.mode
            .map_or(Ok(()), |mode| self.check_functions(mode))?;
        let distinct: BTreeSet<&String> = self.join.iter().collect();
        if distinct.len() < self.join.len() {
            return Err(NodeError::refused(
                "an address stands twice in --join; each node has its own",
            ));
        }
        let Some(expect) = self.bootstrap_expect else {
            return Ok(());
        };
        let named = self.join.len();
        if usize::try_from(expect) != Ok(named) {
            return Err(NodeError::refused(format!(
                "--bootstrap-expect is {expect} and --join names {named} addresses; name all {expect}, \
                 this node's own too"
            )));
        }
        if !self.voter {
            return Err(NodeError::refused(
                "--non-voter and --bootstrap-expect contradict each other: founding members vote",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rule 17: how much of the log stays is the operator's to say, and never more than what is held for a snapshot.
    #[test]
    fn retention_reaches_the_member() {
        let standard = NodeOptions::new("x");
        assert_eq!(standard.settings(), Settings::default());
        let long = NodeOptions {
            log_retention_entries: 7,
            log_retention_bytes: 2 << 30,
            ..standard
        };
        let settings = long.settings();
        assert_eq!(settings.log_retention_entries, 7);
        assert_eq!(settings.log_retention_bytes, 2 << 30);
        assert_eq!(settings.log_retention_max_bytes, 2 << 30);
    }

    #[test]
    fn contradictions_are_refused_by_name() {
        let options = |join: &[&str], expect, voter| NodeOptions {
            join: join.iter().map(|one| (*one).to_owned()).collect(),
            bootstrap_expect: expect,
            voter,
            ..NodeOptions::new("x")
        };
        let text = |options: NodeOptions| options.check().unwrap_err().to_string();
        assert!(text(options(&["a:1", "a:1"], None, true)).contains("twice"));
        assert!(text(options(&["a:1"], Some(3), true)).contains("names 1"));
        assert!(text(options(&["a:1"], Some(1), false)).contains("--non-voter"));
        assert!(
            options(&["a:1", "b:1", "c:1"], Some(3), true)
                .check()
                .is_ok()
        );
        assert!(options(&["a:1"], None, false).check().is_ok());
    }
}
