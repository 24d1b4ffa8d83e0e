//! What each read level promises, on each node.

use crate::cluster::Cluster;
use serde_json::json;

#[test]
fn every_level_works_on_every_node() {
    let cluster = Cluster::start(3);
    cluster.nodes[0].must("CREATE TABLE t (x)");
    for round in 1..=10 {
        cluster.nodes[round % 3].must("INSERT INTO t VALUES (1)");
        for node in &cluster.nodes {
            for level in ["weak", "linearizable", "strong", "auto"] {
                let rows = node.rows("SELECT count(*) FROM t", level).unwrap();
                assert_eq!(rows, json!([[round]]), "{level} on node {}", node.id);
            }
        }
    }
    assert_eq!(cluster.agree("SELECT count(*) FROM t"), json!([[10]]));
}

#[test]
fn at_least_an_index_is_waited_for() {
    let cluster = Cluster::start(3);
    cluster.nodes[0].must("CREATE TABLE t (x)");
    for count in 1..=10 {
        let body = json!(["INSERT INTO t VALUES (1)"]);
        let written = cluster.nodes[0].post("/db/execute?raft_index", &body);
        let (_, answer) = written.unwrap();
        let index = answer["raft_index"].as_u64().expect("asked for");
        for node in &cluster.nodes {
            let path = format!("/db/query?level=none&min_index={index}");
            let query = json!(["SELECT count(*) FROM t"]);
            let (status, answer) = node.post(&path, &query).unwrap();
            assert_eq!(status, 200);
            assert_eq!(
                answer["results"][0]["values"],
                json!([[count]]),
                "node {}",
                node.id
            );
        }
    }
}

#[test]
fn a_lone_survivor_serves_level_none_and_refuses_the_rest() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].must("CREATE TABLE t (x)");
    cluster.nodes[0].must("INSERT INTO t VALUES (7)");
    cluster.agree("SELECT x FROM t");
    cluster.nodes[1].kill();
    cluster.nodes[2].kill();
    let alone = &cluster.nodes[0];
    assert_eq!(alone.rows("SELECT x FROM t", "none").unwrap(), json!([[7]]));
    let path = "/db/query?level=linearizable&linearizable_timeout=1s";
    let (status, answer) = alone.post(path, &json!(["SELECT x FROM t"])).unwrap();
    assert!(
        status == 503 || !answer["error"].is_null(),
        "{status} {answer}"
    );
}
