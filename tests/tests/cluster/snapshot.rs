//! The log is purged behind checkpoints: a node that needs what is gone is sent a snapshot, also when it dies while
//! it takes it in.

use crate::client::Outcome;
use crate::cluster::Cluster;
use crate::load::{Load, noise};
use crate::process::NodeProcess;
use crate::waiting::until;
use serde_json::json;
use std::collections::BTreeSet;

/// Too much to arrive between two looks.
const BALLAST: &str =
    "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 2000)
     INSERT INTO ballast SELECT randomblob(4000) FROM c";

fn number(node: &NodeProcess, name: &str) -> u64 {
    let status = node.status();
    status["sqlrep"][name].as_u64().expect("it is a number")
}

/// Writes until the leader has purged beyond `index`.
fn purge_beyond(cluster: &Cluster, leader: usize, index: u64) {
    for _ in 0..3 {
        cluster.nodes[leader].must(BALLAST);
    }
    until("the log is purged", || {
        // What was certainly not done, because leadership moved, is asked for again.
        cluster.nodes[leader].execute(BALLAST);
        (number(&cluster.nodes[leader], "purged_index") > index).then_some(())
    });
}

/// Bytes of log that stay, and as many may a slow node hold.
const RETENTION_BYTES: usize = 1 << 20;

/// Rule 17: a follower that stands still with its connections open doesn't keep the leader from purging what it lacks; when it
/// goes on it gets a snapshot. Here its silence ends the stream to it, or the bound on what it holds, whichever comes first.
#[test]
fn a_follower_that_stands_still_holds_no_log_and_gets_a_snapshot() {
    let flags = [
        format!("--log-retention-bytes={RETENTION_BYTES}"),
        format!("--log-retention-max={RETENTION_BYTES}"),
    ];
    let mut cluster = Cluster::with(3, &[&flags[0], &flags[1]]);
    cluster.start_all();
    cluster.nodes[0].must("CREATE TABLE ledger (id INTEGER)");
    cluster.nodes[0].must("CREATE TABLE ballast (x)");
    cluster.agree("SELECT count(*) FROM ballast");
    let leader = cluster.leader();
    let still = (leader + 1) % 3;
    let has = cluster.nodes[still].status()["store"]["db_applied_index"].as_u64();
    let had = cluster.nodes[still].generations();
    cluster.nodes[still].pause();
    let insert = |seed: u64| {
        let row = |place| {
            let text = noise(seed * 4 + place, RETENTION_BYTES / 4);
            json!(["INSERT INTO ballast VALUES (?)", text])
        };
        let mut all: Vec<_> = (0..4).map(row).collect();
        all.push(json!("DELETE FROM ballast WHERE rowid % 3 = 0"));
        json!(all)
    };
    let mut done = BTreeSet::new();
    until("the leader purges what the follower lacks", || {
        let id = done.len() as u64;
        cluster.nodes[leader].must(&format!("INSERT INTO ledger VALUES ({id})"));
        done.insert(id);
        let written = cluster.nodes[leader].write("/db/execute", &insert(id));
        assert_eq!(written, Outcome::Done);
        (number(&cluster.nodes[leader], "purged_index") > has.unwrap()).then_some(())
    });
    cluster.nodes[still].resume();
    cluster.ready();
    cluster.check(&done, &BTreeSet::new());
    let received = cluster.nodes[still].generations();
    assert!(
        received.last() > had.last(),
        "no snapshot: {had:?}, {received:?}"
    );
}

/// Kills a node while a snapshot arrives: it has a second generation, and the first one is the live one.
fn kill_amid_a_snapshot(node: &mut NodeProcess) {
    until("a snapshot arrives", || {
        (node.generations().len() > 1).then_some(())
    });
    node.kill();
}

/// Rules 3, 15 and 17: a newcomer and a node that was away get what the log no longer has; kill -9 in the middle of it,
/// twice, costs nothing but the time.
#[test]
fn who_needs_what_is_purged_gets_a_snapshot() {
    let mut cluster = Cluster::with(3, &["--log-retention-entries=10"]);
    cluster.start_all();
    cluster.nodes[0].must("CREATE TABLE ledger (id INTEGER)");
    cluster.nodes[0].must("CREATE TABLE ballast (x)");
    cluster.agree("SELECT count(*) FROM ledger");
    let leader = cluster.leader();
    let away = (leader + 1) % 3;
    let missed = cluster.nodes[away].status()["store"]["db_applied_index"].as_u64();
    cluster.nodes[away].kill();
    let had = cluster.nodes[away].generations();
    let load = Load::start(&cluster);
    purge_beyond(&cluster, leader, missed.unwrap());

    let mut newcomer = cluster.newcomer(4);
    let joining = cluster.joining();
    for _ in 0..2 {
        newcomer.spawn(&joining);
        kill_amid_a_snapshot(&mut newcomer);
    }
    newcomer.spawn(&joining);
    cluster.start_all();
    cluster.nodes.push(newcomer);
    cluster.ready();
    let (done, refused) = load.end();
    cluster.check(&done, &refused);
    let has = cluster.nodes[away].generations();
    assert!(has.last() > had.last(), "no snapshot: {had:?}, {has:?}");
    assert!(number(&cluster.nodes[leader], "purged_index") > 0);
}
