//! Snapshots and repairs for members that have a part of the state already.

use super::*;
use crate::judge::{doubts, repaired};
use crate::snapshots::{behind_breaks, broken_and_handed_on, falls_behind, short_log, whole};
use std::sync::atomic::Ordering;

fn bytes_of(lines: &[String]) -> u64 {
    lines.iter().map(|line| line.len() as u64).sum()
}

/// Bytes of snapshots that a leader sent, and lines that it didn't send.
fn sent(node: &Node) -> (u64, u64) {
    let counts = node.member.status().counts;
    (counts.snapshot_sent_bytes, counts.snapshot_spared_pages)
}

/// A cluster of which all have so many lines; then one is cut off and needs a snapshot of eight more, and a few.
async fn behind_with(lines: usize) -> (Cluster, usize, usize) {
    let cluster = Cluster::form_with(3, Style::Late, short_log(), 1).await;
    for line in 0..lines {
        cluster
            .leader()
            .await
            .push(&format!("old {line}"))
            .await
            .unwrap();
    }
    cluster.agreed(lines).await;
    falls_behind(cluster, 8).await
}

/// Rule 11: whatever part of the state a follower has, it is sent the rest.
#[tokio::test(start_paused = true)]
async fn a_follower_is_sent_what_it_has_not() {
    for lines in [0, 1, 3, 4, 5, 11] {
        let (cluster, leader, behind) = behind_with(lines).await;
        let (leader, behind) = (&cluster.nodes[leader], &cluster.nodes[behind]);
        let (_, bytes) = whole(leader);
        let old = bytes_of(&behind.machine.lines());
        cluster.board.heal();
        cluster.agreed(lines + 12).await;
        assert_eq!(behind.machine.installs.load(Ordering::Relaxed), 1);
        assert_eq!(sent(leader), (bytes - old, lines as u64));
    }
}

/// Rule 11: what one leader has sent before its link broke isn't sent again by the next one, though its state is another.
#[tokio::test(start_paused = true)]
async fn the_next_leader_sends_only_the_rest() {
    for place in 1..=14usize {
        let (cluster, next, behind, _) = broken_and_handed_on(1 + place).await;
        let (next, behind) = (&cluster.nodes[next], &cluster.nodes[behind]);
        let (_, bytes) = whole(next);
        cluster.board.heal();
        cluster.agreed(13).await;
        let came = place.saturating_sub(2);
        let came = &next.machine.lines()[..came];
        let expected = (bytes - bytes_of(came), came.len() as u64);
        assert_eq!(sent(next), expected, "behind {place}");
        assert_eq!(behind.machine.installs.load(Ordering::Relaxed), 1);
    }
}

/// Rules 3 and 11: what was kept and is damaged is offered all the same, part by part: each is compared when it is taken.
#[tokio::test(start_paused = true)]
async fn whole_parts_of_a_damaged_beginning_are_not_sent_again() {
    let (cluster, leader, behind, _) = behind_breaks(&[6, usize::MAX]).await;
    let (leader, behind) = (&cluster.nodes[leader], &cluster.nodes[behind]);
    let (_, bytes) = whole(leader);
    behind.machine.flaws.rots.store(true, Ordering::Release);
    cluster.board.heal();
    cluster.agreed(12).await;
    let (keys_and_tail, lines) = (whole_heads(leader), &leader.machine.lines()[..3]);
    assert_eq!(sent(leader), (bytes + keys_and_tail, lines.len() as u64));
}

/// Bytes that are sent again with each new beginning.
fn whole_heads(leader: &Node) -> u64 {
    whole(leader).1 - bytes_of(&leader.machine.lines())
}

/// Rules 3 and 11: where what was offered is gone when it is to be taken, nothing has changed, and the next transfer takes
/// nothing from what is here.
#[tokio::test(start_paused = true)]
async fn a_transfer_that_failed_on_what_was_here_is_followed_by_a_whole_one() {
    let (cluster, leader, behind) = behind_with(4).await;
    let (leader, behind) = (&cluster.nodes[leader], &cluster.nodes[behind]);
    let (before, (_, bytes)) = (behind.machine.lines(), whole(leader));
    behind.machine.flaws.forgets.store(true, Ordering::Release);
    cluster.board.heal();
    until("it was forgotten", || {
        !behind.machine.flaws.forgets.load(Ordering::Acquire)
    })
    .await;
    let first = sent(leader);
    assert_eq!(behind.machine.lines(), before);
    cluster.agreed(4 + 12).await;
    let second = sent(leader);
    assert_eq!(first.1, 4);
    assert_eq!((second.0 - first.0, second.1 - first.1), (bytes, 0));
    assert_eq!(behind.machine.installs.load(Ordering::Relaxed), 1);
}

/// An offer that is none says nothing of the leader's own state: it ends the transfer and nothing else.
#[tokio::test(start_paused = true)]
async fn a_leader_that_is_offered_nonsense_stays_in_service() {
    let (cluster, leader, behind) = behind_with(4).await;
    let (leader, behind) = (&cluster.nodes[leader], &cluster.nodes[behind]);
    behind.machine.flaws.lies.store(true, Ordering::Release);
    cluster.board.heal();
    tokio::time::sleep(10 * SECOND).await;
    assert_eq!(behind.machine.installs.load(Ordering::Relaxed), 0);
    assert_eq!(leader.member.status().out_of_service, None);
    behind.machine.flaws.lies.store(false, Ordering::Release);
    cluster.agreed(4 + 12).await;
    assert_eq!(behind.machine.installs.load(Ordering::Relaxed), 1);
}

/// Rules 11 and 16: a member that doesn't trust its state offers it all the same; only what is equal stays.
#[tokio::test(start_paused = true)]
async fn a_repair_sends_only_what_differs() {
    let cluster = Cluster::form_with(3, Style::Late, Settings::default(), 1).await;
    let leader = cluster.leader().await;
    for line in 0..9 {
        leader.push(&format!("line {line}")).await.unwrap();
    }
    cluster.agreed(9).await;
    let sick = cluster.nodes.iter().find(|node| node.id != leader.id);
    let sick = sick.unwrap();
    sick.machine.corrupt();
    doubts(sick);
    leader.push("line 9").await.unwrap();
    repaired(sick).await;
    assert_eq!(cluster.agreed(10).await[0], "line 0");
    let differs = ["line 0".to_owned()];
    assert_eq!(sent(leader), (whole_heads(leader) + bytes_of(&differs), 9));
}
