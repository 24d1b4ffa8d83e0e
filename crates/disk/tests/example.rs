//! The example does what it tells.

#[path = "../examples/power_loss.rs"]
#[allow(
    dead_code,
    unreachable_pub,
    reason = "its main is for those who run it"
)]
mod power_loss;

#[test]
fn a_rename_without_a_sync_of_the_folder_may_be_lost_but_never_torn() {
    let found = power_loss::power_losses(false).unwrap();
    let old = found.iter().filter(|bytes| *bytes == "old").count();
    let new = found.iter().filter(|bytes| *bytes == "new").count();
    assert!(old > 0 && new > 0 && old + new == 20, "{found:?}");
    assert_eq!(power_loss::power_losses(true).unwrap(), ["new"; 20]);
}
