//! A client that asks a follower: it is served there, or sent to the leader if it asks for that.

use crate::cluster::Cluster;
use serde_json::json;

#[test]
fn followers_forward_and_tell_who_served_or_redirect() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let follower = &cluster.nodes[(leader + 1) % 3];
    let body = json!(["CREATE TABLE t (x)"]).to_string();
    let answer = follower.send("/db/execute", &body).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("x-sqlrep-outcome"), "committed");
    assert_eq!(
        answer.header("x-rqlite-served-by"),
        cluster.nodes[leader].raft,
        "{answer:?}"
    );
    let index: u64 = answer.header("x-sqlrep-index").parse().unwrap();
    assert!(index > 0);

    let insert = json!(["INSERT INTO t VALUES (1)"]).to_string();
    let path = "/db/execute?redirect&timings";
    let answer = follower.send(path, &insert).unwrap();
    assert_eq!(answer.status, 301, "{answer:?}");
    let there = format!("http://{}{path}", cluster.nodes[leader].http);
    assert_eq!(answer.header("location"), there);
    assert_eq!(answer.header("x-sqlrep-outcome"), "refused");
    let rows = follower.rows("SELECT count(*) FROM t", "linearizable");
    assert_eq!(rows.unwrap(), json!([[0]]), "a redirect does nothing");

    let answer = cluster.nodes[leader].send(path, &insert).unwrap();
    assert_eq!(
        answer.status, 200,
        "the leader redirects nobody: {answer:?}"
    );
    assert_eq!(
        answer.header("x-rqlite-served-by"),
        cluster.nodes[leader].http
    );
    // What any node holds is answered anywhere.
    let query = json!(["SELECT 1"]).to_string();
    let answer = follower
        .send("/db/query?level=none&redirect", &query)
        .unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("x-rqlite-served-by"), follower.http);
}
