//! The writer, reserved for one client's transaction (safety rule 41).
//!
//! ```text
//!   Member::reserve ─► the one line ─► its turn: begun, and what it stands on is committed ─► Reserved
//!   run ─► the epoch ─► answered at once                                                          │
//!   commit ─► the next command, alone in it ─► quorum ─► applied ─► its outcome                   │
//!   dropped, or the epoch ends ─► rolled back, and the line goes on ◄─────────────────────────────┘
//! ```
//!
//! Invariant 1: while it is reserved nothing else runs in the epoch; what waits does so in order, each with its own deadline.
//! Invariant 2 (safety rule 25): the state that it begins on is committed, and this leadership confirmed behind its begin, before
//! anything of it is told. So its client sees one state of its time, also if it never commits.
//! Invariant 3: only `commit` proposes anything.

mod serve;

use super::in_flight::Answer;
use super::keys::Keyed;
use super::{Inner, Member, Written, after};
use crate::{Interrupt, StateMachine, Stepped, WriteError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// What a client asks of the proposer while the writer is its own.
pub(crate) enum Call<Q, R> {
    Run(Q, oneshot::Sender<Result<Stepped<R>, WriteError>>),
    Commit(oneshot::Sender<Result<Proposed<Q, R>, WriteError>>),
}

/// How far a commit has come.
pub(crate) enum Proposed<Q, R> {
    /// Not at all; it is open still.
    Open(R),
    /// Its outcome comes here.
    Under(oneshot::Receiver<Answer<Keyed<Q>, R>>),
}

/// What a wish for the writer is granted with.
pub(crate) struct Grant<Q, R> {
    line: mpsc::Sender<Call<Q, R>>,
    interrupt: Arc<dyn Interrupt>,
    /// Why it is the client's no longer.
    over: watch::Receiver<Option<WriteError>>,
}

/// The writer in one client's hand. Dropping it rolls back what isn't committed.
pub struct Reserved<M: StateMachine> {
    grant: Grant<M::Request, M::Reply>,
    inner: Arc<Inner<M>>,
}

/// What a commit gave.
#[derive(Debug)]
pub enum Committing<R> {
    /// It is done.
    Done(Written<R>),
    /// It can't be done as it stands, the reply says why; the transaction is open.
    Open(R),
}

/// Ends what runs if its caller goes away.
struct Watching {
    interrupt: Arc<dyn Interrupt>,
    answered: bool,
}

impl Drop for Watching {
    fn drop(&mut self) {
        if !self.answered {
            self.interrupt.interrupt();
        }
    }
}

impl<M: StateMachine> Member<M> {
    /// Waits in line for the writer, and begins a transaction on the newest state, which has to be `base` if that is given (see
    /// [`Interactive::begin`](crate::Interactive::begin)).
    ///
    /// # Errors
    ///
    /// [`WriteError::NotLeader`]: this is never forwarded. [`WriteError::Conflict`]: the state is another one.
    /// [`WriteError::Expired`]: its turn didn't come within `wait_max`. [`WriteError::Overloaded`], [`WriteError::DiskFull`],
    /// [`WriteError::Stopped`], [`WriteError::NotDone`], [`WriteError::Failed`], [`WriteError::Unsupported`].
    pub async fn reserve(
        &self,
        base: Option<u64>,
        wait_max: Duration,
    ) -> Result<Reserved<M>, WriteError> {
        let inner = &self.inner;
        if inner.shared.is_out_of_service() {
            return Err(inner.not_leader());
        }
        let since = Instant::now();
        let waits = inner.queue.wish(base)?;
        let grant = waits.granted(since, after(since, wait_max)).await?;
        let inner = inner.clone();
        Ok(Reserved { grant, inner })
    }
}

impl<M: StateMachine> Reserved<M> {
    /// Runs one request. A future that is dropped before it is answered ends the transaction.
    ///
    /// # Errors
    ///
    /// The transaction is over, and nothing of it will ever be done.
    pub async fn run(&mut self, request: M::Request) -> Result<Stepped<M::Reply>, WriteError> {
        let mut watching = Watching {
            interrupt: self.grant.interrupt.clone(),
            answered: false,
        };
        let (to, answer) = oneshot::channel();
        let ran = self.ask(Call::Run(request, to), answer).await;
        watching.answered = true;
        ran
    }

    /// Commits.
    ///
    /// # Errors
    ///
    /// Every [`WriteError`]: the transaction is over. What has no outcome within `wait_max` is unknown.
    pub async fn commit(&mut self, wait_max: Duration) -> Result<Committing<M::Reply>, WriteError> {
        let inner = self.inner.clone();
        let _pass = inner
            .operation
            .under_way
            .enter()
            .ok_or(WriteError::Stopped)?;
        let deadline = after(Instant::now(), wait_max);
        let (to, answer) = oneshot::channel();
        let outcome = match self.ask(Call::Commit(to), answer).await? {
            Proposed::Open(reply) => return Ok(Committing::Open(reply)),
            Proposed::Under(outcome) => outcome,
        };
        let unknown = |cause: &str| {
            let cause = cause.to_owned();
            Err(WriteError::Unknown { cause })
        };
        match tokio::time::timeout_at(deadline, outcome).await {
            Ok(Ok(Answer::Outcome(done))) => Ok(Committing::Done(inner.own(done?))),
            Ok(Ok(Answer::Back(_, error))) => Err(error),
            Ok(Err(_)) => unknown("the node stopped meanwhile"),
            Err(_) => unknown("the time is over, and it is proposed"),
        }
    }

    /// Waits until the writer isn't this client's any more, and tells why.
    pub async fn lost(&mut self) -> WriteError {
        let over = self.grant.over.wait_for(Option::is_some).await;
        // Without a word it ended with its node.
        let why = over.ok().and_then(|why| why.clone());
        why.unwrap_or(WriteError::Stopped)
    }

    async fn ask<T>(
        &mut self,
        call: Call<M::Request, M::Reply>,
        answer: oneshot::Receiver<Result<T, WriteError>>,
    ) -> Result<T, WriteError> {
        // A call that nobody takes is answered by the end of the line.
        if self.grant.line.send(call).await.is_ok()
            && let Ok(told) = answer.await
        {
            return told;
        }
        Err(self.lost().await)
    }
}
