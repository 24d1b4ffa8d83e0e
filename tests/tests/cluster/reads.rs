//! What each read level promises, on each node.

use crate::cluster::Cluster;
use crate::waiting::until;
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

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

/// A query that only the leader may run takes its limits along: the leader ends it, and its reader is free again. Where the
/// leader doesn't answer at all, the node that asked it does.
#[test]
fn a_forwarded_query_keeps_its_limits() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].must("CREATE TABLE t (x)");
    cluster.agree("SELECT count(*) FROM t");
    let leader = cluster.leader();
    let (leader, via) = (&cluster.nodes[leader], &cluster.nodes[(leader + 1) % 3]);
    // Without limits of its own a query runs for a minute.
    let soon = via.within(Duration::from_secs(30));
    let ask = |sql| {
        let path = "/db/query?level=weak&timeout=1s&db_timeout=1s";
        soon.post(path, &json!([sql])).expect("answered in time")
    };
    let endless =
        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT count(*) FROM c";
    let (status, answer) = ask(endless);
    assert_eq!(status, 200);
    let error = answer["results"][0]["error"].as_str();
    assert_eq!(error, Some("query timeout"), "{answer}");
    until("the leader's reader is free", || {
        let (_, metrics) = leader.get("/metrics")?;
        metrics.contains("sqlrep_readers_busy 0\n").then_some(())
    });
    leader.pause();
    let (status, answer) = ask("SELECT 7 AS x");
    // Another one may lead by now.
    let told = status == 503 || answer["results"][0]["values"] == json!([[7]]);
    assert!(told || !answer["error"].is_null(), "{status} {answer}");
    leader.resume();
    cluster.ready();
}

/// Asks for `x` at level weak and leaves the answer to be read later: the system takes the request in for a frozen process.
fn asked(http: &str) -> TcpStream {
    let body = json!(["SELECT x FROM t"]).to_string();
    let mut stream = TcpStream::connect(http).unwrap();
    let length = body.len();
    let head = "POST /db/query?level=weak&timeout=5s HTTP/1.1\r\nHost: n\r\nConnection: close";
    let whole = format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(whole.as_bytes()).unwrap();
    stream
}

/// Rule 42: a leader that was frozen finds its figures as they were. What it was asked after another one had taken over, it
/// doesn't answer from them.
#[test]
fn a_leader_that_was_frozen_shows_nothing_old() {
    let mut cluster = Cluster::start(3);
    cluster.nodes[0].must("CREATE TABLE t (x)");
    cluster.nodes[0].must("INSERT INTO t VALUES (0)");
    for round in 1..=3 {
        let leader = cluster.leader();
        let (frozen, other) = (&cluster.nodes[leader], &cluster.nodes[(leader + 1) % 3]);
        let before = frozen.rows("SELECT x FROM t", "weak").unwrap();
        assert_eq!(before, json!([[round - 1]]));
        frozen.pause();
        let write = format!("UPDATE t SET x = {round}");
        until("another one leads", || {
            let (_, answer) = other.post("/db/execute", &json!([write])).ok()?;
            (answer["results"][0]["rows_affected"] == json!(1)).then_some(())
        });
        let asked: Vec<TcpStream> = (0..32).map(|_| asked(&frozen.http)).collect();
        frozen.resume();
        for mut stream in asked {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            let shown = format!("\"values\":[[{round}]]");
            let refused = !answer.contains("\"values\"");
            assert!(
                refused || answer.contains(&shown),
                "round {round}: {answer}"
            );
        }
        cluster.ready();
    }
}
