//! The follower's side: takes in what a link brings, and keeps it where the link breaks.
//!
//! Promise: all or nothing (safety rule 3). What was kept is read back and compared before it is added to; damage there
//! means beginning at zero. It doesn't outlive the process.
//!
//! A new beginning offers what is here already, what came of another state too; one that failed is followed by one that offers
//! nothing.

use super::inbox::{Inbox, Kept, Staged, Turn};
use super::{Blocking, Carrier, Snapshot, TransferError};
use crate::codec;
use crate::member::{Repair, Shared, Side};
use crate::raft::wire::{Piece, Progress, SnapshotName, snapshot_fits, stored};
use crate::raft::{Raft, SnapshotMeta, log_id, vote_in, vote_out};
use crate::{
    EntryEnd, EntryId, FrameReceiver, FrameSender, KeyTable, Link, MachineError, SnapshotSink,
    StateMachine, Vote,
};
use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use sqlrep_env::Actor;
use std::sync::Arc;
use std::time::Duration;

/// While it verifies and installs, a follower says so this often.
const STILL_HERE: Duration = Duration::from_secs(1);

/// How taking in ended.
enum Ending<S> {
    Outcome(Progress),
    /// The link broke; the rest may come over another one.
    Broken(Turn<S>, Staged<S>, TransferError),
}

/// For one link.
pub(in crate::raft) async fn receive<M: StateMachine>(
    mut link: Link,
    raft: Raft<M>,
    repair: Repair<M>,
) {
    let keep = Duration::from_millis(repair.shared().settings.snapshot_resume_ms);
    match take_in(&mut link, &raft, &repair).await {
        Ok(Ending::Outcome(outcome)) => tell(link, &outcome).await,
        Ok(Ending::Broken(turn, staged, error)) => {
            drop(link);
            let bytes = staged.bytes;
            tracing::info!(%error, bytes, "a snapshot's link broke, what came is kept");
            turn.keep(staged, keep).await;
        }
        Err(error) => {
            tracing::warn!(%error, "a snapshot was not taken in");
            tell(link, &Progress::Failed(error.to_string())).await;
        }
    }
}

async fn tell(link: Link, outcome: &Progress) {
    let Link {
        mut sender,
        mut receiver,
    } = link;
    // The leader notices a link that ends without an outcome by itself.
    sender.send(codec::encode(outcome)).await.ok();
    // Until the leader has read it and closes: dropping the link first could take the outcome with it.
    let closing = tokio::time::timeout(STILL_HERE, receiver.receive());
    closing.await.ok();
}

/// What a head says.
struct Letter {
    name: SnapshotName,
    end: EntryEnd,
    /// None: a repair, Raft isn't told.
    vote: Option<Vote>,
}

async fn take_in<M: StateMachine>(
    link: &mut Link,
    raft: &Raft<M>,
    repair: &Repair<M>,
) -> Result<Ending<M::Sink>, TransferError> {
    let shared = repair.shared();
    let letter = opened(next(&mut *link.receiver, shared).await?, raft, repair)?;
    let inbox: &Arc<Inbox<M::Sink>> = match letter.vote {
        Some(_) => &shared.snapshots.inbox,
        None => repair.inbox(),
    };
    let mut turn = inbox.turn();
    attended(&mut *link.sender, 0, turn.begin()).await;
    if letter.vote.is_none() {
        // What came before may have been enough.
        repair.admit(&letter.end)?;
    }
    if let Some(vote) = turn.installed(letter.name) {
        return Ok(Ending::Outcome(Progress::Done(vote)));
    }
    let mut staged = staged(link, shared, &turn, &letter).await?;
    match collect(link, shared, &turn, &mut staged).await {
        Err(error) if error.is_of_the_link() => Ok(Ending::Broken(turn, staged, error)),
        Err(error) => {
            turn.note_failed();
            Err(error)
        }
        Ok(()) => {
            let (sink, bytes) = (staged.sink, staged.bytes);
            let finish = finish::<M>(&sink, &letter, &turn, (raft, repair));
            let outcome = attended(&mut *link.sender, bytes, finish).await?;
            Ok(Ending::Outcome(outcome))
        }
    }
}

fn opened<M: StateMachine>(
    piece: Piece,
    raft: &Raft<M>,
    repair: &Repair<M>,
) -> Result<Letter, TransferError> {
    let (vote, name, id, side) = match piece {
        Piece::Head {
            vote,
            name,
            id,
            side,
        } => (Some(vote), name, id, side),
        Piece::Repair { name, id, side } => (None, name, id, side),
        Piece::Chunk(_) | Piece::End => {
            let what = "a snapshot without a head".to_owned();
            return Err(TransferError::Refused(what));
        }
    };
    let (id_shown, keys) = (Some(id), KeyTable::default());
    let end = EntryEnd {
        id: id_shown,
        side,
        keys,
    };
    match &vote {
        Some(vote) => fits(vote, id, raft)?,
        None => repair.admit(&end)?,
    }
    Ok(Letter { name, end, vote })
}

/// Whether what the leader says it sends can be true: openraft takes a contradiction for a corrupt cluster and panics.
fn fits<M: StateMachine>(vote: &Vote, id: EntryId, raft: &Raft<M>) -> Result<(), TransferError> {
    let metrics = raft.metrics();
    let committed = metrics.borrow_watched().local_committed;
    if snapshot_fits(vote, id, committed.as_ref()) {
        return Ok(());
    }
    let term = vote.term;
    Err(TransferError::Refused(format!(
        "a snapshot of entry {id} from a leader of term {term} contradicts what is committed here"
    )))
}

/// What was kept of the state, if it reads back as it came; else a new beginning.
async fn staged<M: StateMachine>(
    link: &mut Link,
    shared: &Arc<Shared<M>>,
    turn: &Turn<M::Sink>,
    letter: &Letter,
) -> Result<Staged<M::Sink>, TransferError> {
    let abandoned = match turn.take(letter.name, &letter.end) {
        Kept::Nothing => None,
        Kept::Other(kept) => Some(kept),
        Kept::Same(kept) => {
            let verified = kept.sink.call(|sink| begun(sink).verify());
            match attended(&mut *link.sender, kept.bytes, verified).await? {
                Ok(()) => return Ok(kept),
                Err(error) => tracing::warn!(%error, "what was kept of a snapshot is damaged"),
            }
            Some(kept)
        }
    };
    begin(shared, turn, letter, abandoned).await
}

/// A new beginning, with what was `abandoned` at hand.
async fn begin<M: StateMachine>(
    shared: &Arc<Shared<M>>,
    turn: &Turn<M::Sink>,
    letter: &Letter,
    abandoned: Option<Staged<M::Sink>>,
) -> Result<Staged<M::Sink>, TransferError> {
    let executor = &*shared.env.executor;
    let sink = Blocking(Actor::start(executor, "snapshot-receive", 4, None));
    let (machine, end) = (shared.machine.clone(), letter.end.clone());
    sink.call(move |sink| {
        *sink = Some(machine.receive(end)?);
        Ok::<_, MachineError>(())
    })
    .await??;
    let offers = turn.may_offer();
    if let Some(abandoned) = abandoned.filter(|_| offers) {
        let half = abandoned.sink.call(Option::take).await?;
        let half = half.expect("what is kept isn't complete");
        sink.call(move |sink| begun(sink).inherit(half)).await?;
    }
    Ok(Staged {
        name: letter.name,
        end: letter.end.clone(),
        sink,
        chunks: 0,
        bytes: 0,
        offers,
    })
}

/// Takes in all chunks that are still to come. A chunk is counted as soon as it is in the sink, whatever the link does.
async fn collect<M: StateMachine>(
    link: &mut Link,
    shared: &Arc<Shared<M>>,
    turn: &Turn<M::Sink>,
    staged: &mut Staged<M::Sink>,
) -> Result<(), TransferError> {
    let begin = Progress::From(staged.chunks);
    while_wanted(turn, say(&mut *link.sender, begin)).await?;
    let offer = attended(&mut *link.sender, staged.bytes, staged.offer()).await?;
    let offer = Progress::Offer(offer.unwrap_or_default());
    while_wanted(turn, say(&mut *link.sender, offer)).await?;
    loop {
        match while_wanted(turn, next(&mut *link.receiver, shared)).await? {
            Piece::Chunk(chunk) => {
                staged.take(chunk).await?;
                let taken = Progress::Bytes(staged.bytes);
                while_wanted(turn, say(&mut *link.sender, taken)).await?;
                if let Some(offer) = staged.offer().await? {
                    let offer = Progress::Offer(offer);
                    while_wanted(turn, say(&mut *link.sender, offer)).await?;
                }
            }
            Piece::End => return Ok(()),
            Piece::Head { .. } | Piece::Repair { .. } => {
                return Err(TransferError::Refused("a second head".to_owned()));
            }
        }
    }
}

impl<S: SnapshotSink> Staged<S> {
    async fn take(&mut self, chunk: Bytes) -> Result<(), TransferError> {
        let bytes = chunk.len() as u64;
        let written = self.sink.call(move |sink| begun(sink).write(&chunk));
        written.await??;
        self.chunks += 1;
        self.bytes += bytes;
        Ok(())
    }

    /// What is to be told now of what is here already.
    async fn offer(&self) -> Result<Option<Bytes>, TransferError> {
        if !self.offers {
            return Ok(None);
        }
        self.sink.call(|sink| begun(sink).offer()).await
    }
}

/// A step of the link, until another link wants the turn.
async fn while_wanted<S, T>(
    turn: &Turn<S>,
    step: impl Future<Output = Result<T, TransferError>>,
) -> Result<T, TransferError> {
    tokio::select! {
        biased;
        () = turn.superseded() => Err(TransferError::Superseded),
        done = step => done,
    }
}

async fn finish<M: StateMachine>(
    sink: &Blocking<Option<M::Sink>>,
    letter: &Letter,
    turn: &Turn<M::Sink>,
    (raft, repair): (&Raft<M>, &Repair<M>),
) -> Result<Progress, TransferError> {
    let completed = sink.call(completed).await?;
    let sink = completed.inspect_err(|_| turn.note_failed())?;
    let Some(vote) = letter.vote else {
        repair.replace(sink).await?;
        return Ok(Progress::Repaired);
    };
    let snapshot = Snapshot::<M> {
        meta: described(&letter.end)?,
        snapshot: Carrier::Sink(sink),
    };
    let installed = raft.install_full_snapshot(vote_in(vote)?, snapshot).await;
    let installed = installed.map_err(|fatal| TransferError::Refused(fatal.to_string()))?;
    let vote = vote_out(&installed.vote);
    turn.note_installed(letter.name, vote);
    Ok(Progress::Done(vote))
}

fn described(end: &EntryEnd) -> Result<SnapshotMeta, TransferError> {
    let side = Side::open(&end.side)?;
    Ok(SnapshotMeta {
        last_log_id: end.id.map(log_id),
        last_membership: stored(side.members_at, side.members)?,
    })
}

fn begun<S>(sink: &mut Option<S>) -> &mut S {
    let begun = sink.as_mut();
    begun.expect("begun before, taken when it is complete")
}

fn completed<S: SnapshotSink>(sink: &mut Option<S>) -> Result<S, MachineError> {
    let mut sink = sink.take().expect("completed once");
    sink.complete()?;
    Ok(sink)
}

/// Does `work` to its end, and tells the leader every second that it goes on, while the link holds.
async fn attended<T>(sender: &mut dyn FrameSender, bytes: u64, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    loop {
        let tell = async {
            tokio::time::sleep(STILL_HERE).await;
            say(sender, Progress::Bytes(bytes)).await
        };
        let told = tokio::select! {
            biased;
            done = &mut work => return done,
            told = tell => told,
        };
        if told.is_err() {
            return work.await;
        }
    }
}

async fn say(sender: &mut dyn FrameSender, progress: Progress) -> Result<(), TransferError> {
    Ok(sender.send(codec::encode(&progress)).await?)
}

async fn next<M: StateMachine>(
    receiver: &mut dyn FrameReceiver,
    shared: &Shared<M>,
) -> Result<Piece, TransferError> {
    let stall = Duration::from_millis(shared.settings.snapshot_stall_ms);
    let frame = tokio::time::timeout(stall, receiver.receive()).await;
    let frame: Option<Bytes> = frame.map_err(|_| TransferError::Silent(stall))??;
    Ok(codec::decode(&frame.ok_or(TransferError::Ended)?)?)
}
