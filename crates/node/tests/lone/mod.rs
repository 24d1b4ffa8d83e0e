//! A lone node on a simulated disk, in real time.

use sqlrep_core::NodeId;
use sqlrep_core::memory::Switchboard;
use sqlrep_disk::{Disk, SimulatedDisk};
use sqlrep_env::Env;
use sqlrep_node::{Mode, Net, Node, NodeOptions, Surroundings};
use sqlrep_service::QueryOptions;
use sqlrep_sql::{Outcome, Request, Value};
use std::sync::Arc;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// A node of its own on `disk`, with these cluster settings.
pub(crate) fn options(disk: &SimulatedDisk, settings: &[(&str, &str)]) -> NodeOptions {
    let node = NodeId::new(1).unwrap();
    let mut options = NodeOptions::new("node");
    options.mode = Some(Mode::Statement);
    options.node_id = Some(node);
    options.raft_address = Switchboard::peer(node).raft;
    for (name, value) in settings {
        let (name, value) = ((*name).to_owned(), (*value).to_owned());
        options.cluster_settings.insert(name, value);
    }
    options.surroundings = Some(Surroundings {
        disk: Arc::new(disk.clone()) as Arc<dyn Disk>,
        network: Net::Links(Arc::new(Switchboard::default().plug(node))),
        env: Env::real(),
    });
    options
}

/// Starts it with these cluster settings, and waits until it serves.
pub(crate) async fn start(disk: &SimulatedDisk, settings: &[(&str, &str)]) -> Node {
    let node = Box::pin(Node::start(options(disk, settings)))
        .await
        .unwrap();
    node.ready(LIMIT).await.unwrap();
    node
}

/// The one value that a query gives.
pub(crate) async fn value(node: &Node, sql: &str) -> Value {
    let answer = node
        .query(Request::query(sql), QueryOptions::linearizable())
        .await;
    match answer.unwrap().reply.outcomes.remove(0) {
        Outcome::Rows(mut rows) => rows.values.remove(0).remove(0),
        other => panic!("{other:?}"),
    }
}
