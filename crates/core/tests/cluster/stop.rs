//! The end of a member.

use super::*;
use sqlrep_core::Role;
use std::sync::Mutex;
use tokio::time::Instant;

/// Clusters that differ in their randomness.
pub(crate) const SEEDS: u64 = 6;

/// Rule 20: a leader that stops hands over: no write fails, none that was acknowledged is lost, and writes go on
/// long before an election would have been over.
#[tokio::test(start_paused = true)]
async fn a_stopping_leader_hands_over_under_load() {
    for (style, seed) in [Style::Late, Style::Ahead]
        .into_iter()
        .cycle()
        .zip(1..=SEEDS)
    {
        let cluster = Cluster::form_with(3, style, Settings::default(), seed).await;
        cluster.board.set_latency(Duration::from_millis(1));
        let leader = cluster.leader().await;
        let acknowledged: Arc<Mutex<Vec<(Instant, String)>>> = Arc::default();
        let mut clients = Vec::new();
        for (client, node) in cluster.nodes.iter().enumerate() {
            let (member, acknowledged) = (node.member.clone(), acknowledged.clone());
            clients.push(tokio::spawn(async move {
                for n in 0..200 {
                    let line = format!("{client}-{n}");
                    let push = Ask::Push(line.clone());
                    match member.write(push, Route::Forward, 10 * SECOND).await {
                        Ok(_) => acknowledged.lock().unwrap().push((Instant::now(), line)),
                        Err(WriteError::Stopped) => return,
                        Err(error) => panic!("{line}: {error}"),
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            }));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        leader.member.stop().await;
        for client in clients {
            client.await.unwrap();
        }
        assert_eq!(leader.member.status().role, Role::Stopped);
        let acknowledged = acknowledged.lock().unwrap().clone();
        assert!(
            acknowledged.len() > 400,
            "the clients of the others went on"
        );
        let gaps = acknowledged.windows(2).map(|pair| pair[1].0 - pair[0].0);
        let gap = gaps.max().unwrap();
        assert!(
            gap < Duration::from_millis(100),
            "writes stood still for {gap:?}"
        );
        let shown = cluster.followers(leader.id)[0].machine.lines();
        for (_, line) in &acknowledged {
            assert!(shown.contains(line), "{line} was acknowledged and is lost");
        }
    }
}

/// Rule 20: alone, what is admitted is still done.
#[tokio::test(start_paused = true)]
async fn a_single_node_does_what_it_has_admitted() {
    let cluster = Cluster::form(1, Style::Late).await;
    let leader = cluster.leader().await;
    let mut waiting = Vec::new();
    for n in 0..100 {
        let member = leader.member.clone();
        let push = Ask::Push(n.to_string());
        waiting.push(tokio::spawn(async move {
            member.write(push, Route::Forward, 10 * SECOND).await
        }));
    }
    tokio::task::yield_now().await;
    leader.member.stop().await;
    let mut done = 0;
    for wait in waiting {
        match wait.await.unwrap() {
            Ok(_) => done += 1,
            Err(error) => assert_eq!(error, WriteError::Stopped, "it came too late"),
        }
    }
    assert!(done > 0);
    assert_eq!(leader.machine.lines().len(), done);
    assert_eq!(leader.push("late").await.unwrap_err(), WriteError::Stopped);
}

/// Rule 20: every step of the end is bounded.
#[tokio::test(start_paused = true)]
async fn a_leader_without_the_others_stops_in_time() {
    let cluster = Cluster::form(3, Style::Late).await;
    let leader = cluster.leader().await;
    cluster.board.isolate(leader.id);
    let member = leader.member.clone();
    let push = Ask::Push("lost?".to_owned());
    let waits = tokio::spawn(async move { member.write(push, Route::Here, 60 * SECOND).await });
    tokio::task::yield_now().await;
    let begun = Instant::now();
    leader.member.stop().await;
    let bound = 2 * cluster.settings.drain_ms + cluster.settings.transfer_ms;
    assert!(
        begun.elapsed() <= Duration::from_millis(bound + 100),
        "{:?}",
        begun.elapsed()
    );
    let error = waits.await.unwrap().unwrap_err();
    assert_ne!(error.retry(), Retry::Useless, "{error}");
}
