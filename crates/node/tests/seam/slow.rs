//! A disk that needs 100 ms for each sync, under a storm of writes: reads answer, heartbeats are heard, nobody is elected.

use crate::world::{World, rows, simulated};
use sqlrep_core::{ReadBound, ReadLevel, Term, WriteError};
use sqlrep_node::Node;
use sqlrep_service::QueryOptions;
use sqlrep_sql::{Outcome, Request, Value};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;

const CLIENTS: usize = 300;
const WRITES_EACH: usize = 20;

/// After a refusal a client waits, as it is told to; less than the second of HTTP, so that it stays a storm.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What a client of a busy node may wait for a read in simulated time: a disk is no part of one.
const READ_MAX: Duration = Duration::from_millis(500);

fn cost(worker: &'static str) -> Duration {
    match worker {
        "log" | "checkpoint" => Duration::from_millis(100),
        _ => Duration::from_micros(50),
    }
}

fn terms(nodes: &[Arc<Node>]) -> Vec<Term> {
    nodes.iter().map(|node| node.status().term).collect()
}

/// What clients were told.
#[derive(Default)]
struct Told {
    done: BTreeSet<usize>,
    refused: BTreeSet<usize>,
}

async fn client(node: Arc<Node>, number: usize, told: Arc<Mutex<Told>>) {
    for turn in 0..WRITES_EACH {
        let id = number * WRITES_EACH + turn;
        let sql = format!("INSERT INTO t VALUES ({id})");
        let outcome = Box::pin(node.execute(Request::execute(sql))).await;
        match outcome {
            Ok(_) => told.lock().unwrap().done.insert(id),
            Err(WriteError::Overloaded) => {
                tokio::time::sleep(RETRY_AFTER).await;
                told.lock().unwrap().refused.insert(id)
            }
            Err(error) => panic!("{error}"),
        };
    }
}

/// Reads at two levels until the writers are through; how many, and the slowest.
async fn reader(node: Arc<Node>, over: Arc<AtomicBool>) -> (usize, Duration) {
    let (mut reads, mut slowest) = (0, Duration::ZERO);
    while !over.load(Ordering::Acquire) {
        for level in [ReadLevel::None, ReadLevel::Linearizable] {
            let options = QueryOptions {
                level,
                bound: ReadBound::default(),
                run_max: None,
            };
            let (began, query) = (Instant::now(), Request::query("SELECT count(*) FROM t"));
            let answer = Box::pin(node.query(query, options)).await.unwrap();
            assert!(matches!(answer.reply.outcomes[..], [Outcome::Rows(_)]));
            (reads, slowest) = (reads + 1, slowest.max(began.elapsed()));
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (reads, slowest)
}

async fn storm() {
    let mut world = World::begin(21);
    (world.cost, world.queue_requests_max) = (cost, 40);
    let nodes: Vec<_> = world.ready().await.into_iter().map(Arc::new).collect();
    let create = Request::execute("CREATE TABLE t (id INTEGER)");
    Box::pin(nodes[0].execute(create)).await.unwrap();
    let (before, told) = (terms(&nodes), Arc::<Mutex<Told>>::default());
    let over = Arc::new(AtomicBool::new(false));
    let at = |number: usize| nodes[number % nodes.len()].clone();
    let readers: Vec<_> = (0..3)
        .map(|number| tokio::spawn(reader(at(number), over.clone())))
        .collect();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(client(at(number), number, told.clone())))
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    over.store(true, Ordering::Release);
    for reader in readers {
        let (reads, slowest) = reader.await.unwrap();
        assert!(reads > 20, "{reads} reads tell too little");
        assert!(slowest < READ_MAX, "a read took {slowest:?}");
    }
    assert_eq!(terms(&nodes), before, "an election");
    let told = std::mem::take(&mut *told.lock().unwrap());
    assert!(told.done.len() > 20 && told.refused.len() > 20);
    for node in &nodes {
        let found = rows(node, "SELECT id FROM t", ReadLevel::Linearizable)
            .await
            .unwrap();
        assert_eq!(found.len(), told.done.len(), "once each, and no other");
        let expected = |id: &usize| vec![Value::Integer(i64::try_from(*id).unwrap())];
        let found: BTreeSet<String> = found.iter().map(|row| format!("{row:?}")).collect();
        let done = told.done.iter().map(|id| format!("{:?}", expected(id)));
        assert_eq!(found, done.collect());
    }
}

#[test]
fn a_disk_that_syncs_in_100_ms_leaves_reads_and_heartbeats_alive() {
    simulated(storm);
}
