//! `sqlrep cluster`: nodes as child processes of this very executable, on loopback, to try things.
//!
//! ```text
//!   plan (ports, folders) ─► a child per node ─► /readyz of each ─► addresses are printed
//!   Ctrl-C, SIGTERM ─► standard input of each child closes ─► each stops in order ─► the temporary folder goes
//! ```
//!
//! A child's standard input is its leash: if this process dies, however it dies, no node is left behind.
//! It doesn't restart a node that died: it tells of it.

mod children;
mod plan;

use crate::arguments::ClusterArguments;
use crate::client::Client;
use crate::exit::Exit;
use crate::signals::Signals;
use crate::terminal;
use children::{Children, Ended};
use plan::{Place, Plan};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// How long all nodes together may take to be ready.
const READY_MAX: Duration = Duration::from_secs(60);

/// Between two questions whether a node is ready.
const READY_PAUSE: Duration = Duration::from_millis(50);

/// How long one such question may take.
const READY_ANSWER_MAX: Duration = Duration::from_secs(2);

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
enum ClusterError {
    #[error("{0}")]
    Usage(String),
    #[error("the folder {folder} can't be used: {source}")]
    Folder { folder: PathBuf, source: io::Error },
    #[error("{0}")]
    Ports(String),
    #[error("a node can't be started: {0}")]
    Start(io::Error),
    #[error("{0}")]
    Ended(String, Exit),
    #[error("not all nodes were ready after 60 s; --log-level info tells more")]
    Late,
}

impl ClusterError {
    fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Folder { .. } => Exit::DirectoryRefused,
            Self::Ports(_) => Exit::AddressInUse,
            Self::Start(_) | Self::Late => Exit::Failed,
            Self::Ended(_, exit) => *exit,
        }
    }
}

/// Runs a cluster until it is told to stop.
pub(crate) fn run(arguments: &ClusterArguments) -> Exit {
    match cluster(arguments) {
        Ok(()) => Exit::Ok,
        Err(error) => {
            terminal::error(&error);
            error.exit()
        }
    }
}

fn cluster(arguments: &ClusterArguments) -> Result<(), ClusterError> {
    let temporary = match &arguments.data_dir {
        Some(_) => None,
        None => Some(temporary()?),
    };
    let kept = arguments.data_dir.as_deref();
    let folder = temporary.as_ref().map(TempDir::path).or(kept);
    let folder = folder.expect("one of the two is there");
    let plan = Plan::of(folder, arguments.nodes, kept.is_some())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(ClusterError::Start)?;
    let done = runtime.block_on(serve(arguments, &plan, folder));
    if let Some(Err(error)) = temporary.map(TempDir::close) {
        terminal::note(&format!("warning: the temporary folder stays: {error}\n"));
    }
    done
}

fn temporary() -> Result<TempDir, ClusterError> {
    let made = tempfile::Builder::new().prefix("sqlrep-").tempdir();
    made.map_err(|source| ClusterError::Folder {
        folder: std::env::temp_dir(),
        source,
    })
}

async fn serve(
    arguments: &ClusterArguments,
    plan: &Plan,
    folder: &Path,
) -> Result<(), ClusterError> {
    let mut signals = Signals::listen().map_err(ClusterError::Start)?;
    let program = std::env::current_exe().map_err(ClusterError::Start)?;
    let mut children = Children::default();
    for place in &plan.nodes {
        let flags = plan.flags(place, folder, arguments);
        children
            .start(place.id, &program, &flags)
            .map_err(ClusterError::Start)?;
    }
    let done = tokio::select! {
        () = signals.stop() => Ok(()),
        served = watch(plan, folder, arguments.data_dir.is_some(), &mut children) => served,
    };
    let ended = children.stop().await;
    done.and_then(|()| stopped(&ended))
}

/// Tells when the nodes are ready and when one dies; returns when all are gone or the start failed.
async fn watch(
    plan: &Plan,
    folder: &Path,
    kept: bool,
    children: &mut Children,
) -> Result<(), ClusterError> {
    tokio::select! {
        ready = tokio::time::timeout(READY_MAX, ready(plan)) => ready.map_err(|_| ClusterError::Late)?,
        Some(ended) = children.ended() => return Err(lost(&ended)),
    }
    terminal::out(&welcome(plan, folder, kept)).map_err(ClusterError::Start)?;
    let mut last = None;
    while let Some(ended) = children.ended().await {
        terminal::error(format!("{ended}; the others go on"));
        last = Some(ended);
    }
    match last {
        Some(ended) => Err(lost(&ended)),
        None => Ok(()),
    }
}

fn lost(ended: &Ended) -> ClusterError {
    ClusterError::Ended(ended.to_string(), ended.exit())
}

/// The first child that didn't stop in order decides.
fn stopped(ended: &[Ended]) -> Result<(), ClusterError> {
    match ended.iter().find(|ended| !ended.in_order()) {
        Some(ended) => Err(lost(ended)),
        None => Ok(()),
    }
}

async fn ready(plan: &Plan) {
    for place in &plan.nodes {
        while !is_ready(place).await {
            tokio::time::sleep(READY_PAUSE).await;
        }
    }
}

async fn is_ready(place: &Place) -> bool {
    let url = place.http().to_string();
    let asked = tokio::task::spawn_blocking(move || {
        let target = url.parse().expect("an address is a target");
        Client::with_limit(target, READY_ANSWER_MAX).is_ready()
    });
    asked.await.unwrap_or(false)
}

fn welcome(plan: &Plan, folder: &Path, kept: bool) -> String {
    let nodes: String = plan
        .nodes
        .iter()
        .map(|place| {
            format!(
                "node {}  http://{}  raft {}\n",
                place.id,
                place.http(),
                place.raft()
            )
        })
        .collect();
    let first = plan.nodes.first().expect("a cluster has a node").http();
    let fate = if kept { "kept" } else { "removed at the end" };
    format!(
        "{nodes}\nTry:\n  curl -s http://{first}/db/request -H 'Content-Type: application/json' \
         -d '[\"CREATE TABLE IF NOT EXISTS t (x)\", \"INSERT INTO t VALUES (1)\", \"SELECT * FROM t\"]'\n  \
         sqlrep shell --addr http://{first}\n\nData in {} ({fate}). Ctrl-C stops all nodes.\n",
        folder.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_names_every_node_and_a_request() {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan::of(folder.path(), 3, false).unwrap();
        let text = welcome(&plan, folder.path(), false);
        for place in &plan.nodes {
            assert!(text.contains(&format!("http://{}", place.http())), "{text}");
        }
        assert!(text.contains("curl -s http://127.0.0.1:"), "{text}");
        assert!(text.contains("removed at the end"), "{text}");
    }
}
