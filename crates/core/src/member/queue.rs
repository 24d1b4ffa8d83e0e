//! The one line for the writer: requests that wait for the proposer, and clients that wish to have the writer for
//! themselves, in the order in which they came.
//!
//! A request in here has certainly not been proposed: it can be withdrawn, or handed back to whoever queued
//! it. Both count and bytes are bounded; a full queue answers at once. While it is held (safety rule 20),
//! requests come in and none is taken out.
//!
//! Invariant: nothing is taken out before what came earlier (safety rule 41).

use crate::member::{Answer, Client};
use crate::{Settings, WriteError};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

/// Somebody wants the writer for a transaction of its own.
pub(crate) struct Wish<G> {
    /// The state that it has to begin on.
    pub base: Option<u64>,
    pub to: oneshot::Sender<Result<G, WriteError>>,
}

enum Waiting<Q, R, G> {
    Request {
        request: Q,
        bytes: usize,
        client: Client<Q, R>,
    },
    Wish(Wish<G>),
}

impl<Q, R, G> Waiting<Q, R, G> {
    /// Of a request.
    fn bytes(&self) -> Option<usize> {
        match self {
            Self::Request { bytes, .. } => Some(*bytes),
            Self::Wish(_) => None,
        }
    }

    /// Hands it back.
    fn give_back(self, error: &WriteError) {
        match self {
            Self::Request {
                request, client, ..
            } => give_back(client, request, error),
            // One that is gone doesn't want it any more.
            Self::Wish(wish) => drop(wish.to.send(Err(error.clone()))),
        }
    }
}

struct State<Q, R, G> {
    /// By number: the order of arrival.
    waiting: BTreeMap<u64, Waiting<Q, R, G>>,
    next: u64,
    bytes: usize,
    /// Why nothing is taken in any more.
    closed: Option<WriteError>,
    /// Holds that live; nothing is gathered meanwhile.
    holds: usize,
}

/// The queue; `G` is what a wish is granted with.
pub(crate) struct Queue<Q, R, G> {
    state: Mutex<State<Q, R, G>>,
    /// Rung when something comes in, and when a hold begins or ends.
    filled: Notify,
    /// How many times something was taken out that is neither in flight nor answered yet.
    out: watch::Sender<usize>,
    requests_max: usize,
    bytes_max: usize,
    request_bytes_max: usize,
}

/// A place in the queue; dropping it withdraws a request that is still there.
pub(crate) struct Ticket<'a, Q, R, G> {
    place: Place<'a, Q, R, G>,
    answer: oneshot::Receiver<Answer<Q, R>>,
}

/// The same for a wish.
pub(crate) struct WishTicket<'a, Q, R, G> {
    place: Place<'a, Q, R, G>,
    answer: oneshot::Receiver<Result<G, WriteError>>,
}

struct Place<'a, Q, R, G> {
    queue: &'a Queue<Q, R, G>,
    number: u64,
}

impl<Q, R, G> Queue<Q, R, G> {
    pub(crate) fn new(settings: &Settings) -> Self {
        let state = State {
            waiting: BTreeMap::new(),
            next: 0,
            bytes: 0,
            closed: None,
            holds: 0,
        };
        Self {
            state: Mutex::new(state),
            filled: Notify::new(),
            out: watch::channel(0).0,
            requests_max: settings.queue_requests_max,
            bytes_max: settings.queue_bytes_max,
            request_bytes_max: settings.request_bytes_max,
        }
    }

    fn state(&self) -> MutexGuard<'_, State<Q, R, G>> {
        // Map and sum change together without a panic in between.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a request of about `bytes` bytes.
    pub(crate) fn push(&self, request: Q, bytes: usize) -> Result<Ticket<'_, Q, R, G>, WriteError> {
        if bytes > self.request_bytes_max {
            return Err(WriteError::TooLarge {
                bytes: bytes as u64,
                limit_bytes: self.request_bytes_max as u64,
            });
        }
        let (client, answer) = oneshot::channel();
        let place = self.enter(Waiting::Request {
            request,
            bytes,
            client,
        })?;
        Ok(Ticket { place, answer })
    }

    /// Queues a wish for the writer.
    pub(crate) fn wish(&self, base: Option<u64>) -> Result<WishTicket<'_, Q, R, G>, WriteError> {
        let (to, answer) = oneshot::channel();
        let place = self.enter(Waiting::Wish(Wish { base, to }))?;
        Ok(WishTicket { place, answer })
    }

    fn enter(&self, waiting: Waiting<Q, R, G>) -> Result<Place<'_, Q, R, G>, WriteError> {
        let number = {
            let mut state = self.state();
            if let Some(error) = &state.closed {
                return Err(error.clone());
            }
            let bytes = waiting.bytes().unwrap_or(0);
            let fits = state.bytes.saturating_add(bytes) <= self.bytes_max;
            if state.waiting.len() >= self.requests_max || (!fits && state.bytes > 0) {
                return Err(WriteError::Overloaded);
            }
            state.take_in(waiting)
        };
        self.filled.notify_one();
        Ok(Place {
            queue: self,
            number,
        })
    }

    /// Waits until something waits and may be taken out. For one caller, the proposer.
    pub(crate) async fn filled(&self) {
        while !self.state().may_gather() {
            self.filled.notified().await;
        }
    }

    /// Gives nothing out until the hold is dropped; what comes in waits.
    pub(crate) fn hold(&self) -> QueueHold<'_, Q, R, G> {
        self.state().holds += 1;
        self.filled.notify_one();
        QueueHold(self)
    }

    /// Waits until it is held. For one caller, the proposer.
    pub(crate) async fn held(&self) {
        while self.state().holds == 0 {
            self.filled.notified().await;
        }
    }

    /// Waits until a request is the oldest, and may be taken out. For one caller, the proposer.
    pub(crate) async fn filled_with_requests(&self) {
        while !self.state().may_gather_requests() {
            self.filled.notified().await;
        }
    }

    /// Waits until all that was taken out is in flight or answered.
    pub(crate) async fn handed_over(&self) {
        // The sender is a field of `self`, so this can't end early.
        self.out.subscribe().wait_for(|out| *out == 0).await.ok();
    }

    /// What was taken out at one time is in flight or answered. Called by the proposer.
    pub(crate) fn hand_over(&self) {
        self.out.send_modify(|out| *out -= 1);
    }

    pub(crate) fn len(&self) -> usize {
        self.state().waiting.len()
    }

    /// Takes the oldest of all, if that is a wish.
    pub(crate) fn take_wish(&self) -> Option<Wish<G>> {
        let mut state = self.state();
        if state.holds > 0 {
            return None;
        }
        match state.waiting.pop_first()? {
            (_, Waiting::Wish(wish)) => {
                // Under the lock, as below.
                self.out.send_modify(|out| *out += 1);
                Some(wish)
            }
            (number, request) => {
                state.waiting.insert(number, request);
                None
            }
        }
    }

    /// Takes the oldest requests: up to `requests_max` of them, ending behind the one that reaches
    /// `bytes_max`, and before a wish. A larger one than that travels alone.
    pub(crate) fn gather(&self, requests_max: usize, bytes_max: usize) -> Vec<(Client<Q, R>, Q)> {
        let mut state = self.state();
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while state.holds == 0 && taken.len() < requests_max && bytes < bytes_max {
            let Some((number, size)) = state.first_request() else {
                break;
            };
            if bytes > 0 && size > bytes_max {
                break;
            }
            bytes += size;
            taken.extend(state.take_out(number));
        }
        if !taken.is_empty() {
            // Under the lock: whoever holds the queue afterwards sees it.
            self.out.send_modify(|out| *out += 1);
        }
        taken
    }

    /// Hands everything back.
    pub(crate) fn return_all(&self, error: &WriteError) {
        let waiting = {
            let mut state = self.state();
            state.bytes = 0;
            std::mem::take(&mut state.waiting)
        };
        for waiting in waiting.into_values() {
            waiting.give_back(error);
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state().closed.is_some()
    }

    /// Takes nothing in any more, and hands everything back.
    pub(crate) fn close(&self, error: &WriteError) {
        self.state().closed.get_or_insert_with(|| error.clone());
        self.return_all(error);
    }
}

/// A client that is gone doesn't want its request back.
pub(crate) fn give_back<Q, R>(client: Client<Q, R>, request: Q, error: &WriteError) {
    client.send(Answer::Back(request, error.clone())).ok();
}

/// Holds a [`Queue`] while it lives.
pub(crate) struct QueueHold<'a, Q, R, G>(&'a Queue<Q, R, G>);

impl<Q, R, G> Drop for QueueHold<'_, Q, R, G> {
    fn drop(&mut self) {
        self.0.state().holds -= 1;
        self.0.filled.notify_one();
    }
}

impl<Q, R, G> State<Q, R, G> {
    fn may_gather(&self) -> bool {
        self.holds == 0 && !self.waiting.is_empty()
    }

    fn may_gather_requests(&self) -> bool {
        self.holds == 0 && self.first_request().is_some()
    }

    fn take_in(&mut self, waiting: Waiting<Q, R, G>) -> u64 {
        self.next += 1;
        self.bytes += waiting.bytes().unwrap_or(0);
        self.waiting.insert(self.next, waiting);
        self.next
    }

    /// The oldest of all and its bytes, if it is a request.
    fn first_request(&self) -> Option<(u64, usize)> {
        let (number, waiting) = self.waiting.first_key_value()?;
        Some((*number, waiting.bytes()?))
    }

    fn take_out(&mut self, number: u64) -> Option<(Client<Q, R>, Q)> {
        match self.remove(number)? {
            Waiting::Request {
                request, client, ..
            } => Some((client, request)),
            Waiting::Wish(_) => None,
        }
    }

    fn remove(&mut self, number: u64) -> Option<Waiting<Q, R, G>> {
        let removed = self.waiting.remove(&number)?;
        self.bytes -= removed.bytes().unwrap_or(0);
        Some(removed)
    }
}

impl<Q, R, G> Ticket<'_, Q, R, G> {
    /// Waits for the answer. At the deadline, a request that still waits is withdrawn: a definite answer.
    pub(crate) async fn answer(mut self, since: Instant, deadline: Instant) -> Answer<Q, R> {
        match tokio::time::timeout_at(deadline, &mut self.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => unknown("the node stopped meanwhile"),
            Err(_) if self.place.withdraw() => Answer::Outcome(Err(WriteError::Expired {
                waited: since.elapsed(),
            })),
            Err(_) => match self.answer.try_recv() {
                Ok(answer) => answer,
                Err(_) => unknown("the time is over, and it is proposed"),
            },
        }
    }
}

impl<Q, R, G> WishTicket<'_, Q, R, G> {
    /// Waits until it is granted. At the deadline it is withdrawn; what is granted then is given back by being dropped.
    pub(crate) async fn granted(
        mut self,
        since: Instant,
        deadline: Instant,
    ) -> Result<G, WriteError> {
        match tokio::time::timeout_at(deadline, &mut self.answer).await {
            Ok(answer) => answer.unwrap_or(Err(WriteError::Stopped)),
            Err(_) => {
                self.place.withdraw();
                let waited = since.elapsed();
                let late = |_| Err(WriteError::Expired { waited });
                self.answer.try_recv().unwrap_or_else(late)
            }
        }
    }
}

impl<Q, R, G> Place<'_, Q, R, G> {
    fn withdraw(&self) -> bool {
        self.queue.state().remove(self.number).is_some()
    }
}

impl<Q, R, G> Drop for Place<'_, Q, R, G> {
    fn drop(&mut self) {
        self.withdraw();
    }
}

fn unknown<Q, R>(cause: &str) -> Answer<Q, R> {
    Answer::Outcome(Err(WriteError::Unknown {
        cause: cause.to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    type Small = Queue<u32, u32, &'static str>;

    fn queue(requests_max: usize, bytes_max: usize) -> Small {
        let settings = Settings {
            queue_requests_max: requests_max,
            queue_bytes_max: bytes_max,
            ..Settings::default()
        };
        Queue::new(&settings)
    }

    fn requests(taken: Vec<(Client<u32, u32>, u32)>) -> Vec<u32> {
        taken.into_iter().map(|(_, request)| request).collect()
    }

    #[test]
    fn count_and_bytes_are_bounded() {
        let queue = queue(2, 100);
        let _first = queue.push(1, 60).unwrap();
        assert!(matches!(queue.push(2, 60), Err(WriteError::Overloaded)));
        let _second = queue.push(2, 40).unwrap();
        assert!(matches!(queue.push(3, 0), Err(WriteError::Overloaded)));
        let limit = Settings::default().request_bytes_max;
        let error = queue.push(3, limit + 1).err().unwrap();
        assert!(matches!(error, WriteError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn bytes_end_the_gathering_and_a_large_request_travels_alone() {
        let queue = queue(100, 1000);
        let sizes = [10, 30, 5, 200, 5, 5];
        let tickets: Vec<_> = (0..)
            .zip(sizes)
            .map(|(n, bytes)| queue.push(n, bytes))
            .collect();
        assert!(tickets.iter().all(Result::is_ok));
        assert_eq!(requests(queue.gather(100, 40)), [0, 1]);
        assert_eq!(
            requests(queue.gather(100, 40)),
            [2],
            "the large one is next"
        );
        assert_eq!(requests(queue.gather(100, 40)), [3]);
        assert_eq!(requests(queue.gather(1, 40)), [4]);
        drop(tickets);
        assert_eq!(queue.len(), 0, "a dropped ticket withdraws its request");
    }

    #[tokio::test(start_paused = true)]
    async fn what_still_waits_at_the_deadline_is_certainly_not_done() {
        let queue = queue(10, 1000);
        let since = Instant::now();
        let deadline = since + Duration::from_secs(3);
        let waits = queue.push(1, 1).unwrap().answer(since, deadline).await;
        let expired = WriteError::Expired {
            waited: Duration::from_secs(3),
        };
        assert!(matches!(waits, Answer::Outcome(Err(error)) if error == expired));
        assert_eq!(queue.len(), 0);
        let ticket = queue.push(2, 1).unwrap();
        let taken = queue.gather(1, 1);
        let waits = ticket.answer(since, deadline).await;
        assert!(matches!(
            waits,
            Answer::Outcome(Err(WriteError::Unknown { .. }))
        ));
        drop(taken);
    }

    /// Rule 20: requests that arrive during a transfer wait; none is lost, none is taken out.
    #[tokio::test(start_paused = true)]
    async fn a_held_queue_takes_in_and_gives_nothing_out() {
        let queue = queue(10, 1000);
        let _first = queue.push(1, 1);
        assert_eq!(queue.gather(1, 10).len(), 1);
        let _in_line = queue.push(1, 1);
        assert_eq!(queue.gather(1, 10).len(), 1);
        let hold = queue.hold();
        for left in [2, 1] {
            let over = tokio::time::timeout(Duration::from_secs(1), queue.handed_over());
            assert!(over.await.is_err(), "{left} are gathered and on their way");
            queue.hand_over();
        }
        queue.handed_over().await;
        let _second = queue.push(2, 1).unwrap();
        assert!(queue.gather(10, 100).is_empty());
        drop(hold);
        queue.filled().await;
        assert_eq!(requests(queue.gather(10, 100)), [2]);
    }

    /// Rule 41: one line for both, in the order of arrival; a wish that is given up leaves no gap.
    #[tokio::test(start_paused = true)]
    async fn a_wish_has_its_turn_between_requests() {
        let queue = queue(10, 1000);
        let _first = queue.push(1, 1);
        let wish = queue.wish(Some(7)).unwrap();
        let given_up = queue.wish(None).unwrap();
        let _second = queue.push(2, 1);
        assert!(queue.take_wish().is_none(), "a request came before");
        assert_eq!(requests(queue.gather(10, 100)), [1]);
        assert!(queue.gather(10, 100).is_empty(), "a wish is next");
        let taken = queue.take_wish().unwrap();
        assert_eq!(taken.base, Some(7));
        taken.to.send(Ok("granted")).unwrap();
        let now = Instant::now();
        assert_eq!(wish.granted(now, now).await, Ok("granted"));
        let expired = WriteError::Expired {
            waited: Duration::from_secs(3),
        };
        let deadline = now + Duration::from_secs(3);
        assert_eq!(given_up.granted(now, deadline).await, Err(expired));
        assert_eq!(requests(queue.gather(10, 100)), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_queue_hands_back_and_takes_nothing() {
        let queue = queue(10, 1000);
        let ticket = queue.push(1, 1).unwrap();
        queue.close(&WriteError::Stopped);
        let now = Instant::now();
        let back = ticket.answer(now, now).await;
        assert!(matches!(back, Answer::Back(1, WriteError::Stopped)));
        assert!(matches!(queue.push(1, 1), Err(WriteError::Stopped)));
        assert!(matches!(queue.wish(None), Err(WriteError::Stopped)));
    }
}
