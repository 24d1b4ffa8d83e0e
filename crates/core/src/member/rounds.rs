//! Rounds of confirmation that many waiting reads share (safety rule 43).
//!
//! ```text
//!   waits ─┐             ┌ round 1 ──────► its waiters      arrived before round 1 began
//!   waits ─┼─► queue ────┤
//!   waits ─┘             └ round 2 ──────► its waiters      arrived while round 1 ran
//! ```
//!
//! Invariant 1: whoever waits is answered by a round that began after it came.

use crate::{EntryId, ReadError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot};

type Waiter = oneshot::Sender<Result<EntryId, ReadError>>;

/// Where reads wait for a round.
#[derive(Clone)]
pub(crate) struct Rounds {
    waiting: mpsc::Sender<Waiter>,
    begun: Arc<AtomicU64>,
}

/// What runs the rounds; ends when it is dropped.
pub(crate) struct Rounder {
    waiting: mpsc::Receiver<Waiter>,
    begun: Arc<AtomicU64>,
}

/// At most this many wait at once.
pub(crate) fn rounds(waiting_max: usize) -> (Rounds, Rounder) {
    let (sender, receiver) = mpsc::channel(waiting_max);
    let begun = Arc::new(AtomicU64::new(0));
    let rounds = Rounds {
        waiting: sender,
        begun: begun.clone(),
    };
    let rounder = Rounder {
        waiting: receiver,
        begun,
    };
    (rounds, rounder)
}

impl Rounds {
    /// Joins the next round; it begins after this call. The read index is what it answers.
    pub(crate) fn join(&self) -> impl Future<Output = Result<EntryId, ReadError>> + use<> {
        let (waiter, answer) = oneshot::channel();
        let joined = self.waiting.try_send(waiter);
        async move {
            match joined {
                Ok(()) => answer.await.unwrap_or(Err(ReadError::Stopped)),
                Err(mpsc::error::TrySendError::Full(_)) => Err(ReadError::Overloaded),
                Err(mpsc::error::TrySendError::Closed(_)) => Err(ReadError::Stopped),
            }
        }
    }

    /// Rounds so far.
    pub(crate) fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }
}

impl Rounder {
    /// Runs a round for all who wait, then for all who came meanwhile, and so on.
    pub(crate) async fn run<F>(mut self, round: impl Fn() -> F)
    where
        F: Future<Output = Result<EntryId, ReadError>>,
    {
        let mut waiters = Vec::new();
        while self.waiting.recv_many(&mut waiters, usize::MAX).await > 0 {
            waiters.retain(|waiter: &Waiter| !waiter.is_closed());
            if waiters.is_empty() {
                continue;
            }
            self.begun.fetch_add(1, Ordering::Relaxed);
            let answer = round().await;
            for waiter in waiters.drain(..) {
                waiter.send(answer.clone()).ok();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LogIndex, Term};
    use std::time::Duration;

    /// Rule 43: a round is closed when it begins; later reads wait for the next.
    #[tokio::test(start_paused = true)]
    async fn waiting_reads_share_a_round_that_began_after_them() {
        let (rounds, rounder) = rounds(16);
        let counter = rounds.clone();
        tokio::spawn(rounder.run(move || {
            let index = LogIndex(counter.begun());
            async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                let term = Term(1);
                Ok(EntryId { term, index })
            }
        }));
        let index = |answer: Result<EntryId, ReadError>| answer.unwrap().index.0;
        let first = tokio::spawn(rounds.join());
        tokio::time::sleep(Duration::from_millis(5)).await;
        let (second, third) = (rounds.join(), rounds.join());
        assert_eq!(index(first.await.unwrap()), 1);
        assert_eq!((index(second.await), index(third.await)), (2, 2));
        assert_eq!(rounds.begun(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_waiting_reads_are_told_at_once() {
        let (rounds, rounder) = rounds(1);
        let _waits = rounds.join();
        assert_eq!(rounds.join().await, Err(ReadError::Overloaded));
        drop(rounder);
        assert_eq!(rounds.join().await, Err(ReadError::Stopped));
    }
}
