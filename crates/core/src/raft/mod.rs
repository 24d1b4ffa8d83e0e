//! openraft's traits over ours. Private: no type of openraft leaves `core`.
//!
//! ```text
//!   LogStore      ◄─ LogAdapter      (log.rs)        callbacks become futures
//!   StateMachine  ◄─ MachineAdapter  (machine.rs)    abort, prepare, finish, replies
//!   Transport     ◄─ Network         (network.rs)    what a leader or candidate sends
//!                    serve           (serve.rs)      what the others answer
//!                    wire            (wire.rs)       the frames in between, in our own types
//! ```
//!
//! Ids are plain `u64` inside openraft and [`NodeId`] outside; a number from a peer that is no node id is
//! refused where it is decoded.

mod log;
mod machine;
mod network;
mod serve;
mod snapshot;
mod stream;
mod wire;

pub(crate) use log::LogAdapter;
pub(crate) use machine::{JOBS_MAX as MACHINE_JOBS_MAX, MachineAdapter, one_leadership};
pub(crate) use network::Network;
pub(crate) use serve::serve;
pub(crate) use snapshot::{Inbox, send_repair};
pub(crate) use wire::Members;

use crate::codec::CodecError;
use crate::{EntryId, LogIndex, NodeId, Peer, Term, Vote};
use bytes::Bytes;
use openraft::vote::RaftLeaderId;
use openraft::vote::leader_id_std::{CommittedLeaderId, LeaderId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A command's bytes: an [`Envelope`](crate::member::Envelope) and the mode's body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Command(pub Bytes);

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

// One runtime type for production and simulation: seeded by the node's entropy, it is as good as the
// thread's generator there and reproducible here. A type parameter would be seen in every public signature.
// R is empty: clients wait in our own in-flight table, since a held reply isn't openraft's to keep.
openraft::declare_raft_types!(
    pub(crate) TypeConfig:
        D = Command,
        R = (),
        Node = Peer,
        LeaderId = LeaderId<u64, u64>,
        AsyncRuntime = openraft_rt::deterministic_rng::DeterministicRng<openraft_rt_tokio::TokioRuntime>,
);

/// The runtime whose randomness is seeded by [`scoped`].
pub(crate) type Runtime =
    openraft_rt::deterministic_rng::DeterministicRng<openraft_rt_tokio::TokioRuntime>;

pub(crate) type RaftEntry = openraft::alias::EntryOf<TypeConfig>;
pub(crate) type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub(crate) type RaftVote = openraft::alias::VoteOf<TypeConfig>;
pub(crate) type Membership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type Raft<M> = openraft::Raft<TypeConfig, MachineAdapter<M>>;

/// Runs `future` with a randomness of its own: everything that openraft spawns or draws below it follows
/// from `seed`. Every task that calls openraft is wrapped so.
pub(crate) fn scoped<F: Future>(seed: u64, future: F) -> impl Future<Output = F::Output> {
    Runtime::scope(seed, future)
}

pub(crate) fn log_id(id: EntryId) -> LogId {
    LogId::new(CommittedLeaderId::new(id.term.0), id.index.0)
}

pub(crate) fn entry_id(id: &LogId) -> EntryId {
    EntryId {
        term: Term(**id.committed_leader_id()),
        index: LogIndex(id.index()),
    }
}

/// The id of a member that openraft names.
pub(crate) fn node_id(number: u64) -> NodeId {
    NodeId::new(number).expect("every number was a node id when it was given to openraft")
}

/// The leadership of `term`, for proposals that must not end up in another one (safety rule 23).
pub(crate) fn leadership(term: Term) -> CommittedLeaderId<u64> {
    CommittedLeaderId::new(term.0)
}

pub(crate) fn vote_out(vote: &RaftVote) -> Vote {
    Vote {
        term: Term(vote.leader_id.term()),
        node: Some(node_id(*vote.leader_id.node_id())),
        committed: vote.committed,
    }
}

fn vote_in(vote: Vote) -> Result<RaftVote, CodecError> {
    let node = vote
        .node
        .ok_or_else(|| CodecError::Meaning(format!("a vote of term {} for nobody", vote.term)))?;
    Ok(if vote.committed {
        RaftVote::new_committed(vote.term.0, node.get())
    } else {
        RaftVote::new(vote.term.0, node.get())
    })
}
