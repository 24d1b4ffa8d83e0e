//! What members say to each other for Raft, in our own types: an upgrade of openraft changes no byte here.
//!
//! | lane | asks | answers |
//! | --- | --- | --- |
//! | append | [`Append`], a window of them | [`Appended`], in order; the link ends after the first refusal |
//! | control | [`Ask`] | [`Answer`], one at a time |
//! | snapshot | [`Piece`]: head, chunks, end | [`Progress`]: where to begin, what is at hand, acknowledged bytes, then the outcome |
//!
//! Invariant 1: entries of one [`Append`] follow each other and its `previous` without a hole, checked where
//! the bytes come in, because openraft trusts it.

use super::{LogId, Membership, RaftEntry, RaftVote, TypeConfig, entry_id, log_id, node_id};
use super::{vote_in, vote_out};
use crate::codec::{self, CodecError};
use crate::member::Lease;
use crate::{Entry, EntryId, LogIndex, NodeId, Payload, Peer, Vote};
use bytes::Bytes;
use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, StreamAppendResult,
    TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The members as the log, the side state and snapshots keep them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Members {
    /// Voters; two sets while a change of them is under way (Raft's joint consensus).
    pub voters: Vec<BTreeSet<NodeId>>,
    /// All members; those that are no voters are learners.
    pub peers: BTreeMap<NodeId, Peer>,
}

impl Members {
    pub(crate) fn out(members: &openraft::Membership<u64, Peer>) -> Self {
        let ids = |set: &BTreeSet<u64>| set.iter().copied().map(node_id).collect();
        Self {
            voters: members.get_joint_config().iter().map(ids).collect(),
            peers: members
                .nodes()
                .map(|(id, peer)| (node_id(*id), peer.clone()))
                .collect(),
        }
    }

    pub(crate) fn into_raft(self) -> Result<openraft::Membership<u64, Peer>, CodecError> {
        let ids = |set: BTreeSet<NodeId>| set.into_iter().map(NodeId::get).collect();
        let voters: Vec<BTreeSet<u64>> = self.voters.into_iter().map(ids).collect();
        let peers: BTreeMap<u64, Peer> = self
            .peers
            .into_iter()
            .map(|(id, peer)| (id.get(), peer))
            .collect();
        openraft::Membership::new(voters, peers)
            .map_err(|error| CodecError::Meaning(format!("members that can't be: {error}")))
    }
}

pub(super) fn stored(at: Option<EntryId>, members: Members) -> Result<Membership, CodecError> {
    Ok(Membership::new(at.map(log_id), members.into_raft()?))
}

pub(super) fn entry_out(entry: RaftEntry) -> Entry {
    let payload = match entry.payload {
        EntryPayload::Blank => Payload::Blank,
        EntryPayload::Normal(command) => Payload::Command(command.0),
        EntryPayload::Membership(members) => {
            Payload::Membership(codec::encode(&Members::out(&members)))
        }
    };
    Entry {
        id: entry_id(&entry.log_id),
        payload,
    }
}

pub(super) fn entry_in(entry: Entry) -> Result<RaftEntry, CodecError> {
    let payload = match entry.payload {
        Payload::Blank => EntryPayload::Blank,
        Payload::Command(bytes) => EntryPayload::Normal(super::Command(bytes)),
        Payload::Membership(bytes) => {
            EntryPayload::Membership(codec::decode::<Members>(&bytes)?.into_raft()?)
        }
    };
    Ok(RaftEntry {
        log_id: log_id(entry.id),
        payload,
    })
}

/// AppendEntries (Raft, figure 2); without entries, a heartbeat or news of what is committed.
#[derive(Serialize, Deserialize)]
pub(super) struct Append {
    vote: Vote,
    previous: Option<EntryId>,
    entries: Vec<Entry>,
    committed: Option<EntryId>,
}

impl Append {
    /// To be sent from here on: `lease` knows what it tells.
    pub(super) fn out(ask: AppendEntriesRequest<TypeConfig>, lease: &Lease) -> Self {
        let committed = ask.leader_commit.as_ref().map(entry_id);
        lease.tell(committed);
        Self {
            vote: vote_out(&ask.vote),
            previous: ask.prev_log_id.as_ref().map(entry_id),
            entries: ask.entries.into_iter().map(entry_out).collect(),
            committed,
        }
    }

    pub(super) fn into_raft(self) -> Result<AppendEntriesRequest<TypeConfig>, CodecError> {
        self.check()?;
        Ok(AppendEntriesRequest {
            vote: vote_in(self.vote)?,
            prev_log_id: self.previous.map(log_id),
            entries: self
                .entries
                .into_iter()
                .map(entry_in)
                .collect::<Result<_, _>>()?,
            leader_commit: self.committed.map(log_id),
        })
    }

    /// Invariant 1.
    fn check(&self) -> Result<(), CodecError> {
        let mut next = self.previous.map_or(LogIndex(0), |id| id.index.next());
        let mut term = self.previous.map(|id| id.term);
        for Entry { id, .. } in &self.entries {
            if id.index != next || Some(id.term) < term || id.term > self.vote.term {
                let leader = self.vote.term;
                return Err(CodecError::Meaning(format!(
                    "entry {id} where {next} of a leader of term {leader} belongs"
                )));
            }
            (next, term) = (id.index.next(), Some(id.term));
        }
        Ok(())
    }
}

/// The answer to one [`Append`] of a window.
#[derive(Serialize, Deserialize)]
pub(super) enum Appended {
    /// On disk up to here, equal to the leader's log.
    Matching(Option<EntryId>),
    /// No such entry here: the leader has to step back.
    Conflict(EntryId),
    /// A newer term is known here.
    HigherVote(Vote),
}

impl Appended {
    pub(super) fn out(result: &StreamAppendResult<TypeConfig>) -> Self {
        match result {
            Ok(id) => Self::Matching(id.as_ref().map(entry_id)),
            Err(StreamAppendError::Conflict(id)) => Self::Conflict(entry_id(id)),
            Err(StreamAppendError::HigherVote(vote)) => Self::HigherVote(vote_out(vote)),
        }
    }

    pub(super) fn into_raft(self) -> Result<StreamAppendResult<TypeConfig>, CodecError> {
        Ok(match self {
            Self::Matching(id) => Ok(id.map(log_id)),
            Self::Conflict(id) => Err(StreamAppendError::Conflict(log_id(id))),
            Self::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote_in(vote)?)),
        })
    }
}

/// RequestVote, real or tentative.
#[derive(Serialize, Deserialize)]
pub(super) struct Ballot {
    vote: Vote,
    last: Option<EntryId>,
    transfer: bool,
}

impl Ballot {
    pub(super) fn out(ask: &VoteRequest<TypeConfig>) -> Self {
        Self {
            vote: vote_out(&ask.vote),
            last: ask.last_log_id.as_ref().map(entry_id),
            transfer: ask.leadership_transfer,
        }
    }

    pub(super) fn into_raft(self) -> Result<VoteRequest<TypeConfig>, CodecError> {
        let mut ask = VoteRequest::new(vote_in(self.vote)?, self.last.map(log_id));
        ask.leadership_transfer = self.transfer;
        Ok(ask)
    }
}

/// Asked on the control lane.
#[derive(Serialize, Deserialize)]
pub(super) enum Ask {
    Heartbeat(Append),
    Vote(Ballot),
    PreVote(Ballot),
    Transfer {
        from: Vote,
        to: NodeId,
        last: Option<EntryId>,
    },
}

impl Ask {
    /// To be sent from here on: the leadership's lease has ended.
    pub(super) fn transfer(ask: &TransferLeaderRequest<TypeConfig>, lease: &Lease) -> Self {
        let from = vote_out(ask.from_leader());
        lease.hand_over(from.term);
        Self::Transfer {
            from,
            to: node_id(*ask.to_node_id()),
            last: ask.last_log_id().map(entry_id),
        }
    }
}

/// Answered on the control lane.
#[derive(Serialize, Deserialize)]
pub(super) enum Answer {
    Heartbeat(Beat),
    Vote {
        vote: Vote,
        granted: bool,
        last: Option<EntryId>,
    },
    Transfer(Result<(), NotTaken>),
}

/// The answer to one append request on the control lane.
#[derive(Serialize, Deserialize)]
pub(super) enum Beat {
    Success,
    Partial(Option<EntryId>),
    Conflict,
    HigherVote(Vote),
}

impl Beat {
    pub(super) fn out(answer: &AppendEntriesResponse<TypeConfig>) -> Self {
        match answer {
            AppendEntriesResponse::Success => Self::Success,
            AppendEntriesResponse::PartialSuccess(id) => Self::Partial(id.as_ref().map(entry_id)),
            AppendEntriesResponse::Conflict => Self::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Self::HigherVote(vote_out(vote)),
        }
    }

    pub(super) fn into_raft(self) -> Result<AppendEntriesResponse<TypeConfig>, CodecError> {
        Ok(match self {
            Self::Success => AppendEntriesResponse::Success,
            Self::Partial(id) => AppendEntriesResponse::PartialSuccess(id.map(log_id)),
            Self::Conflict => AppendEntriesResponse::Conflict,
            Self::HigherVote(vote) => AppendEntriesResponse::HigherVote(vote_in(vote)?),
        })
    }
}

/// Why a node that was asked to lead doesn't.
#[derive(Serialize, Deserialize)]
pub(super) enum NotTaken {
    VoteChanged {
        expected: Vote,
        actual: Vote,
    },
    NotFlushed {
        expected: Option<EntryId>,
        actual: Option<EntryId>,
    },
}

pub(super) fn transfer_out(answer: &TransferLeaderResponse<TypeConfig>) -> Answer {
    Answer::Transfer(match answer {
        Ok(()) => Ok(()),
        Err(TransferLeaderError::VoteChanged { expected, actual }) => Err(NotTaken::VoteChanged {
            expected: vote_out(expected),
            actual: vote_out(actual),
        }),
        Err(TransferLeaderError::LogNotFlushed { expected, actual }) => Err(NotTaken::NotFlushed {
            expected: expected.as_ref().map(entry_id),
            actual: actual.as_ref().map(entry_id),
        }),
    })
}

pub(super) fn transfer_in(
    answer: Result<(), NotTaken>,
) -> Result<TransferLeaderResponse<TypeConfig>, CodecError> {
    Ok(match answer {
        Ok(()) => Ok(()),
        Err(NotTaken::VoteChanged { expected, actual }) => Err(TransferLeaderError::VoteChanged {
            expected: vote_in(expected)?,
            actual: vote_in(actual)?,
        }),
        Err(NotTaken::NotFlushed { expected, actual }) => Err(TransferLeaderError::LogNotFlushed {
            expected: expected.map(log_id),
            actual: actual.map(log_id),
        }),
    })
}

/// To be sent from here on: leases that the vote ends have ended, for it counts as given whatever `granted` says.
pub(super) fn ballot_out(answer: &VoteResponse<TypeConfig>, lease: &Lease) -> Answer {
    let vote = vote_out(&answer.vote);
    lease.vote(vote.term);
    Answer::Vote {
        vote,
        granted: answer.vote_granted,
        last: answer.last_log_id.as_ref().map(entry_id),
    }
}

pub(super) fn ballot_in(
    vote: Vote,
    granted: bool,
    last: Option<EntryId>,
) -> Result<VoteResponse<TypeConfig>, CodecError> {
    Ok(VoteResponse::new(vote_in(vote)?, last.map(log_id), granted))
}

/// Names one pinned state while it is sent: chosen at random, so that nothing else that comes in is taken for its rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotName(pub u64);

/// One frame of a snapshot on its way to a follower.
#[derive(Serialize, Deserialize)]
pub(super) enum Piece {
    /// Who sends it, and what it will show.
    Head {
        vote: Vote,
        name: SnapshotName,
        id: EntryId,
        side: Bytes,
    },
    /// The next bytes.
    Chunk(Bytes),
    /// That was all.
    End,
    /// Instead of the first: it replaces a state that its node doesn't trust, and Raft isn't told (safety rule 16).
    Repair {
        name: SnapshotName,
        id: EntryId,
        side: Bytes,
    },
}

/// What the follower says meanwhile.
#[derive(Serialize, Deserialize)]
pub(super) enum Progress {
    /// Taken in so far; repeated while the whole is verified and installed.
    Bytes(u64),
    /// Installed, or refused because of this newer vote.
    Done(Vote),
    /// It can't be taken; the message is for the leader's log.
    Failed(String),
    /// The state was replaced.
    Repaired,
    /// The answer to the head: so many chunks are here from a link that broke, it goes on behind them.
    From(u64),
    /// Behind that, and whenever it is time: what is here already, in words of the state machine; no bytes: nothing more.
    Offer(Bytes),
}

/// The sender's vote, in both languages.
pub(super) fn leader_vote(vote: &RaftVote) -> Vote {
    vote_out(vote)
}

/// The highest log id that a leader with this vote can own.
pub(super) fn snapshot_fits(vote: &Vote, id: EntryId, committed: Option<&LogId>) -> bool {
    let newer = committed.is_none_or(|committed| {
        let committed = entry_id(committed);
        id <= committed || id.index > committed.index
    });
    id.term <= vote.term && newer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DirectoryId, Term};

    const VOTE: &[u8] = b"\x03\x01\x01\x01";

    fn id(term: u64, index: u64) -> EntryId {
        EntryId {
            term: Term(term),
            index: LogIndex(index),
        }
    }

    fn vote() -> Vote {
        Vote {
            term: Term(3),
            node: NodeId::new(1),
            committed: true,
        }
    }

    fn append(entries: Vec<Entry>) -> Append {
        Append {
            vote: vote(),
            previous: Some(id(2, 4)),
            entries,
            committed: None,
        }
    }

    /// `value` is the format byte and then these.
    #[track_caller]
    fn is(value: &impl Serialize, expected: &[&[u8]]) {
        assert_eq!(
            codec::encode(value)[..],
            [&[1][..], &expected.concat()].concat()
        );
    }

    /// Rule 42: what leaves a leader and concerns its lease is noted before it can be sent.
    #[test]
    fn what_is_to_be_sent_is_noted_in_the_lease() {
        let lease = Lease::default();
        let raft = |vote| vote_in(vote).unwrap();
        let append = AppendEntriesRequest {
            vote: raft(vote()),
            prev_log_id: None,
            entries: Vec::new(),
            leader_commit: Some(log_id(id(2, 4))),
        };
        let before = lease.told();
        Append::out(append, &lease);
        assert_eq!((before, lease.told()), (0, 5));
        let (before, term) = (Term(vote().term.0 - 1), vote().term);
        let ended = || (lease.has_ended(before), lease.has_ended(term));
        assert_eq!(ended(), (false, false));
        ballot_out(&VoteResponse::new(raft(vote()), None, false), &lease);
        assert_eq!(ended(), (true, false));
        Ask::transfer(&TransferLeaderRequest::new(raft(vote()), 9, None), &lease);
        assert_eq!(ended(), (true, true));
    }

    /// The bytes of `docs/formats.md`, "Members".
    #[test]
    fn the_bytes_of_members_stay_what_they_are() {
        let peer = Peer {
            raft: "a:1".to_owned(),
            http: "b:22".to_owned(),
            directory: DirectoryId(300),
        };
        let members = Members {
            voters: vec![[1, 2].map(node_id).into()],
            peers: BTreeMap::from([(node_id(1), peer)]),
        };
        is(
            &members,
            &[b"\x01\x02\x01\x02\x01\x01\x03a:1\x04b:22\xfb\x2c\x01"],
        );
    }

    /// The bytes of `docs/formats.md`, "Append lane".
    #[test]
    fn the_bytes_of_the_append_lane_stay_what_they_are() {
        let payloads = [
            Payload::Blank,
            Payload::Command(Bytes::from_static(b"ab")),
            Payload::Membership(Bytes::from_static(b"m")),
        ];
        let entry = |(index, payload)| Entry {
            id: id(3, index),
            payload,
        };
        let entries: Vec<Entry> = (5..).zip(payloads).map(entry).collect();
        let bytes = b"\x01\x02\x04\x03\x03\x05\x00\x03\x06\x01\x02ab\x03\x07\x02\x01m\x00";
        is(&append(entries), &[VOTE, bytes]);
        is(&Appended::Matching(Some(id(3, 7))), &[b"\x00\x01\x03\x07"]);
        is(&Appended::Conflict(id(2, 4)), &[b"\x01\x02\x04"]);
        is(&Appended::HigherVote(vote()), &[b"\x02", VOTE]);
    }

    /// The bytes of `docs/formats.md`, "Control lane".
    #[test]
    fn the_bytes_of_the_control_lane_stay_what_they_are() {
        let ballot = || Ballot {
            vote: vote(),
            last: Some(id(2, 4)),
            transfer: true,
        };
        let last = Some(id(2, 4));
        is(
            &Ask::Heartbeat(append(Vec::new())),
            &[b"\x00", VOTE, b"\x01\x02\x04\x00\x00"],
        );
        is(&Ask::Vote(ballot()), &[b"\x01", VOTE, b"\x01\x02\x04\x01"]);
        is(
            &Ask::PreVote(ballot()),
            &[b"\x02", VOTE, b"\x01\x02\x04\x01"],
        );
        let (from, to) = (vote(), node_id(9));
        is(
            &Ask::Transfer { from, to, last },
            &[b"\x03", VOTE, b"\x09\x01\x02\x04"],
        );
        is(&Answer::Heartbeat(Beat::Success), &[b"\x00\x00"]);
        is(
            &Answer::Heartbeat(Beat::Partial(last)),
            &[b"\x00\x01\x01\x02\x04"],
        );
        is(&Answer::Heartbeat(Beat::Conflict), &[b"\x00\x02"]);
        is(
            &Answer::Heartbeat(Beat::HigherVote(vote())),
            &[b"\x00\x03", VOTE],
        );
        let granted = Answer::Vote {
            vote: vote(),
            granted: true,
            last,
        };
        is(&granted, &[b"\x01", VOTE, b"\x01\x01\x02\x04"]);
        is(&Answer::Transfer(Ok(())), &[b"\x02\x00"]);
        let changed = NotTaken::VoteChanged {
            expected: vote(),
            actual: vote(),
        };
        is(
            &Answer::Transfer(Err(changed)),
            &[b"\x02\x01\x00", VOTE, VOTE],
        );
        let behind = NotTaken::NotFlushed {
            expected: last,
            actual: None,
        };
        is(
            &Answer::Transfer(Err(behind)),
            &[b"\x02\x01\x01\x01\x02\x04\x00"],
        );
    }

    /// The bytes of `docs/formats.md`, "Snapshot lane".
    #[test]
    fn the_bytes_of_the_snapshot_lane_stay_what_they_are() {
        let head = Piece::Head {
            vote: vote(),
            name: SnapshotName(7),
            id: id(2, 4),
            side: Bytes::from_static(b"side"),
        };
        is(&head, &[b"\x00", VOTE, b"\x07\x02\x04\x04side"]);
        is(&Piece::Chunk(Bytes::from_static(b"abc")), &[b"\x01\x03abc"]);
        is(&Piece::End, &[b"\x02"]);
        let repair = Piece::Repair {
            name: SnapshotName(7),
            id: id(2, 4),
            side: Bytes::from_static(b"side"),
        };
        is(&repair, &[b"\x03\x07\x02\x04\x04side"]);
        is(&Progress::Bytes(70_000), &[b"\x00\xfc\x70\x11\x01\x00"]);
        is(&Progress::Done(vote()), &[b"\x01", VOTE]);
        is(&Progress::Failed("no".to_owned()), &[b"\x02\x02no"]);
        is(&Progress::Repaired, &[b"\x03"]);
        is(&Progress::From(9), &[b"\x04\x09"]);
        let offer = Progress::Offer(Bytes::from_static(b"some"));
        is(&offer, &[b"\x05\x04some"]);
    }
}
