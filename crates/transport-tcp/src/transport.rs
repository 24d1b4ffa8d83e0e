//! The transport of one node: what it belongs to, its links, and calling others.

use crate::handshake::{self, Failure};
use crate::hello::{Call, Card, Verdict};
use crate::link::Tie;
use crate::listen;
use crate::options::{Counters, TEXT_BYTES_MAX};
use crate::sockets::{Halves, Listener, Machine, Sockets};
use crate::{Identity, Options, Stats, judge};
use async_trait::async_trait;
use sqlrep_core::{ClusterId, DirectoryId, Lane, Link, NodeId, Peer, Transport, TransportError};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

pub(crate) type Arrival = (NodeId, Lane, Link);

/// What this node belongs to, and the links it has. Invariant: no link is added once it is closed.
struct Books {
    card: Card,
    members: BTreeMap<NodeId, DirectoryId>,
    ties: Vec<Weak<Tie>>,
    closed: bool,
}

/// What the tasks of a transport share.
pub(crate) struct Shared {
    pub(crate) options: Options,
    sockets: Arc<dyn Sockets>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) closed: watch::Sender<bool>,
    links: Arc<Semaphore>,
    address: SocketAddr,
    books: Mutex<Books>,
}

/// Links between nodes over TCP. Dropping it closes it: no link is made or taken any more, and those there are answer
/// [`TransportError::Closed`]. Their sockets go with their halves.
pub struct TcpTransport {
    shared: Arc<Shared>,
    arrivals: tokio::sync::Mutex<mpsc::Receiver<Arrival>>,
}

impl TcpTransport {
    /// Answers callers on `listener` from now on, in a task of the current runtime. It belongs to no cluster until
    /// [`belongs_to`](Self::belongs_to) tells.
    ///
    /// # Panics
    ///
    /// If a text of `identity` is longer than 512 bytes, a limit of `options` is zero, or there is no runtime.
    #[must_use]
    pub fn new(listener: TcpListener, identity: Identity, options: Options) -> Arc<Self> {
        let machine = Machine::new(&options);
        let listener = machine.over(listener);
        Self::on(Arc::new(machine), listener, identity, options)
    }

    /// The same on another network than the machine's; `listener` is one of `sockets`.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[must_use]
    pub fn on(
        sockets: Arc<dyn Sockets>,
        listener: Box<dyn Listener>,
        identity: Identity,
        options: Options,
    ) -> Arc<Self> {
        let texts = [&identity.mode, &identity.engine, &identity.release];
        let fits = |text: &&String| text.len() <= TEXT_BYTES_MAX;
        assert!(texts.iter().all(fits), "an identity's texts are bounded");
        let limits = [
            options.links_max,
            options.handshakes_max,
            options.arrivals_max,
        ];
        assert!(!limits.contains(&0), "a limit of zero lets nothing through");
        let (sender, receiver) = mpsc::channel(options.arrivals_max);
        let address = listener
            .local_addr()
            .expect("a bound listener has an address");
        let shared = Arc::new(Shared {
            links: Arc::new(Semaphore::new(options.links_max)),
            options,
            sockets,
            counters: Arc::default(),
            closed: watch::channel(false).0,
            address,
            books: Mutex::new(Books {
                card: Card::new(identity, ClusterId(0)),
                members: BTreeMap::new(),
                ties: Vec::new(),
                closed: false,
            }),
        });
        tokio::spawn(listen::run(listener, shared.clone(), sender));
        Arc::new(Self {
            shared,
            arrivals: receiver.into(),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.address
    }

    /// Tells the cluster this node belongs to (zero: none yet) and its members' data directories; to be called
    /// whenever they change. Links there are stay; new ones are judged by it.
    pub fn belongs_to(&self, cluster: ClusterId, members: BTreeMap<NodeId, DirectoryId>) {
        let mut books = self.shared.books();
        books.card.cluster = cluster;
        books.members = members;
    }

    /// What it did so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.counters.stats()
    }
}

impl Drop for TcpTransport {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Shared {
    fn books(&self) -> MutexGuard<'_, Books> {
        // Plain values only; nothing under this lock can panic half way.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn card(&self) -> Card {
        self.books().card.clone()
    }

    /// Counts a refusal of either side.
    pub(crate) fn count_refusal(&self) {
        self.counters.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Room for one more link.
    pub(crate) fn room(&self) -> Result<OwnedSemaphorePermit, String> {
        let room = self.links.clone().try_acquire_owned();
        room.map_err(|_| format!("it has {} links, its limit", self.options.links_max))
    }

    /// The judgement about a caller.
    pub(crate) fn judge_caller(&self, us: &Card, call: &Call) -> Verdict {
        let members = &self.books().members;
        let judged = judge::judge(call, us)
            .and_then(|()| judge::known(us, members, &call.caller))
            .and_then(|()| judge::takes_part(call, us, members));
        Verdict::of(judged)
    }

    /// The judgement about who answered.
    fn judge_listener(&self, call: &Call, peer: &Peer, listener: &Card) -> Result<(), String> {
        let us = &call.caller;
        judge::judge(call, listener)?;
        judge::known(us, &self.books().members, listener)?;
        judge::directory_is(us, peer.directory, listener)
    }

    /// Makes a link of a socket whose handshake is done.
    pub(crate) fn tie(
        &self,
        halves: Halves,
        address: String,
        lane: Lane,
        permit: OwnedSemaphorePermit,
    ) -> Result<Link, TransportError> {
        let tie = Tie::new(address, lane, self.counters.clone(), permit);
        {
            let mut books = self.books();
            if books.closed {
                return Err(TransportError::Closed);
            }
            books.ties.retain(|tie| tie.strong_count() > 0);
            books.ties.push(Arc::downgrade(&tie));
        }
        let own = self.address.to_string();
        Ok(tie.link(halves, own, self.options.write_stall_max))
    }

    fn close(&self) {
        let ties = {
            let mut books = self.books();
            books.closed = true;
            std::mem::take(&mut books.ties)
        };
        self.closed.send_replace(true);
        for tie in ties.iter().filter_map(Weak::upgrade) {
            tie.close();
        }
    }

    async fn connect(&self, call: Call, peer: &Peer) -> Result<Link, TransportError> {
        let address = &peer.raft;
        let us = call.caller.clone();
        let failed = |failure: Failure| failure.of_call(&us, address);
        let permit = self.room().map_err(|full| {
            failed(Failure::Busy(format!(
                "no room at node {}: {full}",
                us.node
            )))
        })?;
        let opening = in_time(self.options.connect_timeout, self.sockets.connect(address));
        let halves = opening.await.map_err(|error| failed(error.into()))?;
        let (mut reading, mut writing) = halves;
        let judge = |listener: &Card| self.judge_listener(&call, peer, listener);
        let called = handshake::call(&mut reading, &mut writing, &call, judge);
        let limit = self.options.handshake_timeout;
        let listener = in_time(limit, called).await.map_err(failed)?;
        warn_of_engines(&us, &listener, call.lane);
        self.tie((reading, writing), address.clone(), call.lane, permit)
    }
}

/// Returns once the transport is closed, or gone.
pub(crate) async fn closing(closed: &mut watch::Receiver<bool>) {
    closed.wait_for(|closed| *closed).await.ok();
}

/// Tells once per stream of entries that two engines differ.
pub(crate) fn warn_of_engines(us: &Card, other: &Card, lane: Lane) {
    if lane == Lane::Append
        && let Some(difference) = judge::engines_differ(us, other)
    {
        tracing::warn!(%difference, "two nodes have different engines");
    }
}

/// `work`, cut after `limit`.
pub(crate) async fn in_time<T, E: From<io::Error>>(
    limit: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let late = |_| {
        let what = format!("it wasn't done within {limit:?}");
        Err(io::Error::new(io::ErrorKind::TimedOut, what).into())
    };
    tokio::time::timeout(limit, work).await.unwrap_or_else(late)
}

#[async_trait]
impl Transport for TcpTransport {
    async fn connect(
        &self,
        node: Option<NodeId>,
        peer: &Peer,
        lane: Lane,
    ) -> Result<Link, TransportError> {
        let shared = &self.shared;
        let mut closed = shared.closed.subscribe();
        let call = Call {
            caller: shared.card(),
            lane,
            expects: node,
        };
        let connected = tokio::select! {
            biased;
            () = closing(&mut closed) => Err(TransportError::Closed),
            connected = Box::pin(shared.connect(call, peer)) => connected,
        };
        if let Err(TransportError::Refused { .. } | TransportError::OtherCluster { .. }) =
            &connected
        {
            shared.count_refusal();
        }
        connected
    }

    async fn accept(&self) -> Option<Arrival> {
        let mut closed = self.shared.closed.subscribe();
        let mut arrivals = self.arrivals.lock().await;
        tokio::select! {
            biased;
            () = closing(&mut closed) => {
                while arrivals.try_recv().is_ok() {}
                None
            }
            arrival = arrivals.recv() => arrival,
        }
    }

    fn close(&self) {
        self.shared.close();
    }
}
