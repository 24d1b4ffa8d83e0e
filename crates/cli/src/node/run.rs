//! A node in this process: started, served over HTTP, stopped in order, and its end told by an exit code.
//!
//! ```text
//!   listen for clients ─► Node::start ─► HTTP ─► SIGTERM, Ctrl-C, end of standard input ─► Node::retire ─► HTTP drains ─► Node::stop
//!                                          └───► a failure ─► the process ends at once
//! ```
//!
//! Invariant: after a failure nothing is tidied up: what was written since can't be trusted, and a restart replays the
//! log as after a crash.

use super::arguments::{Mode, Profile};
use super::settings::NodeSettings;
use crate::exit::Exit;
use crate::signals::Signals;
use crate::terminal;
use sqlrep_http_api::{Api, Server};
use sqlrep_node::{Failure, Node, NodeError, NodeOptions};
use std::io;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle, Runtime};

/// How long requests may go on once the node is told to stop.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// Why a node ended other than by being told to.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("the machine refuses: {0}")]
    Machine(io::Error),
    #[error(
        "can't listen on --http-addr {address}: {source}; stop what uses it, or name another address"
    )]
    Listen { address: String, source: io::Error },
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error("{}", told(.0))]
    Failure(Failure),
}

fn told(failure: &Failure) -> String {
    match failure {
        Failure::Disk(what) => format!("the disk failed: {what}; this node ends"),
        Failure::Corrupt(what) => format!("corruption: {what}; this node ends"),
        Failure::Raft(what) => format!("Raft stopped: {what}; this node ends"),
        Failure::Settings(what) => format!("{what}; this node ends"),
        other => format!("this node ends: {other:?}"),
    }
}

impl RunError {
    fn exit(&self) -> Exit {
        match self {
            Self::Machine(_) => Exit::Failed,
            Self::Listen { .. } => Exit::AddressInUse,
            Self::Node(error) => refused(error),
            Self::Failure(Failure::Disk(_)) => Exit::Disk,
            Self::Failure(Failure::Corrupt(_)) => Exit::Corrupt,
            Self::Failure(Failure::Raft(_)) => Exit::Raft,
            Self::Failure(Failure::Settings(_)) => Exit::DirectoryRefused,
            Self::Failure(_) => Exit::Failed,
        }
    }
}

/// What it means that a node can't start.
fn refused(error: &NodeError) -> Exit {
    match error {
        NodeError::Refused { .. } | NodeError::Denied { .. } => Exit::DirectoryRefused,
        NodeError::Listen { .. } => Exit::AddressInUse,
        NodeError::Disk(error) if error.is_final() => Exit::Disk,
        NodeError::Disk(_) => Exit::DirectoryRefused,
        error if error.is_foreign() => Exit::DirectoryRefused,
        error if error.is_disk_failure() => Exit::Disk,
        NodeError::Database { .. } | NodeError::Log { .. } | NodeError::Identity { .. } => {
            Exit::Corrupt
        }
        NodeError::Member(_) => Exit::Raft,
        _ => Exit::Failed,
    }
}

/// What runs the tasks. Those of Raft and of the links to other members have one thread for themselves: the steps of a write
/// follow each other on it without waking another one, and no client's request holds up a heartbeat.
struct Runtimes {
    members: Runtime,
    /// A thread for each processor.
    clients: Runtime,
}

impl Runtimes {
    fn start() -> io::Result<Self> {
        let (mut members, mut clients) = (Builder::new_multi_thread(), Builder::new_multi_thread());
        members.worker_threads(1).thread_name("raft");
        clients.thread_name("http");
        Ok(Self {
            members: members.enable_all().build()?,
            clients: clients.enable_all().build()?,
        })
    }
}

/// Runs a node until it is told to stop or has to.
pub(super) fn run(settings: &NodeSettings) -> Exit {
    let runtimes = Runtimes::start().map_err(RunError::Machine);
    let done = runtimes.and_then(|Runtimes { members, clients }| {
        let done = members.block_on(Box::pin(serve(settings, clients.handle())));
        // A read of standard input may still block one of their threads.
        clients.shutdown_background();
        members.shutdown_background();
        done
    });
    match done {
        Ok(()) => Exit::Ok,
        Err(error) => {
            terminal::error(&error);
            error.exit()
        }
    }
}

async fn serve(settings: &NodeSettings, clients: &Handle) -> Result<(), RunError> {
    let mut signals = Signals::listen().map_err(RunError::Machine)?;
    let address = settings.http_address.to_string();
    let bound = clients.spawn(TcpListener::bind(address.clone())).await;
    let bound = bound.expect("it doesn't panic, and its runtime ends later");
    let listener = bound.map_err(|source| RunError::Listen { address, source })?;
    let node = Box::pin(Node::start(options(settings))).await?;
    let api = Api {
        database: node.database(),
        admin: node.admin(),
        options: http_options(settings),
    };
    let server = {
        let _on_their_threads = clients.enter();
        Server::start(listener, api)
    };
    tracing::info!(node = %node.id(), http = %settings.http_address, raft = node.raft_address(), "serving");
    tokio::select! {
        () = signals.stop() => {}
        () = input_ended(settings.stop_with_stdin) => {}
        refused = refused_entry(&node) => return Err(refused.into()),
        failure = node.failed() => return Err(RunError::Failure(failure)),
    }
    // Leadership is handed over while clients can still be answered and forwarded (safety rule 20).
    Box::pin(node.retire()).await;
    server.stop(DRAIN_MAX).await;
    // Nobody reads its files any more when the data directory is released.
    Box::pin(node.stop()).await;
    Ok(())
}

/// Returns if the node can't enter a cluster, as things are.
async fn refused_entry(node: &Node) -> NodeError {
    match node.entered().await {
        Err(error) => error,
        Ok(()) => std::future::pending().await,
    }
}

/// Returns when standard input has ended, if that matters.
async fn input_ended(matters: bool) {
    if !matters {
        return std::future::pending().await;
    }
    let mut input = tokio::io::stdin();
    let mut dropped = [0; 256];
    // An input that can't be read has ended too.
    while let Ok(1..) = input.read(&mut dropped).await {}
}

pub(super) fn http_options(settings: &NodeSettings) -> sqlrep_http_api::Options {
    let mut options = sqlrep_http_api::Options::default();
    if let Some(connections) = settings.connections {
        options.connections_max = connections;
    }
    options.allow_origin.clone_from(&settings.allow_origin);
    options
}

/// What the node is started with.
fn options(settings: &NodeSettings) -> NodeOptions {
    let mut options = NodeOptions::new(&settings.directory);
    options.mode = settings.mode.map(Mode::of_node);
    options.node_id = settings.node_id;
    options.raft_address = settings.raft_address.to_string();
    options.raft_advertised = Some(settings.raft_advertised.to_string());
    options.http_advertised = settings.http_advertised.to_string();
    options.join = settings.join.iter().map(ToString::to_string).collect();
    options.bootstrap_expect = settings.bootstrap_expect;
    options.voter = settings.voter;
    options.cluster_settings = settings.cluster.clone();
    options.profile = match settings.profile {
        Profile::Standard => sqlrep_node::Profile::Standard,
        Profile::Fast => sqlrep_node::Profile::Fast,
        Profile::Wide => sqlrep_node::Profile::Wide,
    };
    if let Some(bytes) = settings.version_bytes_max {
        options.version_bytes_max = bytes;
    }
    if let Some(bytes) = settings.transaction_bytes_max {
        options.transaction_bytes_max = bytes;
    }
    if let Some(bytes) = settings.spill_bytes_max {
        options.spill_bytes_max = bytes;
    }
    if let Some(entries) = settings.log_retention_entries {
        options.log_retention_entries = entries;
    }
    if let Some(bytes) = settings.log_retention_bytes {
        options.log_retention_bytes = bytes;
    }
    if let Some(bytes) = settings.log_retention_max_bytes {
        options.log_retention_max_bytes = bytes;
    }
    options.sync_floor = settings.sync_floor;
    if let Some(readers) = settings.readers {
        options.readers = readers;
    }
    if let Some(queries) = settings.read_queue {
        options.read_queue_max = queries;
    }
    if let Some(writes) = settings.queue {
        options.queue_requests_max = writes;
    }
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_code() {
        for (failure, exit) in [
            (Failure::Disk("x".to_owned()), Exit::Disk),
            (Failure::Corrupt("x".to_owned()), Exit::Corrupt),
            (Failure::Raft("x".to_owned()), Exit::Raft),
        ] {
            let error = RunError::Failure(failure);
            assert_eq!(error.exit(), exit);
            assert!(error.to_string().contains('x'));
        }
        let refused_by_name = NodeError::Refused {
            what: "x".to_owned(),
        };
        assert_eq!(refused(&refused_by_name), Exit::DirectoryRefused);
        let listen = NodeError::Listen {
            address: "a:1".to_owned(),
            source: io::ErrorKind::AddrInUse.into(),
        };
        assert_eq!(refused(&listen), Exit::AddressInUse);
    }
}
