//! A node that was killed replays its log, and tells how much that was.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

use sqlrep_node::{Mode, Node};
use sqlrep_sql::Request;
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

async fn start(folder: &Path) -> Node {
    let node = Node::builder(folder)
        .mode(Mode::Statement)
        .with(|options| options.sync_floor = Some(Duration::from_micros(100)));
    let node = Box::pin(node.start()).await.unwrap();
    Box::pin(node.ready(LIMIT)).await.unwrap();
    node
}

fn replayed(node: &Node) -> [f64; 2] {
    let metrics = node.status().metrics;
    ["replayed_entries", "replayed_bytes"].map(|name| metrics[name])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_replayed_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let node = Box::pin(start(folder.path())).await;
    assert_eq!(replayed(&node), [0.0, 0.0], "a new log is empty");
    let big = format!("SELECT '{}'", "x".repeat(10_000));
    for sql in ["CREATE TABLE t (x)", &format!("INSERT INTO t {big}")] {
        node.execute(Request::execute(sql)).await.unwrap();
    }
    drop(node); // like a crash
    let node = Box::pin(start(folder.path())).await;
    let [entries, bytes] = replayed(&node);
    assert!(entries >= 2.0 && bytes > 10_000.0, "{entries}, {bytes}");
    Box::pin(node.stop()).await;
}
