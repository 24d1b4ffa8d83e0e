//! Machines of page mode without Raft: the test is the log.

mod bed;
mod model;
mod scenes;
