//! The log is purged behind checkpoints: a node that needs what is gone is sent a snapshot, also when it dies while
//! it takes it in.

use crate::cluster::Cluster;
use crate::load::Load;
use crate::process::NodeProcess;
use crate::waiting::until;

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
        cluster.nodes[leader].must("DELETE FROM ballast WHERE rowid % 1000 = 0");
        (number(&cluster.nodes[leader], "purged_index") > index).then_some(())
    });
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
