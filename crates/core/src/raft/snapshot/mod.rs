//! Sending a snapshot and taking one in, chunk by chunk, with the whole held nowhere.
//!
//! ```text
//!   leader:   Head ─────────── Chunk ─ Chunk ─ … ─ End ────────────►
//!   follower: ◄──── From(0) ── Offer ── Bytes(n) per chunk ── Bytes(n) while it verifies and installs ── Done | Failed
//!                       a link breaks; both keep what they have (safety rule 11)
//!   leader:   Head ─────────── the rest ─ End ─────────────────────►
//!   follower: ◄──── From(k) ── Offer ── Bytes(n) …
//! ```
//!
//! One pinned state goes out under one random name over as many links as it takes (`send.rs`); what came in under a
//! name waits for the next link (`inbox.rs`, `receive.rs`). Both for a bounded time, [`Settings::snapshot_resume_ms`];
//! then, and where either side has begun anew, the transfer begins at zero with another state.
//!
//! The follower offers what it has already, a bounded part at a time: its own database, and what came of a state that was
//! given up. The leader sends only what differs. What an offer says is the state machine's business.
//!
//! An attempt ends when openraft cancels it, or when nothing was acknowledged for a while (safety rule 18);
//! openraft's own limit for the whole isn't used, because no limit is right for every size.
//!
//! [`Settings::snapshot_resume_ms`]: crate::Settings::snapshot_resume_ms

mod inbox;
mod receive;
mod send;

pub(crate) use inbox::Inbox;
pub(super) use receive::receive;
pub(super) use send::send;
pub(crate) use send::send_repair;

use super::TypeConfig;
use crate::answered::answered;
use crate::codec::CodecError;
use crate::{MachineError, Retry, StateMachine, TransportError};
use sqlrep_env::Actor;
use std::time::Duration;

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
    #[error("nothing of the snapshot came for {0:?}")]
    Silent(Duration),
    #[error("another link brings a snapshot")]
    Superseded,
    #[error("the follower can't take the snapshot: {0}")]
    Failed(String),
    #[error("{0}")]
    Refused(String),
    #[error("this member has ended")]
    Stopped,
}

impl TransferError {
    /// Whether only the link is to blame: over another one the same snapshot may go on.
    fn is_of_the_link(&self) -> bool {
        match self {
            Self::Transport(error) => error.retry() == Retry::Safe,
            Self::Ended | Self::Stalled(_) | Self::Silent(_) | Self::Superseded => true,
            Self::Machine(_)
            | Self::Codec(_)
            | Self::Failed(_)
            | Self::Refused(_)
            | Self::Stopped => false,
        }
    }
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
            TransferError::Stopped
        })
    }
}
