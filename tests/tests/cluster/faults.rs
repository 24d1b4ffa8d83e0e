//! Nodes die, freeze and come back while clients write.

use crate::cluster::Cluster;
use crate::load::Load;
use crate::process::NodeProcess;
use crate::waiting::until;

fn cluster() -> Cluster {
    let cluster = Cluster::start(3);
    cluster.nodes[1].must("CREATE TABLE ledger (id INTEGER)");
    cluster
}

/// Waits until `more` further writes are acknowledged.
fn progress(load: &Load, more: u64) {
    let from = load.acknowledged();
    until("writes go on", || {
        (load.acknowledged() >= from + more).then_some(())
    });
}

#[test]
fn every_node_takes_writes_and_shows_them() {
    let cluster = cluster();
    for (number, node) in cluster.nodes.iter().enumerate() {
        node.must(&format!("INSERT INTO ledger VALUES ({number})"));
    }
    cluster.check(&[0, 1, 2].into(), &[].into());
}

#[test]
fn kill_nine_of_the_leader_loses_nothing() {
    let mut cluster = cluster();
    let load = Load::start(&cluster);
    for _ in 0..3 {
        progress(&load, 20);
        let leader = cluster.leader();
        cluster.nodes[leader].kill();
        progress(&load, 20);
        cluster.start_all();
    }
    let (done, refused) = load.end();
    assert!(done.len() > 100, "too few writes to tell: {}", done.len());
    cluster.check(&done, &refused);
}

#[test]
fn kill_nine_of_a_follower_is_hardly_noticed() {
    let mut cluster = cluster();
    let load = Load::start(&cluster);
    for _ in 0..2 {
        progress(&load, 20);
        let follower = (cluster.leader() + 1) % 3;
        cluster.nodes[follower].kill();
        progress(&load, 50);
        cluster.start_all();
    }
    let (done, refused) = load.end();
    cluster.check(&done, &refused);
}

#[test]
fn a_majority_and_all_nodes_die_and_come_back_also_during_recovery() {
    let mut cluster = cluster();
    let load = Load::start(&cluster);
    progress(&load, 30);
    let leader = cluster.leader();
    cluster.nodes[leader].kill();
    cluster.nodes[(leader + 1) % 3].kill();
    cluster.start_all();
    progress(&load, 30);
    for node in &mut cluster.nodes {
        node.kill();
    }
    let founding = cluster.founding();
    // Again while they recover.
    for node in &mut cluster.nodes {
        node.spawn(&founding);
    }
    for node in &mut cluster.nodes {
        node.kill();
    }
    cluster.start_all();
    progress(&load, 30);
    let (done, refused) = load.end();
    cluster.check(&done, &refused);
}

#[test]
fn a_frozen_leader_is_replaced_and_comes_back_as_a_follower() {
    let mut cluster = cluster();
    let load = Load::start(&cluster);
    progress(&load, 20);
    let frozen = cluster.leader();
    cluster.nodes[frozen].pause();
    progress(&load, 20);
    cluster.nodes[frozen].resume();
    cluster.ready();
    progress(&load, 20);
    let (done, refused) = load.end();
    cluster.check(&done, &refused);
}

#[test]
fn a_leader_that_is_stopped_hands_over() {
    let mut cluster = cluster();
    let load = Load::start(&cluster);
    progress(&load, 20);
    let leader = cluster.leader();
    assert!(cluster.nodes[leader].stop().success());
    progress(&load, 20);
    cluster.start_all();
    let (done, refused) = load.end();
    cluster.check(&done, &refused);
}

/// Entries that each start of a node so far had to replay.
fn replays(node: &NodeProcess) -> Vec<u64> {
    let said = node.said();
    let lines = said.lines().filter(|line| line.contains("log to replay"));
    let entries = lines.map(|line| line.split("entries=").nth(1).unwrap());
    entries
        .map(|rest| rest.split_whitespace().next().unwrap().parse().unwrap())
        .collect()
}

/// The second kill meets nodes that have opened their directories and have a log to replay.
#[test]
fn all_nodes_die_again_once_their_recovery_has_begun() {
    let mut cluster = Cluster::with(3, &["--log-level=info"]);
    cluster.start_all();
    cluster.nodes[1].must("CREATE TABLE ledger (id INTEGER)");
    let load = Load::start(&cluster);
    progress(&load, 300);
    let (done, refused) = load.end();
    let founding = cluster.founding();
    for _ in 0..2 {
        for node in &mut cluster.nodes {
            if node.is_running() {
                node.kill();
            }
        }
        for node in &mut cluster.nodes {
            let before = replays(node).len();
            node.spawn(&founding);
            until("a node has a log to replay", || {
                (replays(node).len() > before).then_some(())
            });
            node.kill();
            assert!(replays(node).last().unwrap() > &0, "nothing to replay");
        }
    }
    cluster.start_all();
    cluster.check(&done, &refused);
}
