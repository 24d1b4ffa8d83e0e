//! Machines of page mode without Raft: the test is the log.

mod bed;
mod held;
mod model;
mod scenes;
