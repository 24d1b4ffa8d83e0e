//! Clients' requests and their replies as nodes hand them to each other, and what is kept of a reply; alike in both modes.

use crate::{ReplicaError, codec};
use bytes::Bytes;
use sqlrep_sql::{Outcome, Reply, Request, Written};
use std::time::Duration;

/// A forwarded request or its reply is no longer: what one frame between nodes holds.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

fn message(what: String) -> ReplicaError {
    ReplicaError::Message { what }
}

/// A request, read back.
///
/// # Errors
///
/// [`ReplicaError::Message`].
pub fn request(bytes: &[u8]) -> Result<Request, ReplicaError> {
    codec::decode::<_, MESSAGE_BYTES_MAX>(bytes).map_err(message)
}

/// A reply, read back.
///
/// # Errors
///
/// [`ReplicaError::Message`].
pub fn reply(bytes: &[u8]) -> Result<Reply, ReplicaError> {
    codec::decode::<_, MESSAGE_BYTES_MAX>(bytes).map_err(message)
}

/// About how many bytes a request adds to a batch of them, and never fewer.
#[must_use]
pub fn request_bytes(request: &Request) -> usize {
    let (per_statement, per_scene) = (24, 18);
    let replay = request.replay.as_ref();
    let replay = replay.map_or(0, |replay| 32 + per_scene * replay.scenes.len());
    16 + per_statement * request.statements.len() + request.size_bytes() + replay
}

/// What retries of a keyed request get: rows aren't kept, and how long a statement ran is no replicated state.
#[must_use]
pub fn kept_reply(reply: &Reply) -> Option<Bytes> {
    let kept = |outcome: &Outcome| match outcome {
        Outcome::Written(written) => Some(Outcome::Written(Written {
            took: Duration::ZERO,
            ..written.clone()
        })),
        Outcome::Failed(error) => Some(Outcome::Failed(error.clone())),
        Outcome::Rows(_) => None,
    };
    let outcomes = reply.outcomes.iter().map(kept).collect::<Option<_>>()?;
    Some(codec::encode(&Reply { outcomes }))
}
