//! One session's task: takes calls in order, and ends the transaction when its time is over.

use super::transaction::{Ran, Transaction, end_of};
use sqlrep_service::{Committed, End, SessionError};
use sqlrep_sql::{Reply, Request};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

/// Calls of one session that may wait for the one that runs: a client sends one at a time.
pub(super) const CALLS_MAX: usize = 4;

type Sender<T> = oneshot::Sender<Result<T, SessionError>>;

/// What a client wants.
pub(super) enum Call {
    Run(Request, Sender<Reply>),
    Commit(Sender<Committed>),
    Rollback(Sender<()>),
}

/// Tells the last caller.
pub(super) type Parting = Box<dyn FnOnce() + Send>;

/// A session while it is open.
pub(super) struct Life {
    pub(super) transaction: Box<dyn Transaction>,
    pub(super) calls: mpsc::Receiver<Call>,
    /// Becomes true, or loses its sender, when the node stops.
    pub(super) stopping: watch::Receiver<bool>,
    pub(super) idle_max: Duration,
    pub(super) until: Instant,
}

/// A client that is gone isn't told.
fn tell<T: Send + 'static>(to: Sender<T>, what: Result<T, SessionError>) -> Parting {
    Box::new(move || drop(to.send(what)))
}

fn nobody() -> Parting {
    Box::new(|| ())
}

/// Waits until the session is over whatever it does.
async fn cut(stopping: &mut watch::Receiver<bool>, until: Instant) -> End {
    tokio::select! {
        biased;
        _ = stopping.wait_for(|stopping| *stopping) => End::NodeStopped,
        () = tokio::time::sleep_until(until) => End::Total,
    }
}

impl Life {
    /// Lives to the end; what the last caller is to be told comes with it.
    pub(super) async fn live(&mut self) -> (End, Parting) {
        loop {
            let call = match self.next().await {
                Ok(call) => call,
                Err(end) => return (end, nobody()),
            };
            let over = match call {
                Call::Run(request, to) => self.run(request, to).await,
                Call::Commit(to) => self.commit(to).await,
                Call::Rollback(to) => Some((End::RolledBack, tell(to, Ok(())))),
            };
            if let Some(over) = over {
                return over;
            }
        }
    }

    async fn next(&mut self) -> Result<Call, End> {
        tokio::select! {
            biased;
            end = cut(&mut self.stopping, self.until) => Err(end),
            end = self.transaction.lost() => Err(end),
            call = self.calls.recv() => call.ok_or(End::RolledBack),
            () = tokio::time::sleep(self.idle_max) => Err(End::Idle),
        }
    }

    async fn run(&mut self, request: Request, to: Sender<Reply>) -> Option<(End, Parting)> {
        let ran = tokio::select! {
            biased;
            end = cut(&mut self.stopping, self.until) => Err(SessionError::Ended(end)),
            ran = self.transaction.run(request) => ran,
        };
        let (end, answer) = match ran {
            Ok(Ran { reply, over }) => (over, Ok(reply)),
            Err(SessionError::Ended(end)) => (Some(end.clone()), Err(SessionError::Ended(end))),
            Err(error) => (None, Err(error)),
        };
        let parting = tell(to, answer);
        match end {
            Some(end) => Some((end, parting)),
            None => {
                parting();
                None
            }
        }
    }

    async fn commit(&mut self, to: Sender<Committed>) -> Option<(End, Parting)> {
        let committed = self.transaction.commit().await;
        let end = end_of(&committed);
        let parting = tell(to, committed);
        match end {
            Some(end) => Some((end, parting)),
            None => {
                parting();
                None
            }
        }
    }
}
