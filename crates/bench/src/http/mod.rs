//! `sqlrep bench http`: three nodes in processes of their own, loaded over HTTP by this one.
//!
//! ```text
//!   this process: load (one thread), raw probe, plain SQLite ──HTTP──► node 1, node 2, node 3 (children, kill -9)
//! ```
//!
//! | part | cluster | rows |
//! | --- | --- | --- |
//! | writes | one per sync floor | one-row INSERTs of 1 and 64 clients beside raw syncs and plain SQLite |
//! | reads | one | point SELECTs at each level beside an empty answer of the same node |
//! | kills | one | how long no write is acknowledged when the leader is killed |
//! | restart | one | how long a killed node takes to be ready, and what it replays |
//!
//! The nodes and the load share the machine: rates tell of all of them together, counts and CPU of the nodes alone.

pub(crate) mod client;
mod kills;
pub(crate) mod load;
pub(crate) mod nodes;
mod reads;
mod restart;
mod writes;

use crate::{BenchError, Report};
use nodes::{Cluster, Nodes};
use sqlrep_env::Env;
use sqlrep_node::Mode;
use std::path::PathBuf;
use std::time::Duration;
use tokio::runtime::Runtime;

/// What a write survives once it is acknowledged.
pub(crate) const REPLICATED: &str = "power loss (fdatasync on 2 of 3 nodes)";

/// A part of the measurement; each has a cluster of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// One-row INSERTs.
    Writes,
    /// Point SELECTs.
    Reads,
    /// Lost leaders.
    Kills,
    /// Restart of a node with a large database.
    Restart,
}

/// What is measured, and where.
pub struct HttpBench {
    /// The program that runs a node when called with `node` and a node's flags.
    pub program: PathBuf,
    /// An empty folder on the disk in question.
    pub folder: PathBuf,
    /// Clocks, randomness and threads.
    pub env: Env,
    /// How changes travel.
    pub mode: Mode,
    /// Rounds.
    pub rounds: usize,
    /// How long each part of a round runs.
    pub slice: Duration,
    /// Each sync of nodes and baselines lasts at least this long; none measures writes with each floor that a target
    /// names, and the rest without.
    pub sync_floor: Option<Duration>,
    /// Leaders that are killed.
    pub kills: usize,
    /// Bytes of the database that a node is restarted with.
    pub database_bytes: u64,
    /// How long it is loaded before.
    pub restart_load: Duration,
}

impl HttpBench {
    /// Statement mode, nine rounds of slices of a second, 20 kills, 200 MB and 60 s of load before the restart.
    #[must_use]
    pub fn new(program: PathBuf, folder: PathBuf, env: Env) -> Self {
        Self {
            program,
            folder,
            env,
            mode: Mode::Statement,
            rounds: 9,
            slice: Duration::from_secs(1),
            sync_floor: None,
            kills: 20,
            database_bytes: 200_000_000,
            restart_load: Duration::from_secs(60),
        }
    }

    async fn nodes(&self, name: &str, floor: Option<Duration>) -> Result<Nodes, BenchError> {
        let folder = self.folder.join(name);
        std::fs::create_dir(&folder).map_err(BenchError::Runtime)?;
        let cluster = Cluster {
            program: self.program.clone(),
            folder,
            mode: self.mode,
            sync_floor: floor,
            delay: None,
            flags: Vec::new(),
        };
        Nodes::start(cluster, &self.env).await
    }
}

/// Measures a part; `told` takes each report as soon as it is there.
///
/// # Errors
///
/// A node, the disk or plain SQLite fails, or no round was steady.
pub fn http(bench: &HttpBench, part: Part, told: &mut dyn FnMut(Report)) -> Result<(), BenchError> {
    let runtime = runtime()?;
    match part {
        Part::Writes => {
            let all = [None, Some(writes::FLOOR_RATE), Some(writes::FLOOR_LATENCY)];
            let one = [bench.sync_floor];
            let floors = if bench.sync_floor.is_none() {
                &all[..]
            } else {
                &one
            };
            for floor in floors {
                told(writes::writes(bench, &runtime, *floor)?);
            }
        }
        Part::Reads => told(reads::reads(bench, &runtime)?),
        Part::Kills => told(runtime.block_on(kills::kills(bench))?),
        Part::Restart => told(runtime.block_on(restart::restart(bench))?),
    }
    Ok(())
}

/// One thread: slices of load run on it, baselines between them.
pub(crate) fn runtime() -> Result<Runtime, BenchError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::Runtime)
}
