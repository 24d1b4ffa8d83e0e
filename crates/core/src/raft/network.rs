//! `RaftNetworkV2` over [`Transport`]: what a leader or a candidate sends.
//!
//! Each client belongs to one peer and opens a link where it needs one. Small things (votes, heartbeats,
//! leader transfer) share a link of the control lane that is kept, and is dropped with any failure or
//! time-out, so that a late answer can't be taken for the next one. A link that is still being opened then is
//! not: at a long round trip that takes longer than a heartbeat may, and none would ever be open. Append
//! streams and snapshots have a link of their own each.

use super::snapshot::{self, Carrier};
use super::stream::stream;
use super::wire::{Answer, Append, Ask, Ballot, ballot_in, transfer_in};
use super::{RaftVote, TypeConfig, node_id};
use crate::codec;
use crate::member::Shared;
use crate::{Lane, Link, NodeId, Peer, StateMachine, Transport, TransportError};
use futures_util::Stream;
use openraft::OptionalSend;
use openraft::base::{BoxFuture, BoxStream};
use openraft::error::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2, stream_append_sequential};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::TypeConfigExt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

pub(super) type Rpc<T> = Result<T, RPCError<TypeConfig>>;

/// Makes clients.
pub(crate) struct Network<M: StateMachine> {
    shared: Arc<Shared<M>>,
    transport: Arc<dyn Transport>,
}

impl<M: StateMachine> Network<M> {
    pub(crate) fn new(shared: Arc<Shared<M>>, transport: Arc<dyn Transport>) -> Self {
        Self { shared, transport }
    }

    fn client(&self, node: u64, peer: &Peer, use_for: Use) -> Client<M> {
        Client {
            shared: self.shared.clone(),
            transport: self.transport.clone(),
            node: node_id(node),
            peer: peer.clone(),
            use_for,
            control: None,
            opening: None,
            late: 0,
        }
    }
}

/// What openraft asked a client for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Entries, votes, snapshots.
    All,
    /// One append request at a time, each waited for.
    Heartbeats,
}

/// What this node says to one peer.
pub(crate) struct Client<M: StateMachine> {
    shared: Arc<Shared<M>>,
    transport: Arc<dyn Transport>,
    node: NodeId,
    peer: Peer,
    use_for: Use,
    /// Kept between calls.
    control: Option<Link>,
    opening: Option<Opening>,
    /// Calls in a row that weren't answered in time though the link was open.
    late: u32,
}

/// So many late answers in a row are the network's or the peer's way, and told.
const LATE_TOLD: u32 = 20;

/// A link that is being opened, whoever waits for it.
struct Opening {
    since: Instant,
    task: openraft::alias::JoinHandleOf<TypeConfig, Result<Link, TransportError>>,
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<M: StateMachine> RaftNetworkFactory<TypeConfig> for Network<M> {
    type Network = Client<M>;

    async fn new_client(&mut self, node: u64, peer: &Peer) -> Client<M> {
        self.client(node, peer, Use::All)
    }

    async fn new_heartbeat_client(&mut self, node: u64, peer: &Peer) -> Client<M> {
        self.client(node, peer, Use::Heartbeats)
    }
}

/// Nothing gets there for now: openraft waits a little before it tries again.
pub(super) fn unreachable(error: &(impl std::error::Error + 'static)) -> RPCError<TypeConfig> {
    RPCError::Unreachable(Unreachable::new(error))
}

/// Something else went wrong: it may be tried again at once.
fn failed(what: impl Into<String>) -> RPCError<TypeConfig> {
    RPCError::Network(NetworkError::new(&io::Error::other(what.into())))
}

impl<M: StateMachine> Client<M> {
    pub(super) fn shared(&self) -> &Arc<Shared<M>> {
        &self.shared
    }

    pub(super) fn connect(
        &self,
        lane: Lane,
    ) -> impl Future<Output = Result<Link, TransportError>> + Send + use<M> {
        // Raft keeps its clients when only an address changes.
        let cluster = self.shared.cluster.borrow().clone();
        let known = cluster.members.get(&self.node);
        let peer = known.map_or(&self.peer, |known| &known.peer).clone();
        let (transport, node) = (self.transport.clone(), self.node);
        async move { transport.connect(Some(node), &peer, lane).await }
    }

    /// A link for an ask that has to be answered within `limit`. A heartbeat is given up, and its link kept for the next,
    /// where opening has shown that an answer would be late: the link would be lost with it, each time anew.
    async fn opened_for(&mut self, limit: Duration) -> Rpc<Link> {
        let since = Instant::now();
        let (link, opening) = self.opened().await?;
        if self.use_for == Use::Heartbeats && since.elapsed() + opening > limit {
            self.control = Some(link);
            return Err(failed("its link was opened too late for this heartbeat"));
        }
        Ok(link)
    }

    /// An open link of the control lane, and how long that took at most; what a former call began to open is waited for, unless it takes so long that a new
    /// attempt has better prospects.
    async fn opened(&mut self) -> Rpc<(Link, Duration)> {
        let patience = Duration::from_millis(self.shared.settings.election_timeout_min_ms);
        let begun = self.opening.take();
        let begun = begun.filter(|opening| opening.since.elapsed() < patience);
        let opening = begun.unwrap_or_else(|| Opening {
            since: Instant::now(),
            task: TypeConfig::spawn(self.connect(Lane::Control)),
        });
        let opening = self.opening.insert(opening);
        let opened = (&mut opening.task).await;
        let took = opening.since.elapsed();
        self.opening = None;
        let opened = opened.map_err(|ended| failed(ended.to_string()))?;
        Ok((opened.map_err(|error| unreachable(&error))?, took))
    }

    /// Asks on the control lane.
    async fn call(&mut self, ask: Ask, limit: Duration) -> Rpc<Answer> {
        match tokio::time::timeout(limit, self.exchange(&ask, limit)).await {
            Ok(Ok((answer, link))) => {
                self.control = Some(link);
                self.late = 0;
                Ok(answer)
            }
            Ok(Err(error)) => Err(error),
            Err(_elapsed) => {
                self.note_late(limit);
                let what = format!("node {} didn't answer within {limit:?}", self.node);
                Err(failed(what))
            }
        }
    }

    /// Tells the operator of a network whose round trip is too long for this node's times; what isn't open isn't late.
    fn note_late(&mut self, limit: Duration) {
        if self.use_for != Use::Heartbeats || self.opening.is_some() {
            return;
        }
        self.late = self.late.saturating_add(1);
        if self.late == LATE_TOLD {
            let node = self.node;
            tracing::warn!(%node, ?limit, "a node that is connected answers no heartbeat in time: it hangs, or the round trip to it is too long for this node's profile");
        }
    }

    async fn exchange(&mut self, ask: &Ask, limit: Duration) -> Rpc<(Answer, Link)> {
        let mut link = match self.control.take() {
            Some(link) => link,
            None => self.opened_for(limit).await?,
        };
        let sent = link.sender.send(codec::encode(ask)).await;
        sent.map_err(|error| unreachable(&error))?;
        let frame = link.receiver.receive().await;
        let frame = frame.map_err(|error| unreachable(&error))?;
        let ended = || unreachable(&io::Error::from(io::ErrorKind::UnexpectedEof));
        let answer = codec::decode(&frame.ok_or_else(ended)?);
        Ok((answer.map_err(|error| failed(error.to_string()))?, link))
    }
}

fn mismatch<T>(asked: &str) -> Rpc<T> {
    Err(failed(format!("{asked} was answered with something else")))
}

fn meant<T>(result: Result<T, codec::CodecError>) -> Rpc<T> {
    result.map_err(|error| failed(error.to_string()))
}

impl<M: StateMachine> RaftNetworkV2<TypeConfig> for Client<M> {
    type SnapshotData = Carrier<M>;

    async fn append_entries(
        &mut self,
        ask: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<TypeConfig>> {
        let ask = Ask::Heartbeat(Append::out(ask, &self.shared.lease));
        match self.call(ask, option.soft_ttl()).await? {
            Answer::Heartbeat(beat) => meant(beat.into_raft()),
            _ => mismatch("a heartbeat"),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Rpc<BoxStream<'s, Rpc<StreamAppendResult<TypeConfig>>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        match self.use_for {
            Use::Heartbeats => stream_append_sequential(self, input, option),
            Use::All => Box::pin(async move { stream(self, input).await }),
        }
    }

    async fn vote(
        &mut self,
        ask: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        let ask = Ask::Vote(Ballot::out(&ask));
        match self.call(ask, option.soft_ttl()).await? {
            Answer::Vote {
                vote,
                granted,
                last,
            } => meant(ballot_in(vote, granted, last)),
            _ => mismatch("a request for a vote"),
        }
    }

    async fn pre_vote(
        &mut self,
        ask: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<VoteResponse<TypeConfig>> {
        let ask = Ask::PreVote(Ballot::out(&ask));
        match self.call(ask, option.soft_ttl()).await? {
            Answer::Vote {
                vote,
                granted,
                last,
            } => meant(ballot_in(vote, granted, last)),
            _ => mismatch("a request for a tentative vote"),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: RaftVote,
        snapshot: openraft::alias::SnapshotOf<TypeConfig, Carrier<M>>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        snapshot::send(self, vote, snapshot, cancel).await
    }

    async fn transfer_leader(
        &mut self,
        ask: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Rpc<TransferLeaderResponse<TypeConfig>> {
        let ask = Ask::transfer(&ask, &self.shared.lease);
        match self.call(ask, option.soft_ttl()).await? {
            Answer::Transfer(answer) => meant(transfer_in(answer)),
            _ => mismatch("a leader transfer"),
        }
    }
}
