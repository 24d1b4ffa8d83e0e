//! This node's calls to others: a line per peer, with one kept link.
//!
//! A line waits for a call before it opens a link, and fails what waits if that can't be had: whoever calls
//! again tries again. On an open link a call is written when a place among the unanswered ones is free. A link
//! that leaves calls unanswered and says nothing else for [`SILENCE_MAX`] is given up: a partition swallows
//! answers without a word. So that a slow answer isn't taken for silence, an echo is asked for meanwhile.
//!
//! A caller that is gone withdraws its call: before it is sent without a word, afterwards with the next beat, so that
//! the other side doesn't work for nobody. Its place is free with the answer, which then comes at once. One that was on its way
//! already is told to the service: it may have opened something.

use super::AskError;
use super::held::Held;
use super::wire::{Answer, Ask, Call, Return};
use crate::codec;
use crate::member::Tasks;
use crate::{
    FrameReceiver, FrameSender, Lane, Link, NodeId, Peer, PeerService, Settings, Transport,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

/// A peer that doesn't take a link within this time isn't there.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// A link with unanswered calls that says nothing for one to two of these is dead.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// While calls are unanswered, an echo is asked for this often, and those that nobody waits for are withdrawn.
const BEAT: Duration = Duration::from_millis(500);

/// Room for an ask's own fields in a frame.
const FRAME_MARGIN: usize = 4 << 10;

/// The number of echoes; calls begin behind it.
const ECHO: u64 = 0;

type Told = Result<Answer, AskError>;

/// A call on its way to a link.
struct Outgoing {
    ask: Ask,
    /// Its bytes, for as long as they wait here.
    _held: Arc<Held>,
    /// Set by whoever is first: the link that sends it, or the caller who withdraws it.
    taken: Arc<AtomicBool>,
    answer: oneshot::Sender<Told>,
}

/// Where answers go that nobody waits for any more.
#[derive(Clone)]
struct Unclaimed {
    service: Arc<dyn PeerService>,
    tasks: Tasks,
}

impl Unclaimed {
    fn tell(&self, from: NodeId, told: Told) {
        if let Ok(Answer::Opaque(answer)) = told {
            let service = self.service.clone();
            self.tasks
                .spawn(async move { service.unclaimed(from, answer).await });
        }
    }
}

/// A caller that waits.
struct Caller<'a> {
    node: NodeId,
    answer: oneshot::Receiver<Told>,
    unclaimed: &'a Unclaimed,
}

impl Drop for Caller<'_> {
    fn drop(&mut self) {
        self.answer.close();
        // Sent in the moment in which it was given up.
        if let Ok(told) = self.answer.try_recv() {
            self.unclaimed.tell(self.node, told);
        }
    }
}

struct Line {
    peer: Peer,
    queue: mpsc::Sender<Outgoing>,
}

/// The calling side of the client lane.
pub(crate) struct Lines {
    transport: Arc<dyn Transport>,
    tasks: Tasks,
    unclaimed: Unclaimed,
    /// Calls that wait for a link, and again as many that wait for an answer.
    calls_max: usize,
    /// Of all calls under way.
    bytes_max: usize,
    bytes: Arc<AtomicUsize>,
    lines: Mutex<BTreeMap<NodeId, Line>>,
}

impl Lines {
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        service: Arc<dyn PeerService>,
        tasks: Tasks,
        settings: &Settings,
    ) -> Self {
        let unclaimed = Unclaimed {
            service,
            tasks: tasks.clone(),
        };
        Self {
            transport,
            unclaimed,
            tasks,
            calls_max: settings.client_calls_max,
            bytes_max: settings.client_bytes_max,
            bytes: Arc::default(),
            lines: Mutex::default(),
        }
    }

    /// Asks the member `node`, which is at `peer`, and waits for its answer until `deadline`.
    pub(crate) async fn call(
        &self,
        node: NodeId,
        peer: &Peer,
        ask: Ask,
        deadline: Instant,
    ) -> Told {
        fits(ask.bytes())?;
        let held = Held::new(&self.bytes, ask.bytes(), self.bytes_max);
        let held = Arc::new(held.ok_or(AskError::Overloaded { node })?);
        let since = Instant::now();
        let taken = Arc::new(AtomicBool::new(false));
        let (sender, answer) = oneshot::channel();
        let outgoing = Outgoing {
            ask,
            _held: held.clone(),
            taken: taken.clone(),
            answer: sender,
        };
        let queued = self.queue(node, peer).try_send(outgoing);
        queued.map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AskError::Overloaded { node },
            mpsc::error::TrySendError::Closed(_) => AskError::Stopped,
        })?;
        let mut caller = Caller {
            node,
            answer,
            unclaimed: &self.unclaimed,
        };
        let told = match tokio::time::timeout_at(deadline, &mut caller.answer).await {
            Ok(Ok(told)) => checked(node, told),
            ended => {
                let sent = taken.swap(true, Ordering::AcqRel);
                Err(unanswered(node, sent, ended.is_ok(), since.elapsed()))
            }
        };
        drop(held);
        told
    }

    fn lines(&self) -> MutexGuard<'_, BTreeMap<NodeId, Line>> {
        // Only the map is touched under it.
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The queue of the line to `node`; another one if it has moved.
    fn queue(&self, node: NodeId, peer: &Peer) -> mpsc::Sender<Outgoing> {
        let mut lines = self.lines();
        if let Some(line) = lines.get(&node)
            && line.peer == *peer
        {
            return line.queue.clone();
        }
        let (queue, receiver) = mpsc::channel(self.calls_max);
        let far = Far {
            node,
            peer: peer.clone(),
            transport: self.transport.clone(),
            unclaimed: self.unclaimed.clone(),
            calls_max: self.calls_max,
        };
        self.tasks.spawn(far.run(receiver));
        let line = Line {
            peer: peer.clone(),
            queue: queue.clone(),
        };
        lines.insert(node, line);
        queue
    }
}

/// Why there is no answer, whether or not the line itself has ended.
fn unanswered(node: NodeId, sent: bool, ended: bool, waited: Duration) -> AskError {
    match (sent, ended) {
        (true, true) => AskError::Lost {
            node,
            cause: "this node stops".to_owned(),
        },
        (true, false) => AskError::Timeout { node, waited },
        (false, true) => AskError::Stopped,
        (false, false) => AskError::Unreachable {
            node,
            cause: format!("no link within {waited:?}"),
        },
    }
}

fn fits(bytes: usize) -> Result<(), AskError> {
    let limit = Lane::Client.frame_bytes_max() - FRAME_MARGIN;
    if bytes <= limit {
        return Ok(());
    }
    Err(AskError::TooLarge {
        bytes: bytes as u64,
        limit_bytes: limit as u64,
    })
}

fn checked(node: NodeId, told: Told) -> Told {
    match told? {
        Answer::Overloaded => Err(AskError::Overloaded { node }),
        Answer::TooLarge { bytes } => Err(AskError::AnswerTooLarge { node, bytes }),
        answer => Ok(answer),
    }
}

/// An answer that fits a frame.
pub(super) fn fitting(answer: Answer) -> Answer {
    match fits(answer.bytes()) {
        Ok(()) => answer,
        Err(_) => Answer::TooLarge {
            bytes: answer.bytes() as u64,
        },
    }
}

/// The other end of a line.
struct Far {
    node: NodeId,
    peer: Peer,
    transport: Arc<dyn Transport>,
    unclaimed: Unclaimed,
    calls_max: usize,
}

impl Far {
    /// Serves the line until nobody can call on it any more.
    async fn run(self, mut queue: mpsc::Receiver<Outgoing>) {
        while let Some(first) = queue.recv().await {
            if first.answer.is_closed() {
                continue;
            }
            match self.connect().await {
                Ok(link) => self.session(link, first, &mut queue).await,
                Err(cause) => {
                    self.unreachable(first, &cause);
                    while let Ok(waiting) = queue.try_recv() {
                        self.unreachable(waiting, &cause);
                    }
                }
            }
        }
    }

    async fn connect(&self) -> Result<Link, String> {
        let connect = self
            .transport
            .connect(Some(self.node), &self.peer, Lane::Client);
        match tokio::time::timeout(CONNECT_MAX, connect).await {
            Ok(link) => link.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no link within {CONNECT_MAX:?}")),
        }
    }

    fn unreachable(&self, outgoing: Outgoing, cause: &str) {
        let error = AskError::Unreachable {
            node: self.node,
            cause: cause.to_owned(),
        };
        outgoing.answer.send(Err(error)).ok();
    }

    /// Uses one link until it breaks; then what it was given is lost.
    async fn session(&self, link: Link, first: Outgoing, queue: &mut mpsc::Receiver<Outgoing>) {
        let session = Session {
            far: self,
            slots: Semaphore::new(self.calls_max),
            pending: Mutex::default(),
            heard: AtomicU64::new(0),
        };
        let cause = tokio::select! {
            biased;
            cause = session.read(link.receiver) => cause,
            cause = session.write(link.sender, first, queue) => cause,
            cause = session.silence() => cause,
        };
        let node = self.node;
        tracing::debug!(%node, %cause, "a client link ended");
        let pending = std::mem::take(&mut *session.pending());
        for Pending { answer, .. } in pending.into_values() {
            let cause = cause.clone();
            answer.send(Err(AskError::Lost { node, cause })).ok();
        }
    }
}

/// A call that was sent and has no answer.
struct Pending {
    answer: oneshot::Sender<Told>,
    withdrawn: bool,
}

/// One open link.
struct Session<'a> {
    far: &'a Far,
    /// One for each call that may be unanswered.
    slots: Semaphore,
    pending: Mutex<BTreeMap<u64, Pending>>,
    /// Frames received.
    heard: AtomicU64,
}

impl Session<'_> {
    fn pending(&self) -> MutexGuard<'_, BTreeMap<u64, Pending>> {
        // Only the map is touched under it.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waits(&self) -> bool {
        !self.pending().is_empty()
    }

    /// Hands out answers; returns why no more come.
    async fn read(&self, mut receiver: Box<dyn FrameReceiver>) -> String {
        loop {
            let frame = match receiver.receive().await {
                Ok(Some(frame)) => frame,
                Ok(None) => return "the other side closed it".to_owned(),
                Err(error) => return error.to_string(),
            };
            self.heard.fetch_add(1, Ordering::Relaxed);
            let Return { number, answer } = match codec::decode(&frame) {
                Ok(returned) => returned,
                Err(error) => return error.to_string(),
            };
            if number == ECHO {
                continue;
            }
            let Some(caller) = self.pending().remove(&number) else {
                return format!("an answer to call {number}, which nobody made");
            };
            self.slots.add_permits(1);
            if let Err(told) = caller.answer.send(Ok(answer)) {
                self.far.unclaimed.tell(self.far.node, told);
            }
        }
    }

    /// Writes calls and echoes; returns why it can't any more.
    async fn write(
        &self,
        mut sender: Box<dyn FrameSender>,
        first: Outgoing,
        queue: &mut mpsc::Receiver<Outgoing>,
    ) -> String {
        let mut next = Some(first);
        let mut number = ECHO;
        let mut beat = tokio::time::interval_at(Instant::now() + BEAT, BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let outgoing = match next.take() {
                Some(first) => {
                    self.slots
                        .acquire()
                        .await
                        .expect("nobody closes it")
                        .forget();
                    Some(first)
                }
                None => tokio::select! {
                    biased;
                    // First, or callers that come without a break would keep it from being seen.
                    _ = beat.tick() => None,
                    outgoing = self.take(queue) => match outgoing {
                        Some(outgoing) => Some(outgoing),
                        None => return "this node stops".to_owned(),
                    },
                },
            };
            let calls = match outgoing {
                Some(outgoing) => {
                    number += 1;
                    Vec::from_iter(self.noted(number, outgoing))
                }
                None => self.beat(),
            };
            for call in calls {
                if let Err(error) = sender.send(codec::encode(&call)).await {
                    return error.to_string();
                }
            }
        }
    }

    /// What is said while calls are unanswered.
    fn beat(&self) -> Vec<Call> {
        let (number, waits, calls) = (ECHO, self.waits(), self.forsaken());
        let withdraw = (!calls.is_empty()).then_some(Ask::Withdraw { calls });
        let asks = waits.then_some(Ask::Echo).into_iter().chain(withdraw);
        asks.map(|ask| Call { number, ask }).collect()
    }

    /// Calls that nobody waits for any more, each once.
    fn forsaken(&self) -> Vec<u64> {
        let mut pending = self.pending();
        let gone = |(number, call): (&u64, &mut Pending)| {
            let told = call.withdrawn || !call.answer.is_closed();
            call.withdrawn |= !told;
            (!told).then_some(*number)
        };
        pending.iter_mut().filter_map(gone).collect()
    }

    /// The next call, and a place among the unanswered ones.
    async fn take(&self, queue: &mut mpsc::Receiver<Outgoing>) -> Option<Outgoing> {
        let slot = self.slots.acquire().await.expect("nobody closes it");
        let outgoing = queue.recv().await?;
        slot.forget();
        Some(outgoing)
    }

    /// The call to send, unless its caller has withdrawn it.
    fn noted(&self, number: u64, outgoing: Outgoing) -> Option<Call> {
        let Outgoing {
            ask, taken, answer, ..
        } = outgoing;
        if answer.is_closed() || taken.swap(true, Ordering::AcqRel) {
            self.slots.add_permits(1);
            return None;
        }
        let pending = Pending {
            answer,
            withdrawn: false,
        };
        self.pending().insert(number, pending);
        Some(Call { number, ask })
    }

    /// Returns when calls were unanswered for a whole period in which nothing was heard.
    async fn silence(&self) -> String {
        let mut before = None;
        loop {
            let now = self.waits().then(|| self.heard.load(Ordering::Relaxed));
            if now.is_some() && now == before {
                return format!("nothing was heard for {SILENCE_MAX:?}");
            }
            before = now;
            tokio::time::sleep(SILENCE_MAX).await;
        }
    }
}
