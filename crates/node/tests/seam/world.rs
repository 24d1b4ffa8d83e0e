//! Whole nodes on simulated disks, network and time, on one thread.

use sqlrep_core::memory::{RuntimeTimer, Switchboard};
use sqlrep_core::{NodeId, ReadBound, ReadLevel};
use sqlrep_disk::{Disk, Loss, SimulatedDisk};
use sqlrep_env::{Env, Timer};
use sqlrep_node::{Net, Node, NodeError, NodeOptions, Surroundings};
use sqlrep_service::QueryOptions;
use sqlrep_sql::{Outcome, Request, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

fn address(id: u64) -> String {
    Switchboard::peer(NodeId::new(id).unwrap()).raft
}

fn cost(_: &'static str) -> Duration {
    Duration::from_micros(50)
}

pub(crate) struct World {
    seed: u64,
    pub(crate) board: Switchboard,
    pub(crate) timer: Arc<RuntimeTimer>,
    pub(crate) disks: Vec<SimulatedDisk>,
    /// What a turn of a worker costs.
    pub(crate) cost: fn(&'static str) -> Duration,
    pub(crate) queue_requests_max: usize,
    pub(crate) log_retention_entries: u64,
    pub(crate) cluster_settings: BTreeMap<String, String>,
    runs: u64,
}

impl World {
    /// Three empty disks.
    pub(crate) fn begin(seed: u64) -> Self {
        Self::of(seed, 3)
    }

    pub(crate) fn of(seed: u64, size: u64) -> Self {
        let disk = |id| SimulatedDisk::new(seed * 10 + id);
        Self {
            seed,
            board: Switchboard::default(),
            timer: RuntimeTimer::begin(),
            disks: (1..=size).map(disk).collect(),
            cost,
            queue_requests_max: 1000,
            log_retention_entries: 100_000,
            cluster_settings: BTreeMap::new(),
            runs: 0,
        }
    }

    pub(crate) async fn start(&mut self) -> Vec<Node> {
        let mut nodes = Vec::new();
        for at in 0..self.disks.len() {
            nodes.push(self.start_one(at).await.unwrap());
        }
        nodes
    }

    /// Starts all nodes, and waits until they serve.
    pub(crate) async fn ready(&mut self) -> Vec<Node> {
        let nodes = self.start().await;
        for node in &nodes {
            Box::pin(node.ready(LIMIT)).await.unwrap();
        }
        nodes
    }

    /// Starts the node of disk `at`.
    pub(crate) async fn start_one(&mut self, at: usize) -> Result<Node, NodeError> {
        self.runs += 1;
        let size = self.disks.len() as u64;
        let id = at as u64 + 1;
        let node = NodeId::new(id).unwrap();
        let timer: Arc<dyn Timer> = self.timer.clone();
        let mut options = NodeOptions::new(format!("node-{id}"));
        options.mode = Some(crate::MODE);
        options.node_id = Some(node);
        options.raft_address = address(id);
        options.join = (1..=size).map(address).collect();
        options.bootstrap_expect = Some(u32::try_from(size).unwrap());
        // Zeroing segments of the usual size is most of what a start takes.
        options.log_segment_bytes = 1 << 20;
        options.queue_requests_max = self.queue_requests_max;
        options.log_retention_entries = self.log_retention_entries;
        options.cluster_settings = self.cluster_settings.clone();
        options.surroundings = Some(Surroundings {
            disk: Arc::new(self.disks[at].clone()) as Arc<dyn Disk>,
            network: Net::Links(Arc::new(self.board.plug(node))),
            env: Env::simulated(self.seed * 1000 + self.runs, timer, self.cost),
        });
        Box::pin(Node::start(options)).await
    }

    /// The power of disk `at` fails, and whatever faults it had are gone with the process.
    pub(crate) fn power_loss(&mut self, at: usize, loss: Loss) {
        self.disks[at] = self.disks[at].crash(loss);
    }

    /// A cluster with so many rows in it, stopped.
    pub(crate) async fn filled(&mut self, rows: i64) {
        let nodes = self.ready().await;
        write(
            &nodes[0],
            "CREATE TABLE t (id INTEGER PRIMARY KEY, text)".to_owned(),
        )
        .await;
        for id in 1..=rows {
            let sql = format!("INSERT INTO t VALUES ({id}, 'the same on every node {id}')");
            write(&nodes[0], sql).await;
        }
        for node in nodes {
            Box::pin(node.stop()).await;
        }
    }
}

pub(crate) async fn write(node: &Node, sql: String) {
    Box::pin(node.execute(Request::execute(sql))).await.unwrap();
}

pub(crate) async fn rows(node: &Node, sql: &str, level: ReadLevel) -> Option<Vec<Vec<Value>>> {
    let options = QueryOptions {
        level,
        bound: ReadBound::default(),
        run_max: None,
    };
    let answer = Box::pin(node.query(Request::query(sql), options)).await;
    match answer.ok()?.reply.outcomes.into_iter().next().unwrap() {
        Outcome::Rows(rows) => Some(rows.values),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn simulated<T>(story: impl AsyncFnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(Box::pin(story()))
}
