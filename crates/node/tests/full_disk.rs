//! A disk fills up under a node: writes are refused by name before anything fails half way, reads go on, and writes go on
//! when space is back, without anybody's help.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

use sqlrep_core::memory::Switchboard;
use sqlrep_core::{NodeId, WriteError};
use sqlrep_disk::{Disk, SimulatedDisk};
use sqlrep_env::Env;
use sqlrep_node::{Mode, Node, NodeOptions, Surroundings};
use sqlrep_service::QueryOptions;
use sqlrep_sql::{Outcome, Parameter, Request, Statement, Value};
use std::sync::Arc;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

async fn start(disk: &SimulatedDisk) -> Node {
    let node = NodeId::new(1).unwrap();
    let mut options = NodeOptions::new("node");
    options.mode = Some(Mode::Statement);
    options.node_id = Some(node);
    options.raft_address = Switchboard::peer(node).raft;
    options.surroundings = Some(Surroundings {
        disk: Arc::new(disk.clone()) as Arc<dyn Disk>,
        transport: Arc::new(Switchboard::default().plug(node)),
        env: Env::real(),
    });
    let node = Box::pin(Node::start(options)).await.unwrap();
    node.ready(LIMIT).await.unwrap();
    node
}

/// Overwrites one row with a megabyte, so that the log grows and the database doesn't.
async fn megabyte(node: &Node, number: u8) -> Result<(), WriteError> {
    let statement = Statement {
        sql: "REPLACE INTO t VALUES (1, ?)".to_owned(),
        parameters: vec![Parameter::Positional(Value::Blob(vec![number; 1 << 20]))],
    };
    let request = Request {
        statements: vec![statement],
        ..Request::default()
    };
    node.execute(request).await.map(|_| ())
}

async fn first_byte(node: &Node) -> Value {
    let query = Request::query("SELECT hex(substr(x, 1, 1)) FROM t");
    let answer = node.query(query, QueryOptions::linearizable()).await;
    match answer.unwrap().reply.outcomes.remove(0) {
        Outcome::Rows(mut rows) => rows.values.remove(0).remove(0),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_refused_reads_go_on_and_it_heals() {
    let disk = SimulatedDisk::new(1);
    let node = start(&disk).await;
    let create = "CREATE TABLE t (id INTEGER PRIMARY KEY, x)";
    node.execute(Request::execute(create)).await.unwrap();
    disk.set_free_bytes(Some(0));
    let (mut written, mut refused) = (0_u8, None);
    // Two segments of 64 MiB are there already; the third can't be made.
    while refused.is_none() && written < 250 {
        match megabyte(&node, written + 1).await {
            Ok(()) => written += 1,
            Err(error) => refused = Some(error),
        }
    }
    assert_eq!(refused, Some(WriteError::DiskFull), "after {written} MiB");
    assert_eq!(
        first_byte(&node).await,
        Value::Text(format!("{written:02X}"))
    );
    disk.set_free_bytes(None);
    let healed = async {
        while megabyte(&node, 0xAA).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, healed).await.unwrap();
    assert_eq!(first_byte(&node).await, Value::Text("AA".to_owned()));
    Box::pin(node.stop()).await;
    let again = start(&disk).await;
    assert_eq!(first_byte(&again).await, Value::Text("AA".to_owned()));
    Box::pin(again.stop()).await;
}
