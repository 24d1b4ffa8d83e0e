//! Interactive transactions: who has one, how long it may last, what runs it.
//!
//! ```text
//!   name ─► the node that owns it ─► Registry ─► a task per session (Life) ─► Transaction: the mode's own
//!                                      │             idle, total, stop            ├ Reading: a reader at a pinned version
//!                                      └ ended: why, for a while                  ├ Drafting: statement mode's writes
//!                                                                                  └ Holding: page mode's, on the leader
//! ```
//!
//! The task owns its transaction: calls reach it one after the other through a short queue. What SQLite does happens on
//! the workers of [`Ground`], never on the reactor.
//!
//! Invariant 1: once a session is over, nothing that is sent to it runs, and every call is told why.
//! Invariant 2: a COMMIT that has begun is never taken back by a deadline: its outcome is what is told.
//! Invariant 3: the end of a session is known to the registry before its last caller hears of it.

mod drafting;
mod ground;
mod holding;
mod life;
mod reading;
mod registry;
mod serve;
mod transaction;

pub(crate) use ground::Ground;
pub(crate) use registry::Registry;
pub(crate) use serve::{SessionCall, Told};

/// Sessions that a node has open at once.
pub const SESSIONS_MAX: usize = 256;
