//! The answering side: what a member does with the links that others open to it.

use super::snapshot;
use super::wire::{Answer, Append, Appended, Ask, Beat, ballot_out, transfer_out};
use super::{Raft, TypeConfig, vote_in};
use crate::codec::{self, CodecError};
use crate::member::{Repair, Shared};
use crate::{FrameReceiver, Lane, Link, LogIndex, LogStore, NodeId, StateMachine, TransportError};
use futures_util::{Stream, StreamExt, stream};
use openraft::async_runtime::WatchReceiver;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest};
use std::sync::Arc;

/// Why a link was given up.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error("raft has stopped: {0}")]
    Stopped(String),
    #[error("no space for entries: the leader tries again later")]
    Full,
}

fn stopped(error: impl std::fmt::Display) -> ServeError {
    ServeError::Stopped(error.to_string())
}

/// Serves one link of Raft's own lanes until it ends.
pub(crate) async fn serve<M: StateMachine>(
    from: NodeId,
    lane: Lane,
    link: Link,
    raft: Raft<M>,
    repair: Repair<M>,
) {
    let shared = repair.shared().clone();
    let served = match lane {
        Lane::Append => appends(link, &raft, &shared).await,
        Lane::Control => control(link, &raft, &shared).await,
        Lane::Snapshot => {
            snapshot::receive(link, raft, repair).await;
            Ok(())
        }
        Lane::Client => unreachable!("served elsewhere"),
    };
    if let Err(error) = served {
        tracing::debug!(%from, ?lane, %error, "a link ended");
    }
}

/// Takes a window of append requests: openraft works on the next while the log syncs the last.
async fn appends<M: StateMachine>(
    link: Link,
    raft: &Raft<M>,
    shared: &Shared<M>,
) -> Result<(), ServeError> {
    let Link {
        mut sender,
        receiver,
    } = link;
    let answers = raft
        .stream_append(requests(receiver, shared.log.clone()))
        .fuse();
    let mut answers = std::pin::pin!(answers);
    while let Some(answer) = answers.next().await {
        let answer = answer.map_err(stopped)?;
        if answer.is_ok() {
            heard(raft, shared);
        }
        sender.send(codec::encode(&Appended::out(&answer))).await?;
    }
    Ok(())
}

/// The requests on a link; they end with it, with the first that can't be read, and with the first that there is no
/// space for: openraft would take an append that the log refuses for the end of everything.
fn requests(
    receiver: Box<dyn FrameReceiver>,
    log: Arc<dyn LogStore>,
) -> impl Stream<Item = AppendEntriesRequest<TypeConfig>> + Send {
    stream::unfold((receiver, log), |(mut receiver, log)| async move {
        match request(&mut *receiver, &*log).await {
            Ok(request) => request.map(|request| (request, (receiver, log))),
            Err(error) => {
                tracing::debug!(%error, "an append link ended");
                None
            }
        }
    })
}

async fn request(
    receiver: &mut dyn FrameReceiver,
    log: &dyn LogStore,
) -> Result<Option<AppendEntriesRequest<TypeConfig>>, ServeError> {
    let Some(frame) = receiver.receive().await? else {
        return Ok(None);
    };
    let request = codec::decode::<Append>(&frame)?.into_raft()?;
    fits(&request, log)?;
    Ok(Some(request))
}

fn fits(request: &AppendEntriesRequest<TypeConfig>, log: &dyn LogStore) -> Result<(), ServeError> {
    if request.entries.is_empty() || !log.is_full() {
        Ok(())
    } else {
        Err(ServeError::Full)
    }
}

/// Answers one thing at a time.
async fn control<M: StateMachine>(
    mut link: Link,
    raft: &Raft<M>,
    shared: &Shared<M>,
) -> Result<(), ServeError> {
    while let Some(frame) = link.receiver.receive().await? {
        let answer = answer(codec::decode(&frame)?, raft, shared).await?;
        link.sender.send(codec::encode(&answer)).await?;
    }
    Ok(())
}

async fn answer<M: StateMachine>(
    ask: Ask,
    raft: &Raft<M>,
    shared: &Shared<M>,
) -> Result<Answer, ServeError> {
    Ok(match ask {
        Ask::Heartbeat(append) => {
            let request = append.into_raft()?;
            fits(&request, &*shared.log)?;
            let answer = raft.append_entries(request).await;
            let answer = answer.map_err(stopped)?;
            if answer.is_success() {
                heard(raft, shared);
            }
            Answer::Heartbeat(Beat::out(&answer))
        }
        Ask::Vote(ballot) => {
            let answer = raft.vote(ballot.into_raft()?).await.map_err(stopped)?;
            ballot_out(&answer, &shared.lease)
        }
        Ask::PreVote(ballot) => {
            let answer = raft.pre_vote(ballot.into_raft()?).await.map_err(stopped)?;
            ballot_out(&answer, &shared.lease)
        }
        Ask::Transfer { from, to, last } => {
            let ask = TransferLeaderRequest::new(vote_in(from)?, to.get(), last.map(super::log_id));
            transfer_out(&raft.handle_transfer_leader(ask).await.map_err(stopped)?)
        }
    })
}

/// Notes that the leader was heard.
fn heard<M: StateMachine>(raft: &Raft<M>, shared: &Shared<M>) {
    let metrics = raft.metrics();
    let committed = metrics.borrow_watched().cluster_committed;
    let committed = committed.map(|id| LogIndex(id.index()));
    let applied = shared.applied.borrow().map(|id| id.index);
    shared.contact.heard(committed, applied);
}
