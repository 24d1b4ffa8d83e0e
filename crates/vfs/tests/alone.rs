//! The example's own code, on a disk that loses power in the middle of a transaction.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

#[path = "../examples/alone.rs"]
#[allow(dead_code, reason = "the example's command line isn't run here")]
mod alone;

use alone::{Alone, write};
use sqlrep_disk::{Loss, SimulatedDisk};
use sqlrep_env::Env;
use std::sync::Arc;

#[test]
fn what_was_acknowledged_is_there_after_a_power_loss_and_nothing_else() {
    for call in 1.. {
        let disk = SimulatedDisk::new(call);
        disk.crash_at(call);
        let mut acknowledged = 0;
        let done = Alone::open(Arc::new(disk.clone()), &Env::inline(1)).and_then(|alone| {
            write(&alone, |_| acknowledged += 1)?;
            alone.begin_and_forget()
        });
        let after = disk.crash(Loss::Random { seed: call });
        let alone = Alone::open(Arc::new(after), &Env::inline(2)).unwrap();
        let notes = alone.notes().unwrap_or_default();
        assert!(
            notes.len() == acknowledged || notes.len() == acknowledged + 1,
            "call {call}"
        );
        assert!(!notes.contains(&"never acknowledged".to_owned()));
        if done.is_ok() {
            assert_eq!(notes.len(), 5);
            return;
        }
    }
}
