//! Members of one cluster in one process, on one thread, with a paused clock.
#![allow(
    clippy::unwrap_used,
    reason = "a test says what went wrong by panicking"
)]

mod bootstrap;
mod checkpoint;
mod client;
mod far;
mod forward;
mod genesis;
mod judge;
mod keys;
mod lanes;
mod list;
mod list_snapshot;
mod log;
mod membership;
mod pacing;
mod quarantine;
mod reads;
mod reserve;
mod snapshots;
mod spared;
mod stop;
mod writes;

use async_trait::async_trait;
use bytes::Bytes;
use list::{Ask, List, Style};
use log::WatchedLog;
use sqlrep_core::memory::{ChannelTransport, MemoryLog, RuntimeTimer, Switchboard};
use sqlrep_core::{
    ClusterId, DirectoryId, Genesis, IdempotencyKey, KeyLimits, LogIndex, Member, MemberError,
    NodeId, Parts, Peer, PeerService, ReadBound, ReadError, ReadLevel, Retry, Route, Settings,
    Transport, WriteError, Written,
};
use sqlrep_env::Env;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) fn node(id: u64) -> NodeId {
    NodeId::new(id).unwrap()
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Says who was asked by whom, and what; thinks about some of it for ten seconds.
struct Whispers(NodeId);

#[async_trait]
impl PeerService for Whispers {
    async fn call(&self, from: NodeId, ask: Bytes) -> Bytes {
        let ask = String::from_utf8_lossy(&ask);
        if ask.starts_with("slow") {
            tokio::time::sleep(10 * SECOND).await;
        }
        format!("{from} asks {}: {ask}", self.0).into()
    }
}

/// One member with what it runs on.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) machine: Arc<List>,
    pub(crate) log: MemoryLog,
    pub(crate) member: Member<List>,
}

pub(crate) struct Cluster {
    pub(crate) board: Switchboard,
    pub(crate) settings: Settings,
    pub(crate) keys: KeyLimits,
    pub(crate) style: Style,
    pub(crate) seed: u64,
    /// How long each job of the writer takes; none: it is done inside the call, like that of every worker.
    pub(crate) writer_takes: Option<Duration>,
    pub(crate) nodes: Vec<Node>,
}

impl Cluster {
    /// Starts `size` members and forms a cluster of them.
    pub(crate) async fn form(size: u64, style: Style) -> Self {
        Self::form_with(size, style, Settings::default(), 1).await
    }

    pub(crate) async fn form_with(size: u64, style: Style, settings: Settings, seed: u64) -> Self {
        let cluster = Self::unformed(size, style, settings, seed).await;
        cluster.bootstrap(size).await;
        cluster
    }

    /// Starts `size` members without a cluster.
    pub(crate) async fn unformed(size: u64, style: Style, settings: Settings, seed: u64) -> Self {
        let mut cluster = Self {
            board: Switchboard::default(),
            settings,
            keys: KeyLimits::default(),
            style,
            seed,
            writer_takes: None,
            nodes: Vec::new(),
        };
        for id in 1..=size {
            cluster.start(id).await;
        }
        cluster
    }

    /// Forms a cluster of the first `size` members.
    pub(crate) async fn bootstrap(&self, size: u64) {
        let members = (1..=size).map(|id| (node(id), Self::peer(id))).collect();
        let members: BTreeMap<NodeId, Peer> = members;
        self.nodes[0].member.bootstrap(members).await.unwrap();
    }

    pub(crate) fn peer(id: u64) -> Peer {
        Peer {
            directory: DirectoryId(id),
            ..Switchboard::peer(node(id))
        }
    }

    /// Starts a new, empty member.
    pub(crate) async fn start(&mut self, id: u64) -> &Node {
        let machine = Arc::new(List::new(self.style));
        self.start_on(id, machine, MemoryLog::default()).await
    }

    pub(crate) async fn start_on(&mut self, id: u64, machine: Arc<List>, log: MemoryLog) -> &Node {
        let parts = self.parts(id, machine, log.clone());
        self.start_parts(parts, log).await
    }

    /// Starts a member; `log` is what is shown of its log.
    pub(crate) async fn start_parts(&mut self, parts: Parts<List>, log: MemoryLog) -> &Node {
        let (id, machine) = (parts.node, parts.machine.clone());
        let member = Member::start(parts).await.unwrap();
        self.nodes.push(Node {
            id,
            machine,
            log,
            member,
        });
        self.nodes.last().unwrap()
    }

    /// Starts a new, empty member on a transport that `wrap` makes of the usual one.
    pub(crate) async fn start_behind<T: Transport + 'static>(
        &mut self,
        id: u64,
        wrap: impl FnOnce(ChannelTransport) -> T,
    ) {
        let (machine, log) = (Arc::new(List::new(self.style)), MemoryLog::default());
        let mut parts = self.parts(id, machine, log.clone());
        // The last plug of a node is the one that counts.
        parts.transport = Arc::new(wrap(self.board.plug(node(id))));
        self.start_parts(parts, log).await;
    }

    fn parts(&self, id: u64, machine: Arc<List>, log: MemoryLog) -> Parts<List> {
        Parts {
            node: node(id),
            directory: DirectoryId(id),
            machine,
            log: Arc::new(log),
            transport: Arc::new(self.board.plug(node(id))),
            service: Arc::new(Whispers(node(id))),
            genesis: Some(Genesis {
                cluster: ClusterId(1000 + id),
                settings: format!("of {id}").into(),
            }),
            env: self.env(self.seed * 1_000_003 + id),
            keys: self.keys,
            settings: self.settings.clone(),
        }
    }

    fn env(&self, seed: u64) -> Env {
        match self.writer_takes {
            None => Env::inline(seed),
            Some(takes) => {
                Env::simulated(seed, RuntimeTimer::begin(), move |worker| match worker {
                    "writer" => takes,
                    _ => Duration::ZERO,
                })
            }
        }
    }

    /// A member on a log of the caller's; what it holds in memory isn't shown.
    pub(crate) async fn start_watched(&mut self, id: u64, log: &WatchedLog) {
        let machine = Arc::new(List::new(self.style));
        let parts = Parts {
            log: Arc::new(log.clone()),
            ..self.parts(id, machine, MemoryLog::default())
        };
        self.start_parts(parts, MemoryLog::default()).await;
    }

    /// A member that was given no name for a cluster.
    pub(crate) async fn start_nameless(&self, id: u64) -> Member<List> {
        let machine = Arc::new(List::new(self.style));
        let parts = Parts {
            genesis: None,
            ..self.parts(id, machine, MemoryLog::default())
        };
        Member::start(parts).await.unwrap()
    }

    /// A member that would call its cluster "none".
    pub(crate) async fn start_zero(&self, id: u64) -> Result<Member<List>, MemberError> {
        let mut parts = self.parts(id, Arc::new(List::new(self.style)), MemoryLog::default());
        parts.genesis.as_mut().unwrap().cluster = ClusterId(0);
        Member::start(parts).await
    }

    /// The member that can confirm that it leads.
    pub(crate) async fn leader(&self) -> &Node {
        for _ in 0..2000 {
            for node in &self.nodes {
                let bound = ReadBound {
                    wait_max: Some(Duration::from_millis(300)),
                    ..ReadBound::default()
                };
                let lease = node.member.permit(ReadLevel::Weak, bound).await;
                if lease.is_ok() {
                    return node;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nobody leads after 20 s");
    }

    /// Waits until all members show the same lines, and returns them.
    pub(crate) async fn agreed(&self, lines: usize) -> Vec<String> {
        for _ in 0..1000 {
            let shown: Vec<_> = self.nodes.iter().map(|node| node.machine.lines()).collect();
            if shown.iter().all(|s| *s == shown[0] && s.len() >= lines) {
                return shown[0].clone();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let shown: Vec<_> = self.nodes.iter().map(|node| node.machine.lines()).collect();
        panic!("no agreement after 10 s: {shown:?}");
    }
}

impl Node {
    pub(crate) async fn push(&self, line: &str) -> Result<Written<String>, WriteError> {
        let ask = Ask::Push(line.to_owned());
        self.member.write(ask, Route::Here, 5 * SECOND).await
    }

    /// From any node.
    pub(crate) async fn send(&self, line: &str) -> Result<Written<String>, WriteError> {
        let ask = Ask::Push(line.to_owned());
        self.member.write(ask, Route::Forward, 5 * SECOND).await
    }

    pub(crate) async fn show(&self) -> Result<Written<String>, WriteError> {
        self.member.write(Ask::Show, Route::Here, 5 * SECOND).await
    }
}

/// Waits, in simulated time, until something holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("after 20 s: not {what}");
}
