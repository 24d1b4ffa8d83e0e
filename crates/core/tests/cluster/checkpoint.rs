//! Checkpoints, the purge behind them, and the snapshots that they make necessary.

use super::*;
use std::sync::atomic::Ordering;

/// Keeps almost nothing of the log behind a checkpoint.
fn short_log() -> Settings {
    let mut settings = Settings::default();
    settings.log_retention_entries = 2;
    settings
}

/// Waits until the member's log was purged up to this index.
async fn purged(node: &Node, index: u64) {
    for _ in 0..1000 {
        let purged = node.member.status().purged;
        if purged.is_some_and(|id| id.index.0 >= index) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!(
        "not purged up to {index} after 50 s: {:?}",
        node.member.status()
    );
}

/// Rules 15 and 17: Raft is told of what is durable, the log is purged behind it and never above it, and a tail
/// stays.
#[tokio::test(start_paused = true)]
async fn the_log_is_purged_behind_a_checkpoint_and_never_above_it() {
    let cluster = Cluster::form_with(3, Style::Late, short_log(), 1).await;
    let leader = cluster.leader().await;
    leader.machine.checkpoints.store(false, Ordering::Release);
    for n in 0..20 {
        leader.push(&n.to_string()).await.unwrap();
    }
    tokio::time::sleep(10 * SECOND).await;
    let status = leader.member.status();
    assert_eq!((status.purged, status.durable), (None, None));
    leader.machine.checkpoints.store(true, Ordering::Release);
    let durable = leader.member.checkpoint(true).await.unwrap().unwrap();
    assert_eq!(Some(durable), leader.member.status().durable);
    purged(leader, durable.index.0 - 2).await;
    let status = leader.member.status();
    assert!(status.purged < status.durable, "a tail stays: {status:?}");
    assert!(leader.log.entries() >= 2);
    for node in &cluster.nodes {
        purged(node, 1).await;
        let status = node.member.status();
        assert!(status.purged <= status.durable, "{status:?}");
    }
}

/// Rule 15: what was purged comes as a snapshot of the newest state, not of what is durable.
#[tokio::test(start_paused = true)]
async fn a_member_far_behind_gets_a_snapshot() {
    for style in [Style::Late, Style::Ahead] {
        let cluster = Cluster::form_with(3, style, short_log(), 1).await;
        let leader = cluster.leader().await;
        cluster.agreed(0).await;
        let behind = cluster
            .nodes
            .iter()
            .find(|node| node.id != leader.id)
            .unwrap();
        cluster.board.isolate(behind.id);
        for n in 0..30 {
            leader.push(&n.to_string()).await.unwrap();
        }
        let durable = leader.member.checkpoint(true).await.unwrap().unwrap();
        purged(leader, durable.index.0 - 2).await;
        cluster.board.heal();
        cluster.agreed(30).await;
        assert_eq!(behind.machine.installs.load(Ordering::Relaxed), 1);
        leader.push("on").await.unwrap();
        cluster.agreed(31).await;
        assert_eq!(
            behind.member.status().cluster,
            leader.member.status().cluster
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_tried_again_and_a_broken_state_goes_out_of_service() {
    let cluster = Cluster::form(1, Style::Late).await;
    let node = cluster.leader().await;
    node.send("a").await.unwrap();
    *node.machine.checkpoint_fails.lock().unwrap() = Some(Retry::Safe);
    let full = node.member.checkpoint(true).await.unwrap_err();
    assert_eq!(full.retry(), Retry::Safe);
    assert_eq!(node.member.status().out_of_service, None);
    *node.machine.checkpoint_fails.lock().unwrap() = None;
    node.member.checkpoint(true).await.unwrap().unwrap();
    *node.machine.checkpoint_fails.lock().unwrap() = Some(Retry::Useless);
    node.member.checkpoint(true).await.unwrap_err();
    assert!(node.member.status().out_of_service.is_some());
    let refused = node.member.checkpoint(true).await.unwrap_err();
    assert!(refused.to_string().contains("isn't trusted"), "{refused}");
}
