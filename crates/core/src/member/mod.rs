//! One member of a cluster.
//!
//! ```text
//!   write  ─► (to the leader, if another node leads) ─► queue ─► proposer ─► Raft ─► apply worker ─► in-flight table ─► reply
//!   permit ─► rounds (one confirmation for many) ─► watch of the applied position ─► ReadPermit
//! ```
//!
//! | part | owns |
//! | --- | --- |
//! | `writes`, `way`, `queue`, `proposer`, `in_flight` | the way of a write, and its verdict |
//! | `keys` | a request that comes twice, done once |
//! | `epochs` | the writer worker |
//! | `reserve`, `leadership` | transactions that have the writer for themselves, and what they end with |
//! | `applier` | the apply worker and `core`'s side state |
//! | `rounds`, `reads`, `lease`, `contact` | what a read may rely on |
//! | `client` | calls between members: forwarded writes, read indexes, the embedder's own |
//! | `founder`, `cluster` | the cluster's name, and who belongs to it |
//! | `enter`, `founding`, `greet` | how a node comes to belong to a cluster |
//! | `change`, `membership`, `transfer`, `stop` | members that come and go, leadership handed over |
//! | `lookout` | what a node finds out when nobody tells it |
//! | `checkpoint`, `retention`, `tail` | what is durable, and how much of the log stays |
//! | `doubt`, `judge`, `quarantine`, `repair` | who is wrong where states differ, and how that one comes back |
//! | `failure` | what a node does whose log has failed |

mod applier;
mod change;
mod checkpoint;
mod client;
mod cluster;
mod compare;
mod contact;
mod counters;
mod doubt;
mod enter;
mod envelope;
mod epochs;
mod failure;
mod founder;
mod founding;
mod gather;
mod greet;
mod in_flight;
mod judge;
mod keys;
mod leadership;
mod lease;
mod lookout;
mod membership;
mod operation;
mod proposer;
mod quarantine;
mod queue;
mod reads;
mod repair;
mod replay;
mod reserve;
mod retention;
mod rounds;
mod shared;
mod standing;
mod status;
mod stop;
mod tail;
mod tasks;
mod transfer;
mod way;
mod writes;

pub(crate) use applier::{Applier, Begun, Halt, Stuck};
pub(crate) use change::Undone;
pub(crate) use contact::Contact;
pub(crate) use counters::Counters;
pub(crate) use envelope::{Content, Envelope, Item, Origin, Side};
pub(crate) use epochs::{Epochs, Ran};
pub(crate) use in_flight::{Answer, Client, InFlight};
pub(crate) use keys::{Key, Keyed, Keys};
pub(crate) use lease::Lease;
pub(crate) use operation::Operation;
pub(crate) use queue::Queue;
pub(crate) use repair::Repair;
pub(crate) use retention::{Hold, Retention};
pub(crate) use rounds::{Rounder, Rounds, rounds};
pub(crate) use shared::{Shared, Snapshots};
pub(crate) use tail::Tail;
pub(crate) use tasks::Tasks;

pub use client::{AskError, NoPeerService, PeerService};
pub use cluster::{Cluster, ClusterMember};
pub use compare::{ComparedMember, Comparison};
pub use enter::{BootstrapPlan, Entered};
pub use founder::Genesis;
pub use keys::{IdempotencyKey, KeyLimits, NoKey};
pub use leadership::Leadership;
pub use reads::ReadPermit;
pub use reserve::{Committing, Reserved};
pub use standing::Role;
pub use status::{Counts, MemberStatus, Status};
pub use writes::{Route, Written};

use crate::codec::CodecError;
use crate::raft::{LogAdapter, MACHINE_JOBS_MAX, MachineAdapter, Network, Raft, scoped, serve};
use crate::{
    DirectoryId, Lane, LogStore, MemberError, NodeId, Peer, Settings, StateMachine, Transport,
};
use bytes::Bytes;
use client::{Answer as Told, Ask, Lines};
use openraft::async_runtime::WatchReceiver;
use proposer::{Proposer, Requests};
use sqlrep_env::{Actor, Env};
use standing::Standing;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, watch};
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
    /// Answers what the other members' embedders ask.
    pub service: Arc<dyn PeerService>,
    /// How this node would name the cluster. Every founding member brings it on every start, the first one in
    /// the log counts; none on a node that joins.
    pub genesis: Option<Genesis>,
    /// How long idempotency keys are kept: a cluster setting, equal on every member.
    pub keys: KeyLimits,
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

/// What the clones share, and the tasks.
pub(crate) struct Inner<M: StateMachine> {
    raft: Raft<M>,
    shared: Arc<Shared<M>>,
    queue: Arc<Requests<M>>,
    read_index: Asked,
    barriers: Asked,
    /// Where weak reads wait for what the leader's lease is worth, if it isn't known here.
    leases: Rounds,
    lines: Lines,
    demands: mpsc::Sender<checkpoint::Demand>,
    founding: Option<Genesis>,
    transport: Arc<dyn Transport>,
    repair: Repair<M>,
    tasks: Tasks,
    counters: Arc<Counters>,
    /// Keys that this node gave to writes that it forwarded.
    gateway_keys: AtomicU64,
    stopped: Mutex<bool>,
    operation: Operation,
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
        let founding = parts.genesis.clone();
        if founding.as_ref().is_some_and(|own| own.cluster.0 == 0) {
            let what = "the cluster id 0 means that there is none".to_owned();
            return Err(MemberError::Settings { what });
        }
        let node = parts.node;
        let stored = |what: String| MemberError::Stored { node, what };
        let unreadable = |error: CodecError| stored(error.to_string());
        let begun = Begun::at(&parts.machine.applied()).map_err(unreadable)?;
        let applied = begun.id.map(|id| id.index);
        let shared = share(parts, &begun);
        let applier = Applier::new(shared.clone(), begun);
        let executor = &*shared.env.executor;
        let worker = Actor::start(executor, "apply", MACHINE_JOBS_MAX, applier);
        let repair = Repair::new(shared.clone(), worker.clone());
        let machine = MachineAdapter::new(shared.clone(), worker);
        let log = LogAdapter::new(
            shared.log.clone(),
            shared.settings.replication_bytes_max,
            shared.tail.clone(),
            applied,
        );
        let network = Network::new(shared.clone(), transport.clone());
        let opening = Raft::<M>::new(node.get(), config, network, log, machine);
        let opening = Box::pin(scoped(shared.env.entropy.next(), opening));
        let raft = opening.await.map_err(|fatal| stored(fatal.to_string()))?;
        shared.started.store(true, Ordering::Release);
        Ok(Self::run(raft, (shared, repair), transport, founding))
    }

    fn run(
        raft: Raft<M>,
        (shared, repair): (Arc<Shared<M>>, Repair<M>),
        transport: Arc<dyn Transport>,
        founding: Option<Genesis>,
    ) -> Self {
        let (demands, demanded) = mpsc::channel(checkpoint::DEMANDS_MAX);
        let tasks = Tasks::new(shared.env.entropy.clone());
        let waiting_max = shared.settings.reads_waiting_max;
        let (read_index, read_rounders) = asked(waiting_max);
        let (barriers, barrier_rounders) = asked(waiting_max);
        let (leases, lease_rounder) = rounds(waiting_max);
        let inner = Arc::new(Inner {
            queue: Arc::new(Queue::new(&shared.settings)),
            read_index,
            barriers,
            leases,
            lines: Lines::new(
                transport.clone(),
                shared.service.clone(),
                tasks.clone(),
                &shared.settings,
            ),
            demands,
            founding,
            repair,
            tasks: tasks.clone(),
            counters: Arc::default(),
            gateway_keys: AtomicU64::new(0),
            stopped: Mutex::new(false),
            operation: Operation::new(),
            raft,
            shared,
            transport,
        });
        tasks.spawn(Proposer::new(&inner).run());
        if let Some(own) = inner.founding.clone() {
            tasks.spawn(founder::found(
                inner.raft.clone(),
                inner.shared.clone(),
                own,
            ));
        }
        inner.run_rounds(read_rounders, barrier_rounders);
        let raft = inner.raft.clone();
        tasks.spawn(lease_rounder.run(move || reads::lease(raft.clone())));
        tasks.spawn(inner.clone().keep_checkpoints(demanded));
        tasks.spawn(inner.clone().keep_quarantine());
        tasks.spawn(inner.clone().keep_repaired());
        tasks.spawn(inner.clone().keep_judging());
        inner
            .shared
            .cluster
            .send_replace(Arc::new(inner.cluster_now()));
        tasks.spawn(inner.clone().announce());
        tasks.spawn(accept_all(inner.clone()));
        tasks.spawn(lookout::lookout(inner.clone()));
        Self {
            inner,
            _guard: Arc::new(Guard(tasks)),
        }
    }

    /// Forms a cluster of these members; on one of them, once. Each of them has to be started with a
    /// [`Genesis`].
    ///
    /// # Errors
    ///
    /// [`MemberError::Refused`] if this node already has a log, isn't among them, or has no name for the cluster.
    pub async fn bootstrap(&self, members: BTreeMap<NodeId, Peer>) -> Result<(), MemberError> {
        self.inner.form(members).await
    }

    /// Asks the embedder on `node`, which may be this one.
    ///
    /// # Errors
    ///
    /// Every [`AskError`].
    pub async fn ask(
        &self,
        node: NodeId,
        ask: Bytes,
        wait_max: Duration,
    ) -> Result<Bytes, AskError> {
        let inner = &self.inner;
        if node == inner.shared.node {
            let answer = inner.shared.service.call(node, ask);
            let timeout = |_| AskError::Timeout {
                node,
                waited: wait_max,
            };
            return tokio::time::timeout(wait_max, answer)
                .await
                .map_err(timeout);
        }
        let deadline = after(Instant::now(), wait_max);
        match inner.call(node, Ask::Opaque(ask), deadline).await? {
            Told::Opaque(answer) => Ok(answer),
            _ => Err(AskError::Mismatch { node }),
        }
    }
}

impl<M: StateMachine> Inner<M> {
    async fn form(&self, members: BTreeMap<NodeId, Peer>) -> Result<(), MemberError> {
        if self.founding.is_none() {
            let what = "no cluster was formed: this node has no name for it".to_owned();
            return Err(MemberError::Refused { what });
        }
        let members: BTreeMap<u64, Peer> = members
            .into_iter()
            .map(|(id, peer)| (id.get(), peer))
            .collect();
        let formed = self.raft.initialize(members).await;
        formed.map_err(|error| MemberError::Refused {
            what: format!("no cluster was formed: {error}"),
        })
    }

    /// Asks another member; its address is that of the members Raft works with.
    async fn call(&self, node: NodeId, ask: Ask, deadline: Instant) -> Result<Told, AskError> {
        let Some(peer) = self.peer(node) else {
            let cause = "it is no member".to_owned();
            return Err(AskError::Unreachable { node, cause });
        };
        self.lines.call(node, &peer, ask, deadline).await
    }

    fn peer(&self, node: NodeId) -> Option<Peer> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership();
        members.get_node(&node.get()).cloned()
    }
}

/// Where reads wait for an answer of the leader.
pub(crate) struct Asked {
    /// Rounds that this node runs as the leader, for itself and for others.
    here: Rounds,
    /// Rounds that ask the leader.
    there: Rounds,
}

fn asked(waiting_max: usize) -> (Asked, [Rounder; 2]) {
    let ((here, rounds_here), (there, rounds_there)) = (rounds(waiting_max), rounds(waiting_max));
    (Asked { here, there }, [rounds_here, rounds_there])
}

/// `wait` behind `since`; a wait without an end ends in a year.
fn after(since: Instant, wait: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);
    since + wait.min(YEAR)
}

fn share<M: StateMachine>(parts: Parts<M>, begun: &Begun) -> Arc<Shared<M>> {
    let origin = Origin {
        node: parts.node,
        boot: parts.env.entropy.next(),
    };
    let distrusted = parts.machine.distrusted();
    let retention = Arc::new(Retention::new(parts.log.clone()));
    retention.durable(parts.machine.durable().id.map(|id| id.index));
    Arc::new(Shared {
        node: parts.node,
        directory: parts.directory,
        epochs: Epochs::start(&parts.env, parts.machine.clone()),
        machine: parts.machine,
        log: parts.log,
        service: parts.service,
        env: parts.env,
        settings: parts.settings,
        in_flight: InFlight::new(origin),
        applied: watch::channel(begun.id).0,
        side: watch::channel(Arc::new(begun.side.clone())).0,
        keys: watch::channel(begun.keys.clone()).0,
        key_limits: parts.keys,
        skipping: watch::channel(distrusted.is_some()).0,
        is_wrong: AtomicBool::new(distrusted.is_some()),
        out_of_service: watch::channel(distrusted).0,
        handed: AtomicU64::new(0),
        doubt: watch::channel(None).0,
        convicted: watch::channel(None).0,
        trials: AtomicU64::new(0),
        ended: watch::channel(None).0,
        contact: Contact::default(),
        lease: Arc::default(),
        retention,
        snapshots: Snapshots::default(),
        tail: Arc::default(),
        started: AtomicBool::new(false),
        cluster: watch::channel(Arc::default()).0,
    })
}

/// Serves the links that other members open.
async fn accept_all<M: StateMachine>(inner: Arc<Inner<M>>) {
    let mut links = JoinSet::new();
    while let Some((from, lane, link)) = inner.transport.accept().await {
        while links.try_join_next().is_some() {}
        if links.len() >= LINKS_MAX {
            tracing::warn!(%from, ?lane, "a link is refused");
            continue;
        }
        let (seed, inner) = (inner.shared.env.entropy.next(), inner.clone());
        links.spawn(scoped(seed, async move {
            match lane {
                Lane::Client => client::serve(from, link, inner).await,
                raft => serve(from, raft, link, inner.raft.clone(), inner.repair.clone()).await,
            }
        }));
    }
}
