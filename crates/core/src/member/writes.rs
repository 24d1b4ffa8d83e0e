//! The way of a write to the node that leads.
//!
//! ```text
//!   write ─► this node leads ──── queue ─► proposer
//!         ─► another one does ─── Ask::Write ─► its queue ─► its proposer
//!         ─► nobody does ──────── look again, until the deadline
//! ```
//!
//! Invariant 1 (safety rule 30): a request goes a second way only after a definite "not proposed". A call that
//! was sent and has no answer is unknown, and ends it.

use super::client::{Answer as Told, Ask, AskError};
use super::in_flight::Answer;
use super::proposer::AnswerOf;
use super::{Inner, Member, Standing, after};
use crate::{EntryId, NodeId, StateMachine, WriteError};
use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
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
    /// Who led it there.
    pub by: NodeId,
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
        let _pass = self
            .inner
            .operation
            .under_way
            .enter()
            .ok_or(WriteError::Stopped)?;
        let since = Instant::now();
        let deadline = after(since, wait_max);
        Box::pin(self.inner.write(request, route, since, deadline)).await
    }
}

impl<M: StateMachine> Inner<M> {
    async fn write(
        &self,
        mut request: M::Request,
        route: Route,
        since: Instant,
        deadline: Instant,
    ) -> Result<Written<M::Reply>, WriteError> {
        let mut encoded = None;
        loop {
            let refused = match self.leader_elsewhere().filter(|_| route == Route::Forward) {
                Some(leader) => {
                    let machine = &self.shared.machine;
                    let bytes = encoded.get_or_insert_with(|| machine.encode_request(&request));
                    match self.forward(leader, bytes.clone(), deadline).await {
                        Err(error) if is_not_proposed(&error) => error,
                        outcome => return outcome,
                    }
                }
                None => match self.propose(request, since, deadline).await {
                    Answer::Outcome(outcome) => return outcome.map(|done| self.own(done)),
                    Answer::Back(back, error) => {
                        request = back;
                        error
                    }
                },
            };
            let again = route == Route::Forward && is_not_proposed(&refused);
            if !again || !self.look_again(deadline).await {
                return Err(refused);
            }
        }
    }

    fn own(&self, (reply, at): (M::Reply, EntryId)) -> Written<M::Reply> {
        let by = self.shared.node;
        Written { reply, at, by }
    }

    fn leader_elsewhere(&self) -> Option<NodeId> {
        let leader = Standing::of(&self.raft).leader;
        leader.filter(|leader| *leader != self.shared.node)
    }

    /// Waits for news of who leads, a little; false once the deadline has passed.
    pub(super) async fn look_again(&self, deadline: Instant) -> bool {
        let mut changes = self.raft.metrics();
        let (least, most) = LOOK_AGAIN;
        tokio::time::sleep(least).await;
        // Without news it is looked at all the same; an end of the news shows in the next look.
        let news = tokio::time::timeout(most - least, changes.changed()).await;
        drop(news);
        Instant::now() < deadline
    }

    /// Writes here, if this node leads.
    async fn propose(&self, request: M::Request, since: Instant, deadline: Instant) -> AnswerOf<M> {
        if self.shared.is_out_of_service() {
            let leader = self.leader_elsewhere();
            return Answer::Back(request, WriteError::NotLeader { leader });
        }
        let bytes = self.shared.machine.request_bytes(&request);
        match self.queue.push(request, bytes) {
            Ok(ticket) => ticket.answer(since, deadline).await,
            Err(error) => Answer::Outcome(Err(error)),
        }
    }

    /// Writes here for another node, which looks for another leader by itself.
    pub(super) async fn here(
        &self,
        request: M::Request,
        since: Instant,
        deadline: Instant,
    ) -> Result<(M::Reply, EntryId), WriteError> {
        match self.propose(request, since, deadline).await {
            Answer::Outcome(outcome) => outcome,
            Answer::Back(_request, error) => Err(error),
        }
    }

    async fn forward(
        &self,
        leader: NodeId,
        request: Bytes,
        deadline: Instant,
    ) -> Result<Written<M::Reply>, WriteError> {
        let left = deadline.saturating_duration_since(Instant::now());
        let wait = left - WAY_BACK.min(left / 8);
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let told = self
            .call(leader, Ask::Write { request, wait_ms }, deadline)
            .await
            .map_err(|error| unanswered(&error))?;
        let (reply, at) = match told {
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
        })
    }
}

/// Whether another way may be tried, without a key too (safety rule 30).
fn is_not_proposed(error: &WriteError) -> bool {
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
