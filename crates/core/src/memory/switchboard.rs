//! Links of one process, with the faults of a network.
//!
//! A cut swallows frames in silence, as a partition does: senders notice nothing, receivers hear nothing. A
//! link that lost a frame never carries another one: it ends when the cut is healed, as a connection is reset.
//!
//! Members are found by address, and by id where there is none. As a handshake would, a connection to another
//! node or data directory than was meant is refused.

use super::MemoryLog;
use crate::{
    ClusterId, DirectoryId, FrameReceiver, FrameSender, Genesis, KeyLimits, Lane, Link,
    NoPeerService, NodeId, Parts, Peer, Settings, StateMachine, Transport, TransportError,
};
use async_trait::async_trait;
use bytes::Bytes;
use sqlrep_env::Env;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Frames sent and not yet received on one link, and links not yet accepted.
const QUEUE: usize = 64;

type Arrival = (NodeId, Lane, Link);

/// Joins the members of one process. Clones share it.
#[derive(Clone, Default)]
pub struct Switchboard(Arc<Mutex<Board>>);

#[derive(Default)]
struct Board {
    /// By address.
    plugs: BTreeMap<String, Plug>,
    /// Plugs so far.
    count: u64,
    /// From, to: what is sent this way is lost.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// How long a frame is on its way.
    latency: Duration,
    wires: Vec<Weak<Wire>>,
}

/// Where a member's links arrive.
#[derive(Clone)]
struct Plug {
    number: u64,
    node: NodeId,
    /// None: any directory is right.
    directory: Option<DirectoryId>,
    arrivals: mpsc::Sender<Arrival>,
}

/// One direction of a link.
struct Wire {
    from: NodeId,
    to: NodeId,
    /// A frame was lost on it.
    broken: AtomicBool,
    /// It is over.
    ended: watch::Sender<bool>,
}

/// One member's end of a [`Switchboard`].
pub struct ChannelTransport {
    node: NodeId,
    /// Its plug's address and number.
    plug: (String, u64),
    board: Switchboard,
    arrivals: tokio::sync::Mutex<mpsc::Receiver<Arrival>>,
    closed: watch::Sender<bool>,
}

impl Switchboard {
    fn board(&self) -> MutexGuard<'_, Board> {
        // Plain values only; nothing under this lock can panic half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Plugs `node` in at [its address](Self::peer), with any directory; a former plug there hears nothing more.
    #[must_use]
    pub fn plug(&self, node: NodeId) -> ChannelTransport {
        self.plug_in(node, Self::peer(node).raft, None)
    }

    /// What a member is made of that is plugged in here: `machine`, a log in memory, quick times, and a seed and a cluster's
    /// name that follow from the node.
    #[must_use]
    pub fn parts<M: StateMachine>(&self, node: NodeId, machine: Arc<M>) -> Parts<M> {
        Parts {
            node,
            directory: DirectoryId(node.get()),
            machine,
            log: Arc::new(MemoryLog::default()),
            transport: Arc::new(self.plug(node)),
            service: Arc::new(NoPeerService),
            genesis: Some(Genesis {
                cluster: ClusterId(node.get()),
                settings: Bytes::new(),
            }),
            keys: KeyLimits::default(),
            env: Env::inline(node.get()),
            settings: Settings::fast(),
        }
    }

    /// Plugs `node` in at the address and with the directory of `peer`; a former plug there hears nothing more.
    /// Several nodes may claim one id.
    #[must_use]
    pub fn plug_at(&self, node: NodeId, peer: &Peer) -> ChannelTransport {
        self.plug_in(node, peer.raft.clone(), Some(peer.directory))
    }

    fn plug_in(
        &self,
        node: NodeId,
        address: String,
        directory: Option<DirectoryId>,
    ) -> ChannelTransport {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let number = {
            let mut board = self.board();
            board.count += 1;
            let plug = Plug {
                number: board.count,
                node,
                directory,
                arrivals: sender,
            };
            board.plugs.insert(address.clone(), plug);
            board.count
        };
        ChannelTransport {
            node,
            plug: (address, number),
            board: self.clone(),
            arrivals: receiver.into(),
            closed: watch::channel(false).0,
        }
    }

    /// How to reach `node` here; its directory is left at zero.
    #[must_use]
    pub fn peer(node: NodeId) -> Peer {
        Peer {
            raft: format!("memory:{node}"),
            ..Peer::default()
        }
    }

    /// Every frame is this long on its way from now on.
    pub fn set_latency(&self, latency: Duration) {
        self.board().latency = latency;
    }

    /// Loses everything between `a` and `b`, both ways.
    pub fn cut(&self, a: NodeId, b: NodeId) {
        self.cut_one_way(a, b);
        self.cut_one_way(b, a);
    }

    /// Loses what `from` sends to `to`.
    pub fn cut_one_way(&self, from: NodeId, to: NodeId) {
        self.board().cut.insert((from, to));
    }

    /// Cuts `node` off from all others.
    pub fn isolate(&self, node: NodeId) {
        let others: BTreeSet<NodeId> = self.board().plugs.values().map(|plug| plug.node).collect();
        for other in others.into_iter().filter(|other| *other != node) {
            self.cut(node, other);
        }
    }

    /// Ends all cuts, and the links that lost something.
    pub fn heal(&self) {
        let broken: Vec<Arc<Wire>> = {
            let mut board = self.board();
            board.cut.clear();
            let wires = board.wires.iter().filter_map(Weak::upgrade);
            wires
                .filter(|wire| wire.broken.load(Ordering::Acquire))
                .collect()
        };
        for wire in broken {
            wire.ended.send_replace(true);
        }
    }

    fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.board().cut.contains(&(from, to))
    }

    fn find(&self, node: Option<NodeId>, peer: &Peer) -> Result<Plug, TransportError> {
        let board = self.board();
        let found = if peer.raft.is_empty() {
            board.plugs.values().find(|plug| Some(plug.node) == node)
        } else {
            board.plugs.get(&peer.raft)
        };
        let plug = found.ok_or_else(|| TransportError::Unreachable {
            address: peer.raft.clone(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        let right_node = node.is_none_or(|node| node == plug.node);
        let zero = DirectoryId::default();
        let meant = |directory| peer.directory == zero || peer.directory == directory;
        if right_node && plug.directory.is_none_or(meant) {
            return Ok(plug.clone());
        }
        Err(TransportError::Refused {
            message: format!(
                "node {} answers at {} with data directory {}; {} was meant",
                plug.node,
                peer.raft,
                plug.directory.unwrap_or_default(),
                peer.directory
            ),
        })
    }

    /// Takes a plug out, unless another one is there by now.
    fn unplug(&self, (address, number): &(String, u64)) {
        let mut board = self.board();
        if board
            .plugs
            .get(address)
            .is_some_and(|plug| plug.number == *number)
        {
            board.plugs.remove(address);
        }
    }

    /// Both ends of one direction.
    fn wire(&self, from: NodeId, to: NodeId, lane: Lane) -> (ChannelSender, ChannelReceiver) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let wire = Arc::new(Wire {
            from,
            to,
            broken: AtomicBool::new(false),
            ended: watch::channel(false).0,
        });
        {
            let mut board = self.board();
            board.wires.retain(|wire| wire.strong_count() > 0);
            board.wires.push(Arc::downgrade(&wire));
        }
        let ended = wire.ended.subscribe();
        let sender = ChannelSender {
            frames: sender,
            wire: wire.clone(),
            board: self.clone(),
            lane,
        };
        let receiver = ChannelReceiver {
            frames: receiver,
            ended,
            wire,
        };
        (sender, receiver)
    }
}

fn unreachable(node: NodeId, kind: io::ErrorKind) -> TransportError {
    TransportError::Unreachable {
        address: Switchboard::peer(node).raft,
        source: kind.into(),
    }
}

#[async_trait]
impl Transport for ChannelTransport {
    async fn connect(
        &self,
        node: Option<NodeId>,
        peer: &Peer,
        lane: Lane,
    ) -> Result<Link, TransportError> {
        if *self.closed.borrow() {
            return Err(TransportError::Closed);
        }
        let Plug {
            node: to, arrivals, ..
        } = self.board.find(node, peer)?;
        if self.board.is_cut(self.node, to) || self.board.is_cut(to, self.node) {
            return Err(unreachable(to, io::ErrorKind::TimedOut));
        }
        let (sender, far_receiver) = self.board.wire(self.node, to, lane);
        let (far_sender, receiver) = self.board.wire(to, self.node, lane);
        let arrival = (self.node, lane, link(far_sender, far_receiver));
        let refused = |_| unreachable(to, io::ErrorKind::ConnectionRefused);
        arrivals.send(arrival).await.map_err(refused)?;
        Ok(link(sender, receiver))
    }

    async fn accept(&self) -> Option<Arrival> {
        let mut closed = self.closed.subscribe();
        let mut arrivals = self.arrivals.lock().await;
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => None,
            arrival = arrivals.recv() => arrival,
        }
    }

    fn close(&self) {
        self.closed.send_replace(true);
        self.board.unplug(&self.plug);
        let wires: Vec<Arc<Wire>> = {
            let board = self.board.board();
            let wires = board.wires.iter().filter_map(Weak::upgrade);
            wires
                .filter(|wire| wire.from == self.node || wire.to == self.node)
                .collect()
        };
        for wire in wires {
            wire.ended.send_replace(true);
        }
    }
}

fn link(sender: ChannelSender, receiver: ChannelReceiver) -> Link {
    Link {
        sender: Box::new(sender),
        receiver: Box::new(receiver),
    }
}

struct ChannelSender {
    frames: mpsc::Sender<(Instant, Bytes)>,
    wire: Arc<Wire>,
    board: Switchboard,
    lane: Lane,
}

struct ChannelReceiver {
    frames: mpsc::Receiver<(Instant, Bytes)>,
    ended: watch::Receiver<bool>,
    wire: Arc<Wire>,
}

#[async_trait]
impl FrameSender for ChannelSender {
    async fn send(&mut self, frame: Bytes) -> Result<(), TransportError> {
        let Wire { from, to, .. } = *self.wire;
        if frame.len() > self.lane.frame_bytes_max() {
            self.wire.ended.send_replace(true);
            return Err(TransportError::Malformed {
                address: Switchboard::peer(from).raft,
                what: format!("a frame of {} bytes", frame.len()),
            });
        }
        if *self.wire.ended.borrow() {
            return Err(unreachable(to, io::ErrorKind::ConnectionReset));
        }
        if self.wire.broken.load(Ordering::Acquire) || self.board.is_cut(from, to) {
            self.wire.broken.store(true, Ordering::Release);
            return Ok(());
        }
        let due = Instant::now() + self.board.board().latency;
        let reset = |_| unreachable(to, io::ErrorKind::ConnectionReset);
        self.frames.send((due, frame)).await.map_err(reset)
    }
}

#[async_trait]
impl FrameReceiver for ChannelReceiver {
    async fn receive(&mut self) -> Result<Option<Bytes>, TransportError> {
        let next = tokio::select! {
            biased;
            _ = self.ended.wait_for(|ended| *ended) => {
                return Err(unreachable(self.wire.from, io::ErrorKind::ConnectionReset));
            }
            next = self.frames.recv() => next,
        };
        if let Some((due, _)) = &next {
            tokio::time::sleep_until(*due).await;
        } else if self.wire.broken.load(Ordering::Acquire) {
            // The other side is gone, but its goodbye was lost as well.
            self.ended.wait_for(|ended| *ended).await.ok();
            return Err(unreachable(self.wire.from, io::ErrorKind::ConnectionReset));
        }
        Ok(next.map(|(_, frame)| frame))
    }
}

impl Drop for ChannelSender {
    fn drop(&mut self) {
        if self.board.is_cut(self.wire.from, self.wire.to) {
            self.wire.broken.store(true, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).unwrap()
    }

    async fn pair(board: &Switchboard) -> (ChannelTransport, ChannelTransport, Link, Link) {
        let (a, b) = (board.plug(node(1)), board.plug(node(2)));
        let near = a
            .connect(Some(node(2)), &Peer::default(), Lane::Control)
            .await
            .unwrap();
        let (from, lane, far) = b.accept().await.unwrap();
        assert_eq!((from, lane), (node(1), Lane::Control));
        (a, b, near, far)
    }

    #[tokio::test(start_paused = true)]
    async fn frames_arrive_in_order_after_their_latency() {
        let board = Switchboard::default();
        board.set_latency(Duration::from_millis(5));
        let (_a, _b, mut near, mut far) = pair(&board).await;
        let begun = Instant::now();
        for byte in 0..3u8 {
            near.sender
                .send(Bytes::copy_from_slice(&[byte]))
                .await
                .unwrap();
        }
        for byte in 0..3u8 {
            assert_eq!(far.receiver.receive().await.unwrap().unwrap()[..], [byte]);
        }
        assert_eq!(begun.elapsed(), Duration::from_millis(5));
        drop(near);
        assert!(far.receiver.receive().await.unwrap().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_cut_swallows_in_silence_and_healing_ends_what_lost_a_frame() {
        let board = Switchboard::default();
        let (a, _b, mut near, mut far) = pair(&board).await;
        board.isolate(node(2));
        near.sender.send(Bytes::from_static(b"lost")).await.unwrap();
        let silence = tokio::time::timeout(Duration::from_secs(60), far.receiver.receive());
        assert!(silence.await.is_err(), "nothing is heard");
        let refused = a
            .connect(Some(node(2)), &Peer::default(), Lane::Append)
            .await;
        assert!(refused.is_err());
        board.heal();
        assert!(far.receiver.receive().await.is_err());
        assert!(near.sender.send(Bytes::new()).await.is_err());
        assert!(
            a.connect(None, &Switchboard::peer(node(2)), Lane::Append)
                .await
                .is_ok()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_meant_refuses() {
        let board = Switchboard::default();
        let peer = |address: &str, directory| Peer {
            raft: address.to_owned(),
            directory: DirectoryId(directory),
            ..Peer::default()
        };
        let a = board.plug(node(1));
        let _b = board.plug_at(node(2), &peer("b", 20));
        let _twin = board.plug_at(node(2), &peer("c", 21));
        let refused = |error| matches!(error, Some(TransportError::Refused { .. }));
        for (id, at, is_refused) in [
            (Some(node(2)), peer("b", 20), false),
            (None, peer("c", 0), false),
            (Some(node(2)), peer("b", 21), true),
            (Some(node(3)), peer("b", 20), true),
        ] {
            let link = a.connect(id, &at, Lane::Client).await;
            assert_eq!(refused(link.err()), is_refused, "{at:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_above_the_lanes_limit_ends_the_link() {
        let board = Switchboard::default();
        let (_a, _b, mut near, mut far) = pair(&board).await;
        let large = Bytes::from(vec![0; Lane::Control.frame_bytes_max() + 1]);
        assert!(near.sender.send(large).await.is_err());
        assert!(far.receiver.receive().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_transport_takes_and_makes_no_links() {
        let board = Switchboard::default();
        let (a, b, _near, mut far) = pair(&board).await;
        b.close();
        assert!(b.accept().await.is_none());
        assert!(far.receiver.receive().await.is_err());
        a.close();
        let closed = a
            .connect(Some(node(2)), &Peer::default(), Lane::Append)
            .await;
        assert!(matches!(closed, Err(TransportError::Closed)));
    }
}
