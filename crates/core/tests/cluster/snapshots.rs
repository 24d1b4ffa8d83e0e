//! Snapshots that take long, stall, or are overtaken.

use super::*;
use sqlrep_core::LogIndex;
use std::sync::atomic::Ordering;

const LINES: usize = 400;

/// A cluster in which one member needs a snapshot of [`LINES`] chunks, on a slow network: about two seconds.
async fn one_behind(settings: Settings) -> (Cluster, usize, usize) {
    let cluster = Cluster::form_with(3, Style::Late, settings, 1).await;
    let leader = cluster.leader().await;
    cluster.agreed(0).await;
    let behind = cluster
        .nodes
        .iter()
        .find(|node| node.id != leader.id)
        .unwrap();
    cluster.board.isolate(behind.id);
    let pushes = (0..LINES).map(|n| {
        let member = leader.member.clone();
        let push = Ask::Push(n.to_string());
        tokio::spawn(async move { member.write(push, Route::Here, 5 * SECOND).await })
    });
    for push in pushes.collect::<Vec<_>>() {
        push.await.unwrap().unwrap();
    }
    for line in ["a", "b", "c", "d"] {
        leader.push(line).await.unwrap();
    }
    leader.member.checkpoint(true).await.unwrap();
    while leader.member.status().purged.is_none() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let at = |id| cluster.nodes.iter().position(|node| node.id == id).unwrap();
    let (leader, behind) = (at(leader.id), at(behind.id));
    (cluster, leader, behind)
}

fn short_log() -> Settings {
    let mut settings = Settings::default();
    settings.log_retention_entries = 1;
    settings
}

/// Makes everything durable that there is, again and again, and writes meanwhile.
async fn go_on(leader: &Node, rounds: usize, line: &str) {
    for _ in 0..rounds {
        leader.push(line).await.unwrap();
        leader.member.checkpoint(true).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn floor(node: &Node) -> Option<LogIndex> {
    node.member.status().floor
}

/// Rules 17 and 18: a transfer takes as long as bytes are acknowledged; the log behind it stays meanwhile, so one
/// snapshot is enough.
#[tokio::test(start_paused = true)]
async fn a_long_transfer_is_waited_for_and_the_log_behind_it_stays() {
    let (cluster, leader, behind) = one_behind(short_log()).await;
    let (leader, behind) = (&cluster.nodes[leader], &cluster.nodes[behind]);
    cluster.board.set_latency(Duration::from_millis(20));
    let held = leader.member.status().applied.unwrap().index;
    cluster.board.heal();
    tokio::time::sleep(SECOND).await;
    go_on(leader, 5, "on").await;
    assert_eq!(
        behind.machine.installs.load(Ordering::Relaxed),
        0,
        "under way"
    );
    assert!(floor(leader) <= Some(held), "{:?} is needed next", held);
    cluster.agreed(LINES + 9).await;
    assert_eq!(behind.machine.installs.load(Ordering::Relaxed), 1);
}

/// Rule 18: when nothing is acknowledged any more, the transfer ends and holds nothing.
#[tokio::test(start_paused = true)]
async fn a_stalled_transfer_ends() {
    let (cluster, leader, behind) = one_behind(short_log()).await;
    let (leader, behind) = (&cluster.nodes[leader], &cluster.nodes[behind]);
    cluster.board.set_latency(Duration::from_millis(20));
    let held = leader.member.status().applied.unwrap().index;
    cluster.board.heal();
    tokio::time::sleep(SECOND).await;
    cluster.board.cut_one_way(behind.id, leader.id);
    go_on(leader, 10, "on").await;
    assert!(floor(leader) <= Some(held), "it isn't given up at once");
    tokio::time::sleep(10 * SECOND).await;
    go_on(leader, 5, "on").await;
    assert!(floor(leader) > Some(held), "{:?}", leader.member.status());
    cluster.board.heal();
    cluster.agreed(LINES + 19).await;
}

/// Rule 17: a transfer holds the log up to a bound; beyond it the log goes, and another snapshot follows.
#[tokio::test(start_paused = true)]
async fn a_transfer_that_holds_too_much_of_the_log_is_given_up() {
    let mut settings = short_log();
    settings.log_retention_max_bytes = 1 << 20;
    let (cluster, leader, behind) = one_behind(settings).await;
    let (leader, behind) = (&cluster.nodes[leader], &cluster.nodes[behind]);
    cluster.board.set_latency(Duration::from_millis(20));
    let held = leader.member.status().applied.unwrap().index;
    cluster.board.heal();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let large = "x".repeat(600 << 10);
    go_on(leader, 5, &large).await;
    assert_eq!(
        behind.machine.installs.load(Ordering::Relaxed),
        0,
        "under way"
    );
    assert!(floor(leader) > Some(held), "{:?}", leader.member.status());
    cluster.agreed(LINES + 9).await;
    assert!(behind.machine.installs.load(Ordering::Relaxed) >= 2);
}

/// Rules 5 and 29: a node that took in a snapshot answers a retry as the others do.
#[tokio::test(start_paused = true)]
async fn keys_come_with_a_snapshot() {
    let (cluster, leader, behind) = one_behind(short_log()).await;
    let (leader, behind) = (&cluster.nodes[leader], &cluster.nodes[behind]);
    let write = |node: &Node| {
        let (member, ask) = (node.member.clone(), Ask::Push("keyed".to_owned()));
        let key = Some(IdempotencyKey::new("k").unwrap());
        async move {
            let route = Route::Forward;
            member.write_keyed(ask, key, route, 20 * SECOND).await
        }
    };
    let first = write(leader).await.unwrap();
    go_on(leader, 3, "on").await;
    cluster.board.heal();
    cluster.agreed(LINES + 8).await;
    assert_eq!(behind.machine.installs.load(Ordering::Relaxed), 1);
    leader
        .member
        .transfer(Some(behind.id), 5 * SECOND)
        .await
        .unwrap();
    while behind.member.status().leader != Some(behind.id) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let retry = write(behind).await.unwrap();
    assert_eq!((retry.reply, retry.at), (first.reply, first.at));
    assert!(retry.replayed && retry.by == behind.id);
}
