//! The writer, reserved for one client's transaction.

use super::*;
use sqlrep_core::{Committing, Reserved, Stepped};
use tokio::task::JoinHandle;

async fn reserve(node: &Node) -> Reserved<List> {
    node.member.reserve(None, 5 * SECOND).await.unwrap()
}

async fn push(reserved: &mut Reserved<List>, line: &str) -> Result<Stepped<String>, WriteError> {
    reserved.run(Ask::Push(line.to_owned())).await
}

async fn commit(reserved: &mut Reserved<List>) -> Result<String, WriteError> {
    match reserved.commit(5 * SECOND).await? {
        Committing::Done(written) => Ok(written.reply),
        Committing::Open(reply) => Ok(format!("open: {reply}")),
    }
}

/// A write that waits in line once this returns.
async fn behind(node: &Node, line: &str) -> JoinHandle<Result<Written<String>, WriteError>> {
    let (member, ask) = (node.member.clone(), Ask::Push(line.to_owned()));
    let sent = tokio::spawn(async move { member.write(ask, Route::Here, 5 * SECOND).await });
    tokio::time::sleep(Duration::from_millis(1)).await;
    sent
}

/// Rule 41: each has its turn in the order of arrival; what waits behind a transaction runs on what it committed.
#[tokio::test(start_paused = true)]
async fn requests_and_transactions_stand_in_one_line() {
    for size in [1, 3] {
        let cluster = Cluster::form(size, Style::Ahead).await;
        let leader = cluster.leader().await;
        let mut one = reserve(leader).await;
        assert_eq!(push(&mut one, "a").await.unwrap().reply, "1");
        let first = behind(leader, "b").await;
        let member = leader.member.clone();
        let two = tokio::spawn(async move { member.reserve(None, 5 * SECOND).await });
        tokio::time::sleep(Duration::from_millis(1)).await;
        let last = behind(leader, "d").await;
        let shown = one.run(Ask::Show).await.unwrap();
        assert_eq!(shown.reply, "a");
        assert!(!first.is_finished() && !two.is_finished());
        assert_eq!(commit(&mut one).await.unwrap(), "1");
        assert_eq!(first.await.unwrap().unwrap().reply, "2");
        let mut two = two.await.unwrap().unwrap();
        assert_eq!(push(&mut two, "c").await.unwrap().reply, "3");
        assert!(!last.is_finished());
        drop(two);
        assert_eq!(last.await.unwrap().unwrap().reply, "3");
        assert_eq!(cluster.agreed(3).await, ["a", "b", "d"]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_cant_be_committed_stays_open_and_what_is_over_is_over() {
    let cluster = Cluster::form(3, Style::Ahead).await;
    let leader = cluster.leader().await;
    let mut open = reserve(leader).await;
    push(&mut open, "").await.unwrap();
    assert_eq!(commit(&mut open).await.unwrap(), "open: an empty line");
    assert!(!push(&mut open, "end").await.unwrap().open);
    assert!(push(&mut open, "a").await.is_err());
    assert!(commit(&mut open).await.is_err());
    let mut nothing = reserve(leader).await;
    assert_eq!(commit(&mut nothing).await.unwrap(), "0");
    leader.push("a").await.unwrap();
    let late = leader.member.reserve(Some(0), SECOND).await.err();
    assert_eq!(late, Some(WriteError::Conflict));
    let mut newest = leader.member.reserve(Some(1), SECOND).await.unwrap();
    push(&mut newest, "b").await.unwrap();
    commit(&mut newest).await.unwrap();
    assert_eq!(cluster.agreed(2).await, ["a", "b"]);
}

/// Rule 41: the wait for a turn is bounded, and so is that of requests behind a transaction: both are told that nothing was done.
#[tokio::test(start_paused = true)]
async fn a_wait_ends_in_time_and_leaves_no_gap() {
    let cluster = Cluster::form(3, Style::Ahead).await;
    let leader = cluster.leader().await;
    let held = reserve(leader).await;
    let waits = leader.member.reserve(None, 2 * SECOND).await.err();
    let waited = 2 * SECOND;
    assert_eq!(waits, Some(WriteError::Expired { waited }));
    let write = behind(leader, "a").await.await.unwrap().unwrap_err();
    assert!(matches!(write, WriteError::Expired { .. }), "{write}");
    drop(held);
    leader.push("b").await.unwrap();
    assert_eq!(cluster.agreed(1).await, ["b"]);
}

/// Rule 20: handing over waits for no client that thinks, and tells it at once; who waits in line goes to the next leader.
#[tokio::test(start_paused = true)]
async fn a_transfer_ends_a_transaction() {
    let cluster = Cluster::form(3, Style::Ahead).await;
    let leader = cluster.leader().await;
    let mut held = reserve(leader).await;
    push(&mut held, "a").await.unwrap();
    let (member, ask) = (leader.member.clone(), Ask::Push("b".to_owned()));
    let waits = tokio::spawn(async move { member.write(ask, Route::Forward, 5 * SECOND).await });
    tokio::time::sleep(Duration::from_millis(1)).await;
    let (moved, why) = tokio::join!(leader.member.transfer(None, 5 * SECOND), held.lost());
    moved.unwrap();
    assert!(matches!(why, WriteError::NotLeader { .. }), "{why}");
    assert!(push(&mut held, "c").await.is_err());
    assert!(commit(&mut held).await.is_err());
    assert_eq!(waits.await.unwrap().unwrap().reply, "1");
    let late = leader.member.reserve(None, SECOND).await.err();
    assert!(matches!(late, Some(WriteError::NotLeader { .. })));
    assert_eq!(cluster.agreed(1).await, ["b"]);
}

/// Rule 25: nothing is shown of a state that may never have been, nor under a leadership that is over: without a majority no
/// transaction begins, and a commit has no outcome.
#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_lends_nothing() {
    let cluster = Cluster::form(3, Style::Ahead).await;
    let leader = cluster.leader().await;
    let mut held = reserve(leader).await;
    push(&mut held, "a").await.unwrap();
    cluster.board.isolate(leader.id);
    let lost = commit(&mut held).await.unwrap_err();
    assert!(matches!(lost, WriteError::Unknown { .. }), "{lost}");
    let begun = leader.member.reserve(None, 2 * SECOND).await.err();
    assert!(begun.is_some());
    cluster.board.heal();
    until("another write is done", || {
        cluster
            .nodes
            .iter()
            .all(|node| node.member.status().leader.is_some())
    })
    .await;
    cluster.leader().await.push("b").await.unwrap();
    let lines = cluster.leader().await.machine.lines();
    assert!(lines == ["b"] || lines == ["a", "b"], "{lines:?}");
}

/// A mode that needs no writer for transactions says so.
#[tokio::test(start_paused = true)]
async fn where_nothing_runs_ahead_nothing_is_lent() {
    let cluster = Cluster::form(1, Style::Late).await;
    let leader = cluster.leader().await;
    let refused = leader.member.reserve(None, SECOND).await.err();
    assert!(matches!(refused, Some(WriteError::Unsupported { .. })));
    leader.push("a").await.unwrap();
}
