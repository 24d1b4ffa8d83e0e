//! The examples do what they say.

#[allow(dead_code, reason = "its main is for the command line")]
#[path = "../examples/counter.rs"]
mod counter;

#[tokio::test(start_paused = true)]
async fn three_members_count_to_three() {
    let counted = Box::pin(counter::count()).await;
    assert!(matches!(counted, Ok(3)), "{counted:?}");
}
