//! Frames between members. What a frame means is `core`'s business; a transport carries bytes in order.

use crate::{NodeId, Peer, Retry};
use async_trait::async_trait;
use bytes::Bytes;
use std::io;

/// Traffic that mustn't wait behind other traffic has a lane of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Log entries: a window of requests under way.
    Append,
    /// Votes, heartbeats, leader transfer: small, one at a time.
    Control,
    /// One snapshot.
    Snapshot,
    /// Forwarded client requests, read indexes, bootstrap and join.
    Client,
}

impl Lane {
    /// All lanes.
    pub const ALL: [Self; 4] = [Self::Append, Self::Control, Self::Snapshot, Self::Client];

    /// The largest frame in bytes; a larger one is refused before it is allocated.
    #[must_use]
    pub const fn frame_bytes_max(self) -> usize {
        match self {
            Self::Append | Self::Client => 64 << 20,
            Self::Control => 64 << 10,
            Self::Snapshot => 4 << 20,
        }
    }
}

/// Why a link can't be had or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// Nobody answers there, or the connection broke.
    #[error("can't reach {address}: {source}")]
    Unreachable {
        /// Whom.
        address: String,
        /// What the network said.
        source: io::Error,
    },
    /// The two sides don't belong together; the message names both.
    #[error("{message}")]
    Refused {
        /// For the operator.
        message: String,
    },
    /// The two sides belong to different clusters; the message names both.
    #[error("{message}")]
    OtherCluster {
        /// For the operator.
        message: String,
    },
    /// A frame above the lane's limit, or bytes that are no frame.
    #[error("the peer at {address} sent {what}")]
    Malformed {
        /// Whom.
        address: String,
        /// What.
        what: String,
    },
    /// The transport was closed.
    #[error("the transport is closed")]
    Closed,
}

impl TransportError {
    /// Whether connecting again may help.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Unreachable { .. } => Retry::Safe,
            Self::Refused { .. }
            | Self::OtherCluster { .. }
            | Self::Malformed { .. }
            | Self::Closed => Retry::Useless,
        }
    }
}

/// Connections to and from members, each authenticated by a handshake.
///
/// Duties of an implementation:
/// 1. A link carries whole frames in order, or ends; nothing is repeated after a break.
/// 2. A frame above [`Lane::frame_bytes_max`] ends the link before it is allocated.
/// 3. `connect` tries once; back-off is the caller's.
/// 4. A handshake that doesn't match is [`TransportError::Refused`] on both sides, or [`TransportError::OtherCluster`], naming both.
/// 5. Queues are bounded: a sender waits while its link's queue is full.
/// 6. Dropping a [`Link`] closes it; the other side's receiver then answers none.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Opens a link to the member at `peer`. `node` is who should answer there; none while it isn't known yet (bootstrap).
    ///
    /// # Errors
    ///
    /// Every [`TransportError`].
    async fn connect(
        &self,
        node: Option<NodeId>,
        peer: &Peer,
        lane: Lane,
    ) -> Result<Link, TransportError>;

    /// Waits for a link from a member; none once the transport is closed.
    async fn accept(&self) -> Option<(NodeId, Lane, Link)>;

    /// Refuses new links and ends those there are.
    fn close(&self);
}

/// Both directions of a connection, to be split between a writing and a reading task.
pub struct Link {
    /// Towards the other side.
    pub sender: Box<dyn FrameSender>,
    /// From the other side.
    pub receiver: Box<dyn FrameReceiver>,
}

/// Sends frames. Dropping it ends this direction.
#[async_trait]
pub trait FrameSender: Send + Sync {
    /// Hands a frame over; waits while the queue is full.
    ///
    /// # Errors
    ///
    /// The link has ended.
    async fn send(&mut self, frame: Bytes) -> Result<(), TransportError>;
}

/// Receives frames.
#[async_trait]
pub trait FrameReceiver: Send + Sync {
    /// The next frame; none when the other side ended the link in order.
    ///
    /// # Errors
    ///
    /// The link broke, or the frame is above the lane's limit.
    async fn receive(&mut self) -> Result<Option<Bytes>, TransportError>;
}
