//! The command line as clap reads it.

use crate::client::Target;
use crate::node::{Mode, NodeArguments};
use crate::shell::{Format, Level};
use crate::span::Span;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// SQLite that survives losing machines.
#[derive(Debug, Parser)]
#[command(name = "sqlrep", version, propagate_version = true)]
pub(crate) struct Program {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node
    Node(Box<NodeArguments>),
    /// Run a cluster on this machine, to try things; Ctrl-C stops it
    Cluster(ClusterArguments),
    /// Speak SQL to a node
    Shell(ShellArguments),
    /// Tell how a node and its cluster are
    Status(StatusArguments),
    /// Check a stopped node's data directory, or whether a cluster's replicas are equal
    Check(CheckArguments),
    /// Measure sqlrep on this machine
    #[command(subcommand)]
    Bench(Bench),
}

/// What is measured.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Bench {
    /// The durable log, beside raw writes and syncs
    Log(MeasureArguments),
    /// SQLite on the page store, beside plain SQLite
    Store(MeasureArguments),
    /// A node in one process without HTTP, beside plain SQLite
    Embedded(EmbeddedArguments),
    /// Three nodes over HTTP, beside raw writes and syncs and plain SQLite
    Http(HttpArguments),
    /// Statement mode and page mode side by side, beside plain SQLite and raw writes and syncs
    Modes(ModesArguments),
    /// Transactions much larger than memory on three nodes: an INSERT, an UPDATE of every row, a VACUUM
    Large(LargeArguments),
}

/// Flags of `sqlrep bench` for what is measured in rounds.
#[derive(Args, Clone, Debug)]
pub(crate) struct MeasureArguments {
    /// Folder on the disk in question. Default: this one
    #[arg(
        long,
        value_name = "DIR",
        default_value = ".",
        hide_default_value = true
    )]
    pub(crate) dir: PathBuf,

    /// Rounds. Default: 9, for medians that hold on a busy machine
    #[arg(long, default_value_t = 9, value_parser = rounds, hide_default_value = true)]
    pub(crate) rounds: usize,

    /// How long each part of a round runs, in ms. Default: 1000
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=60_000), hide_default_value = true)]
    pub(crate) slice_ms: u64,

    /// Each sync lasts at least this long, in us, ms or s, the baselines' too. Default: as long as it takes, and for
    /// writes over HTTP each floor that a target names
    #[arg(long, value_name = "TIME")]
    pub(crate) sync_floor: Option<Span>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `sqlrep bench embedded`.
#[derive(Args, Clone, Debug)]
pub(crate) struct EmbeddedArguments {
    #[command(flatten)]
    pub(crate) measure: MeasureArguments,

    /// How changes travel. Default: statement
    #[arg(long, default_value = "statement", hide_default_value = true)]
    pub(crate) mode: Mode,

    /// Measure these parts alone, separated by commas. Default: all
    #[arg(long, value_name = "PART,…", value_delimiter = ',')]
    pub(crate) only: Vec<EmbeddedPart>,
}

/// A part of `sqlrep bench embedded`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum EmbeddedPart {
    /// Reads and writes of one thread on a lone node
    Node,
    /// Both modes' state machines: bytes in the log, and how fast a follower applies
    Machines,
    /// Three nodes with group commit and without
    Gathering,
    /// A reader beside 64 writing clients
    Readers,
}

/// Flags of `sqlrep bench http`.
#[derive(Args, Clone, Debug)]
pub(crate) struct HttpArguments {
    #[command(flatten)]
    pub(crate) measure: MeasureArguments,

    /// How changes travel. Default: statement
    #[arg(long, default_value = "statement", hide_default_value = true)]
    pub(crate) mode: Mode,

    /// Measure these parts alone, separated by commas. Default: all
    #[arg(long, value_name = "PART,…", value_delimiter = ',')]
    pub(crate) only: Vec<HttpPart>,

    /// Leaders to kill. Default: 20
    #[arg(long, default_value_t = 20, value_parser = rounds, hide_default_value = true)]
    pub(crate) kills: usize,

    /// Size of the database that a node is restarted with, in MB. Default: 200
    #[arg(long, value_name = "MB", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=100_000), hide_default_value = true)]
    pub(crate) database_mb: u64,

    /// How long it is loaded before, in s. Default: 60
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400), hide_default_value = true)]
    pub(crate) load_s: u64,
}

/// Flags of `sqlrep bench modes`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ModesArguments {
    #[command(flatten)]
    pub(crate) measure: MeasureArguments,

    /// Compare these kinds of work alone, separated by commas. Default: all
    #[arg(long, value_name = "WORK,…", value_delimiter = ',')]
    pub(crate) work: Vec<WorkKind>,

    /// Numbers of clients at once, separated by commas, each from 1 to 4096. Default: 1,16,64,256
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,16,64,256", value_parser = clients, hide_default_value = true)]
    pub(crate) clients: Vec<usize>,

    /// Compare here alone, separated by commas. Default: both
    #[arg(long, value_name = "PLACE,…", value_delimiter = ',')]
    pub(crate) place: Vec<PlaceKind>,

    /// What a relay adds to each direction between nodes, in us, ms or s. Default: nothing, and no relay
    #[arg(long, value_name = "TIME")]
    pub(crate) delay: Option<Span>,

    /// Write a page with charts for a browser
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// Flags of `sqlrep bench large`.
#[derive(Args, Clone, Debug)]
pub(crate) struct LargeArguments {
    /// Folder on the disk in question, with room for about twelve times the table. Default: this one
    #[arg(
        long,
        value_name = "DIR",
        default_value = ".",
        hide_default_value = true
    )]
    pub(crate) dir: PathBuf,

    /// How changes travel. Default: statement
    #[arg(long, default_value = "statement", hide_default_value = true)]
    pub(crate) mode: Mode,

    /// Size of the table, in MiB. Default: 1024
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=65_536), hide_default_value = true)]
    pub(crate) mib: u64,

    /// Bytes of changed pages that each node holds in memory. Default: a node's own
    #[arg(long, value_name = "BYTES")]
    pub(crate) version_memory: Option<u64>,

    /// Bytes of a transaction that each node holds in memory. Default: a node's own
    #[arg(long, value_name = "BYTES")]
    pub(crate) transaction_memory: Option<u64>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// Work of `sqlrep bench modes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum WorkKind {
    /// INSERT of one row
    Insert,
    /// INSERT of one row with a random index
    Index,
    /// UPDATE of one of 100,000 rows
    Update,
    /// Transactions of 10 INSERTs
    Small,
    /// Transactions of 1,000 INSERTs
    Bulk,
    /// Nine point SELECTs for each UPDATE
    Mixed,
}

/// Where `sqlrep bench modes` runs nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PlaceKind {
    /// Three processes, over HTTP
    Http,
    /// Three nodes in one process
    Embedded,
}

fn clients(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(clients @ 1..=4096) => Ok(clients),
        _ => Err("give a number from 1 to 4096".to_owned()),
    }
}

/// A part of `sqlrep bench http`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HttpPart {
    /// One-row INSERTs of 1 and 64 clients
    Writes,
    /// Point SELECTs at each level
    Reads,
    /// kill -9 of the leader
    Kills,
    /// Restart with a large database
    Restart,
}

fn rounds(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(rounds @ 1..=1000) => Ok(rounds),
        _ => Err("give a number from 1 to 1000".to_owned()),
    }
}

/// Flags of `sqlrep cluster`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ClusterArguments {
    /// Nodes of the cluster, 1 to 9. Default: 3, which survives one lost node
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=9), hide_default_value = true)]
    pub(crate) nodes: u32,

    /// How changes travel. Default: statement
    #[arg(long, default_value = "statement", hide_default_value = true)]
    pub(crate) mode: Mode,

    /// Folder for the nodes' data, kept at the end and used again with the same ports. Default: a temporary one,
    /// removed at the end
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,

    /// What the nodes log to standard error. Default: error, since forming a cluster warns a little
    #[arg(
        long,
        value_name = "LEVEL",
        default_value = "error",
        hide_default_value = true
    )]
    pub(crate) log_level: String,
}

/// Which node to speak to.
#[derive(Args, Clone, Debug)]
pub(crate) struct NodeAddress {
    /// The node's client address. Default: http://127.0.0.1:4001
    #[arg(
        long = "addr",
        env = "SQLREP_ADDR",
        value_name = "URL",
        default_value = "http://127.0.0.1:4001",
        hide_default_value = true
    )]
    pub(crate) target: Target,
}

/// Flags of `sqlrep shell`.
#[derive(Args, Clone, Debug)]
pub(crate) struct ShellArguments {
    #[command(flatten)]
    pub(crate) node: NodeAddress,

    /// Run this SQL (or dot command) and end; code 1 if it fails. Default: read statements from standard input
    #[arg(short = 'c', long = "command", value_name = "SQL")]
    pub(crate) command: Option<String>,

    /// How results look; .mode changes it. Default: table
    #[arg(long, default_value = "table", hide_default_value = true)]
    pub(crate) format: Format,

    /// What reads promise; .consistency changes it. Default: weak, the leader's state
    #[arg(long, default_value = "weak", hide_default_value = true)]
    pub(crate) level: Level,
}

/// Flags of `sqlrep status`.
#[derive(Args, Clone, Debug)]
pub(crate) struct StatusArguments {
    #[command(flatten)]
    pub(crate) node: NodeAddress,

    /// Everything the node tells, as one JSON object. Default: a short summary
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `sqlrep check`.
#[derive(Args, Clone, Debug)]
pub(crate) struct CheckArguments {
    /// Data directory of a node that doesn't run; it is only read
    #[arg(value_name = "DIR", required_unless_present = "cluster")]
    pub(crate) directory: Option<PathBuf>,

    /// Ask a node whether all replicas are equal; one that differs judges and repairs itself then
    #[arg(long, conflicts_with = "directory")]
    pub(crate) cluster: bool,

    #[command(flatten)]
    pub(crate) node: NodeAddress,

    /// Print JSON. Default: a line for each part
    #[arg(long)]
    pub(crate) json: bool,
}
