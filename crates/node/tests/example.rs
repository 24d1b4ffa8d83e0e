//! The examples do what they tell, on real files and sockets.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

#[path = "../examples/three.rs"]
#[allow(dead_code, reason = "its main is for those who run it")]
mod three;

#[path = "../examples/transaction.rs"]
#[allow(dead_code, reason = "its main is for those who run it")]
mod transaction;

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_run_again_behind_a_conflict() {
    let folder = tempfile::tempdir().unwrap();
    let shown = Box::pin(transaction::transaction(folder.path()))
        .await
        .unwrap();
    assert_eq!(shown, (1, 60));
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_in_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let shown = Box::pin(three::three(folder.path())).await.unwrap();
    assert_eq!(shown, (4, 4));
}
