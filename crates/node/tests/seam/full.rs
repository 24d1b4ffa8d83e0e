//! Disks of a cluster that are full: of one follower, of the leader, of all three. Reads go on, what is refused is refused by
//! name and isn't there, and everything goes on by itself when space is back.

use crate::divergence::equal;
use crate::world::{LIMIT, World, rows, simulated};
use sqlrep_core::{ReadLevel, WriteError};
use sqlrep_node::Node;
use sqlrep_service::Role;
use sqlrep_sql::{Parameter, Request, Statement, Value};
use std::time::Duration;

/// A fourth of a segment. One row takes each of them, so that the log grows and the database doesn't.
const LARGE_BYTES: usize = 256 << 10;

/// More than the segments that a log has ahead.
const WRITES_MAX: u8 = 40;

/// Begins with the number, and doesn't get smaller in any mode's log.
fn blob(number: u8) -> Vec<u8> {
    let mut word = u64::from(number);
    let noise = std::iter::repeat_with(|| {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        word.to_le_bytes()[7]
    });
    std::iter::once(number)
        .chain(noise)
        .take(LARGE_BYTES)
        .collect()
}

async fn large(node: &Node, number: u8) -> Result<(), WriteError> {
    let statement = Statement {
        sql: "REPLACE INTO t VALUES (1, ?)".to_owned(),
        parameters: vec![Parameter::Positional(Value::Blob(blob(number)))],
    };
    let request = Request {
        statements: vec![statement],
        ..Request::default()
    };
    Box::pin(node.execute(request)).await.map(drop)
}

/// What the row holds, as `node` sees it.
async fn found(node: &Node, level: ReadLevel) -> Value {
    let sql = "SELECT hex(substr(x, 1, 1)) FROM t";
    rows(node, sql, level).await.unwrap().remove(0).remove(0)
}

fn number(number: u8) -> Value {
    Value::Text(format!("{number:02X}"))
}

/// Three nodes with a table, the leader first.
async fn three(world: &mut World) -> Vec<Node> {
    let nodes = world.ready().await;
    let create = Request::execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x)");
    Box::pin(nodes[0].execute(create)).await.unwrap();
    nodes
}

fn leader(nodes: &[Node]) -> usize {
    let leads = |node: &Node| node.status().role == Role::Leader;
    nodes.iter().position(leads).unwrap()
}

/// Writes at each node in turn until one is refused; the last number that was done, and the refusal.
async fn until_refused(nodes: &[Node]) -> (u8, WriteError) {
    for (node, number) in nodes.iter().cycle().zip(1..WRITES_MAX) {
        if let Err(error) = large(node, number).await {
            return (number - 1, error);
        }
    }
    panic!("{WRITES_MAX} large writes were done");
}

/// Waits until each node takes a write again.
async fn heals(nodes: &[Node]) {
    let healed = async {
        for node in nodes {
            while large(node, 0xAA).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    tokio::time::timeout(LIMIT, healed).await.unwrap();
    equal(nodes).await;
    for node in nodes {
        let value = found(node, ReadLevel::Linearizable).await;
        assert_eq!(value, number(0xAA));
    }
}

/// Every node refuses by name and serves strict reads of what was acknowledged last.
async fn refuse_and_read(nodes: &[Node], last: u8) {
    for node in nodes {
        assert_eq!(large(node, 0xEE).await, Err(WriteError::DiskFull));
        for level in [ReadLevel::None, ReadLevel::Weak, ReadLevel::Linearizable] {
            assert_eq!(found(node, level).await, number(last), "{level:?}");
        }
    }
}

#[test]
fn a_full_follower_takes_nothing_in_reads_go_on_and_it_catches_up() {
    simulated(async || {
        let mut world = World::begin(41);
        let nodes = three(&mut world).await;
        let full = (leader(&nodes) + 1) % 3;
        equal(&nodes).await;
        world.disks[full].set_free_bytes(Some(0));
        for write in 1..WRITES_MAX {
            // Through the full node, too: the leader and the third one are a majority.
            large(&nodes[usize::from(write) % 3], write).await.unwrap();
        }
        let applied = |at: usize| nodes[at].status().log.applied;
        assert!(applied(full) < applied(leader(&nodes)));
        // Read as far as this node has come.
        let old = found(&nodes[full], ReadLevel::None).await;
        assert_ne!(old, number(WRITES_MAX - 1));
        world.disks[full].set_free_bytes(None);
        heals(&nodes).await;
    });
}

#[test]
fn a_full_leader_refuses_by_name_reads_go_on_and_it_heals() {
    simulated(async || {
        let mut world = World::begin(42);
        let nodes = three(&mut world).await;
        world.disks[leader(&nodes)].set_free_bytes(Some(0));
        let (last, error) = until_refused(&nodes).await;
        assert_eq!(error, WriteError::DiskFull);
        refuse_and_read(&nodes, last).await;
        world.disks[leader(&nodes)].set_free_bytes(None);
        heals(&nodes).await;
    });
}

#[test]
fn three_full_nodes_refuse_by_name_read_and_heal() {
    simulated(async || {
        let mut world = World::begin(43);
        let nodes = three(&mut world).await;
        let fill = |free_bytes| {
            let disks = world.disks.iter();
            disks.for_each(|disk| disk.set_free_bytes(free_bytes));
        };
        fill(Some(0));
        let (last, error) = until_refused(&nodes).await;
        assert_eq!(error, WriteError::DiskFull);
        refuse_and_read(&nodes, last).await;
        fill(None);
        heals(&nodes).await;
    });
}
