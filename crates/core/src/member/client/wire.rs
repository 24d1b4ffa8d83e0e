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
}

impl Ask {
    /// About how many bytes it holds.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Write { request: bytes, .. } | Self::Opaque(bytes) => bytes.len(),
            Self::Echo | Self::ReadIndex | Self::Barrier | Self::Greet | Self::Change { .. } => 0,
            Self::Compare { .. } | Self::Repair => 0,
        }
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
    use crate::codec;
    use proptest::prelude::*;

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
            let key = Key::of_gateway((1, 2, wait_ms), &request, crate::LogIndex(3));
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
