//! A transaction that its client leads step by step on the leader, while nothing else runs there (safety rule 41).
//!
//! ```text
//!   begin ─► step ─► step ─► … ─► commit ─► (Epoch::seal) the next command
//!     │        └───────┴────────── roll_back: as if it had never begun
//!     └ only behind a seal: nothing that others took in is part of it
//! ```
//!
//! It is for modes whose leader executes. It doesn't decide who is let in, for how long, or when a reply may leave: `core` does.

use crate::{Interrupt, Step, WriteError};
use std::sync::Arc;

/// What a step gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stepped<R> {
    /// For the client.
    pub reply: R,
    /// Whether the transaction goes on; if it doesn't, nothing of it will ever be done.
    pub open: bool,
}

/// What a commit gave.
#[derive(Debug)]
pub enum Closing<R> {
    /// It is over: in the next command, or without an entry, or certainly not done.
    Over(Step<R>),
    /// It can't be committed as it stands, for the reason in the reply, and goes on.
    Open(R),
}

/// Steps of one transaction at a time, part of an [`Epoch`](crate::Epoch).
///
/// Duties of an implementation:
/// 1. `begin` comes right behind a `seal`, or first of all; until the transaction is over neither `Epoch::run` nor `seal` is called.
/// 2. What isn't committed is in no command, and leaves no trace in the state.
/// 3. Calls without an open transaction are refused and change nothing.
pub trait Interactive {
    /// A client's request.
    type Request;
    /// Its answer.
    type Reply;

    /// Begins on the newest state, which has to be `base` if that is given: a state's number as this machine counts them. The
    /// handle ends this transaction alone, from any thread: the step that runs returns soon, and it is rolled back.
    ///
    /// # Errors
    ///
    /// [`WriteError::Conflict`] if the newest state is another one; else as for a request that is refused.
    fn begin(&mut self, base: Option<u64>) -> Result<Arc<dyn Interrupt>, WriteError>;

    /// Runs one request in it.
    ///
    /// # Errors
    ///
    /// It is over, and rolled back.
    fn step(&mut self, request: Self::Request) -> Result<Stepped<Self::Reply>, WriteError>;

    /// Makes it part of the next command.
    fn commit(&mut self) -> Closing<Self::Reply>;

    /// Takes it back; nothing if there is none.
    fn roll_back(&mut self);
}
