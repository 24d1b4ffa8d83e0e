//! The frames of the client lane, in `core`'s codec. Each is one frame of [`Lane::Client`](crate::Lane).
//!
//! New kinds of asks are added at the end: a member that doesn't know one ends the link.

use crate::member::Key;
use crate::member::change::{Change, Undone};
use crate::member::founding::Greeting;
use crate::member::judge::Evidence;
use crate::{EntryId, LogIndex, ReadError, WriteError};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One question.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    /// Chosen by the asking side, in use once at a time on a link.
    pub number: u64,
    pub ask: Ask,
}

/// Its answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Return {
    pub number: u64,
    pub answer: Answer,
}

/// What a member asks another.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Whether anybody is there.
    Echo,
    /// Propose this request of a mode, if you lead. Never forwarded again.
    Write {
        request: Bytes,
        key: Key,
        wait_ms: u64,
    },
    /// The read index, confirmed by a round that begins after this arrives, if you lead.
    ReadIndex,
    /// An entry without a request, committed, if you lead.
    Barrier,
    /// The embedder's own.
    Opaque(Bytes),
    /// Who are you?
    Greet,
    /// Change the cluster if you lead; else pass it on, if hops are left.
    Change {
        change: Change,
        wait_ms: u64,
        hops: u8,
    },
    /// What is your state's checksum at the end of this entry? Mine is this (safety rule 31).
    Compare { index: LogIndex, checksum: u64 },
    /// Send me your state if you lead: mine isn't to be trusted.
    Repair,
    /// Nobody waits for these calls any more. Has no answer of its own.
    Withdraw { calls: Vec<u64> },
}

/// What it is told.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// To an echo.
    Echo,
    /// Not looked at: too many calls are under way.
    Overloaded,
    /// It was done, and what there is to say doesn't fit a frame.
    TooLarge { bytes: u64 },
    /// To a write: the reply in the mode's encoding, where it stands, and whether an earlier request did it.
    Written(Result<(Bytes, EntryId, bool), WriteError>),
    /// To a read index or a barrier.
    Index(Result<EntryId, ReadError>),
    /// The embedder's own.
    Opaque(Bytes),
    /// To a greeting.
    Greeting(Box<Greeting>),
    /// To a change.
    Changed(Result<(), Undone>),
    /// To a comparison.
    Compared(Evidence),
    /// To a call for repair: it is on its way, or why not.
    Repair(Result<(), String>),
    /// To a call that was withdrawn before it had another.
    Withdrawn,
}

impl Ask {
    /// About how many bytes it holds.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Write { request: bytes, .. } | Self::Opaque(bytes) => bytes.len(),
            Self::Echo | Self::ReadIndex | Self::Barrier | Self::Greet | Self::Change { .. } => 0,
            Self::Compare { .. } | Self::Repair | Self::Withdraw { .. } => 0,
        }
    }

    /// Whether it ends where it waits once nobody waits for its answer. A change of the cluster goes on: who asked for it
    /// finds out later.
    pub(crate) fn ends_with_caller(&self) -> bool {
        matches!(
            self,
            Self::Write { .. } | Self::ReadIndex | Self::Barrier | Self::Opaque(_)
        )
    }
}

impl Answer {
    /// About how many bytes it holds.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Written(Ok((bytes, ..))) | Self::Opaque(bytes) => bytes.len(),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::founding::Terms;
    use crate::member::keys::KeyKind;
    use crate::{ClusterId, DirectoryId, NodeId, Peer, Term, codec};
    use proptest::prelude::*;
    use std::time::Duration;

    fn asked(ask: Ask) -> Vec<u8> {
        codec::encode(&Call { number: 9, ask }).to_vec()
    }

    fn answered(answer: Answer) -> Vec<u8> {
        codec::encode(&Return { number: 9, answer }).to_vec()
    }

    fn node() -> NodeId {
        NodeId::new(7).unwrap()
    }

    fn peer() -> Peer {
        Peer {
            raft: "a:1".to_owned(),
            http: "b:2".to_owned(),
            directory: DirectoryId(8),
        }
    }

    /// The bytes of `docs/formats.md`, "Client lane".
    #[test]
    fn the_bytes_of_asks_stay_what_they_are() {
        let request = Bytes::from_static(b"ab");
        let opaque = Ask::Opaque(request.clone());
        assert_eq!(asked(Ask::Echo), b"\x01\x09\x00");
        let write = |key| {
            asked(Ask::Write {
                request: request.clone(),
                key,
                wait_ms: 1000,
            })
        };
        let key = Key {
            kind: KeyKind::Client,
            name: Bytes::from_static(b"k"),
            digest: 5,
            known: LogIndex(6),
            reply: None,
        };
        assert_eq!(
            write(key.clone()),
            b"\x01\x09\x01\x02ab\x00\x01k\x05\x06\x00\xfb\xe8\x03"
        );
        let of_gateway = Key {
            kind: KeyKind::Gateway,
            reply: Some(Bytes::from_static(b"r")),
            ..key
        };
        assert_eq!(
            write(of_gateway),
            b"\x01\x09\x01\x02ab\x01\x01k\x05\x06\x01\x01r\xfb\xe8\x03"
        );
        let compare = Ask::Compare {
            index: LogIndex(4),
            checksum: 5,
        };
        assert_eq!(asked(compare), b"\x01\x09\x07\x04\x05");
        assert_eq!(asked(Ask::Repair), b"\x01\x09\x08");
        let calls = vec![1, 2];
        assert_eq!(asked(Ask::Withdraw { calls }), b"\x01\x09\x09\x02\x01\x02");
        assert_eq!(asked(Ask::ReadIndex), b"\x01\x09\x02");
        assert_eq!(asked(Ask::Barrier), b"\x01\x09\x03");
        assert_eq!(asked(opaque), b"\x01\x09\x04\x02ab");
        assert_eq!(asked(Ask::Greet), b"\x01\x09\x05");
        let change = |change| {
            asked(Ask::Change {
                change,
                wait_ms: 5,
                hops: 255,
            })
        };
        let (node, peer) = (node(), peer());
        let join = Change::Join {
            node,
            peer,
            voter: true,
        };
        assert_eq!(
            change(join),
            b"\x01\x09\x06\x00\x07\x03a:1\x03b:2\x08\x01\x05\xff"
        );
        assert_eq!(
            change(Change::Remove { node }),
            b"\x01\x09\x06\x01\x07\x05\xff"
        );
        let to = Some(node);
        assert_eq!(
            change(Change::Transfer { to }),
            b"\x01\x09\x06\x02\x01\x07\x05\xff"
        );
    }

    /// The bytes of `docs/formats.md`, "Client lane".
    #[test]
    fn the_bytes_of_answers_stay_what_they_are() {
        let id = EntryId {
            term: Term(3),
            index: LogIndex(4),
        };
        let bytes = Bytes::from_static(b"ab");
        assert_eq!(answered(Answer::Echo), b"\x01\x09\x00");
        assert_eq!(answered(Answer::Overloaded), b"\x01\x09\x01");
        assert_eq!(answered(Answer::TooLarge { bytes: 5 }), b"\x01\x09\x02\x05");
        let written = Answer::Written(Ok((bytes.clone(), id, true)));
        assert_eq!(answered(written), b"\x01\x09\x03\x00\x02ab\x03\x04\x01");
        assert_eq!(answered(Answer::Index(Ok(id))), b"\x01\x09\x04\x00\x03\x04");
        assert_eq!(
            answered(Answer::Opaque(bytes.clone())),
            b"\x01\x09\x05\x02ab"
        );
        let greeting = Greeting {
            node: node(),
            directory: DirectoryId(8),
            empty: true,
            cluster: ClusterId(9),
            settings: bytes.clone(),
            leader: Some(node()),
            members: [(node(), peer())].into(),
            members_at: Some(id),
            terms: Some(Terms {
                peer: peer(),
                mode: "m".to_owned(),
                settings: bytes,
                expect: Some(3),
                seen: [DirectoryId(8)].into(),
            }),
        };
        let expected =
            b"\x01\x09\x06\x07\x08\x01\x09\x02ab\x01\x07\x01\x07\x03a:1\x03b:2\x08\x01\x03\x04\
            \x01\x03a:1\x03b:2\x08\x01m\x02ab\x01\x03\x01\x08";
        assert_eq!(answered(Answer::Greeting(Box::new(greeting))), expected);
        assert_eq!(answered(Answer::Changed(Ok(()))), b"\x01\x09\x07\x00");
        let evidence = Evidence {
            checksum: Some(5),
            trusted: true,
            engine: 6,
        };
        assert_eq!(
            answered(Answer::Compared(evidence)),
            b"\x01\x09\x08\x01\x05\x01\x06"
        );
        assert_eq!(answered(Answer::Repair(Ok(()))), b"\x01\x09\x09\x00");
        let refused = Answer::Repair(Err("x".to_owned()));
        assert_eq!(answered(refused), b"\x01\x09\x09\x01\x01x");
        assert_eq!(answered(Answer::Withdrawn), b"\x01\x09\x0a");
        let undone = |undone| answered(Answer::Changed(Err(undone)));
        let leader = None;
        assert_eq!(
            undone(Undone::NotLeader { leader }),
            b"\x01\x09\x07\x01\x00\x00"
        );
        assert_eq!(undone(Undone::refused("x")), b"\x01\x09\x07\x01\x01\x01x");
        let waited = Duration::new(5, 6);
        assert_eq!(
            undone(Undone::Timeout { waited }),
            b"\x01\x09\x07\x01\x02\x05\x06"
        );
    }

    /// The numbers of `docs/formats.md`, "Errors that travel".
    #[test]
    fn the_bytes_of_errors_stay_what_they_are() {
        let leader = Some(node());
        let waited = Duration::new(5, 6);
        let (what, cause) = ("x".to_owned(), "x".to_owned());
        let (bytes, limit_bytes) = (5, 6);
        let at = EntryId {
            term: Term(3),
            index: LogIndex(4),
        };
        let writes: [(WriteError, &[u8]); 14] = [
            (WriteError::NotLeader { leader }, b"\x00\x01\x07"),
            (WriteError::NotDone, b"\x01"),
            (WriteError::Overloaded, b"\x02"),
            (WriteError::Expired { waited }, b"\x03\x05\x06"),
            (WriteError::TooLarge { bytes, limit_bytes }, b"\x04\x05\x06"),
            (WriteError::DiskFull, b"\x05"),
            (WriteError::Conflict, b"\x06"),
            (WriteError::KeyExpired, b"\x07"),
            (WriteError::KeyReused, b"\x08"),
            (WriteError::ReplyNotKept { at }, b"\x09\x03\x04"),
            (WriteError::Unknown { cause }, b"\x0a\x01x"),
            (WriteError::Stopped, b"\x0b"),
            (WriteError::Unsupported { what: what.clone() }, b"\x0c\x01x"),
            (WriteError::Failed { what: what.clone() }, b"\x0d\x01x"),
        ];
        for (error, expected) in writes {
            let bytes = answered(Answer::Written(Err(error)));
            assert_eq!(bytes, [b"\x01\x09\x03\x01", expected].concat());
        }
        let (ours, theirs) = (ClusterId(5), ClusterId(6));
        let reads: [(ReadError, &[u8]); 8] = [
            (ReadError::NotLeader { leader }, b"\x00\x01\x07"),
            (ReadError::Stale, b"\x01"),
            (ReadError::Timeout { waited }, b"\x02\x05\x06"),
            (ReadError::OtherCluster { ours, theirs }, b"\x03\x05\x06"),
            (ReadError::Quarantined, b"\x04"),
            (ReadError::Overloaded, b"\x05"),
            (ReadError::Failed { what }, b"\x06\x01x"),
            (ReadError::Stopped, b"\x07"),
        ];
        for (error, expected) in reads {
            let bytes = answered(Answer::Index(Err(error)));
            assert_eq!(bytes, [b"\x01\x09\x04\x01", expected].concat());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn no_bytes_of_a_peer_panic(mut bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
            bytes[0] = codec::FORMAT;
            let _call = codec::decode::<Call>(&bytes);
            let _answer = codec::decode::<Return>(&bytes);
        }

        #[test]
        fn a_write_is_read_back(request in proptest::collection::vec(any::<u8>(), 0..300), wait_ms: u64) {
            let key = Key::of_gateway((1, 2, wait_ms), &request, LogIndex(3));
            let ask = Ask::Write { request: request.clone().into(), key: key.clone(), wait_ms };
            let call = codec::decode::<Call>(&codec::encode(&Call { number: 9, ask })).unwrap();
            prop_assert_eq!(call.number, 9);
            let is_same = matches!(
                call.ask,
                Ask::Write { request: r, key: k, wait_ms: w } if r == request && w == wait_ms && k == key
            );
            prop_assert!(is_same);
        }
    }
}
