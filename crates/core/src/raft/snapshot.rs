//! Sending a snapshot and taking one in, chunk by chunk, with the whole held nowhere.
//!
//! ```text
//!   leader:   Head ─ Chunk ─ Chunk ─ … ─ End ────────────►
//!   follower: ◄──── Bytes(n) per chunk ── Bytes(n) while it verifies and installs ── Done | Failed
//! ```
//!
//! A transfer ends when openraft cancels it, or when nothing was acknowledged for a while (safety rule 18);
//! openraft's own limit for the whole isn't used, because no limit is right for every size.

use super::network::{Client, unreachable};
use super::wire::{Piece, Progress, leader_vote, snapshot_fits, stored};
use super::{RaftVote, SnapshotMeta, TypeConfig, log_id, vote_in, vote_out};
use crate::answered::answered;
use crate::codec::{self, CodecError};
use crate::member::{Repair, Shared, Side};
use crate::raft::Raft;
use crate::{
    EntryEnd, EntryId, FrameReceiver, FrameSender, KeyTable, Lane, Link, MachineError, NodeId,
    Peer, Retry, SnapshotSink, SnapshotSource, StateMachine, Transport, TransportError, Vote,
};
use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::error::{ReplicationClosed, StreamingError};
use openraft::raft::SnapshotResponse;
use sqlrep_env::Actor;
use std::sync::Arc;
use std::time::Duration;

/// Chunks sent and not yet acknowledged.
const WINDOW: u32 = 8;

/// While it verifies and installs, a follower says so this often.
const STILL_HERE: Duration = Duration::from_secs(1);

/// A snapshot inside openraft.
pub(crate) enum Carrier<M: StateMachine> {
    /// Names a position; there is nothing to send.
    Position,
    /// To be sent.
    Source(M::Source),
    /// Received whole and verified.
    Sink(M::Sink),
}

type Snapshot<M> = openraft::alias::SnapshotOf<TypeConfig, Carrier<M>>;

/// Why a transfer failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Machine(#[from] MachineError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("the link ended in the middle of a snapshot")]
    Ended,
    #[error("no byte of the snapshot was acknowledged for {0:?}")]
    Stalled(Duration),
    #[error("the follower can't take the snapshot: {0}")]
    Failed(String),
    #[error("{0}")]
    Refused(String),
}

/// Runs blocking steps on a worker of their own, one after the other.
struct Blocking<S>(Actor<S>);

impl<S: Send + 'static> Blocking<S> {
    async fn call<T: Send + 'static>(
        &self,
        step: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<T, TransferError> {
        answered(&self.0, step).await.map_err(|none| {
            none.assert_ended("one step at a time");
            TransferError::Ended
        })
    }
}

/// The leader's side.
pub(super) async fn send<M: StateMachine>(
    client: &Client<M>,
    vote: RaftVote,
    snapshot: Snapshot<M>,
    cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
    if client.shared().is_out_of_service() {
        let what = TransferError::Refused("this node's own state isn't trusted".to_owned());
        return Err(unreachable(&what).into());
    }
    let Carrier::Source(source) = snapshot.snapshot else {
        let what = TransferError::Refused("a snapshot without a source can't be sent".to_owned());
        return Err(unreachable(&what).into());
    };
    tokio::select! {
        biased;
        closed = cancel => Err(StreamingError::Closed(closed)),
        sent = transfer(client, vote, source) => sent.map_err(|error| {
            tracing::warn!(%error, "a snapshot was not delivered");
            if let TransferError::Machine(error) = &error && error.retry == Retry::Useless {
                client.shared().quarantine(error);
            }
            unreachable(&error).into()
        }),
    }
}

async fn transfer<M: StateMachine>(
    client: &Client<M>,
    vote: RaftVote,
    source: M::Source,
) -> Result<SnapshotResponse<TypeConfig>, TransferError> {
    let vote = leader_vote(&vote);
    let head = |id, side| Piece::Head { vote, id, side };
    let connect = client.connect(Lane::Snapshot);
    match sent(client.shared(), connect, head, source).await? {
        Outcome::Done(vote) => Ok(SnapshotResponse::new(vote_in(vote)?)),
        Outcome::Repaired => Err(TransferError::Refused("an answer to a repair".to_owned())),
    }
}

/// Sends a state that replaces the one of `to`, which isn't trusted.
pub(crate) async fn send_repair<M: StateMachine>(
    transport: &dyn Transport,
    shared: &Arc<Shared<M>>,
    (to, peer): (NodeId, &Peer),
    source: M::Source,
) -> Result<(), TransferError> {
    let connect = transport.connect(Some(to), peer, Lane::Snapshot);
    let head = |id, side| Piece::Repair { id, side };
    match sent(shared, connect, head, source).await? {
        Outcome::Repaired => Ok(()),
        Outcome::Done(_) => Err(TransferError::Refused("an answer to a snapshot".to_owned())),
    }
}

/// How a transfer that arrived ended.
enum Outcome {
    Done(Vote),
    Repaired,
}

async fn sent<M: StateMachine>(
    shared: &Arc<Shared<M>>,
    connect: impl Future<Output = Result<Link, TransportError>>,
    head: impl FnOnce(EntryId, Bytes) -> Piece,
    source: M::Source,
) -> Result<Outcome, TransferError> {
    let EntryEnd { id, side, .. } = source.end();
    let id = id.ok_or_else(|| TransferError::Refused("an empty snapshot".to_owned()))?;
    let _hold = shared.retention.hold(id.index);
    let stall = Duration::from_millis(shared.settings.snapshot_stall_ms);
    let stalled = |_| TransferError::Stalled(stall);
    let link = tokio::time::timeout(stall, connect).await;
    let Link {
        mut sender,
        mut receiver,
    } = link.map_err(stalled)??;
    shared.lease.tell(Some(id));
    let sent = tokio::time::timeout(stall, put(&mut *sender, &head(id, side))).await;
    sent.map_err(stalled)??;
    let executor = &*shared.env.executor;
    let source = Blocking(Actor::start(executor, "snapshot-send", 4, source));
    stream(&mut *sender, &mut *receiver, &source, stall).await
}

/// Sends chunks while the window is open, reads progress else.
async fn stream<S: SnapshotSource>(
    sender: &mut dyn FrameSender,
    receiver: &mut dyn FrameReceiver,
    source: &Blocking<S>,
    stall: Duration,
) -> Result<Outcome, TransferError> {
    let (mut unacknowledged, mut ended) = (0u32, false);
    loop {
        if !ended && unacknowledged < WINDOW {
            let chunk = source.call(SnapshotSource::next).await??;
            ended = chunk.is_none();
            let piece = chunk.map_or(Piece::End, Piece::Chunk);
            let sent = tokio::time::timeout(stall, put(sender, &piece)).await;
            sent.map_err(|_| TransferError::Stalled(stall))??;
            unacknowledged += 1;
            continue;
        }
        let frame = tokio::time::timeout(stall, receiver.receive()).await;
        let frame = frame.map_err(|_| TransferError::Stalled(stall))??;
        match codec::decode(&frame.ok_or(TransferError::Ended)?)? {
            Progress::Bytes(_) => unacknowledged = unacknowledged.saturating_sub(1),
            Progress::Done(vote) => return Ok(Outcome::Done(vote)),
            Progress::Repaired => return Ok(Outcome::Repaired),
            Progress::Failed(what) => return Err(TransferError::Failed(what)),
        }
    }
}

async fn put(sender: &mut dyn FrameSender, piece: &Piece) -> Result<(), TransferError> {
    Ok(sender.send(codec::encode(piece)).await?)
}

/// The follower's side, for one link.
pub(super) async fn receive<M: StateMachine>(link: Link, raft: Raft<M>, repair: Repair<M>) {
    let Link {
        mut sender,
        mut receiver,
    } = link;
    let taken = take_in(&mut *sender, &mut *receiver, &raft, &repair).await;
    let outcome = match taken {
        Ok(outcome) => outcome,
        Err(error) => {
            tracing::warn!(%error, "a snapshot was not taken in");
            Progress::Failed(error.to_string())
        }
    };
    // The leader notices a link that ends without an outcome by itself.
    sender.send(codec::encode(&outcome)).await.ok();
    // Until the leader has read it and closes: dropping the link first could take the outcome with it.
    let closing = tokio::time::timeout(STILL_HERE, receiver.receive());
    closing.await.ok();
}

async fn take_in<M: StateMachine>(
    sender: &mut dyn FrameSender,
    receiver: &mut dyn FrameReceiver,
    raft: &Raft<M>,
    repair: &Repair<M>,
) -> Result<Progress, TransferError> {
    let shared = repair.shared();
    match next(receiver).await? {
        Piece::Repair { id, side } => {
            let (id, keys) = (Some(id), KeyTable::default());
            let end = EntryEnd { id, side, keys };
            let _permit = repair.admit(&end)?;
            let (sink, bytes) = collected(sender, receiver, shared, end).await?;
            let replaced = async {
                let sink = sink.call(completed).await??;
                Ok(repair.replace(sink).await?)
            };
            alive_while(sender, bytes, replaced).await?;
            Ok(Progress::Repaired)
        }
        first => {
            let (vote, end) = head(first, raft)?;
            let meta = described(&end)?;
            let (sink, bytes) = collected(sender, receiver, shared, end).await?;
            let finish = async {
                let sink = sink.call(completed).await??;
                let snapshot = Snapshot::<M> {
                    meta,
                    snapshot: Carrier::Sink(sink),
                };
                let installed = raft.install_full_snapshot(vote_in(vote)?, snapshot).await;
                let installed =
                    installed.map_err(|fatal| TransferError::Refused(fatal.to_string()))?;
                Ok(vote_out(&installed.vote))
            };
            Ok(Progress::Done(alive_while(sender, bytes, finish).await?))
        }
    }
}

fn described(end: &EntryEnd) -> Result<SnapshotMeta, TransferError> {
    let side = Side::open(&end.side)?;
    Ok(SnapshotMeta {
        last_log_id: end.id.map(log_id),
        last_membership: stored(side.members_at, side.members)?,
    })
}

/// Takes in all chunks; how many bytes they were.
async fn collected<M: StateMachine>(
    sender: &mut dyn FrameSender,
    receiver: &mut dyn FrameReceiver,
    shared: &Arc<Shared<M>>,
    end: EntryEnd,
) -> Result<(Blocking<Option<M::Sink>>, u64), TransferError> {
    let executor = &*shared.env.executor;
    let sink = Blocking(Actor::start(executor, "snapshot-receive", 4, None));
    let machine = shared.machine.clone();
    sink.call(move |sink| begun(sink, machine.receive(end)))
        .await??;
    let mut bytes = 0u64;
    loop {
        match next(receiver).await? {
            Piece::Chunk(chunk) => {
                bytes += chunk.len() as u64;
                sink.call(move |sink| written(sink, &chunk)).await??;
                acknowledge(sender, bytes).await?;
            }
            Piece::End => return Ok((sink, bytes)),
            Piece::Head { .. } | Piece::Repair { .. } => {
                return Err(TransferError::Refused("a second head".to_owned()));
            }
        }
    }
}

/// What the leader says it sends, if it can be true: openraft takes a contradiction for a corrupt cluster
/// and panics.
fn head<M: StateMachine>(piece: Piece, raft: &Raft<M>) -> Result<(Vote, EntryEnd), TransferError> {
    let Piece::Head { vote, id, side } = piece else {
        return Err(TransferError::Refused(
            "a snapshot without a head".to_owned(),
        ));
    };
    let metrics = raft.metrics();
    let committed = metrics.borrow_watched().local_committed;
    if !snapshot_fits(&vote, id, committed.as_ref()) {
        return Err(contradiction(id, &vote));
    }
    let id = Some(id);
    let keys = KeyTable::default();
    Ok((vote, EntryEnd { id, side, keys }))
}

fn contradiction(id: EntryId, vote: &Vote) -> TransferError {
    let term = vote.term;
    TransferError::Refused(format!(
        "a snapshot of entry {id} from a leader of term {term} contradicts what is committed here"
    ))
}

fn begun<S>(sink: &mut Option<S>, made: Result<S, MachineError>) -> Result<(), MachineError> {
    *sink = Some(made?);
    Ok(())
}

fn written<S: SnapshotSink>(sink: &mut Option<S>, chunk: &Bytes) -> Result<(), MachineError> {
    let sink = sink
        .as_mut()
        .expect("begun before, taken when it is complete");
    sink.write(chunk)
}

fn completed<S: SnapshotSink>(sink: &mut Option<S>) -> Result<S, MachineError> {
    let mut sink = sink.take().expect("completed once");
    sink.complete()?;
    Ok(sink)
}

/// Tells the leader every second that the work goes on.
async fn alive_while<T>(
    sender: &mut dyn FrameSender,
    bytes: u64,
    work: impl Future<Output = Result<T, TransferError>>,
) -> Result<T, TransferError> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = tokio::time::sleep(STILL_HERE) => acknowledge(sender, bytes).await?,
        }
    }
}

async fn acknowledge(sender: &mut dyn FrameSender, bytes: u64) -> Result<(), TransferError> {
    Ok(sender.send(codec::encode(&Progress::Bytes(bytes))).await?)
}

async fn next(receiver: &mut dyn FrameReceiver) -> Result<Piece, TransferError> {
    let frame = receiver.receive().await?.ok_or(TransferError::Ended)?;
    Ok(codec::decode(&frame)?)
}
