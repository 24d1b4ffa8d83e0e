//! Nodes die, freeze and come back while clients write.

use crate::MODE;
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

/// What a node has said since it opened its directory last.
fn life(node: &NodeProcess) -> String {
    let said = node.said();
    let life = said.rsplit_once("log to replay");
    life.map_or_else(String::new, |(_, life)| life.to_owned())
}

/// How many entries this life has applied again, as it said last.
fn applied_again(life: &str) -> Option<u64> {
    let line = life
        .lines()
        .rfind(|line| line.contains("replaying the log"))?;
    let number = line.split("applied=").nth(1)?;
    number.split_whitespace().next()?.parse().ok()
}

fn has_replayed(life: &str) -> bool {
    life.contains("log replayed")
}

/// Starts all, waits until each has applied some of its log again, and kills all. Whether every one of them had more to apply.
fn die_while_replaying(cluster: &mut Cluster) -> bool {
    let founding = cluster.founding();
    let lives: Vec<usize> = cluster.nodes.iter().map(NodeProcess::lives).collect();
    for node in &mut cluster.nodes {
        node.spawn(&founding);
    }
    for (node, before) in cluster.nodes.iter().zip(lives) {
        until("a node has applied some of its log again", || {
            let life = life(node);
            let begun = applied_again(&life) > Some(0) || has_replayed(&life);
            (node.lives() > before && begun).then_some(())
        });
    }
    for node in &mut cluster.nodes {
        node.kill();
    }
    let interrupted = |node: &NodeProcess| !has_replayed(&life(node));
    cluster.nodes.iter().all(interrupted)
}

/// The second kill meets nodes that have applied some of their log again, and not all of it. The disk is slow, so that a
/// checkpoint is seconds behind the applied end; each write is some work to apply.
#[test]
fn all_nodes_die_again_while_they_replay_their_logs() {
    let mut cluster = Cluster::with(
        3,
        &[
            "--log-level=warn,sqlrep_core=info,sqlrep_node=info",
            "--sync-floor=80ms",
        ],
    );
    cluster.start_all();
    cluster.nodes[1].must("CREATE TABLE ledger (id INTEGER)");
    let load = Load::heavy(&cluster);
    progress(&load, 40);
    for node in &mut cluster.nodes {
        node.kill();
    }
    let (done, refused) = load.end();
    let rounds = (1..=5).find(|_| die_while_replaying(&mut cluster));
    // Page mode copies what statement mode executes, and may be done before a kill arrives.
    assert!(
        rounds.is_some() || MODE == "page",
        "each time some node was done before it was killed"
    );
    cluster.start_all();
    cluster.nodes[2].must("INSERT INTO ledger VALUES (0)");
    let done = done.into_iter().chain([0]).collect();
    cluster.check(&done, &refused);
}
