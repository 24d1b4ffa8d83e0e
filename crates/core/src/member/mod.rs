//! One member of a cluster.
//!
//! ```text
//!   write  ─► queue ─► proposer ─► Raft ─► apply worker ─► in-flight table ─► reply
//!   permit ─► rounds (one confirmation for many) ─► watch of the applied position ─► ReadPermit
//! ```
//!
//! | part | owns |
//! | --- | --- |
//! | `queue`, `proposer`, `in_flight` | the way of a write, and its verdict |
//! | `epochs` | the writer worker |
//! | `applier` | the apply worker and `core`'s side state |
//! | `rounds`, `reads`, `contact` | what a read may rely on |
//! | `retention` | how much of the log stays |

mod applier;
mod contact;
mod counters;
mod envelope;
mod epochs;
mod in_flight;
mod proposer;
mod queue;
mod reads;
mod retention;
mod rounds;
mod shared;
mod standing;
mod status;
mod stop;
mod tasks;

pub(crate) use applier::{Applier, Stuck};
pub(crate) use contact::Contact;
pub(crate) use counters::Counters;
pub(crate) use envelope::{Content, Envelope, Item, Origin, Side};
pub(crate) use epochs::{Epochs, Ran};
pub(crate) use in_flight::{Answer, Client, InFlight};
pub(crate) use queue::Queue;
pub(crate) use retention::Retention;
pub(crate) use rounds::{Rounds, rounds};
pub(crate) use shared::Shared;
pub(crate) use tasks::Tasks;

pub use reads::ReadPermit;
pub use standing::Role;
pub use status::{Counts, MemberStatus, Status};

use crate::codec::CodecError;
use crate::raft::{LogAdapter, MACHINE_JOBS_MAX, MachineAdapter, Network, Raft, scoped, serve};
use crate::{
    DirectoryId, EntryId, Lane, LogStore, MemberError, NodeId, Peer, Settings, StateMachine,
    Transport, WriteError,
};
use proposer::{AnswerOf, Proposer};
use sqlrep_env::{Actor, Env};
use standing::Standing;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Links from other members served at once; each member has a handful.
const LINKS_MAX: usize = 1024;

/// What a member is made of.
pub struct Parts<M: StateMachine> {
    /// This node.
    pub node: NodeId,
    /// Its data directory.
    pub directory: DirectoryId,
    /// The replicated state.
    pub machine: Arc<M>,
    /// The durable log.
    pub log: Arc<dyn LogStore>,
    /// Links to the other members.
    pub transport: Arc<dyn Transport>,
    /// Time, randomness, threads.
    pub env: Env,
    /// Times and bounds.
    pub settings: Settings,
}

/// A running member. Clones share it; it ends with the last one, or by force when the runtime does.
pub struct Member<M: StateMachine> {
    inner: Arc<Inner<M>>,
    /// Ends the tasks with the last clone.
    _guard: Arc<Guard>,
}

impl<M: StateMachine> Clone for Member<M> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            _guard: self._guard.clone(),
        }
    }
}

struct Guard(Tasks);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.end();
    }
}

struct Inner<M: StateMachine> {
    raft: Raft<M>,
    shared: Arc<Shared<M>>,
    queue: Arc<Queue<M::Request, M::Reply>>,
    read_index: Rounds,
    transport: Arc<dyn Transport>,
    tasks: Tasks,
    counters: Arc<Counters>,
    stopped: Mutex<bool>,
}

impl<M: StateMachine> Member<M> {
    /// Opens Raft on what log and state hold, and begins to answer the other members.
    ///
    /// # Errors
    ///
    /// Settings that can't work, or a log and a state that don't belong together.
    pub async fn start(parts: Parts<M>) -> Result<Self, MemberError> {
        let transport = parts.transport.clone();
        let config = Arc::new(parts.settings.raft()?);
        let shared = share(parts);
        let node = shared.node;
        let stored = |what: String| MemberError::Stored { node, what };
        let applier = Applier::new(shared.clone(), &shared.machine.applied())
            .map_err(|error: CodecError| stored(error.to_string()))?;
        let executor = &*shared.env.executor;
        let worker = Actor::start(executor, "apply", MACHINE_JOBS_MAX, applier);
        let machine = MachineAdapter::new(shared.clone(), worker);
        let log = LogAdapter::new(shared.log.clone(), shared.settings.replication_bytes_max);
        let network = Network::new(shared.clone(), transport.clone());
        let opening = Raft::<M>::new(node.get(), config, network, log, machine);
        let opening = Box::pin(scoped(shared.env.entropy.next(), opening));
        let raft = opening.await.map_err(|fatal| stored(fatal.to_string()))?;
        shared.started.store(true, Ordering::Release);
        Ok(Self::run(raft, shared, transport))
    }

    fn run(raft: Raft<M>, shared: Arc<Shared<M>>, transport: Arc<dyn Transport>) -> Self {
        let tasks = Tasks::new(shared.env.entropy.clone());
        let (read_index, rounder) = rounds(shared.settings.reads_waiting_max);
        let queue = Arc::new(Queue::new(&shared.settings));
        let counters = Arc::new(Counters::default());
        let proposer = Proposer {
            raft: raft.clone(),
            shared: shared.clone(),
            queue: queue.clone(),
            rounds: read_index.clone(),
            counters: counters.clone(),
            tasks: tasks.clone(),
            sequence: 0,
            epochs: 0,
        };
        let asks = raft.clone();
        tasks.spawn(proposer.run());
        tasks.spawn(rounder.run(move || reads::confirm(asks.clone())));
        tasks.spawn(accept_all(raft.clone(), shared.clone(), transport.clone()));
        let inner = Inner {
            raft,
            shared,
            queue,
            read_index,
            transport,
            tasks: tasks.clone(),
            counters,
            stopped: Mutex::new(false),
        };
        Self {
            inner: Arc::new(inner),
            _guard: Arc::new(Guard(tasks)),
        }
    }

    /// Forms a cluster of these members; on one of them, once.
    ///
    /// # Errors
    ///
    /// [`MemberError::Refused`] if this node already has a log or isn't among them.
    pub async fn bootstrap(&self, members: BTreeMap<NodeId, Peer>) -> Result<(), MemberError> {
        let members: BTreeMap<u64, Peer> = members
            .into_iter()
            .map(|(id, peer)| (id.get(), peer))
            .collect();
        let formed = self.inner.raft.initialize(members).await;
        formed.map_err(|error| MemberError::Refused {
            what: format!("no cluster was formed: {error}"),
        })
    }

    /// Replicates `request`. The reply leaves only when it is committed and applied here; with it, where.
    ///
    /// # Errors
    ///
    /// Every [`WriteError`]; what isn't answered within `wait_max` is withdrawn, or unknown.
    pub async fn write(
        &self,
        request: M::Request,
        wait_max: Duration,
    ) -> Result<(M::Reply, EntryId), WriteError> {
        let since = Instant::now();
        match self.propose(request, since, since + wait_max).await {
            Answer::Outcome(outcome) => outcome,
            Answer::Back(_request, error) => Err(error),
        }
    }

    /// Writes here, if this node leads.
    async fn propose(&self, request: M::Request, since: Instant, deadline: Instant) -> AnswerOf<M> {
        let inner = &self.inner;
        if inner.shared.is_out_of_service() {
            let leader = Standing::of(&inner.raft).leader;
            return Answer::Back(request, WriteError::NotLeader { leader });
        }
        let bytes = inner.shared.machine.request_bytes(&request);
        match inner.queue.push(request, bytes) {
            Ok(ticket) => ticket.answer(since, deadline).await,
            Err(error) => Answer::Outcome(Err(error)),
        }
    }
}

fn share<M: StateMachine>(parts: Parts<M>) -> Arc<Shared<M>> {
    let origin = Origin {
        node: parts.node,
        boot: parts.env.entropy.next(),
    };
    let end = parts.machine.applied();
    let retention = Arc::new(Retention::new(parts.log.clone()));
    retention.durable(parts.machine.durable().id.map(|id| id.index));
    Arc::new(Shared {
        node: parts.node,
        directory: parts.directory,
        epochs: Epochs::start(&parts.env, parts.machine.clone()),
        machine: parts.machine,
        log: parts.log,
        env: parts.env,
        settings: parts.settings,
        in_flight: InFlight::new(origin),
        applied: watch::channel(end.id).0,
        side: watch::channel(Arc::new(Side::open(&end.side).unwrap_or_default())).0,
        out_of_service: watch::channel(None).0,
        contact: Contact::default(),
        retention,
        started: AtomicBool::new(false),
    })
}

/// Serves the links that other members open.
async fn accept_all<M: StateMachine>(
    raft: Raft<M>,
    shared: Arc<Shared<M>>,
    transport: Arc<dyn Transport>,
) {
    let mut links = JoinSet::new();
    while let Some((from, lane, link)) = transport.accept().await {
        while links.try_join_next().is_some() {}
        if links.len() >= LINKS_MAX || lane == Lane::Client {
            tracing::warn!(%from, ?lane, "a link is refused");
            continue;
        }
        let served = serve(from, lane, link, raft.clone(), shared.clone());
        links.spawn(scoped(shared.env.entropy.next(), served));
    }
}
