//! The example's own code, on a disk that loses power at each of its calls.
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
fn what_was_acknowledged_is_there_after_a_power_loss_and_what_was_cut_is_not() {
    for call in 1.. {
        let disk = SimulatedDisk::new(call);
        disk.crash_at(call);
        let mut states = vec![Vec::new()];
        let done = Alone::open(Arc::new(disk.clone()), &Env::inline(1))
            .and_then(|alone| write(&alone, |lines| states.push(lines.to_vec())));
        let after = disk.crash(Loss::Random { seed: call });
        let alone = Alone::open(Arc::new(after), &Env::inline(2)).unwrap();
        let lines = alone.lines().unwrap();
        let full = [1, 2, 3, 4, 5].map(|number| format!("line {number}"));
        let next = match states.len() {
            len @ 1..=5 => full[..len].to_vec(),
            6 => full[..3].to_vec(),
            _ => [&full[..3], &["line 4, written anew".to_owned()]].concat(),
        };
        let last = states.last().unwrap();
        assert!(
            &lines == last || lines == next,
            "call {call}: {lines:?} after {last:?}"
        );
        if done.is_ok() {
            assert_eq!((states.len(), lines.len()), (8, 4));
            return;
        }
    }
}
