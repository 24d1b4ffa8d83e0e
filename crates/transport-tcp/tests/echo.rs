//! The example's own code: what it shows is so.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

#[path = "../examples/echo.rs"]
#[allow(dead_code, reason = "the example's main isn't run here")]
mod echo;

use echo::{ask, serve, start};
use sqlrep_core::{Lane, Transport};

#[tokio::test]
async fn peers_of_one_cluster_echo_and_a_stranger_is_told_why_not() {
    let (near, far) = (start(1, 7).await.unwrap(), start(2, 7).await.unwrap());
    let address = far.local_addr().to_string();
    let serving = tokio::spawn(serve(far.clone()));
    for lane in Lane::ALL {
        let answer = ask(&near, &address, lane, "hello").await.unwrap();
        assert_eq!(answer, "hello");
    }
    let stranger = start(3, 8).await.unwrap();
    let refused = ask(&stranger, &address, Lane::Client, "hello").await;
    let refusal = refused.unwrap_err().to_string();
    assert!(refusal.contains("node 3 belongs to cluster 0000000000000008"));
    far.close();
    serving.await.unwrap();
}
