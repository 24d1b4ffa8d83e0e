//! What can be set for a node. One type for flags, environment and file, so that the three can't drift apart.

use crate::address::Address;
use crate::logging::LogFormat;
use crate::span::Span;
use clap::{Args, ValueEnum};
use serde::Deserialize;
use sqlrep_core::NodeId;
use std::path::PathBuf;

/// How changes travel: a property of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// The log carries SQL, every node executes it
    Statement,
    /// The log carries changed pages, the leader executes
    Page,
}

impl Mode {
    /// The same, as a node is told.
    pub(crate) fn of_node(self) -> sqlrep_node::Mode {
        match self {
            Self::Statement => sqlrep_node::Mode::Statement,
            Self::Page => sqlrep_node::Mode::Page,
        }
    }
}

/// Times that suit a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Profile {
    /// Machines that share a disk or network with others: writes go on about 1.5 s after a leader is lost
    #[default]
    Standard,
    /// Quiet machines with fast disks: within 0.5 s
    Fast,
    /// Up to 150 ms for a round trip between the nodes, or 200 ms for a sync of the disk: within 4 s
    Wide,
}

/// Settings of a node. Each may also stand in the environment as SQLREP_<NAME> and in the file under its flag's name;
/// a flag wins over the environment, the environment over the file.
#[derive(Args, Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct NodeArguments {
    /// File with these settings, in TOML, each under its flag's name. Default: none
    #[arg(long, env = "SQLREP_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,

    /// How changes travel. Default: what the data directory holds, so it is needed at the first start only
    #[arg(long, env = "SQLREP_MODE")]
    pub(crate) mode: Option<Mode>,

    /// This node's number in the cluster, 0 to 9223372036854775807. Default: what the data directory holds, else
    /// drawn at random; a number of your own is easier to recognize
    #[arg(long, env = "SQLREP_NODE_ID", value_name = "NUMBER", value_parser = node_id)]
    #[serde(deserialize_with = "file_node_id")]
    pub(crate) node_id: Option<NodeId>,

    /// Folder for this node's data, made if missing. No default: where data lies is yours to say
    #[arg(long, env = "SQLREP_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// Address to listen on for clients. Default: 127.0.0.1:4001, the loopback because there is no TLS yet
    #[arg(long, env = "SQLREP_HTTP_ADDR", value_name = "HOST:PORT")]
    pub(crate) http_addr: Option<Address>,

    /// Address under which clients reach this node. Default: --http-addr; differs behind NAT or for 0.0.0.0
    #[arg(long, env = "SQLREP_HTTP_ADV_ADDR", value_name = "HOST:PORT")]
    pub(crate) http_adv_addr: Option<Address>,

    /// Origin whose pages may call this node from a browser, * for all. Default: none, no CORS header is sent
    #[arg(long, env = "SQLREP_HTTP_ALLOW_ORIGIN", value_name = "ORIGIN")]
    pub(crate) http_allow_origin: Option<String>,

    /// Address to listen on for the other nodes. Default: 127.0.0.1:4002, the loopback because there is no TLS yet
    #[arg(long, env = "SQLREP_RAFT_ADDR", value_name = "HOST:PORT")]
    pub(crate) raft_addr: Option<Address>,

    /// Address under which the other nodes reach this one. Default: --raft-addr; differs behind NAT or for 0.0.0.0
    #[arg(long, env = "SQLREP_RAFT_ADV_ADDR", value_name = "HOST:PORT")]
    pub(crate) raft_adv_addr: Option<Address>,

    /// Raft addresses of the nodes to join, separated by commas; this node's own may be among them. Default: none,
    /// a node on its own
    #[arg(
        long,
        env = "SQLREP_JOIN",
        value_name = "HOST:PORT,…",
        value_delimiter = ','
    )]
    pub(crate) join: Vec<Address>,

    /// Form a new cluster of this many nodes once all of --join are there and empty. Default: none, so that a node
    /// that lost its disk never forms a second cluster by itself
    #[arg(long, env = "SQLREP_BOOTSTRAP_EXPECT", value_name = "NODES")]
    pub(crate) bootstrap_expect: Option<u32>,

    /// Join as a read replica, without a vote. Default: false, since votes are what survives a lost machine
    #[arg(long, env = "SQLREP_NON_VOTER", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) non_voter: Option<bool>,

    /// Times that suit this machine. Default: standard, which survives a busy disk without elections
    #[arg(long, env = "SQLREP_PROFILE")]
    pub(crate) profile: Option<Profile>,

    /// Bytes of changed pages held in memory between checkpoints. Default: 134217728 (128 MiB), a few seconds of
    /// heavy writing
    #[arg(long, env = "SQLREP_VERSION_MEMORY", value_name = "BYTES")]
    pub(crate) version_memory: Option<u64>,

    /// Bytes that one transaction holds in memory, its journal and sorts included; more goes to scratch files. Default:
    /// 33554432 (32 MiB), hardly a transaction is larger
    #[arg(long, env = "SQLREP_TRANSACTION_MEMORY", value_name = "BYTES")]
    pub(crate) transaction_memory: Option<u64>,

    /// Bytes of old pages on disk for readers that outlive a checkpoint. Default: 4294967296 (4 GiB), the longest
    /// backup that still ends by itself
    #[arg(long, env = "SQLREP_SPILL_LIMIT", value_name = "BYTES")]
    pub(crate) spill_limit: Option<u64>,

    /// Connections that read at the same time. Default: 4, about one per core of a small machine
    #[arg(long, env = "SQLREP_READERS", value_name = "CONNECTIONS")]
    pub(crate) readers: Option<usize>,

    /// Queries that wait for one of these connections; one more is answered 429 at once. Default: 4096, what as many
    /// clients ask at the same time
    #[arg(long, env = "SQLREP_READ_QUEUE", value_name = "QUERIES")]
    pub(crate) read_queue: Option<usize>,

    /// Writes that wait on the leader for a place in the log; one more is answered 429 at once. Default: 16384, a second
    /// of writing on a fast disk
    #[arg(long, env = "SQLREP_QUEUE", value_name = "WRITES")]
    pub(crate) queue: Option<usize>,

    /// Connections of clients at the same time; one more is answered 503 at once. Default: 4096, each takes a file
    /// descriptor
    #[arg(long, env = "SQLREP_CONNECTIONS", value_name = "CONNECTIONS")]
    pub(crate) connections: Option<usize>,

    /// Entries kept in the log behind the last checkpoint, for nodes that were away; one that needs older ones is sent
    /// a snapshot. Default: 100000, minutes of writing
    #[arg(long, env = "SQLREP_LOG_RETENTION_ENTRIES", value_name = "ENTRIES")]
    pub(crate) log_retention_entries: Option<u64>,

    /// And bytes of them, whichever is less. Default: 67108864 (64 MiB), what a snapshot of a small database costs
    #[arg(long, env = "SQLREP_LOG_RETENTION_BYTES", value_name = "BYTES")]
    pub(crate) log_retention_bytes: Option<u64>,

    /// And bytes that a node which is slow, or takes in a snapshot, can hold; then it is cut off and sent a new one.
    /// Default: 1073741824 (1 GiB), minutes of a disk's writing; at least --log-retention-bytes
    #[arg(long, env = "SQLREP_LOG_RETENTION_MAX", value_name = "BYTES")]
    pub(crate) log_retention_max: Option<u64>,
    /// Each sync of the disk lasts at least this long, in us, ms or s: shows on a fast disk how a cluster behaves on a
    /// slow one. Default: as long as it takes
    #[arg(long, env = "SQLREP_SYNC_FLOOR", value_name = "TIME")]
    pub(crate) sync_floor: Option<Span>,

    /// Cluster setting: bytes of a database page, a power of two from 512 to 65536. Default: 4096, SQLite's own
    #[arg(long, env = "SQLREP_PAGE_SIZE", value_name = "BYTES", help_heading = CLUSTER)]
    pub(crate) page_size: Option<u32>,

    /// Cluster setting: whether foreign keys are enforced. Default: false, as in SQLite
    #[arg(long, env = "SQLREP_FOREIGN_KEYS", num_args = 0..=1, require_equals = true, default_missing_value = "true",
          help_heading = CLUSTER)]
    pub(crate) foreign_keys: Option<bool>,

    /// Cluster setting: bytes of the largest request, text and values. Default: 8388608 (8 MiB); it travels in one
    /// log entry
    #[arg(long, env = "SQLREP_REQUEST_LIMIT", value_name = "BYTES", help_heading = CLUSTER)]
    pub(crate) request_limit: Option<u64>,

    /// Cluster setting: steps of SQLite's virtual machine that a writing request may take. Default: 500000000, seconds
    /// of work on every node; counted in steps since clocks differ between nodes
    #[arg(long, env = "SQLREP_STEP_BUDGET", value_name = "STEPS", help_heading = CLUSTER)]
    pub(crate) step_budget: Option<u64>,

    /// Cluster setting: distinct pages that a transaction may change. Default: 65536, 256 MiB at 4096 bytes
    #[arg(long, env = "SQLREP_TRANSACTION_LIMIT", value_name = "PAGES", help_heading = CLUSTER)]
    pub(crate) transaction_limit: Option<u32>,

    /// Cluster setting: entries for which an idempotency key is kept at least. Default: 1000000, hours of writing in
    /// single requests: a client that asks again within them gets its first answer
    #[arg(long, env = "SQLREP_KEY_RETENTION_ENTRIES", value_name = "ENTRIES", help_heading = CLUSTER)]
    pub(crate) key_retention_entries: Option<u64>,

    /// Cluster setting: bytes of idempotency keys and their replies that are kept beyond that. Default: 67108864
    /// (64 MiB); in memory on every node, and written with each checkpoint that finds new ones
    #[arg(long, env = "SQLREP_KEY_TABLE_BYTES", value_name = "BYTES", help_heading = CLUSTER)]
    pub(crate) key_table_bytes: Option<u64>,

    /// Cluster setting by its name in /status, as NAME=VALUE with a number, true or false, such as
    /// SQLite's limits. May be repeated. Default: SQLite's limits, lowered where a client could
    /// exhaust a node
    #[arg(long, env = "SQLREP_SETTING", value_name = "NAME=VALUE", value_delimiter = ',', help_heading = CLUSTER)]
    pub(crate) setting: Vec<Setting>,

    /// How a log line looks. Default: text
    #[arg(long, env = "SQLREP_LOG_FORMAT")]
    pub(crate) log_format: Option<LogFormat>,

    /// What is logged: error, warn, info, debug, trace, or a filter such as warn,sqlrep_core=debug. Default: warn, so
    /// that a healthy node is silent
    #[arg(long, env = "SQLREP_LOG_LEVEL", value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,

    /// Stop in order when standard input ends: a parent process that dies takes its nodes along. Default: false
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", hide = true)]
    #[serde(skip)]
    pub(crate) stop_with_stdin: Option<bool>,
}

const CLUSTER: &str = "Cluster settings (equal on every node, fixed when the cluster is formed)";

fn node_id(text: &str) -> Result<NodeId, String> {
    let refused = || {
        format!(
            "{text:?} is no node id; choose a number from 0 to {}",
            NodeId::MAX
        )
    };
    text.parse().ok().and_then(NodeId::new).ok_or_else(refused)
}

/// As [`node_id`], so that both ways tell the same; TOML's own numbers end at the same place.
fn file_node_id<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<NodeId>, D::Error> {
    let number = i64::deserialize(from)?;
    node_id(&number.to_string())
        .map(Some)
        .map_err(serde::de::Error::custom)
}

/// A cluster setting by name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Setting {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl TryFrom<String> for Setting {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl std::str::FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refused = || format!("{text:?} is no NAME=VALUE; write for example foreign_keys=true");
        let (name, value) = text.split_once('=').ok_or_else(refused)?;
        let word = |text: &str| {
            !text.is_empty()
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
        };
        if word(name) && word(value) {
            Ok(Self {
                name: name.to_owned(),
                value: value.to_owned(),
            })
        } else {
            Err(refused())
        }
    }
}

impl NodeArguments {
    /// These, and from `file` what isn't set here.
    pub(crate) fn over(self, file: Self) -> Self {
        let list = |own: Vec<Address>, other| if own.is_empty() { other } else { own };
        Self {
            config: self.config,
            mode: self.mode.or(file.mode),
            node_id: self.node_id.or(file.node_id),
            data_dir: self.data_dir.or(file.data_dir),
            http_addr: self.http_addr.or(file.http_addr),
            http_adv_addr: self.http_adv_addr.or(file.http_adv_addr),
            http_allow_origin: self.http_allow_origin.or(file.http_allow_origin),
            raft_addr: self.raft_addr.or(file.raft_addr),
            raft_adv_addr: self.raft_adv_addr.or(file.raft_adv_addr),
            join: list(self.join, file.join),
            bootstrap_expect: self.bootstrap_expect.or(file.bootstrap_expect),
            non_voter: self.non_voter.or(file.non_voter),
            profile: self.profile.or(file.profile),
            version_memory: self.version_memory.or(file.version_memory),
            transaction_memory: self.transaction_memory.or(file.transaction_memory),
            spill_limit: self.spill_limit.or(file.spill_limit),
            readers: self.readers.or(file.readers),
            read_queue: self.read_queue.or(file.read_queue),
            queue: self.queue.or(file.queue),
            connections: self.connections.or(file.connections),
            log_retention_entries: self.log_retention_entries.or(file.log_retention_entries),
            log_retention_bytes: self.log_retention_bytes.or(file.log_retention_bytes),
            log_retention_max: self.log_retention_max.or(file.log_retention_max),
            sync_floor: self.sync_floor.or(file.sync_floor),
            page_size: self.page_size.or(file.page_size),
            foreign_keys: self.foreign_keys.or(file.foreign_keys),
            request_limit: self.request_limit.or(file.request_limit),
            step_budget: self.step_budget.or(file.step_budget),
            transaction_limit: self.transaction_limit.or(file.transaction_limit),
            key_retention_entries: self.key_retention_entries.or(file.key_retention_entries),
            key_table_bytes: self.key_table_bytes.or(file.key_table_bytes),
            setting: if self.setting.is_empty() {
                file.setting
            } else {
                self.setting
            },
            log_format: self.log_format.or(file.log_format),
            log_level: self.log_level.or(file.log_level),
            stop_with_stdin: self.stop_with_stdin,
        }
    }
}
