//! What the writer takes from the line: gathered by the job that runs it, at the moment it begins.
//!
//! So a batch has everything that came while the one before it ran, and the writer waits for nobody between the two.

use super::in_flight::{Claims, tell};
use super::keys::Verdict;
use super::proposer::{BatchOf, ClientOf, KeyedOf, Requests};
use super::queue::give_back;
use super::{Counters, Keyed, Shared};
use crate::{StateMachine, WriteError};
use std::sync::Arc;

/// Takes from the line.
pub(super) struct Gatherer<M: StateMachine> {
    shared: Arc<Shared<M>>,
    queue: Arc<Requests<M>>,
    counters: Arc<Counters>,
}

impl<M: StateMachine> Gatherer<M> {
    pub(super) fn new(
        shared: Arc<Shared<M>>,
        queue: Arc<Requests<M>>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            shared,
            queue,
            counters,
        }
    }

    /// The oldest requests and their keys; none if nothing may be taken out now.
    pub(super) fn gather(&self) -> Option<(BatchOf<M>, Claims)> {
        let settings = &self.shared.settings;
        let taken = self
            .queue
            .gather(settings.gather_requests_max, settings.gather_bytes_max);
        if taken.is_empty() {
            return None;
        }
        self.counters.gathered(taken.len());
        Some(self.first_come(taken))
    }

    /// What is to be executed, with its keys. A request whose key this node's applied state knows is answered; one whose key
    /// is under way waits for the first one's outcome: it goes back and is looked at again (safety rule 27).
    fn first_come(&self, taken: Vec<(ClientOf<M>, KeyedOf<M>)>) -> (BatchOf<M>, Claims) {
        let (mut batch, mut claims) = (
            Vec::with_capacity(taken.len()),
            self.shared.in_flight.claims(),
        );
        let newest = self.shared.log.state().last.map(|id| id.index);
        for (client, Keyed { request, key }) in taken {
            // Claimed before it is looked up: the outcome of an earlier claim is known before that ends.
            let is_free = key.as_ref().is_none_or(|key| claims.claim(key));
            let told = key.as_ref().and_then(|key| {
                let known = self.shared.keys.borrow();
                known.told(self.shared.key_limits, newest, key)
            });
            match told {
                Some(Verdict::Replayed { at, reply }) => {
                    tell(client, self.shared.replayed(at, reply.as_ref()));
                }
                Some(Verdict::Refused(error)) => tell(client, Err(error)),
                _ if is_free => batch.push(((client, key), request)),
                _ => give_back(client, Keyed { request, key }, &WriteError::NotDone),
            }
        }
        (batch, claims)
    }
}
