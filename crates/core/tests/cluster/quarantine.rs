//! A member that doesn't trust its own state, and one whose log has failed.

use super::*;
use sqlrep_core::Term;
use std::sync::atomic::Ordering;

fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.log_retention_entries = 2;
    settings
}

/// Rule 16: out of service, a leader hands over, answers no reads and doesn't stand again; it goes on
/// acknowledging, so the cluster keeps its quorum. A snapshot of the leader's brings it back.
#[tokio::test(start_paused = true)]
async fn a_leader_out_of_service_hands_over_and_goes_on_acknowledging() {
    for style in [Style::Late, Style::Ahead] {
        let cluster = Cluster::form_with(3, style, settings(), 1).await;
        let sick = cluster.leader().await;
        sick.push("a").await.unwrap();
        cluster.agreed(1).await;
        *sick.machine.failing.lock().unwrap() = Some((u64::MAX, Retry::Useless));
        let unknown = sick.push("b").await.unwrap_err();
        assert_eq!(unknown.retry(), Retry::Ambiguous, "{unknown}");
        until("another leader", || {
            let leader = sick.member.status().leader;
            leader.is_some_and(|leader| leader != sick.id)
        })
        .await;
        for level in [ReadLevel::None, ReadLevel::Weak, ReadLevel::Linearizable] {
            let read = sick.member.permit(level, ReadBound::default()).await;
            assert_eq!(read.unwrap_err(), ReadError::Quarantined);
        }
        // One of the healthy ones is gone: no quorum without the sick one.
        let leader = cluster.leader().await;
        let third = cluster
            .nodes
            .iter()
            .find(|n| n.id != sick.id && n.id != leader.id);
        let third = third.unwrap();
        cluster.board.isolate(third.id);
        leader.push("c").await.unwrap();
        assert_eq!(leader.machine.lines(), ["a", "b", "c"]);
        assert_eq!(sick.machine.lines(), ["a"]);
        assert!(sick.send("d").await.is_ok(), "it forwards");
        cluster.board.heal();
        back_in_service(&cluster, sick).await;
    }
}

/// Rule 16: it doesn't stand for election, whoever is gone.
#[tokio::test(start_paused = true)]
async fn a_member_out_of_service_is_never_elected() {
    for seed in 1..=6 {
        let cluster = Cluster::form_with(3, Style::Late, settings(), seed).await;
        let leader = cluster.leader().await;
        cluster.agreed(0).await;
        let mut others = cluster.nodes.iter().filter(|node| node.id != leader.id);
        let (sick, healthy) = (others.next().unwrap(), others.next().unwrap());
        *sick.machine.failing.lock().unwrap() = Some((u64::MAX, Retry::Useless));
        leader.push("a").await.unwrap();
        until("out of service", || {
            sick.member.status().out_of_service.is_some()
        })
        .await;
        let before = leader.member.status().term;
        cluster.board.isolate(leader.id);
        until("another leader", || {
            sick.member.status().leader != Some(leader.id)
        })
        .await;
        until("a leader", || sick.member.status().leader.is_some()).await;
        assert_eq!(sick.member.status().leader, Some(healthy.id), "seed {seed}");
        // Had it been elected and handed over at once, that were two terms.
        assert_eq!(
            healthy.member.status().term,
            Term(before.0 + 1),
            "seed {seed}"
        );
        healthy.push("b").await.unwrap();
    }
}

/// It misses what is purged meanwhile, so the leader sends a snapshot; then it may lead again.
async fn back_in_service(cluster: &Cluster, sick: &Node) {
    let healthy = || cluster.nodes.iter().filter(|node| node.id != sick.id);
    cluster.board.isolate(sick.id);
    let leader = cluster.leader().await;
    for n in 0..10 {
        leader.push(&n.to_string()).await.unwrap();
    }
    let durable = leader.member.checkpoint(true).await.unwrap().unwrap();
    until("purged", || {
        let purged = leader.member.status().purged;
        purged.is_some_and(|id| id.index.0 + 2 >= durable.index.0)
    })
    .await;
    *sick.machine.failing.lock().unwrap() = None;
    cluster.board.heal();
    until("in service", || {
        sick.member.status().out_of_service.is_none()
    })
    .await;
    cluster.agreed(14).await;
    // Only it may lead now: of the others one is away, and the other doesn't trust its state.
    let other = healthy().find(|node| node.id != leader.id).unwrap();
    *other.machine.failing.lock().unwrap() = Some((u64::MAX, Retry::Useless));
    cluster.leader().await.send("last").await.unwrap();
    until("out of service", || {
        other.member.status().out_of_service.is_some()
    })
    .await;
    // It can be elected only with all that is committed.
    until("caught up", || {
        sick.machine
            .lines()
            .last()
            .is_some_and(|line| line == "last")
    })
    .await;
    cluster.board.isolate(leader.id);
    until("leading", || sick.member.status().leader == Some(sick.id)).await;
    sick.push("led").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_log_that_fails_for_good_ends_the_member_and_says_so() {
    let mut cluster = Cluster::unformed(0, Style::Late, Settings::default(), 1).await;
    let log = WatchedLog::default();
    cluster.start_watched(1, &log).await;
    cluster.bootstrap(1).await;
    let member = cluster.leader().await.member.clone();
    let waiting = tokio::time::timeout(60 * SECOND, member.failed()).await;
    assert!(waiting.is_err(), "it works");
    log.broken.store(true, Ordering::Release);
    let (failed, written) = tokio::join!(member.failed(), cluster.nodes[0].push("a"));
    assert!(failed.to_string().contains("injected"), "{failed}");
    written.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_stopped_has_not_failed() {
    let cluster = Cluster::form(1, Style::Late).await;
    let member = cluster.leader().await.member.clone();
    member.stop().await;
    let waiting = tokio::time::timeout(60 * SECOND, member.failed()).await;
    assert!(waiting.is_err());
}

/// Rule 21: how full Raft's channel to the state is can be seen: it fills while an entry can't be applied, and empties behind it.
#[tokio::test(start_paused = true)]
async fn what_waits_for_a_state_that_is_stuck_is_told() {
    let cluster = Cluster::form(3, Style::Late).await;
    let leader = cluster.leader().await;
    leader.push("0").await.unwrap();
    cluster.agreed(1).await;
    let stuck = cluster
        .nodes
        .iter()
        .find(|node| node.id != leader.id)
        .unwrap();
    assert_eq!(stuck.member.status().unapplied, 0);
    assert_eq!(stuck.member.status().unapplied_max, 65_536);
    *stuck.machine.failing.lock().unwrap() = Some((u64::MAX, Retry::Safe));
    for n in 1..20 {
        leader.push(&n.to_string()).await.unwrap();
    }
    // The first of them is at work; the others wait behind it.
    until("they wait", || stuck.member.status().unapplied == 18).await;
    assert_eq!(leader.member.status().unapplied, 0);
    *stuck.machine.failing.lock().unwrap() = None;
    until("they are applied", || stuck.machine.lines().len() == 20).await;
    assert_eq!(stuck.member.status().unapplied, 0);
}
