//! Requests that would never end or never fit: refused on every node alike, and again by every node that replays them.

use crate::client::Outcome;
use crate::cluster::Cluster;
use crate::process::NodeProcess;
use crate::waiting::LIMIT;
use serde_json::json;
use std::time::Duration;

/// Less than the default of 500 million, so that each of them is met often enough.
const BUDGET: &str = "--setting=steps_max=20000000";

const ENDLESS: &str =
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) INSERT INTO t SELECT x FROM c";

/// Of a table with a hundred rows: ten thousand million.
const JOIN: &str = "INSERT INTO t SELECT a.x + b.x + c.x + d.x + e.x FROM t a, t b, t c, t d, t e";

const LARGE: &str = "INSERT INTO t VALUES (hex(zeroblob(200000000)))";

/// The newest entry that any node has applied.
fn applied(cluster: &Cluster) -> u64 {
    let of = |node: &NodeProcess| node.status()["store"]["db_applied_index"].as_u64().unwrap();
    cluster.nodes.iter().map(of).max().unwrap()
}

/// Which entries a node applied again in its last life, first and last.
fn replayed(node: &NodeProcess) -> (u64, u64) {
    let said = node.said();
    let line = said
        .lines()
        .rfind(|line| line.contains("log replayed"))
        .unwrap();
    let number = |name: &str| -> u64 {
        let rest = line.split(name).nth(1).unwrap();
        rest.split_whitespace().next().unwrap().parse().unwrap()
    };
    (number("from="), number("from=") + number("applied=") - 1)
}

/// Creates what poison works on.
fn prepare(cluster: &Cluster) {
    cluster.nodes[0].must("CREATE TABLE ledger (id INTEGER)");
    cluster.nodes[0].must("CREATE TABLE t (x)");
    let hundred = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 100)";
    cluster.nodes[0].must(&format!("{hundred} INSERT INTO t SELECT x FROM c"));
}

/// Kills all nodes and starts them; each has to meet the newest entry again.
fn kill_and_replay(cluster: &mut Cluster, limit: Duration) {
    let index = applied(cluster);
    for node in &mut cluster.nodes {
        node.kill();
    }
    cluster.start_all_within(limit);
    for node in &cluster.nodes {
        let (first, last) = replayed(node);
        let met = (first..=last).contains(&index);
        assert!(met, "node {}: {first} to {last}, not {index}", node.id);
    }
}

/// Rule 37: with the settings that a cluster has by itself an endless request ends too, live and in the replay of all nodes, and
/// the cluster takes writes. It takes each node half a minute, twice; the cross join takes as long and isn't repeated here.
#[test]
fn poison_ends_with_the_default_settings_too() {
    const PATIENCE: Duration = Duration::from_secs(300);
    let flags = ["--sync-floor=50ms", "--log-level=warn,sqlrep_core=info"];
    let mut cluster = Cluster::with(3, &flags);
    cluster.start_all();
    prepare(&cluster);
    let client = cluster.nodes[0].within(PATIENCE);
    match client.write("/db/execute?timeout=300s", &json!([ENDLESS])) {
        Outcome::Refused(text) => assert!(text.contains("steps"), "{text}"),
        other => panic!("{other:?}"),
    }
    kill_and_replay(&mut cluster, PATIENCE);
    cluster.nodes[0].must("INSERT INTO ledger VALUES (0)");
    assert_eq!(cluster.agree("SELECT count(*) FROM t"), json!([[100]]));
    cluster.check(&[0].into(), &[].into());
}

/// Rule 37: after each one the cluster takes writes; killed right behind it, every node meets it again in its log, and the
/// cluster takes writes. The disk is slow, so that no checkpoint takes the entry out of the replay.
#[test]
fn poison_leaves_a_cluster_writable_and_equal_also_where_all_nodes_replay_it() {
    let flags = [
        BUDGET,
        "--sync-floor=50ms",
        "--log-level=warn,sqlrep_core=info",
    ];
    let mut cluster = Cluster::with(3, &flags);
    cluster.start_all();
    prepare(&cluster);
    for (id, poison, why) in [
        (0, ENDLESS, "steps"),
        (1, JOIN, "steps"),
        (2, LARGE, "too big"),
    ] {
        let refused = |outcome| match outcome {
            Outcome::Refused(text) => assert!(text.contains(why), "{text}"),
            other => panic!("{other:?}"),
        };
        refused(cluster.nodes[id].execute(poison));
        cluster.nodes[id].must(&format!("INSERT INTO ledger VALUES ({id})"));
        refused(cluster.nodes[id].execute(poison));
        kill_and_replay(&mut cluster, LIMIT);
        cluster.nodes[id].must(&format!("INSERT INTO ledger VALUES (1{id})"));
    }
    assert_eq!(cluster.agree("SELECT count(*) FROM t"), json!([[100]]));
    cluster.check(&[0, 1, 2, 10, 11, 12].into(), &[].into());
}
