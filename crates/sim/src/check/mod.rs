//! What has to be true at the end, whatever happened before.
//!
//! Registers are checked for linearizability ([`registers`]), ids, the bank and the counter for what was lost or invented, and
//! the files that the nodes left by opening them ([`files`]).

mod bank;
mod counter;
mod files;
mod ids;
mod registers;

use crate::machine::Machine;
use crate::world::World;

/// Fewer acknowledged calls tell nothing.
const ACKNOWLEDGED_MIN: usize = 20;

/// Checks the history and the disks.
pub(crate) fn all(world: &World, machines: &[Machine]) {
    let calls = world.history.read();
    let acknowledged = calls.iter().filter(|call| call.done()).count();
    if acknowledged < ACKNOWLEDGED_MIN {
        world.problem(format_args!("only {acknowledged} calls were acknowledged"));
    }
    registers::check(world, &calls);
    ids::check(world, &calls);
    bank::check(world, &calls);
    counter::check(world, &calls);
    files::check(world, machines);
}
