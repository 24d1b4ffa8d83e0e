//! Election, writes, power loss of all nodes at once, recovery; twice with one seed, with equal traces.

use crate::world::{World, rows, simulated};
use sqlrep_core::ReadLevel;
use sqlrep_core::memory::RuntimeTimer;
use sqlrep_disk::Loss;
use sqlrep_env::Timer;
use sqlrep_node::Node;
use sqlrep_sql::{Request, Value};
use std::fmt::Write;
use std::time::Duration;

const WRITES: usize = 1000;
const LINEARIZABLE: ReadLevel = ReadLevel::Linearizable;

/// What a worker's turn costs: a sync for those that sync, next to nothing for the others.
fn cost(worker: &'static str) -> Duration {
    match worker {
        "log" | "checkpoint" => Duration::from_millis(2),
        _ => Duration::from_micros(50),
    }
}

async fn write(node: &Node, sql: String, trace: &mut String) {
    let answer = Box::pin(node.execute(Request::execute(sql))).await.unwrap();
    let at = answer.entry.unwrap();
    writeln!(trace, "{at} {:?}", answer.reply.outcomes.len()).unwrap();
}

fn note(nodes: &[Node], timer: &RuntimeTimer, trace: &mut String) {
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
    world.cost = cost;
    let nodes = world.ready().await;
    let create = "CREATE TABLE t (id INTEGER PRIMARY KEY, at TEXT DEFAULT CURRENT_TIMESTAMP, r)";
    write(&nodes[0], create.to_owned(), &mut trace).await;
    for number in 0..WRITES {
        let sql = format!("INSERT INTO t (id, r) VALUES ({number}, random())");
        write(&nodes[number % 3], sql, &mut trace).await;
    }
    note(&nodes, &world.timer, &mut trace);
    for (at, number) in (0..nodes.len()).zip(1..) {
        let seed = seed + number;
        world.power_loss(at, Loss::Random { seed });
    }
    drop(nodes);
    let nodes = world.ready().await;
    for node in &nodes {
        let found = rows(node, "SELECT count(*), sum(id) FROM t", LINEARIZABLE).await;
        let expected = i64::try_from(WRITES * (WRITES - 1) / 2).unwrap();
        let count = i64::try_from(WRITES).unwrap();
        let expected = vec![vec![Value::Integer(count), Value::Integer(expected)]];
        assert_eq!(found, Some(expected));
    }
    let all = "SELECT group_concat(r), group_concat(at) FROM t";
    let drawn = rows(&nodes[0], all, LINEARIZABLE).await.unwrap();
    writeln!(trace, "{drawn:?}").unwrap();
    write(&nodes[1], "DELETE FROM t".to_owned(), &mut trace).await;
    note(&nodes, &world.timer, &mut trace);
    trace
}

fn traced(seed: u64) -> String {
    simulated(async || life(seed).await)
}

/// What a majority has on disk survives the power loss of all, and one seed gives one history.
#[test]
fn three_nodes_lose_power_and_recover_alike_twice() {
    let first = traced(7);
    let second = traced(7);
    assert!(first.lines().count() > WRITES);
    for (one, other) in first.lines().zip(second.lines()) {
        assert_eq!(one, other);
    }
    assert_eq!(first, second);
}
