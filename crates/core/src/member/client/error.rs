//! Why another member didn't answer.

use crate::{NodeId, Retry};
use std::time::Duration;

/// Why [`Member::ask`](crate::Member::ask) has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Certainly not delivered: there was no link to the member.
    #[error("can't reach node {node}: {cause}")]
    Unreachable {
        /// Whom.
        node: NodeId,
        /// What the transport said.
        cause: String,
    },
    /// Sent, and the link ended before an answer came: it may have been done.
    #[error("the link to node {node} ended before it answered: {cause}")]
    Lost {
        /// Whom.
        node: NodeId,
        /// Why it ended.
        cause: String,
    },
    /// Sent, and not answered in time: it may still be done.
    #[error("node {node} didn't answer within {waited:?}")]
    Timeout {
        /// Whom.
        node: NodeId,
        /// How long.
        waited: Duration,
    },
    /// Not looked at: too many calls are under way, here or there.
    #[error("too many requests are waiting for node {node}")]
    Overloaded {
        /// Whom.
        node: NodeId,
    },
    /// Not sent: it doesn't fit a frame.
    #[error("a question of {bytes} bytes, the limit is {limit_bytes}")]
    TooLarge {
        /// Its size.
        bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// It was done, and its answer doesn't fit a frame.
    #[error("node {node} has an answer of {bytes} bytes, which is too large to be sent")]
    AnswerTooLarge {
        /// Whom.
        node: NodeId,
        /// The answer's size.
        bytes: u64,
    },
    /// The member answered something that this release can't read as an answer to this.
    #[error("node {node} answered something else")]
    Mismatch {
        /// Whom.
        node: NodeId,
    },
    /// Not sent: this member stops.
    #[error("the node is stopping")]
    Stopped,
}

impl AskError {
    /// Whether the same may be asked again.
    #[must_use]
    pub const fn retry(&self) -> Retry {
        match self {
            Self::Unreachable { .. } | Self::Overloaded { .. } | Self::Stopped => Retry::Safe,
            Self::Lost { .. }
            | Self::Timeout { .. }
            | Self::AnswerTooLarge { .. }
            | Self::Mismatch { .. } => Retry::Ambiguous,
            Self::TooLarge { .. } => Retry::Useless,
        }
    }
}
