//! The seams are real: three whole nodes, SQLite inside, in one process on one thread. Disks, network, clock, randomness
//! and threads are simulated; the code between them is the product's. Election, writes, power loss of all nodes at once,
//! recovery; twice with one seed, with equal traces. And a disk that is slow.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod paused;
mod slow;

use paused::Paused;
use sqlrep_core::memory::Switchboard;
use sqlrep_core::{NodeId, ReadBound, ReadLevel};
use sqlrep_disk::{Disk, Loss, SimulatedDisk};
use sqlrep_env::{Env, Timer};
use sqlrep_node::{Mode, Node, NodeOptions, Surroundings};
use sqlrep_service::QueryOptions;
use sqlrep_sql::{Outcome, Request, Value};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

const WRITES: usize = 1000;
const LIMIT: Duration = Duration::from_secs(60);

fn address(id: u64) -> String {
    Switchboard::peer(NodeId::new(id).unwrap()).raft
}

/// What a worker's turn costs: a sync for those that sync, next to nothing for the others.
fn cost(worker: &'static str) -> Duration {
    match worker {
        "log" | "checkpoint" => Duration::from_millis(2),
        _ => Duration::from_micros(50),
    }
}

struct World {
    seed: u64,
    board: Switchboard,
    timer: Arc<Paused>,
    disks: Vec<SimulatedDisk>,
    /// What a turn of a worker costs.
    cost: fn(&'static str) -> Duration,
    queue_requests_max: usize,
    runs: u64,
}

impl World {
    fn begin(seed: u64) -> Self {
        Self {
            seed,
            board: Switchboard::default(),
            timer: Paused::begin(),
            disks: (1..=3)
                .map(|id| SimulatedDisk::new(seed * 10 + id))
                .collect(),
            cost,
            queue_requests_max: 1000,
            runs: 0,
        }
    }

    async fn start(&mut self) -> Vec<Node> {
        self.runs += 1;
        let mut nodes = Vec::new();
        for (id, disk) in (1..).zip(&self.disks) {
            let node = NodeId::new(id).unwrap();
            let seed = self.seed * 1000 + self.runs * 10 + id;
            let timer: Arc<dyn Timer> = self.timer.clone();
            let mut options = NodeOptions::new(format!("node-{id}"));
            options.mode = Some(Mode::Statement);
            options.node_id = Some(node);
            options.raft_address = address(id);
            options.join = (1..=3).map(address).collect();
            options.bootstrap_expect = Some(3);
            options.queue_requests_max = self.queue_requests_max;
            options.surroundings = Some(Surroundings {
                disk: Arc::new(disk.clone()) as Arc<dyn Disk>,
                transport: Arc::new(self.board.plug(node)),
                env: Env::simulated(seed, timer, self.cost),
            });
            nodes.push(Box::pin(Node::start(options)).await.unwrap());
        }
        for node in &nodes {
            Box::pin(node.ready(LIMIT)).await.unwrap();
        }
        nodes
    }

    /// Every node loses its power at the same instant.
    fn power_loss(&mut self, nodes: Vec<Node>) {
        let seed = self.seed;
        for (number, disk) in (1..).zip(&mut self.disks) {
            *disk = disk.crash(Loss::Random {
                seed: seed + number,
            });
        }
        drop(nodes);
    }
}

async fn rows(node: &Node, sql: &str) -> Vec<Vec<Value>> {
    let options = QueryOptions {
        level: ReadLevel::Linearizable,
        bound: ReadBound::default(),
        run_max: None,
    };
    let answer = Box::pin(node.query(Request::query(sql), options))
        .await
        .unwrap();
    match answer.reply.outcomes.into_iter().next().unwrap() {
        Outcome::Rows(rows) => rows.values,
        other => panic!("{other:?}"),
    }
}

async fn write(node: &Node, sql: String, trace: &mut String) {
    let answer = Box::pin(node.execute(Request::execute(sql))).await.unwrap();
    let at = answer.entry.unwrap();
    writeln!(trace, "{at} {:?}", answer.reply.outcomes.len()).unwrap();
}

fn note(nodes: &[Node], timer: &Paused, trace: &mut String) {
    for node in nodes {
        let status = node.status();
        let (applied, checksum) = (status.log.applied, status.sqlite.checksum);
        let now = timer.now();
        writeln!(
            trace,
            "{now:?} {} {:?} {applied:?} {checksum:x}",
            node.id(),
            status.role
        )
        .unwrap();
    }
}

async fn life(seed: u64) -> String {
    let (mut world, mut trace) = (World::begin(seed), String::new());
    let nodes = world.start().await;
    let create = "CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT DEFAULT CURRENT_TIMESTAMP, r)";
    write(&nodes[0], create.to_owned(), &mut trace).await;
    for number in 0..WRITES {
        let sql = format!("INSERT INTO t (id, r) VALUES ({number}, random())");
        write(&nodes[number % 3], sql, &mut trace).await;
    }
    note(&nodes, &world.timer, &mut trace);
    world.power_loss(nodes);
    let nodes = world.start().await;
    for node in &nodes {
        let found = rows(node, "SELECT count(*), sum(id) FROM t").await;
        let expected = i64::try_from(WRITES * (WRITES - 1) / 2).unwrap();
        let count = i64::try_from(WRITES).unwrap();
        assert_eq!(found, [[Value::Integer(count), Value::Integer(expected)]]);
    }
    let drawn = rows(&nodes[0], "SELECT group_concat(r), group_concat(at) FROM t").await;
    writeln!(trace, "{drawn:?}").unwrap();
    write(&nodes[1], "DELETE FROM t".to_owned(), &mut trace).await;
    note(&nodes, &world.timer, &mut trace);
    trace
}

fn paused<T>(story: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(Box::pin(story))
}

fn simulated(seed: u64) -> String {
    paused(life(seed))
}

/// What a majority has on disk survives the power loss of all, and one seed gives one history.
#[test]
fn three_nodes_lose_power_and_recover_alike_twice() {
    let first = simulated(7);
    let second = simulated(7);
    assert!(first.lines().count() > WRITES);
    for (one, other) in first.lines().zip(second.lines()) {
        assert_eq!(one, other);
    }
    assert_eq!(first, second);
}
