//! The way of a write to the node that leads.
//!
//! ```text
//!   write ─► this node leads ──── queue ─► proposer
//!         ─► another one does ─── Ask::Write ─► its queue ─► its proposer
//!         ─► nobody does ──────── look again, until the deadline
//! ```
//!
//! Invariant 1 (safety rule 30): a request goes a second way only after a definite "not proposed", or with the key of its
//! first way. What is forwarded has a key, the client's or one that this node draws: if the answer is lost, another
//! attempt finds out what became of it, or does it.

use super::client::{Answer as Told, Ask, AskError};
use super::in_flight::{Answer, Done};
use super::keys::{IdempotencyKey, Key, Keyed};
use super::proposer::AnswerOf;
use super::way::Way;
use super::{Inner, Member, Standing, after};
use crate::{EntryId, LogIndex, NodeId, StateMachine, WriteError};
use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Between two looks at who leads, at least and at most.
const LOOK_AGAIN: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(20));

/// The leader is given this much less than what is left, so that its own answer, which may be a definite one,
/// arrives before the time is over; an eighth of it if that is less.
const WAY_BACK: Duration = Duration::from_millis(100);

/// What a node does with a write while another one leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Route {
    /// Hands it to the leader, and waits for one if there is none.
    #[default]
    Forward,
    /// Answers [`WriteError::NotLeader`] at once.
    Here,
}

/// What a write gave.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written<R> {
    /// The state's answer.
    pub reply: R,
    /// Where the request stands in the log; where the log stood, for one that needed no entry.
    pub at: EntryId,
    /// Who led it there; for one that was done before, who says so.
    pub by: NodeId,
    /// Whether an earlier request under the same key did it; `at` is where that stands.
    pub replayed: bool,
}

impl<M: StateMachine> Member<M> {
    /// Replicates `request`. The reply leaves only when it is committed, and applied by the node that led it.
    ///
    /// # Errors
    ///
    /// Every [`WriteError`]; what isn't answered within `wait_max` is withdrawn, or unknown.
    pub async fn write(
        &self,
        request: M::Request,
        route: Route,
        wait_max: Duration,
    ) -> Result<Written<M::Reply>, WriteError> {
        self.write_keyed(request, None, route, wait_max).await
    }

    /// Replicates `request` unless it was done before under this `key`: then its first reply comes again.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub async fn write_keyed(
        &self,
        request: M::Request,
        key: Option<IdempotencyKey>,
        route: Route,
        wait_max: Duration,
    ) -> Result<Written<M::Reply>, WriteError> {
        let _pass = self
            .inner
            .operation
            .under_way
            .enter()
            .ok_or(WriteError::Stopped)?;
        let since = Instant::now();
        let deadline = after(since, wait_max);
        let way = Way::new(&self.inner, request, key);
        Box::pin(self.inner.write(way, route, since, deadline)).await
    }
}

impl<M: StateMachine> Inner<M> {
    async fn write(
        &self,
        mut way: Way<M>,
        route: Route,
        since: Instant,
        deadline: Instant,
    ) -> Result<Written<M::Reply>, WriteError> {
        loop {
            let error = match self.attempt(&mut way, route, since, deadline).await {
                Ok(written) => return Ok(way.done(written)),
                Err(error) => error,
            };
            let again = way.failed(&error) && route == Route::Forward;
            if !again || !self.look_again(deadline).await {
                return Err(way.told(error));
            }
        }
    }

    /// Tries one way.
    async fn attempt(
        &self,
        way: &mut Way<M>,
        route: Route,
        since: Instant,
        deadline: Instant,
    ) -> Result<Written<M::Reply>, WriteError> {
        if let Some(leader) = self.leader_elsewhere().filter(|_| route == Route::Forward) {
            let (request, key) = way.forwarded(self);
            return self.forward(leader, request, key, deadline).await;
        }
        match self.propose(way.proposed(self)?, since, deadline).await {
            Answer::Outcome(outcome) => outcome.map(|done| self.own(done)),
            Answer::Back(back, error) => {
                way.request = Some(back.request);
                Err(error)
            }
        }
    }

    pub(super) fn own(&self, done: Done<M::Reply>) -> Written<M::Reply> {
        let by = self.shared.node;
        Written {
            reply: done.reply,
            at: done.at,
            by,
            replayed: done.replayed,
        }
    }

    pub(super) fn applied_index(&self) -> LogIndex {
        let applied = *self.shared.applied.borrow();
        applied.map_or(LogIndex(0), |id| id.index)
    }

    /// A key of this node's own (safety rule 30).
    pub(super) fn gateway_key(&self, request: &[u8]) -> Key {
        let counter = self.gateway_keys.fetch_add(1, Ordering::Relaxed);
        let origin = self.shared.in_flight.origin();
        let name = (origin.node.get(), origin.boot, counter);
        Key::of_gateway(name, request, self.applied_index())
    }

    pub(super) fn leader_elsewhere(&self) -> Option<NodeId> {
        let leader = Standing::of(&self.raft).leader;
        leader.filter(|leader| *leader != self.shared.node)
    }

    /// Waits for news of who leads, a little; false once the deadline has passed.
    pub(super) async fn look_again(&self, deadline: Instant) -> bool {
        let mut changes = self.raft.server_metrics();
        let (least, most) = LOOK_AGAIN;
        tokio::time::sleep(least).await;
        // Without news it is looked at all the same; an end of the news shows in the next look.
        let news = tokio::time::timeout(most - least, changes.changed()).await;
        drop(news);
        Instant::now() < deadline
    }

    /// Writes here, if this node leads.
    async fn propose(
        &self,
        request: Keyed<M::Request>,
        since: Instant,
        deadline: Instant,
    ) -> AnswerOf<M> {
        if self.shared.is_out_of_service() {
            let leader = self.leader_elsewhere();
            return Answer::Back(request, WriteError::NotLeader { leader });
        }
        let bytes = self.shared.machine.request_bytes(&request.request);
        match self.queue.push(request, bytes) {
            Ok(ticket) => ticket.answer(since, deadline).await,
            Err(error) => Answer::Outcome(Err(error)),
        }
    }

    /// Writes here for another node, which looks for another leader by itself.
    pub(super) async fn here(
        &self,
        request: Keyed<M::Request>,
        since: Instant,
        deadline: Instant,
    ) -> Result<Done<M::Reply>, WriteError> {
        match self.propose(request, since, deadline).await {
            Answer::Outcome(outcome) => outcome,
            Answer::Back(_request, error) => Err(error),
        }
    }

    async fn forward(
        &self,
        leader: NodeId,
        request: Bytes,
        key: Key,
        deadline: Instant,
    ) -> Result<Written<M::Reply>, WriteError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let wait = left - WAY_BACK.min(left / 8);
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let ask = Ask::Write {
            request,
            key,
            wait_ms,
        };
        let told = self
            .call(leader, ask, deadline)
            .await
            .map_err(|error| unanswered(&error))?;
        let (reply, at, replayed) = match told {
            Told::Written(Ok(done)) => done,
            // It stops, this node doesn't.
            Told::Written(Err(WriteError::Stopped)) => return Err(WriteError::NotDone),
            Told::Written(Err(error)) => return Err(error),
            _ => return Err(unanswered(&AskError::Mismatch { node: leader })),
        };
        let reply = self.shared.machine.decode_reply(&reply);
        let unreadable = |error: crate::MachineError| WriteError::Unknown {
            cause: format!("it was done, but the reply of node {leader} can't be read: {error}"),
        };
        Ok(Written {
            reply: reply.map_err(unreadable)?,
            at,
            by: leader,
            replayed,
        })
    }
}

/// Whether another way may be tried, without a key too (safety rule 30).
pub(super) fn is_not_proposed(error: &WriteError) -> bool {
    matches!(error, WriteError::NotLeader { .. } | WriteError::NotDone)
}

/// What a call without an answer means for its write.
fn unanswered(error: &AskError) -> WriteError {
    match *error {
        AskError::Unreachable { .. } => WriteError::NotLeader { leader: None },
        AskError::Overloaded { .. } => WriteError::Overloaded,
        AskError::Stopped => WriteError::Stopped,
        AskError::TooLarge { bytes, limit_bytes } => WriteError::TooLarge { bytes, limit_bytes },
        AskError::Lost { .. }
        | AskError::Timeout { .. }
        | AskError::AnswerTooLarge { .. }
        | AskError::Mismatch { .. } => WriteError::Unknown {
            cause: error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Retry;

    /// Rule 30: a write goes another way only after a definite "not proposed".
    #[test]
    fn only_a_definite_refusal_is_tried_elsewhere() {
        let node = NodeId::new(2).unwrap();
        let cause = String::new;
        let unreachable = AskError::Unreachable {
            node,
            cause: cause(),
        };
        assert!(is_not_proposed(&unanswered(&unreachable)));
        let waited = Duration::ZERO;
        for error in [
            AskError::Lost {
                node,
                cause: cause(),
            },
            AskError::Timeout { node, waited },
            AskError::AnswerTooLarge { node, bytes: 1 },
            AskError::Mismatch { node },
        ] {
            let told = unanswered(&error);
            assert_eq!(told.retry(), Retry::Ambiguous, "{error}");
            assert!(!is_not_proposed(&told));
        }
    }
}
