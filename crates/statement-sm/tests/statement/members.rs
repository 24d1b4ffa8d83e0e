//! Machines under Raft.

use super::bed::*;
use super::cluster::*;
use sqlrep_core::{Route, StateMachine};
use sqlrep_disk::SimulatedDisk;
use sqlrep_sql::{Outcome, Request, SqlSettings, Value};
use tokio::task::JoinSet;

async fn writes_and_replies(size: u64) {
    let cluster = Cluster::of(size, 1).await;
    good(
        &cluster
            .execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
            .await,
    );
    let (reply, first) = cluster
        .write(Request::execute("INSERT INTO t(b) VALUES ('x')"))
        .await;
    assert!(
        matches!(&reply.outcomes[..], [Outcome::Written(written)] if written.last_insert_id == 1)
    );
    let (reply, second) = cluster
        .write(Request::execute("INSERT INTO t(a) VALUES (1)"))
        .await;
    assert!(error_of(&reply).contains("UNIQUE"), "{reply:?}");
    assert!(second > first, "an SQL error is a reply to an entry too");
    cluster.agreed().await;
    assert_eq!(cluster.value("SELECT count(*) FROM t"), Value::Integer(1));
}

#[tokio::test(start_paused = true)]
async fn one_voter_writes_and_replies() {
    writes_and_replies(1).await;
}

#[tokio::test(start_paused = true)]
async fn three_voters_write_and_reply_alike() {
    writes_and_replies(3).await;
}

/// Requests that come at once gather into a few entries; every node gives the same bytes for them.
#[tokio::test(start_paused = true)]
async fn requests_at_once_give_equal_bytes_everywhere() {
    let cluster = Cluster::of(3, 2).await;
    cluster
        .board
        .set_latency(std::time::Duration::from_millis(2));
    let schema = "CREATE TABLE t(a INTEGER PRIMARY KEY AUTOINCREMENT, b DEFAULT (random()), c DEFAULT CURRENT_TIMESTAMP);
                  CREATE VIRTUAL TABLE f USING fts5(x)";
    good(&cluster.execute(schema).await);
    let leader = cluster.leader().await;
    let mut writes = JoinSet::new();
    for n in 0..500 {
        let member = leader.member.clone();
        let sql = match n % 3 {
            0 => "INSERT INTO t(b) VALUES (hex(randomblob(100)))".to_owned(),
            1 => format!("INSERT INTO f VALUES ('word {n} ' || datetime('now'))"),
            _ => "UPDATE t SET b = random() WHERE a = (SELECT max(a) FROM t)".to_owned(),
        };
        writes.spawn(async move {
            member
                .write(Request::execute(sql), Route::Here, 5 * SECOND)
                .await
        });
    }
    while let Some(written) = writes.join_next().await {
        good(&written.unwrap().unwrap().reply);
    }
    let counts = leader.member.status().counts;
    assert!(counts.entries < 20, "{counts:?}");
    cluster.agreed().await;
    assert_eq!(cluster.value("SELECT count(*) FROM t"), Value::Integer(167));
}

async fn fill(cluster: &Cluster<MemoryLogs>, from: u32, to: u32) {
    for n in from..to {
        good(
            &cluster
                .execute(&format!(
                    "INSERT INTO t VALUES ({n}, random(), zeroblob(200))"
                ))
                .await,
        );
    }
}

/// Rule 33: a restart begins at a checkpointed reset point, replays the log and gives the same bytes.
#[tokio::test(start_paused = true)]
async fn a_restart_replays_the_log_to_the_same_bytes() {
    for size in [1, 3] {
        let mut cluster = Cluster::of(size, 3).await;
        good(
            &cluster
                .execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b, c)")
                .await,
        );
        fill(&cluster, 0, 100).await;
        let before = cluster.agreed().await;
        for node in cluster.nodes.values().take(2) {
            let durable = node.checkpoint();
            assert!(
                Some(durable) < node.machine.applied().id,
                "there is something to replay"
            );
        }
        cluster.restart().await;
        good(&cluster.execute("CREATE TABLE IF NOT EXISTS t(a)").await);
        assert_eq!(cluster.agreed().await, before);
        fill(&cluster, 100, 110).await;
        cluster.agreed().await;
        assert_eq!(cluster.value("SELECT count(*) FROM t"), Value::Integer(110));
    }
}

/// Rules 3 and 15: a member that lost everything gets a snapshot, since the log before it is gone, and follows on from there.
#[tokio::test(start_paused = true)]
async fn an_emptied_member_gets_a_snapshot_and_follows_on() {
    let mut cluster = Cluster::of(3, 4).await;
    good(
        &cluster
            .execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b, c)")
            .await,
    );
    fill(&cluster, 0, 200).await;
    cluster.agreed().await;
    let mut disks = Vec::new();
    for id in 1..=3 {
        let node = &cluster.nodes[&id];
        let durable = node.checkpoint();
        let log = node.log.clone();
        disks.push(cluster.stop(id).await);
        log.set_floor(Some(durable.index));
        log.purge(durable, Box::new(|done| done.unwrap()));
        assert_eq!(log.state().purged, Some(durable));
    }
    cluster.forget(3);
    disks[2] = SimulatedDisk::new(999);
    for (id, disk) in (1..).zip(disks) {
        cluster
            .start(id, disk.crash(sqlrep_disk::Loss::Everything))
            .await;
    }
    fill(&cluster, 200, 210).await;
    cluster.agreed().await;
    assert_eq!(cluster.value("SELECT count(*) FROM t"), Value::Integer(210));
    let installed = cluster.nodes[&3]
        .machine
        .replica()
        .store()
        .stats()
        .generation;
    let never = cluster.nodes[&1]
        .machine
        .replica()
        .store()
        .stats()
        .generation;
    assert!(installed > never, "by a snapshot");
}

/// Rule 37: SQL without end is stopped by the budget, on every node alike, and again in every replay: the cluster stays
/// writable.
#[tokio::test(start_paused = true)]
async fn poison_is_a_reply_and_the_cluster_goes_on() {
    let settings = SqlSettings {
        steps_max: 20_000,
        ..SqlSettings::default()
    };
    let mut cluster = Cluster::form(3, 5, MemoryLogs::default(), settings).await;
    good(
        &cluster
            .execute("CREATE TABLE t(a); CREATE TABLE u(a)")
            .await,
    );
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) INSERT INTO t SELECT i FROM n";
    let mut requests = vec![Request::execute(endless); 3];
    requests[1].transaction = true;
    for request in requests {
        let (reply, _) = cluster.write(request).await;
        assert_eq!(reply.outcomes.len(), 1);
        assert!(!error_of(&reply).is_empty());
        good(&cluster.execute("INSERT INTO u VALUES (1)").await);
    }
    let before = cluster.agreed().await;
    for round in 0..2 {
        // The second time without a checkpoint behind the poison: it is replayed.
        cluster.restart().await;
        good(&cluster.execute("INSERT INTO u VALUES (2)").await);
        good(&cluster.execute("DELETE FROM u WHERE a = 2").await);
        cluster.agreed().await;
        assert_eq!(
            cluster.value("SELECT count(*) FROM t"),
            Value::Integer(0),
            "round {round}"
        );
        assert_eq!(cluster.value("SELECT count(*) FROM u"), Value::Integer(3));
    }
    assert_ne!(
        cluster.agreed().await,
        before,
        "the change counter moved on"
    );
}
