//! The leader's side: one pinned state, over as many links as it takes.
//!
//! Promise: under one name goes one state, chunk by chunk the same, however often it is begun. Openraft asks for a
//! state before each call of [`send`] and is told that exactly this one arrived, so going on happens inside the call.

use super::{Blocking, Carrier, Snapshot, TransferError};
use crate::codec;
use crate::member::{Hold, Shared};
use crate::raft::network::{Client, unreachable};
use crate::raft::wire::{Piece, Progress, SnapshotName, leader_vote};
use crate::raft::{RaftVote, TypeConfig, vote_in};
use crate::{
    EntryEnd, EntryId, FrameReceiver, FrameSender, Lane, Link, MachineError, NodeId, Peer, Retry,
    SnapshotSource, StateMachine, Transport, TransportError, Vote,
};
use bytes::Bytes;
use openraft::error::{ReplicationClosed, StreamingError};
use openraft::raft::SnapshotResponse;
use sqlrep_env::Actor;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Chunks sent and not yet acknowledged.
const WINDOW: u32 = 8;

/// The pause between a link that broke and the next.
const NEXT_LINK: Duration = Duration::from_millis(500);

pub(in crate::raft) async fn send<M: StateMachine>(
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
    let head = |name, id, side| Piece::Head {
        vote,
        name,
        id,
        side,
    };
    let connect = || client.connect(Lane::Snapshot);
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
    let connect = || transport.connect(Some(to), peer, Lane::Snapshot);
    let head = |name, id, side| Piece::Repair { name, id, side };
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

async fn sent<M, C>(
    shared: &Arc<Shared<M>>,
    connect: impl Fn() -> C,
    head: impl FnOnce(SnapshotName, EntryId, Bytes) -> Piece,
    source: M::Source,
) -> Result<Outcome, TransferError>
where
    M: StateMachine,
    C: Future<Output = Result<Link, TransportError>>,
{
    let EntryEnd { id, side, .. } = source.end();
    let id = id.ok_or_else(|| TransferError::Refused("an empty snapshot".to_owned()))?;
    let name = SnapshotName(shared.env.entropy.next());
    let head = codec::encode(&head(name, id, side));
    let mut parcel = Parcel::new(shared, id, source);
    loop {
        let error = match parcel.attempt(connect(), &head).await {
            Ok(outcome) => return Ok(outcome),
            Err(error) => error,
        };
        if !parcel.may_go_on(&error) {
            return Err(error);
        }
        let bytes = parcel.acknowledged_bytes;
        tracing::info!(%error, %id, bytes, "a snapshot's link broke, it goes on over the next");
        tokio::time::sleep(NEXT_LINK).await;
    }
}

/// A pinned state on its way to one node. While it lives it is pinned and the log behind it stays, as for any transfer.
struct Parcel<'a, M: StateMachine> {
    shared: &'a Arc<Shared<M>>,
    id: EntryId,
    source: Blocking<M::Source>,
    hold: Hold,
    stall: Duration,
    /// The farthest that any attempt came; zero: nothing would be won by going on.
    sent_chunks: u64,
    acknowledged_bytes: u64,
    /// When the follower last had more than before, or had it all and was at work.
    progressed_at: Instant,
}

impl<'a, M: StateMachine> Parcel<'a, M> {
    fn new(shared: &'a Arc<Shared<M>>, id: EntryId, source: M::Source) -> Self {
        let executor = &*shared.env.executor;
        Self {
            shared,
            id,
            source: Blocking(Actor::start(executor, "snapshot-send", 4, source)),
            hold: shared.retention.hold(id.index),
            stall: Duration::from_millis(shared.settings.snapshot_stall_ms),
            sent_chunks: 0,
            acknowledged_bytes: 0,
            progressed_at: Instant::now(),
        }
    }

    /// Whether the same state is to be offered again; one whose log behind is gone would only be followed by another.
    fn may_go_on(&self, error: &TransferError) -> bool {
        let keep = Duration::from_millis(self.shared.settings.snapshot_resume_ms);
        error.is_of_the_link()
            && self.sent_chunks > 0
            && self.progressed_at.elapsed() < keep
            && self.hold.is_kept()
            && !self.shared.is_out_of_service()
    }

    /// Over one link.
    async fn attempt(
        &mut self,
        connect: impl Future<Output = Result<Link, TransportError>>,
        head: &Bytes,
    ) -> Result<Outcome, TransferError> {
        let Link {
            mut sender,
            mut receiver,
        } = self.in_time(async { Ok(connect.await?) }).await?;
        self.shared.lease.tell(Some(self.id));
        let offered = sender.send(head.clone());
        self.in_time(async { Ok(offered.await?) }).await?;
        self.stream(&mut *sender, &mut *receiver).await
    }

    async fn in_time<T>(
        &self,
        step: impl Future<Output = Result<T, TransferError>>,
    ) -> Result<T, TransferError> {
        let done = tokio::time::timeout(self.stall, step).await;
        done.map_err(|_| TransferError::Stalled(self.stall))?
    }

    /// Sends chunks while the window is open, which is once the follower has said where to begin; reads progress else.
    async fn stream(
        &mut self,
        sender: &mut dyn FrameSender,
        receiver: &mut dyn FrameReceiver,
    ) -> Result<Outcome, TransferError> {
        let (mut next, mut unacknowledged, mut ended) = (None, 0u32, false);
        // Behind `From` the first offer is awaited, whatever the source says.
        let mut awaits = true;
        loop {
            if let Some(chunk) = next
                && unacknowledged < WINDOW
                && !awaits
            {
                match self.put_next(sender).await? {
                    Put::Chunk => next = Some(chunk + 1),
                    Put::End => (next, ended) = (None, true),
                    Put::Nothing => {
                        awaits = true;
                        continue;
                    }
                }
                self.sent_chunks = self.sent_chunks.max(next.unwrap_or(0));
                unacknowledged += 1;
                continue;
            }
            let progress = self.in_time(heard(receiver)).await?;
            match progress {
                Progress::From(chunks) => next = Some(self.begin_at(chunks).await?),
                Progress::Offer(offer) => {
                    self.take_offer(offer).await?;
                    awaits = false;
                }
                Progress::Bytes(bytes) => {
                    unacknowledged = unacknowledged.saturating_sub(1);
                    if ended || bytes > self.acknowledged_bytes {
                        self.progressed_at = Instant::now();
                    }
                    self.acknowledged_bytes = self.acknowledged_bytes.max(bytes);
                }
                Progress::Done(vote) => return Ok(Outcome::Done(vote)),
                Progress::Repaired => return Ok(Outcome::Repaired),
                Progress::Failed(what) => return Err(TransferError::Failed(what)),
            }
        }
    }

    /// Sends the next chunk, or that there is none, unless it waits for an offer.
    async fn put_next(&self, sender: &mut dyn FrameSender) -> Result<Put, TransferError> {
        let Some((chunk, spared)) = self.source.call(next_chunk).await?? else {
            return Ok(Put::Nothing);
        };
        let bytes = chunk.as_ref().map(|chunk| chunk.len() as u64);
        let piece = codec::encode(&chunk.map_or(Piece::End, Piece::Chunk));
        self.in_time(async { Ok(sender.send(piece).await?) })
            .await?;
        let counted = &self.shared.snapshots;
        counted
            .sent_bytes
            .fetch_add(bytes.unwrap_or(0), Ordering::Relaxed);
        counted.spared_pages.fetch_add(spared, Ordering::Relaxed);
        Ok(if bytes.is_some() {
            Put::Chunk
        } else {
            Put::End
        })
    }

    /// What a follower offers may be nonsense; that says nothing of this node's state.
    async fn take_offer(&self, offer: Bytes) -> Result<(), TransferError> {
        let taken = self.source.call(move |source| source.offered(&offer));
        let refused = |error: MachineError| TransferError::Refused(error.to_string());
        taken.await?.map_err(refused)
    }

    async fn begin_at(&self, chunks: u64) -> Result<u64, TransferError> {
        if chunks > self.sent_chunks {
            let what = format!("the follower has {chunks} chunks of {}", self.sent_chunks);
            return Err(TransferError::Refused(what));
        }
        if chunks > 0 {
            let resumed = &self.shared.snapshots.resumed;
            resumed.fetch_add(1, Ordering::Relaxed);
        }
        self.source
            .call(move |source| source.seek(chunks))
            .await??;
        Ok(chunks)
    }
}

/// What went out.
enum Put {
    Chunk,
    End,
    /// The next chunk waits for an offer.
    Nothing,
}

/// The next chunk, if there is one, and how many pages it leaves out; none while it waits for an offer.
fn next_chunk<S: SnapshotSource>(
    source: &mut S,
) -> Result<Option<(Option<Bytes>, u64)>, MachineError> {
    if source.awaits_offer() {
        return Ok(None);
    }
    let before = source.spared_pages();
    let chunk = source.next()?;
    Ok(Some((chunk, source.spared_pages() - before)))
}

async fn heard(receiver: &mut dyn FrameReceiver) -> Result<Progress, TransferError> {
    let frame = receiver.receive().await?.ok_or(TransferError::Ended)?;
    Ok(codec::decode(&frame)?)
}
