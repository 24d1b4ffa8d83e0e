//! Requests between members: forwarded writes, read indexes, and what the embedder asks.
//!
//! ```text
//!   call ─► line: queue ─► one kept link per peer ─► serve: a task per call
//!     ▲                                                 │
//!     └────────── answers in any order, by number ◄─────┘
//! ```
//!
//! | part | owns |
//! | --- | --- |
//! | `wire` | the frames |
//! | `lines` | this node's calls to others: queues, links, what a broken one means |
//! | `held` | the bound in bytes |
//! | `serve` | the answers to their calls |
//!
//! Invariant 1: every queue has a bound; beyond it a call is refused, not delayed.
//! Invariant 2: a call that was handed to a link and has no answer is lost: nobody knows whether it was
//! done. Before that it was certainly not delivered, and the error says so.

mod error;
mod held;
mod lines;
mod serve;
mod wire;

pub(crate) use lines::Lines;
pub(crate) use serve::serve;
pub(crate) use wire::{Answer, Ask, Call, Return};

pub use error::AskError;

use crate::NodeId;
use async_trait::async_trait;
use bytes::Bytes;

/// What the embedder's nodes ask each other beside Raft: queries for the leader, versions, addresses.
#[async_trait]
pub trait PeerService: Send + Sync {
    /// Answers `ask` of the member `from`. Dropped where it waits if `from` is gone.
    async fn call(&self, from: NodeId, ask: Bytes) -> Bytes;

    /// The member `from` has answered an ask whose asker was gone by then: what the answer names is nobody's.
    async fn unclaimed(&self, from: NodeId, answer: Bytes) {
        let _ = (from, answer);
    }
}

/// Answers every question with nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeerService;

#[async_trait]
impl PeerService for NoPeerService {
    async fn call(&self, _from: NodeId, _ask: Bytes) -> Bytes {
        Bytes::new()
    }
}
